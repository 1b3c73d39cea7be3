"""Aliases as values: their digest, and which of them are in force."""

import pytest

from calibration_ledger.core.aliases import alias_faults, chain_faults, in_force
from calibration_ledger.core.entries import AliasEntry, first_settings_head, setting_head

FIRST = AliasEntry(1, 1_700_000_000_000_000, "a", "m", "2..80")
ENDED = AliasEntry(2, 1_700_000_000_000_001, "a", None)


def test_an_alias_has_its_golden_digest():
    head = setting_head(first_settings_head(), FIRST)
    assert head.hex() == "502604c4ace4c4fcb10009f887bd9d039dcef37dca51ef17523a3d5712b916ca"
    assert (
        setting_head(head, ENDED).hex()
        == "693fbb30ef1579f3f13b8a1c3699d6300bd1110ce941ffbe9628ba6de9cfef5b"
    )


@pytest.mark.parametrize("name", AliasEntry._fields)
def test_every_field_is_in_the_digest(name):
    other = {"name": "b", "model": "n", "merged": None}.get(name, 7)
    changed = FIRST._replace(**{name: other})
    head = first_settings_head()
    assert setting_head(head, changed) != setting_head(head, FIRST)


def test_the_newest_entry_of_a_name_holds():
    assert in_force([FIRST]) == {"a": FIRST}
    assert in_force([FIRST, ENDED]) == {}
    again = FIRST._replace(seq=3, model="k")
    assert in_force([FIRST, ENDED, again]) == {"a": again}


@pytest.mark.parametrize(
    "change",
    [
        *({"recorded_at": -1}, {"recorded_at": 2**62}, {"seq": "1"}, {"name": ""}),
        *({"model": "x" * 513}, {"model": "a"}, {"merged": "2,4"}, {"merged": "x"}),
    ],
)
def test_an_alias_that_cannot_be_is_told(change):
    assert list(alias_faults(FIRST)) == []
    assert list(alias_faults(FIRST._replace(**change))) != []


def test_an_alias_of_an_alias_is_told():
    other = AliasEntry(2, 0, "b", "a")
    assert [seq for seq, _, _ in chain_faults([FIRST, other])] == [2]
    assert [seq for seq, _, _ in chain_faults([other, FIRST._replace(seq=3)])] == [3]
    assert list(chain_faults([FIRST, ENDED, other._replace(seq=3)])) == []
