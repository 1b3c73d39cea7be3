"""The prompt of a call to come: how many tokens it has, as told or as counted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from calibration_ledger.cli.output import note
from calibration_ledger.cli.terminal import is_terminal
from calibration_ledger.core.text import count

if TYPE_CHECKING:
    from calibration_ledger.cli.session import Session


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
        tokens: how many it has.
        counted_by: what counted them; None if the user told them.
    """

    tokens: int
    counted_by: str | None = None


def prompt_of(session: Session, prompt_tokens: int | None, text: str | None) -> Prompt:
    """The prompt by its tokens or its text, of which the user gives one.

    What counted the text is told on stderr.

    Raises:
        click.UsageError: neither is given, or both are.
        InvalidInputError: the file cannot be read, or is no text.
    """
    if text is None:
        if prompt_tokens is None:
            hint = "'--prompt-tokens' / '-p' or '--text'"
            context = click.get_current_context()
            raise click.MissingParameter(ctx=context, param_hint=hint, param_type="option")
        return Prompt(prompt_tokens)
    if prompt_tokens is not None:
        raise click.UsageError("give --prompt-tokens or --text, not both.")
    from calibration_ledger.formats.source import open_source

    if text == "-" and is_terminal(sys.stdin):
        note("reading from the terminal: end with Ctrl-D.")
    with open_source(sys.stdin if text == "-" else text, session.path) as source:
        return counted(source.whole("prompt"))


def counted(text: str) -> Prompt:
    """The prompt with this text; what counted it is told on stderr."""
    from calibration_ledger.core.tokens import count_tokens

    found = count_tokens(text)
    tokens = count(found.tokens, "prompt token")
    if found.remark:
        note(f"about {tokens}, by the {found.counted_by}: {found.remark}.")
    else:
        note(f"{tokens}, counted by {found.counted_by}.")
    return Prompt(found.tokens, found.counted_by)
