"""Where a ledger lies: the path or URL that the user named, checked without opening anything.

Nothing in this package ever calls `open()` on the database file: closing such a descriptor would
drop the locks that SQLite holds on the file in this process.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

from calibration_ledger.core.command import calib, shell
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerCorruptError,
    LedgerPathError,
    LedgerPermissionError,
    NotALedgerError,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

ENVIRONMENT = "CALIBRATION_LEDGER"
MEMORY = ":memory:"

_MISTYPED = re.compile(
    r"""(?!.*://)                         # a URL is read as one
        (?!/[^/]|[.~]|[a-z]:[\\/])        # nor is it a path as one is written out
        (?: \W*(?:postgres\w*|psycopg\w*|mysql|mariadb|oracle|mssql|sqlite)(?:\+\w*)?(?::|//)
          | .*:.*@                        # user:password@host
          | [^/\\]*\b(?:hosts?|hostaddr|port|dbname|database|server|service|user|uid|sslmode
                        |\w*pass\w*|pwd)\s*=   # a connection string of libpq or ODBC
          | (?:[^/\\:]*:){3}              # a line of .pgpass
          | .*\?.*pass\w*= )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

_LOG_HEADER_BYTES = 32
"""A write-ahead log that is no longer than its header holds nothing."""


@dataclass(frozen=True, slots=True)
class File:
    """A ledger in a SQLite file.

    Attributes:
        path: its absolute path.
        ours: whether this is the user's default place, whose folder is made when needed.
    """

    path: Path
    ours: bool = False

    @property
    def shown(self) -> str:
        """The path, as it may be printed."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Server:
    """A ledger in the database of a PostgreSQL server.

    Attributes:
        path: there is no file.
        url: where it is.
        shown: the same as it may be printed: without a password.
    """

    path: ClassVar[None] = None
    url: str = field(repr=False)  # there may be a password in it
    shown: str


@dataclass(frozen=True, slots=True)
class Memory:
    """A ledger that ends with the process.

    Attributes:
        path: there is no file.
        shown: `:memory:`.
    """

    path: ClassVar[None] = None
    shown: ClassVar[str] = MEMORY


Place = File | Server | Memory
"""Where a ledger lies. Each has a `path`, None where it is no file, and a text to be `shown`."""


def find_place(ledger: str | os.PathLike[str] | None) -> Place:
    """The place that the user named: a path, a URL, `:memory:`, or None for their own.

    None is `$CALIBRATION_LEDGER`, or `ledger.db` in the user's data folder. White space around a
    text is dropped, for what is read from a file or from another command ends in a line end. A
    `Path` is taken as it is.

    Raises:
        InvalidInputError: it is empty, or of a kind that cannot be a ledger.
        LedgerPathError: there is no home to have a data folder in, or a path is relative to a
            current folder that is gone.
    """
    if ledger is None:
        ledger = os.environ.get(ENVIRONMENT, "").strip() or None
    if ledger is None:
        return _own_place()
    if isinstance(ledger, str):
        ledger = ledger.strip()
    try:
        text = os.fspath(ledger)
        os.fsencode(text)  # no file has half a surrogate pair in its name
    except (TypeError, UnicodeEncodeError):
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        # Not repeated: there may be a password in it.
        raise InvalidInputError(
            f"a ledger is a path, a URL or ':memory:': a text that is not empty, is valid Unicode "
            f"and holds no NUL. This {type(ledger).__name__} is not: leave it out for your own."
        )
    if text == MEMORY:
        return Memory()
    if isinstance(ledger, str) and _MISTYPED.match(text):
        # Not repeated either.
        raise InvalidInputError(
            "this ledger looks like a URL that was mistyped, or a connection string: write a "
            "database of a PostgreSQL server like "
            "postgresql+psycopg://user:password@host/database, and a file of such a name with ./ "
            "before it."
        )
    if "://" in text:
        return _from_url(text)
    return File(_full_path(text))


def _full_path(text: str) -> Path:
    """The path from the root; links in it stay as they are."""
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - keeps symlinks
    except RuntimeError:
        raise InvalidInputError(
            "this ledger starts with ~ and the name of a user who is not known here: write the "
            "path out, or ./ before it for a file of that name."
        ) from None
    except FileNotFoundError:
        raise LedgerPathError(
            "this ledger is relative to the current folder, which was removed: change to "
            "another folder, or write the path out."
        ) from None


def _own_place() -> File:
    """The user's own ledger.

    Raises:
        LedgerPathError: the user has no home, as one without a passwd entry in a container.
    """
    import platformdirs

    try:
        folder = platformdirs.user_data_path("calibration-ledger", appauthor=False)
    except (RuntimeError, KeyError):
        folder = Path()
    if not folder.is_absolute():  # older platformdirs give ~, as it stands
        raise LedgerPathError(
            f"this user has no home folder to keep a ledger in: set HOME, or name the ledger with "
            f"${ENVIRONMENT}, --ledger or AdaptiveCalibrator(PATH)."
        )
    return File(folder / "ledger.db", ours=True)


def _from_url(text: str) -> Place:
    url, shown = read_url(text)
    # With two slashes instead of three, the first part of the path would be a host, and lost.
    if url.get_backend_name() == "sqlite" and not (url.query or url.host or url.username):
        return find_place(url.database or MEMORY)
    if url.drivername == "postgresql+psycopg":
        return Server(url.render_as_string(hide_password=False), shown)
    raise InvalidInputError(
        f"a ledger at {shown} is not supported: name a path, such as calls.db, or a database of a "
        f"PostgreSQL server, such as postgresql+psycopg://host/database."
    )


def check_file(place: File) -> bool:
    """Whether there is something at the path: False for nothing, or an empty file.

    An empty file is what SQLite itself leaves behind when a process dies before its first commit,
    and what tools for temporary files make: there is nothing in it to lose.

    Raises:
        LedgerPathError: it is a folder or a device, or lies in a folder that does not exist.
        LedgerPermissionError: it may not be read.
        LedgerCorruptError: there is nothing, but a log beside it.
        NotALedgerError: it is a single byte; what a larger file is, SQLite tells.
    """
    path = place.path
    try:
        status = path.stat()
    except FileNotFoundError:
        _refuse_log_alone(place)
        _check_folder(place)
        return False
    except NotADirectoryError:
        raise LedgerPathError(
            f"{place.shown} cannot hold a ledger: a part of its path is a file, not a folder."
        ) from None
    except PermissionError:
        raise LedgerPermissionError(
            f"{place.shown} cannot be looked at by this user: check the permissions of its folder."
        ) from None
    except OSError as error:
        raise LedgerPathError(f"{place.shown} cannot hold a ledger: {error.strerror}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise LedgerPathError(
            f"{place.shown} is a folder: name a file in it, such as {path / 'ledger.db'}."
        )
    if not stat.S_ISREG(status.st_mode):
        raise LedgerPathError(f"{place.shown} is no ordinary file: name another path.")
    if not os.access(path, os.R_OK):
        raise LedgerPermissionError(
            f"{place.shown} may not be read by this user: check its permissions."
        )
    if status.st_size == 1:
        # SQLite takes a file of one byte for an empty database, and would write over the byte.
        raise NotALedgerError(
            f"{place.shown} is not a ledger, nor any SQLite database. It was not touched: name "
            f"another path."
        )
    if status.st_size == 0:
        _refuse_log_alone(place)
    return status.st_size > 0


def _refuse_log_alone(place: File) -> None:
    """Refuse a file that is empty or gone while its log still holds what was recorded last.

    SQLite takes such a log for a leftover, and deletes it. A ledger that is just being made has a
    page in its file before it has a log.
    """
    path = os.path.realpath(place.path)
    if bytes_of(f"{path}-wal") > _LOG_HEADER_BYTES and bytes_of(path) <= 0:
        matter = "gone" if bytes_of(path) < 0 else "empty"
        raise LedgerCorruptError(
            f"{place.shown} is {matter}, but {path}-wal beside it still holds calls that were "
            f"recorded, and SQLite would delete them. Nothing was touched: put the very file back "
            f"that was there (not an older backup: the log does not fit that). If there is none, "
            f"move {path}-wal away, and restore a backup or begin anew."
        )


def bytes_of(path: str) -> int:
    """The bytes of a file; -1 where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a name beside a path
    except OSError:
        return -1


def refuse_to_write(shown: str) -> NoReturn:
    """Say that this user may not write to the file."""
    raise LedgerPermissionError(
        f"{shown} may not be written by this user",
        stayed="nothing was recorded",
        advice="check its permissions",
    )


def check_one_name(place: File) -> None:
    """Refuse to write to a file that has a second name.

    Raises:
        LedgerPathError: it has.
    """
    with suppress(FileNotFoundError):
        if place.path.stat().st_nlink > 1:
            refuse_second_name(place.shown)


def refuse_second_name(shown: str) -> NoReturn:
    """Say that the file has a second name, a hard link."""
    raise LedgerPathError(
        f"{shown} has a second name (a hard link). SQLite keeps a log and locks for each name, so "
        f"that writing under both loses calls",
        stayed="nothing was recorded",
        advice=f"remove the other name (find -samefile finds it), or make it a copy with "
        f"`{calib('db', 'backup', 'COPY', ledger=shown)}` or a symbolic link",
    )


def _check_folder(place: File) -> None:
    folder = place.path.parent
    if place.path.is_symlink():
        raise LedgerPathError(f"{place.shown} is a link to a file that does not exist: mend it.")
    if not folder.is_dir() and not place.ours:
        raise LedgerPathError(
            f"{place.shown} cannot hold a ledger, because its folder does not exist: "
            f"make it first ({shell('mkdir', '-p', str(folder))})."
        )


def make_folder(place: File) -> None:
    """Make the user's own data folder; others' folders are theirs to make."""
    if place.ours:
        try:
            place.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerPermissionError(
                f"the folder {place.path.parent} cannot be made ({error.strerror}): name another "
                f"place with ${ENVIRONMENT} or --ledger."
            ) from None


# -- URLs: what is connected to, and what may be shown to people ------------------------------

_SHOWN = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname"),
        *("gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle"),
        *("keepalives_interval", "load_balance_hosts", "port", "require_auth", "sslcert"),
        *("sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs"),
        *("tcp_user_timeout", "user"),
    }
)
"""Parameters behind the ? that hold no secret. Any other may, as `sslpassword` does, `options`, or
a password under a name that was mistyped."""

