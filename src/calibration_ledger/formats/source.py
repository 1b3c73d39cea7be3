"""Files of others as numbered, bounded lines of UTF-8. They are only ever opened for reading.

A line that is no text (not UTF-8, or far too long) becomes a `Line` with a fault: its number can
be reported, and reading goes on behind it. gzip is undone, and a byte order mark dropped. What ends
the reading (a missing file, damaged compression) is an `ImportRefusedError`.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from calibration_ledger.core.files import full_path, is_ledger_file
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, shown
from calibration_ledger.formats.beginning import HEAD, beginning_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import TextIO

    from calibration_ledger.formats.base import Beginning, Database

    OpenDatabase = Callable[[Path, str], AbstractContextManager[Database]]
    """Opens a database by its path and the name that it is shown by."""

LINE_MAX = 2**20
"""Bytes to a line. The largest row that could be recorded takes a hundredth of it."""

PIECE = 2**16
"""Bytes that are read at once."""

WHOLE_MAX = 64 * 2**20
"""Bytes to a file that can only be read as a whole: a JSON document of 200,000 models."""

_GZIP = b"\x1f\x8b"
_SQLITE = b"SQLite format 3\0"
_BOM = "\ufeff"
_DAMAGED = (OSError, EOFError, zlib.error, ValueError)
"""What reading raises: the system, gzip, zlib, and a file that was closed."""


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: from 1.
        text: the line with its end; empty where there is a fault.
        fault: why it is no text, or None.
    """

    number: int
    text: str
    fault: str | None = None


_make_line = tuple.__new__
"""As `Line` does it, in half the time."""


class Source:
    """An open file with the name that it is shown by."""

    def __init__(self, name: str, file: Any) -> None:
        """Wrap a file of bytes or of text."""
        self.name = name
        self._file = file

    def refuse(self, line: int | None, reason: str) -> NoReturn:
        """Refuse the whole file."""
        raise ImportRefusedError(self.name, line, reason)

    def lines(self) -> Iterator[Line]:
        """All lines, in constant memory."""
        number = 0
        while True:
            data = self._read(number + 1)
            if not data:
                return
            number += 1
            if len(data) > LINE_MAX:
                end = "\n" if isinstance(data, str) else b"\n"
                passed = 0
                while data and not data.endswith(end):
                    passed += len(data)
                    if passed > WHOLE_MAX:  # of a device, say, that has no end
                        self.refuse(number, f"the line goes on for more than {WHOLE_MAX} bytes.")
                    data = self._read(number)
                yield Line(number, "", f"the line is longer than {LINE_MAX} bytes")
                continue
            if isinstance(data, bytes):
                try:
                    text = data.decode()
                except UnicodeDecodeError as error:
                    yield Line(number, "", not_text(error))
                    continue
            else:
                text = data
            if number == 1:
                text = text.removeprefix(_BOM)
            yield _make_line(Line, (number, text, None))

    def head(self, size: int) -> bytes:
        """The first bytes, of a file that is not read yet; they are not read again."""
        try:
            data = self._file.read(size)
        except UnicodeDecodeError as error:  # of a text file that the caller opened
            self.refuse(None, f"{not_text(error)}. Nothing was recorded: save the file as UTF-8.")
        except _DAMAGED as error:
            self.refuse(None, f"the file cannot be read ({error}). Nothing was recorded.")
        return _as_bytes(data)

    def behind(self, head: bytes) -> io.BufferedReader:
        """The file from its beginning again, once its `head` was read."""
        return io.BufferedReader(_Joined(self.name, head, self._file.read), HEAD)

    def _read(self, line: int) -> Any:
        try:
            return self._file.readline(LINE_MAX + 1)
        except UnicodeDecodeError as error:  # of a text file that the caller opened
            self.refuse(line, f"{not_text(error)}. Nothing was recorded: save the file as UTF-8.")
        except _DAMAGED as error:
            self.refuse(
                line, f"the file cannot be read from here on ({error}). Nothing was recorded."
            )

    def peek(self) -> bytes:
        """How it begins, without the blanks, as far as that can be seen without taking it."""
        file = self._file
        try:
            if hasattr(file, "peek"):
                data = file.peek(1)
            elif file.seekable():
                at = file.tell()
                data = file.read(PIECE)
                file.seek(at)
            else:
                return b""
        except AttributeError:  # a file of the caller's own making
            return b""
        except UnicodeDecodeError:
            return b""  # reading it will say in which line
        except _DAMAGED as error:  # here, as a second try may not see it again
            self.refuse(1, f"the file cannot be read from here on ({error}). Nothing was recorded.")
        text = data if isinstance(data, bytes) else data.encode("utf-8", "replace")
        return text.removeprefix(_BOM.encode()).lstrip()

    def pieces(self) -> Iterator[bytes]:
        """The whole file as bytes, in pieces that are cut anywhere."""
        while True:
            try:
                data = self._file.read(PIECE)
            except _DAMAGED as error:
                self.refuse(None, f"the file cannot be read ({error}). Nothing was recorded.")
            if not data:
                return
            yield data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")

    def whole(self, what: str = "state") -> str:
        """The whole text of a file that is one document; `what` is what it should be."""
        try:
            data = self._file.read(WHOLE_MAX + 1)
            if len(data) > WHOLE_MAX:
                self.refuse(None, f"the file is larger than {WHOLE_MAX} bytes: it is no {what}.")
            text: str = data.decode() if isinstance(data, bytes) else data
        except ImportRefusedError:  # a ValueError, too
            raise
        except UnicodeDecodeError as error:
            self.refuse(None, f"{not_text(error)}. Nothing was recorded: save the file as UTF-8.")
        except _DAMAGED as error:
            self.refuse(None, f"the file cannot be read ({error}). Nothing was recorded.")
        return text.removeprefix(_BOM)


