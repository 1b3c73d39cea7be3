"""How a command gets at the ledger that the user named."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.calibrator import AdaptiveCalibrator


class Session:
    """What `calib` itself was given, before the command."""

    def __init__(self, ledger: str | None) -> None:
        """Keep the name; nothing is opened yet."""
        self.ledger = ledger

    @contextmanager
    def writing(
        self, alpha: float | None = None, rule: str | None = None
    ) -> Iterator[AdaptiveCalibrator]:
        """The ledger, which the first write makes if it is missing."""
        from calibration_ledger.calibrator import AdaptiveCalibrator

        if alpha is None:
            calibrator = AdaptiveCalibrator(self.ledger, rule=rule or "ema")
        else:
            calibrator = AdaptiveCalibrator(self.ledger, alpha, rule=rule or "ema")
        with calibrator:
            yield calibrator

    @contextmanager
    def existing(
        self, alpha: float | None = None, rule: str | None = None
    ) -> Iterator[AdaptiveCalibrator]:
        """The ledger, which must be there: for commands that read or change what is in it.

        Raises:
            LedgerNotFoundError: there is none, and none was made.
        """
        with self.writing(alpha, rule) as calibrator:
            calibrator.check_exists()
            yield calibrator


pass_session = click.make_pass_decorator(Session)
