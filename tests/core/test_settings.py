"""The settings of a ledger as values: their digest, what holds for a new model, what is found."""

import math

import pytest

from calibration_ledger.core.entries import Setting, first_settings_head, setting_head
from calibration_ledger.core.settings import Settings, rule_of_new, settings_findings
from calibration_ledger.core.values import Head
from calibration_ledger.errors import LedgerCorruptError
from calibration_ledger.rules import EMA, KALMAN

FIRST = Setting(1, 1_700_000_000_000_000, "kalman.1", 0.01)
SECOND = Setting(2, 1_700_000_000_000_001, "ema.1", 0.15)


def settings(*entries):
    head = first_settings_head()
    for entry in entries:
        head = setting_head(head, entry)
    return Settings(entries, len(entries), head)


def test_a_setting_has_its_golden_digest():
    assert first_settings_head().hex() == (
        "30717ed7f71e3c66a0e34e41a99769de9a0aa147aa38eaa027342e76602335ba"
    )
    assert settings(FIRST).head.hex() == (
        "3a2ee334c211e06044796e5a8062ae21e421ac74ad6e128ad6a2704c0a080906"
    )
    assert settings(FIRST, SECOND).head.hex() == (
        "b6ca8a761cd057f6a5d60381cee2d6467bd3b08ee7866ff5751c4c4b005b7251"
    )


@pytest.mark.parametrize("name", Setting._fields)
def test_every_field_is_in_the_digest(name):
    other = {"rule": "kalman.2", "alpha": math.nextafter(0.01, 1.0)}.get(name, 7)
    changed = FIRST._replace(**{name: other})
    assert setting_head(first_settings_head(), changed) != settings(FIRST).head


def test_settings_that_fit_have_no_findings():
    assert settings_findings(Settings(), []) == []
    whole = settings(FIRST, SECOND)
    noted = [*settings(FIRST).noted(), *whole.noted()]
    assert [head.seq for head in noted] == [1, 2]
    assert settings_findings(whole, noted) == []


SOUND = settings(FIRST, SECOND)
SWAPPED = (SECOND._replace(seq=1), FIRST._replace(seq=2))
DAMAGED = {
    "forged": (SOUND._replace(entries=(*SOUND.entries, FIRST._replace(seq=3))), {"sequence"}),
    "removed in front": (SOUND._replace(entries=(SECOND,)), {"sequence", "head"}),
    "removed at the end": (SOUND._replace(entries=(FIRST,)), {"sequence", "head"}),
    "all removed": (SOUND._replace(entries=()), {"sequence", "head"}),
    "in another order": (SOUND._replace(entries=SWAPPED), {"head"}),
    "a bit flipped": (
        SOUND._replace(entries=(FIRST._replace(alpha=0.010000000000000002), SECOND)),
        {"head"},
    ),
    "a time moved": (SOUND._replace(entries=(FIRST._replace(recorded_at=5), SECOND)), {"head"}),
    "an alpha of 0": (SOUND._replace(entries=(FIRST._replace(alpha=0.0), SECOND)), {"entry"}),
    "no alpha": (SOUND._replace(entries=(FIRST._replace(alpha=math.nan), SECOND)), {"entry"}),
    "another type": (SOUND._replace(entries=(FIRST._replace(rule=b"x"), SECOND)), {"entry"}),
    "no number": (SOUND._replace(entries=(FIRST._replace(seq="x"), SECOND)), {"entry"}),
    "no rule": (SOUND._replace(entries=(FIRST._replace(rule=""), SECOND)), {"entry"}),
    "no such time": (SOUND._replace(entries=(FIRST._replace(recorded_at=-1),)), {"entry"}),
    "a rule of tomorrow": (settings(FIRST._replace(rule="kalman.99")), {"rule"}),
    "another head": (SOUND._replace(head=bytes(32)), {"head"}),
    "no head": (SOUND._replace(head=None), {"head"}),
    "another end": (SOUND._replace(last_seq=3), {"sequence"}),
}


@pytest.mark.parametrize(("damaged", "checks"), DAMAGED.values(), ids=DAMAGED)
def test_settings_that_do_not_fit_are_found(damaged, checks):
    findings = settings_findings(damaged, [])
    assert {finding.model for finding in findings} == {""}
    assert checks <= {finding.check for finding in findings}


@pytest.mark.parametrize("name", sorted(DAMAGED.keys() - {"a rule of tomorrow", "another head"}))
def test_settings_that_lack_something_are_refused(name):
    damaged, checks = DAMAGED[name]
    if checks == {"head"} and name != "no head":
        damaged.check()  # only the digest tells
        return
    with pytest.raises(LedgerCorruptError, match="of its settings"):
        damaged.check()


def test_a_noted_head_is_one_of_theirs_or_a_finding():
    noted = [Head("", 1, "0" * 64), Head("", 3, "0" * 64)]
    found = settings_findings(SOUND, noted)
    assert [(one.seq, one.check) for one in found] == [(1, "noted head"), (3, "noted head")]
    assert found[1].found == "a history that ends at setting 2"


@pytest.mark.parametrize(
    ("setting", "rule", "alpha", "expected"),
    [
        (None, None, None, ("ema.1", 0.15)),
        (None, None, 0.5, ("ema.1", 0.5)),
        (None, KALMAN, None, (KALMAN.version, 0.01)),
        (FIRST, None, None, ("kalman.1", 0.01)),
        (FIRST._replace(alpha=0.3), KALMAN, None, (KALMAN.version, 0.3)),
        (FIRST._replace(alpha=0.3), EMA, None, ("ema.1", 0.15)),
        (FIRST, EMA, 0.5, ("ema.1", 0.5)),
        (FIRST._replace(rule="tomorrow.1"), None, None, ("tomorrow.1", 0.01)),
    ],
)
def test_what_a_program_names_goes_before_the_setting(setting, rule, alpha, expected):
    assert rule_of_new(setting, rule, alpha) == expected
