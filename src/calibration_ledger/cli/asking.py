"""Asking before a command changes much at once."""

from __future__ import annotations

import sys

import click

from calibration_ledger.cli.printing import is_terminal


def confirm_all(what: str, *, yes: bool, way_out: str = "name one MODEL, or give --yes") -> None:
    """Go on only with `--yes`, or when somebody at the terminal agrees.

    `way_out` is what to do where nobody can be asked.

    Raises:
        click.UsageError: nobody is there to be asked.
        click.Abort: they said no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"this would {what}, and nobody can be asked: {way_out}.")
    click.confirm(f"{what[:1].upper()}{what[1:]}? The history stays.", abort=True, err=True)
