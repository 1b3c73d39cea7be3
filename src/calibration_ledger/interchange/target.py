"""Where an export goes: an open file, or a path that bears its name only once it is complete."""

from __future__ import annotations

import gzip
import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import (
    CalibrationLedgerError,
    ExportFailedError,
    InvalidInputError,
)
from calibration_ledger.interchange.lines import is_ledger_file, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

_COMPRESSION = 6
"""gzip's own default; Python's, 9, takes three times as long for a hundredth of the size."""


@contextmanager
def open_target(
    target: str | os.PathLike[str] | TextIO, ledger: Path | None, *, overwrite: bool
) -> Iterator[Callable[[str], object]]:
    """Give a function that writes texts, as UTF-8.

    A path is written as `PATH.partial` beside it, and renamed at the end; should the export fail,
    nothing is left of it. A path that ends in `.gz` is compressed.

    Raises:
        InvalidInputError: the path is taken, or cannot be written to.
        ExportFailedError: writing failed on the way.
    """
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write"):
            raise InvalidInputError(f"an export goes to a path or an open file, not {target!r}.")
        yield _writer_of(target)
        target.flush()
        return
    path = Path(target)
    check_target(path, ledger, overwrite=overwrite)
    partial = path.with_name(path.name + ".partial")
    try:
        file = partial.open("xb")
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
            if path.suffix == ".gz":
                # No time and no name in it: the same ledger gives the same bytes.
                with gzip.GzipFile("", "wb", _COMPRESSION, file, 0) as zipped:
                    yield lambda text: zipped.write(text.encode())
            else:
                yield lambda text: file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        check_target(path, ledger, overwrite=overwrite)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # The ledger's own errors are OSErrors too.
        if not isinstance(error, OSError) or isinstance(error, CalibrationLedgerError):
            raise
        raise ExportFailedError(
            f"{shown_name(path)} could not be written ({error.strerror or error}): nothing is left "
            f"of it. Make room, or name another place."
        ) from error


def check_target(path: Path, ledger: Path | None, *, overwrite: bool) -> None:
    """Refuse a path that is the ledger itself, that is taken, or that leads nowhere.

    Raises:
        InvalidInputError: it is one of them.
    """
    try:
        fault = _fault_of(path, ledger, overwrite=overwrite)
    except (OSError, ValueError) as error:  # no permission to look; a NUL in the name
        fault = f"cannot be written ({error}): name another file"
    if fault is not None:
        raise InvalidInputError(f"{shown_name(path)} {fault}.")


def _fault_of(path: Path, ledger: Path | None, *, overwrite: bool) -> str | None:
    if ledger is not None and is_ledger_file(path, ledger):
        return "is the ledger itself: name another file"
    if path.is_dir():
        return "is a folder: name a file in it"
    if os.path.lexists(path) and not overwrite:
        return "exists already: name a file that does not"
    if path.exists() and not path.is_file():  # /dev/null, say, would be replaced by a file
        return "is no ordinary file: leave FILE out, and redirect the output to it"
    if not path.parent.is_dir():
        return "cannot be written, for its folder does not exist"
    return None


def _writer_of(stream: Any) -> Callable[[str], object]:
    """Write UTF-8 below a text file whose own encoding may not know every character."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream.write  # type: ignore[no-any-return]  # a text file of the caller's
    stream.flush()
    return lambda text: stream.buffer.write(text.encode())
