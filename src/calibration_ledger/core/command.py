r"""Commands that sentences suggest, written so that a shell runs just what they say.

A name may come from anybody's file. Behind `--` one like `--yes` is no option; in quotes a blank
or a `;` is a part of it; and what a terminal would obey, or not show, is written as `$'\033'`,
which bash, zsh and POSIX 2024 read as that very byte.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from calibration_ledger.core.visible import is_visible

if TYPE_CHECKING:
    from collections.abc import Sequence


def calib(
    *words: str, names: Sequence[str] = (), ledger: str | None = None, program: str = "calib"
) -> str:
    """The command `calib WORDS -- NAMES`, ready to be pasted into a shell.

    Args:
        words: the verb and its options.
        names: what stands for itself: models, files.
        ledger: where the ledger lies, as it may be shown; None where the user named none.
        program: how the program is called.
    """
    at = () if ledger is None else ("--ledger", to_fill_in(ledger))
    behind = ("--", *names) if names else ()
    return shell(program, *at, *words, *behind)


def to_fill_in(ledger: str) -> str:
    """Where a ledger lies, as it may be shown, with a word for the password that is hidden."""
    return ledger.replace(":***@", ":PASSWORD@")


def shell(*words: str) -> str:
    """A command of any program, each word quoted where it must be."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """One word for a shell: what it means is the word itself, and all of it can be seen."""
    if is_visible(word):
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(char: str) -> str:
    if char in {"'", "\\"}:
        return f"\\{char}"
    if is_visible(char):
        return char
    return "".join(f"\\{byte:03o}" for byte in char.encode(errors="surrogateescape"))
