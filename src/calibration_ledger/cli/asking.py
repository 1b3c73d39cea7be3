"""Asking before a command changes every model at once."""

from __future__ import annotations

import sys

import click

from calibration_ledger.cli.printing import is_terminal


def confirm_all(what: str, *, yes: bool) -> None:
    """Go on only with `--yes`, or when somebody at the terminal agrees.

    Raises:
        click.UsageError: nobody is there to be asked.
        click.Abort: they said no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError(
            f"this would {what}, and nobody can be asked: name one MODEL, or give --yes."
        )
    click.confirm(f"{what[:1].upper()}{what[1:]}? The history stays.", abort=True, err=True)
