"""A file of heads: JSON lines of model, seq and digest, as `calib audit --save-heads` writes it.

Files are read by name before the ledger is opened, and replaced only where they are what this
module wrote (or empty): a name given by mistake must not cost anybody a file.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.entries import is_head
from calibration_ledger.core.files import full_path
from calibration_ledger.core.values import Head
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.target import check_target, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LINE_MAX = 2**16
"""Bytes to a line; the longest name that a model can have takes a fifth of it."""


def read_heads(name: str) -> list[Head]:
    """The heads in a file, or on stdin for `-`.

    Raises:
        InvalidInputError: it cannot be read, or is no file of heads.
    """
    if name == "-":
        if sys.stdin is None:
            raise InvalidInputError("stdin is closed: name a file of heads.")
        return list(_heads(sys.stdin.buffer, "stdin"))
    full_path(name)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - a NUL in a name is a ValueError here
            return list(_heads(file, name))
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"the heads in {name} cannot be read: {reason}.") from None


def _heads(file: Any, name: str) -> Iterator[Head]:
    for number, line in enumerate(iter(lambda: file.readline(LINE_MAX), b""), 1):
        if line.strip():
            yield _head(line, f"{name}, line {number}")


def _head(line: bytes, where: str) -> Head:
    try:
        fields = json.loads(line)
        head = Head(**fields)
        valid = is_head(*head)
    except (TypeError, ValueError, RecursionError):
        valid = False
    if not valid:
        raise InvalidInputError(
            f"{where}: this is no head; a file of them is what `calib audit --save-heads FILE` "
            f"writes, lines of model, seq and digest."
        )
    return head


def check_replaceable(path: Path, ledger: Path | None) -> None:
    """Refuse to replace anything but a file of heads.

    Raises:
        InvalidInputError: there is something else at the path, or its folder does not exist.
    """
    check_target(path, ledger, overwrite=True)
    if os.path.lexists(path):
        try:
            read_heads(str(path))
        except InvalidInputError:
            raise InvalidInputError(
                f"{path} exists and is no file of heads: it was not touched. Name another one."
            ) from None


def write_heads(path: Path, heads: Iterable[Head], ledger: Path | None) -> None:
    """Write the heads, in place of those that are there; raises as `whole_file` does."""
    with whole_file(path, ledger, overwrite=True) as file:
        file.writelines(json.dumps(head._asdict()).encode() + b"\n" for head in heads)
