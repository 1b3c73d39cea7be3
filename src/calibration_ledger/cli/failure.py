"""Exit codes, and an error as the command line tells it."""

from __future__ import annotations

import click

from calibration_ledger.cli.text import escape
from calibration_ledger.errors import CalibrationLedgerError, InvalidInputError

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_FINDINGS = 3


class Failure(click.ClickException):
    """A sentence on stderr, and exit code 1."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str) -> None:
        """Take the sentence; names in it may come from anywhere."""
        super().__init__(escape(message))


class WrongInput(Failure):
    """The same with exit code 2: what was handed in is wrong, an imported file included."""

    exit_code = EXIT_WRONG_INPUT


def failure_of(error: CalibrationLedgerError) -> Failure:
    """An error of the library as the command line tells it."""
    kind = WrongInput if isinstance(error, InvalidInputError) else Failure
    return kind(str(error))
