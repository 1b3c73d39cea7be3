"""The settings of a ledger: the rule and alpha of models that are opened from now on, and aliases.

They are a history of their own, which belongs to no model: numbered from 1 without gaps, and only
ever added to, under the digest that `entries` describes. The newest rule holds, and of each name
the newest alias; see `core.aliases`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.aliases import alias_faults, chain_faults, in_force
from calibration_ledger.core.entries import (
    SETTING_TYPES,
    AliasEntry,
    Setting,
    first_settings_head,
    is_typed,
    setting_head,
)
from calibration_ledger.core.validation import TIME_LIMIT_US, time_from_us
from calibration_ledger.core.values import (
    RULE_LENGTH_MAX,
    SETTINGS,
    DefaultRule,
    Finding,
    Head,
    RuleSetting,
)
from calibration_ledger.errors import LedgerCorruptError, StoredRuleError
from calibration_ledger.rules import EMA, stored_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from calibration_ledger.rules import Rule


class Settings(NamedTuple):
    """The settings as they are stored, of one moment.

    Attributes:
        entries: every one by its seq, the values as the database gives them: rules and aliases.
        last_seq: the number of the newest, as it is noted apart from them; 0 for none.
        head: the digest over them, as it is noted there.
    """

    entries: tuple[Setting | AliasEntry, ...] = ()
    last_seq: int = 0
    head: bytes = first_settings_head()

    @property
    def rules(self) -> list[Setting]:
        """The entries that set the rule of new models."""
        return [entry for entry in self.entries if isinstance(entry, Setting)]

    @property
    def aliases(self) -> list[AliasEntry]:
        """The entries that say which name stands for which model."""
        return [entry for entry in self.entries if isinstance(entry, AliasEntry)]

    def check(self) -> None:
        """Refuse what cannot be read, or what lacks an entry.

        Raises:
            LedgerCorruptError: the settings were damaged.
        """
        for entry in self.entries:
            _check(entry)
        seqs = [entry.seq for entry in self.entries]
        if seqs != [*range(1, len(seqs) + 1)] or self.last_seq != len(seqs):
            raise damaged_settings(f"there must be {self.last_seq}, without a gap")
        if not isinstance(self.head, bytes):
            raise damaged_settings(f"the head is {self.head!r}")

    def default_rule(self) -> DefaultRule:
        """The same for the user; raises as `check` does."""
        self.check()
        rules = self.rules
        history = tuple(map(told, rules))
        since = history[-1].recorded_at if history else None
        return DefaultRule(*rule_of_new(rules[-1] if rules else None), since, history)

    def names(self) -> dict[str, AliasEntry]:
        """The aliases in force, by their names; raises as `check` does."""
        self.check()
        return in_force(self.aliases)

    def noted(self) -> list[Head]:
        """The head, to save: none where nothing was set. Raises as `check` does."""
        self.check()
        if not self.last_seq:
            return []
        return [Head(SETTINGS, self.last_seq, self.head.hex())]


def told(entry: Setting) -> RuleSetting:
    """A setting for the user."""
    return RuleSetting(entry.seq, entry.rule, entry.alpha, time_from_us(entry.recorded_at))


def rule_of_new(
    setting: Setting | None, rule: Rule | None = None, alpha: float | None = None
) -> tuple[str, float]:
    """The version of the rule of a new model, and its alpha.

    The alpha of one rule means nothing to another: another rule comes with its own.

    Args:
        setting: the ledger's newest; None: it has none.
        rule: the rule that the program names.
        alpha: the alpha that the program names.
    """
    version, own = (EMA.version, EMA.default_alpha) if setting is None else setting[2:]
    if rule is not None:
        is_its_own = rule.name == version.partition(".")[0]
        version, own = rule.version, own if is_its_own else rule.default_alpha
    return version, own if alpha is None else alpha


def opening_rule(version: str) -> Rule:
    """The rule of this version, to open a model under.

    Raises:
        StoredRuleError: this program does not know it.
    """
    return stored_rule(version, "this ledger opens models under")


def check_setting(entry: Setting) -> Setting:
    """Refuse a setting that this program cannot have written.

    Raises:
        LedgerCorruptError: it is one.
    """
    _check(entry)
    return entry


def _check(entry: Setting | AliasEntry) -> None:
    for expected, found in _faults(entry):
        raise damaged_settings(f"setting {entry.seq!r} must have {expected}, not {found}")


def damaged_settings(what: str) -> LedgerCorruptError:
    """The error of settings that this program cannot have written."""
    return LedgerCorruptError(
        f"the ledger was damaged or edited by hand: of its settings, {what}",
        stayed="nothing was changed",
        advice="an audit finds all that is wrong; restore a backup",
    )


def _faults(entry: Setting | AliasEntry) -> Iterator[tuple[str, str]]:
    """What is wrong with a setting's own values, as (expected, found)."""
    if isinstance(entry, AliasEntry):
        yield from alias_faults(entry)
        return
    if not is_typed(entry, SETTING_TYPES):
        yield "numbers and a text", repr(tuple(entry))
        return
    if not 0.0 < entry.alpha <= 1.0:
        yield "0 < alpha <= 1", repr(entry.alpha)
    if not 0 <= entry.recorded_at < TIME_LIMIT_US:
        yield "a time", repr(entry.recorded_at)
    if not 0 < len(entry.rule) <= RULE_LENGTH_MAX:
        yield "a rule", repr(entry.rule)


