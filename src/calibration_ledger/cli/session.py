"""How a command opens the ledger that the user named, and how it names itself in advice."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from calibration_ledger.core.command import calib

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.rules import RuleName


class Session:
    """What all commands are given alike, before the command or behind it.

    Attributes:
        ledger: where it lies; None: the user named none.
        in_utc: whether people read and write times in UTC, not in their own zone.
    """

    def __init__(self, ledger: str | None = None) -> None:
        """Keep the name; nothing is opened yet."""
        self.ledger = ledger
        self.in_utc = False

    def command(self, *words: str, names: Sequence[str] = ()) -> str:
        """A command of this program on the same ledger, with a password hidden; see `calib`."""
        shown = self.ledger
        if shown is not None and "://" in shown:
            from calibration_ledger.storage.place import find_place

            shown = find_place(shown).shown
        return calib(*words, names=names, ledger=shown)

    @property
    def path(self) -> Path | None:
        """The ledger's file; None if it is not in a file."""
        from calibration_ledger.storage.place import find_place

        return find_place(self.ledger).path

    @contextmanager
    def writing(
        self, alpha: float | None = None, rule: RuleName | None = None
    ) -> Iterator[AdaptiveCalibrator]:
        """Open the ledger; if there is none, the first write makes it."""
        from calibration_ledger.calibrator import AdaptiveCalibrator

        with AdaptiveCalibrator(self.ledger, alpha, rule=rule) as calibrator:
            yield calibrator

    @contextmanager
    def existing(
        self, alpha: float | None = None, rule: RuleName | None = None
    ) -> Iterator[AdaptiveCalibrator]:
        """Open a ledger that must exist: for commands that read or change what is in it.

        Raises:
            LedgerNotFoundError: there is none, and none was made.
        """
        with self.writing(alpha, rule) as calibrator:
            calibrator.check_exists()
            yield calibrator


def entries(calibrator: AdaptiveCalibrator, model: str | Collection[str] | None) -> int:
    """How many entries of one model, some or all a walk passes: the length of a progress bar."""
    some = {model} if isinstance(model, str) else model
    archived = {head.model: head.seq for head in calibrator.archived()}
    return sum(
        head.seq - max(0, archived.get(head.model, 0) - 1)
        for head in calibrator.heads()
        if head.is_of_model and (some is None or head.model in some)
    )


def adopting(alpha: float | None, rule: RuleName | None = None) -> tuple[str, ...]:
    """The words of the command that adopts an alpha, a rule or both, but for the model's name."""
    named = () if rule is None else ("--rule", rule.partition(".")[0])
    speed = () if alpha is None else ("--alpha", repr(alpha))
    return ("recalibrate", *named, *speed)


pass_session = click.make_pass_decorator(Session)