class _Joined(io.RawIOBase):
    """The head of a stream, which was read already, and what comes behind it, as bytes."""

    def __init__(self, name: str, head: bytes, read: Callable[[int], Any]) -> None:
        self.name = name
        self._left = head
        self._next = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = _as_bytes(self._next(len(buffer)))
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def _as_bytes(data: Any) -> bytes:
    """What was read of a file of bytes or of text; half a surrogate pair is no UTF-8 either way."""
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)


@contextmanager
def open_source(
    source: str | os.PathLike[str] | TextIO | None, ledger: Path | None
) -> Iterator[Source]:
    """Open what the user named; an open file is read on from where it stands, and not closed.

    Args:
        source: a path or an open file.
        ledger: the file of the ledger itself, which is refused without being opened: closing it
            again would drop SQLite's locks on it.

    Raises:
        ImportRefusedError: there is no such file, or it cannot be read.
        InvalidInputError: nothing is named, or a name in a current folder that was removed.
    """
    if source is None or (isinstance(source, str) and not source):
        raise InvalidInputError("name the file, or `-` for what comes on stdin.")
    name = shown_name(source)
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "readline"):
            raise InvalidInputError(f"a file is a path or an open file, not {shown(source)}.")
        yield Source(name, _undo_gzip(_bytes_of(source)))
        return
    check_place(source, ledger)
    try:
        file = open(source, "rb")  # noqa: PTH123, SIM115 - a NUL in a name is a ValueError here
    except (OSError, ValueError) as error:
        raise _not_opened(name, error) from None
    with file:
        yield Source(name, _undo_gzip(file))


def check_place(path: str | os.PathLike[str], ledger: Path | None) -> None:
    """Refuse the ledger itself, without opening it.

    Raises:
        ImportRefusedError: the path leads to it, or to a name that belongs to it, or is none.
        InvalidInputError: it is relative to a current folder that was removed.
    """
    full_path(path)
    name = shown_name(path)
    try:
        is_ledger = ledger is not None and is_ledger_file(path, ledger)
    except (OSError, ValueError) as error:
        raise _not_opened(name, error) from None
    if is_ledger:
        raise ImportRefusedError(name, None, "this is the ledger itself: name another file.")


def _not_opened(name: str, error: Exception) -> ImportRefusedError:
    reason = getattr(error, "strerror", None) or error
    return ImportRefusedError(name, None, f"the file cannot be opened: {reason}.")


