"""The learning rules: how one call changes the coefficients.

A rule is one module with one `Rule` in it; a third rule needs that module, its tests and its line
in `RULES`. Rules are versioned in the ledger (`ema.1`), and the arithmetic of a released version
never changes: every old ledger would fail its audit. A change is a new version.
"""

from __future__ import annotations

from calibration_ledger.errors import NoSuchRuleError, StoredRuleError, did_you_mean, shown
from calibration_ledger.rules.base import Rule, RuleName, predict_ms
from calibration_ledger.rules.ema import EMA
from calibration_ledger.rules.kalman import KALMAN
from calibration_ledger.rules.kalman_1 import KALMAN_1

RULES: tuple[Rule, ...] = (EMA, KALMAN_1, KALMAN)
"""Every rule version that this program knows; of one name, the newest is last."""

KNOWN_RULES: dict[str, Rule] = {rule.version: rule for rule in RULES}
"""Each by its version; see `stored_rule`."""

_BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}

NEWEST_RULES: tuple[Rule, ...] = tuple(_BY_NAME.values())
"""One rule of each name: what is tried where none are named, and what a name stands for."""

_KNOWN = ", ".join(sorted(_BY_NAME))

__all__ = [
    "EMA",
    "KALMAN",
    "KALMAN_1",
    "KNOWN_RULES",
    "NEWEST_RULES",
    "RULES",
    "Rule",
    "RuleName",
    "find_rule",
    "predict_ms",
    "stored_rule",
]


def find_rule(rule: object) -> Rule:
    """The rule of a name (`ema`: its newest version) or of a version (`ema.1`).

    Raises:
        NoSuchRuleError: this program has no such rule.
    """
    found = KNOWN_RULES.get(rule) or _BY_NAME.get(rule) if isinstance(rule, str) else None
    if found is None:
        meant = did_you_mean(rule, [*_BY_NAME, *KNOWN_RULES]) if isinstance(rule, str) else ""
        meant = meant[:1].upper() + meant[1:]
        raise NoSuchRuleError(
            f"this program does not know the rule {shown(rule)}; it knows {_KNOWN}. {meant}If a "
            f"newer version of calibration-ledger has it, upgrade this one."
        )
    return found


def stored_rule(version: str, user: str = "a model of this ledger learns by") -> Rule:
    """The rule of a version that a ledger holds; `user` is who uses it, for the error.

    Raises:
        StoredRuleError: this program has no such rule.
    """
    found = KNOWN_RULES.get(version)
    if found is None:
        raise StoredRuleError(
            f"{user} the rule {shown(version)}, which this program does not know; it knows "
            f"{_KNOWN}",
            stayed="nothing was changed",
            advice="a newer calibration-ledger wrote it, so upgrade this one",
        )
    return found