# -- the audit ------------------------------------------------------------------------------


def settings_findings(
    settings: Settings,
    noted: Iterable[Head],
    marked: Mapping[str, int] = MappingProxyType({}),
) -> list[Finding]:
    """What an audit finds wrong with the settings, under the names of `core.audit.CHECKS`.

    Args:
        settings: what the ledger holds.
        noted: heads of them that the user noted earlier.
        marked: the models of the ledger, each with the number of the alias with which its
            calibration is marked; 0 for none.
    """
    findings = [
        Finding(SETTINGS, entry.seq if isinstance(entry.seq, int) else None, "entry", *fault)
        for entry in settings.entries
        for fault in _faults(entry)
    ]
    if findings:  # there is no head behind what cannot be read
        return findings
    aliases = in_force(settings.aliases)
    due = {name: aliases[name].seq if name in aliases else 0 for name in marked}
    return [
        *(Finding(SETTINGS, *parts) for parts in _differences(settings, noted)),
        *(
            Finding(name, None, "calibration", _marked(due[name]), _marked(marked[name]))
            for name in sorted(marked)
            if marked[name] != due[name]
        ),
    ]


def _marked(seq: int) -> str:
    return f"the mark of alias {seq}" if seq else "no mark of an alias"


def _differences(settings: Settings, noted: Iterable[Head]) -> Iterator[tuple[int, str, str, str]]:
    """Where readable settings are not what they must be, as the parts of findings."""
    seq, head = 0, first_settings_head()
    digests: dict[int, str] = {}
    for entry in settings.entries:
        if entry.seq != seq + 1:
            yield entry.seq, "sequence", f"setting {seq + 1}", f"setting {entry.seq}"
        if isinstance(entry, Setting):
            try:
                opening_rule(entry.rule)
            except StoredRuleError as error:
                yield entry.seq, "rule", "a rule that this program knows", str(error)
        seq, head = entry.seq, setting_head(head, entry)
        digests[seq] = head.hex()
    for at, expected, found in chain_faults(settings.aliases):
        yield at, "entry", expected, found
    if seq != settings.last_seq:
        yield seq, "sequence", f"settings up to {settings.last_seq}", f"up to {seq}"
    if head != settings.head:
        yield seq, "head", head.hex(), _hex(settings.head)
    for one in noted:
        there = digests.get(one.seq, f"a history that ends at setting {seq}")
        if there != one.digest:
            yield one.seq, "noted head", one.digest, there


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