class InputFile:
    """What the user named, opened when a reader asks for it: an `Input` of `base`.

    Attributes:
        said: what the reader said of how it reads the file.
    """

    def __init__(
        self,
        given: str | os.PathLike[str] | TextIO,
        ledger: Path | None,
        stack: ExitStack,
        open_database: OpenDatabase,
        model: str | None,
    ) -> None:
        """Open nothing yet; `stack` closes what will be."""
        self.name = shown_name(given)
        self.path = Path(given) if isinstance(given, str | os.PathLike) else None
        self.model = model
        self.unit = "line"
        self.said: list[str] = []
        self._given = given
        self._ledger = ledger
        self._stack = stack
        self._open_database = open_database

    @cached_property
    def source(self) -> Source:
        """See `base.Input`."""
        return self._stack.enter_context(open_source(self._given, self._ledger))

    def is_database(self) -> bool:
        """See `base.Input`."""
        if self.path is None or not self.path.is_file():
            return False
        try:
            with self._open_database(self.path, self.name):
                return True
        except ImportRefusedError:
            with open_source(self._given, self._ledger) as file:
                return file.head(len(_SQLITE)) == _SQLITE

    def database(self) -> Database:
        """See `base.Input`."""
        if self.path is None:
            self.refuse(None, "a database cannot be read from a stream: name its file.")
        self.unit = "record"
        return self._stack.enter_context(self._open_database(self.path, self.name))

    def say(self, how: str) -> None:
        """See `base.Input`."""
        self.said.append(how)

    def refuse(self, place: int | None, reason: str) -> NoReturn:
        """Refuse the whole file."""
        raise ImportRefusedError(self.name, place, reason, self.unit)


@contextmanager
def open_input(
    given: str | os.PathLike[str] | TextIO,
    ledger: Path | None,
    open_database: OpenDatabase,
    model: str | None = None,
) -> Iterator[InputFile]:
    """A file for a reader; what the reader opened is closed at the end.

    Args:
        given: a path or an open file.
        ledger: the file of the ledger itself, which is refused.
        open_database: opens the file as a database; formats know none.
        model: the name for calls that name no model.
    """
    with ExitStack() as stack:
        yield InputFile(given, ledger, stack, open_database, model)


def begin_input(
    given: str | os.PathLike[str] | TextIO,
    ledger: Path | None,
    open_database: OpenDatabase,
    stack: ExitStack,
) -> tuple[Beginning, Any]:
    """How a file begins, and the file to read: for itself, or what takes its place.

    Whether a file is a database is SQLite's to find out: a database that this program has open must
    not be opened by others, for closing it would drop SQLite's locks.

    Args:
        given: a path or an open file.
        ledger: the file of the ledger itself, which is refused.
        open_database: opens a file as a database.
        stack: closes what is left open.

    Raises:
        ImportRefusedError: it cannot be read.
    """
    if isinstance(given, str | os.PathLike):
        check_place(given, ledger)
        if Path(given).is_file():
            name = shown_name(given)
            try:
                with open_database(Path(given), name) as database:
                    return beginning_of(name, b"", database.tables()), given
            except ImportRefusedError as error:
                with open_source(given, ledger) as file:
                    head = file.head(HEAD)
                if head.startswith(_SQLITE):
                    raise error from None
                return beginning_of(name, head), given
    file = stack.enter_context(open_source(given, ledger))
    head = file.head(HEAD)
    return beginning_of(file.name, head), file.behind(head)


def shown_name(file: object) -> str:
    """A path or an open file as it may be printed."""
    if isinstance(file, str | os.PathLike):
        return os.fsdecode(file).encode("utf-8", "backslashreplace").decode()
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _bytes_of(stream: Any) -> Any:
    """The bytes below a text file, where they are UTF-8 and none of them was read yet.

    Standard input in an ASCII locale is one such: what is in it is UTF-8 all the same, and a line
    that is not can be told by its number.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    is_utf8 = stream.encoding.lower().replace("_", "-") in {"utf-8", "utf8", "utf-8-sig"}
    if not is_utf8 and stream is not sys.stdin:
        return stream
    try:
        stream.reconfigure(encoding=stream.encoding)  # refused once something was read
    except ValueError:
        return stream
    return stream.buffer


def _undo_gzip(file: Any) -> Any:
    if isinstance(file, io.BytesIO | io.RawIOBase):
        file = io.BufferedReader(_Joined(shown_name(file), b"", file.read), HEAD)
    peek = getattr(file, "peek", None)
    if peek is None:
        return file
    try:
        zipped = peek(2)[:2] == _GZIP
    except (OSError, ValueError):
        return file  # reading it will say what is the matter
    return gzip.open(file) if zipped else file


def not_text(error: UnicodeDecodeError) -> str:
    """What is wrong with bytes that are no text."""
    return f"the text is not UTF-8 (byte 0x{error.object[error.start]:02x})"
