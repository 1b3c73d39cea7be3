"""Where an export goes: an open file, or a path that bears its name only once it is complete."""

from __future__ import annotations

import gzip
import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from calibration_ledger.core.files import create, full_path, is_ledger_file, publish, sync_folder
from calibration_ledger.errors import (
    CalibrationLedgerError,
    ExportFailedError,
    InvalidInputError,
    shown,
)
from calibration_ledger.formats.source import shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, TextIO

_COMPRESSION = 6
"""gzip's own default; Python's, 9, takes three times as long for a hundredth of the size."""


@contextmanager
def open_target(
    target: str | os.PathLike[str] | TextIO | BinaryIO,
    ledger: Path | None,
    *,
    overwrite: bool | None,
) -> Iterator[Callable[[str], object]]:
    """Give a function that writes texts, as UTF-8.

    A path is written as `PATH.partial` beside it, and renamed at the end; should the export fail,
    nothing is left of it. A path that ends in `.gz` is compressed. With `overwrite`, a file that is
    there is replaced; where it is None, that is not on offer.

    Raises:
        InvalidInputError: the path is taken, or cannot be written to.
        ExportFailedError: writing failed on the way.
    """
    if not isinstance(target, str | os.PathLike):
        _check_open(target)
        yield _writer_of(target)
        target.flush()
        return
    path = Path(target)
    with whole_file(path, ledger, overwrite=overwrite) as file:
        if path.suffix == ".gz":
            # No time and no name in it: the same ledger gives the same bytes.
            with gzip.GzipFile("", "wb", _COMPRESSION, file, 0) as zipped:
                yield lambda text: zipped.write(text.encode())
        else:
            yield lambda text: file.write(text.encode())


@contextmanager
def open_binary(
    target: str | os.PathLike[str] | TextIO | BinaryIO,
    ledger: Path | None,
    *,
    overwrite: bool | None,
) -> Iterator[Callable[[bytes], object]]:
    """Give a function that writes bytes, to a path as `open_target` does, or to an open file.

    Raises:
        InvalidInputError: the path is taken, or cannot be written to; the file is one of text.
        ExportFailedError: writing failed on the way.
    """
    if isinstance(target, str | os.PathLike):
        with whole_file(Path(target), ledger, overwrite=overwrite) as file:
            yield file.write
        return
    _check_open(target)
    if isinstance(target, io.TextIOWrapper):  # stdout, say
        target.flush()
    elif isinstance(target, io.TextIOBase):
        raise InvalidInputError("what is written is no text: open the file for bytes ('wb').")
    yield cast("BinaryIO", getattr(target, "buffer", target)).write
    target.flush()


def _check_open(target: object) -> None:
    if not hasattr(target, "write"):
        raise InvalidInputError(f"an export goes to a path or an open file, not {shown(target)}.")
    if getattr(target, "closed", False) is True:
        raise InvalidInputError("the file for the export is closed: open it.")


@contextmanager
def whole_file(path: Path, ledger: Path | None, *, overwrite: bool | None) -> Iterator[BinaryIO]:
    """A new file of bytes that bears its name only once the block has ended well.

    It is never more readable than the ledger.

    Raises:
        InvalidInputError: the path is taken, or cannot be written to.
        ExportFailedError: writing failed on the way.
    """
    check_target(path, ledger, overwrite=overwrite)
    partial = _partial_of(path)
    try:
        file = os.fdopen(create(partial, ledger), "wb")
    except FileExistsError:
        raise InvalidInputError(
            f"{shown_name(partial)} is there: another export runs, or one was killed. Wait for it, "
            f"or remove the file."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{shown_name(path)} cannot be written: {reason}.") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_target(path, ledger, overwrite=overwrite)
        if overwrite:
            partial.replace(path)
            sync_folder(path)
        else:
            publish(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # The ledger's own errors are OSErrors too.
        if not isinstance(error, OSError) or isinstance(error, CalibrationLedgerError):
            raise
        raise ExportFailedError(
            f"{shown_name(path)} could not be written ({error.strerror or error}): nothing is left "
            f"of it. Make room, or name another place."
        ) from error


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def check_target(path: Path, ledger: Path | None, *, overwrite: bool | None) -> None:
    """Refuse a path that is the ledger itself, that is taken, or that leads nowhere.

    Raises:
        InvalidInputError: it is one of them.
    """
    full_path(path)
    try:
        fault = _fault_of(path, ledger, overwrite=overwrite)
    except (OSError, ValueError) as error:  # no permission to look; a NUL in the name
        fault = f"cannot be written ({error}): name another file"
    if fault is not None:
        raise InvalidInputError(f"{shown_name(path)} {fault}.")


def _fault_of(path: Path, ledger: Path | None, *, overwrite: bool | None) -> str | None:
    if path.is_dir():
        return "is a folder: name a file in it"
    if ledger is not None and is_ledger_file(path, ledger):
        return "is the ledger itself, or a file that belongs to it: name another file"
    if ledger is not None and is_ledger_file(_partial_of(path), ledger):
        return f"is first written as {path.name}.partial, which is the ledger's: name another file"
    if os.path.lexists(path) and not overwrite:
        instead = "" if overwrite is None else ", or replace it with --overwrite (overwrite=True)"
        return f"exists already: name a file that does not{instead}"
    if path.exists() and not path.is_file():  # /dev/null, say, would be replaced by a file
        return "is no ordinary file: leave FILE out, and redirect the output to it"
    return None if path.parent.is_dir() else "cannot be written, for its folder does not exist"


def _writer_of(stream: Any) -> Callable[[str], object]:
    """Write UTF-8, also below a text file whose own encoding may not know every character."""
    if isinstance(stream, io.RawIOBase | io.BufferedIOBase):
        return lambda text: stream.write(text.encode())
    if not isinstance(stream, io.TextIOWrapper):
        return stream.write  # type: ignore[no-any-return]  # a text file of the caller's
    stream.flush()
    return lambda text: stream.buffer.write(text.encode())
