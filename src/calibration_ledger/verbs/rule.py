"""The rule of new models: a setting of the ledger, which every program on it follows.

A model takes it over when it is opened or reset, and keeps it. What a program names itself goes
before it, for the models that this program opens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.core.entries import Setting, setting_head
from calibration_ledger.core.settings import Settings, opening_rule, rule_of_new
from calibration_ledger.core.validation import check_alpha
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.rules import find_rule
from calibration_ledger.verbs.record import now_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.core.entries import AliasEntry
    from calibration_ledger.core.values import DefaultRule
    from calibration_ledger.rules import RuleName
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.storage.transaction import Transaction


def default_rule(ledger: Ledger) -> DefaultRule:
    """See `AdaptiveCalibrator.default_rule`."""
    return ledger.settings().default_rule()


def set_default_rule(ledger: Ledger, rule: RuleName | None, alpha: float | None) -> DefaultRule:
    """See `AdaptiveCalibrator.set_default_rule`."""
    if rule is None and alpha is None:
        raise InvalidInputError("there is nothing to set: give a rule, an alpha, or both.")
    found = None if rule is None else find_rule(rule)
    given = None if alpha is None else check_alpha(alpha)
    now = now_us()

    def work(transaction: Transaction) -> Settings:
        settings = transaction.settings()
        rules = settings.rules
        newest = rules[-1] if rules else None
        chosen = opening_rule(rule_of_new(newest)[0]) if found is None else found
        speed = chosen.default_alpha if given is None else given
        if newest is not None and (newest.rule, newest.alpha) == (chosen.version, speed):
            return settings
        entry = Setting(settings.last_seq + 1, now, chosen.version, speed)
        return append(transaction, settings, [entry])

    return ledger.write(work).default_rule()


def append(
    transaction: Transaction, settings: Settings, entries: Sequence[Setting | AliasEntry]
) -> Settings:
    """Append entries to the settings that were read in this transaction; gives them all."""
    head = settings.head
    for entry in entries:
        head = setting_head(head, entry)
    transaction.add_settings(entries, head)
    return Settings((*settings.entries, *entries), entries[-1].seq, head)