_SCHEMA = re.compile(r"-c ?search_path=[\w,]+")
"""The `options` that say where the ledger is, and nothing else."""


def read_url(text: str) -> tuple[sa.URL, str]:
    """A URL, and the text of it that may be shown: without a password.

    Nothing of a URL that cannot be read is repeated, for there may be a password in it.

    Raises:
        InvalidInputError: it cannot be read.
    """
    import sqlalchemy as sa

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is not None:
        url = url.set(drivername=url.drivername.lower())
    if url is None or (url.get_backend_name() != "sqlite" and _is_ambiguous(text, url)):
        raise unreadable_url()
    if url.drivername in {"postgresql", "postgres"}:  # both are libpq's own
        url = url.set(drivername="postgresql+psycopg")
    kept = {name: value for name, value in url.query.items() if _is_harmless(name, value)}
    return url, url.set(query=kept).render_as_string(hide_password=True)


def unreadable_url() -> InvalidInputError:
    """The error of a URL that cannot be read, which repeats nothing of it."""
    return InvalidInputError(
        "this ledger URL cannot be read: write it like sqlite:////home/me/calls.db, or "
        "postgresql+psycopg://user:password@host/database with the special characters of the "
        "password percent-encoded (an @ as %40)."
    )


def _is_harmless(name: str, value: str | tuple[str, ...]) -> bool:
    is_schema = name == "options" and isinstance(value, str) and _SCHEMA.fullmatch(value)
    return name in _SHOWN or bool(is_schema)


_NO_NAME = re.compile(r"[=;&:?#/\\\n]")
_NO_HOST = re.compile(r"[=;&@?#\s]")
_NO_VALUE = re.compile(r"[=;&]")
_HOSTS = ("host", "hostaddr", "port", "user")


def _is_ambiguous(text: str, url: sa.URL) -> bool:
    """Whether a password may have got into a part that is shown.

    An @ inside a password makes its end look like a part of the host; a third slash, a ; or an &
    makes all that follows a part of the database's name; and a parameter may hold a whole
    connection string. What such a part says would be told by the server, too, as a user or database
    that it does not know.
    """
    if text.partition("?")[0].count("@") > 1:
        return True
    given = {name: ",".join((v,) if isinstance(v, str) else v) for name, v in url.query.items()}
    names = (url.username, url.database, given.get("user"), given.get("dbname"))
    return (
        any(_NO_NAME.search(name or "") for name in names)
        or "@" in (url.database or "")
        or _NO_HOST.search(url.host or "") is not None
        or any("@" in given.get(name, "") for name in _HOSTS)
        or any(_NO_VALUE.search(value) for name, value in given.items() if name in _SHOWN)
        or any("pass" in value.lower() for name, value in given.items() if name == "options")
    )
