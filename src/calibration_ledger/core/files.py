"""Files beside a ledger: which names belong to it, and how a new file gets its name.

A new file is written under a temporary name, and gets its own only once it is whole: a kill leaves
nothing under that, and no other file is written over or removed. It is never more readable than the
ledger that it was made from.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from calibration_ledger.errors import InvalidInputError

COMPANIONS = ("-wal", "-shm", "-journal", ".lock")
"""What SQLite and our writers' queue keep beside a ledger when they need it."""

_READ_WRITE = 0o666
_OWNERS = 0o600
_GROUPS = 0o070
_OTHERS = 0o007


def full_path(path: str | os.PathLike[str]) -> Path:
    """The path from the root; links in it stay as they are.

    Raises:
        InvalidInputError: it is relative to a current folder that was removed.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        raise InvalidInputError(
            f"{os.fspath(path)} is relative to the current folder, which was removed: change to "
            f"another folder, or write the path out."
        ) from None


def is_ledger_file(path: str | os.PathLike[str], ledger: Path) -> bool:
    """Whether a path leads to the ledger's database, or to a name that belongs to it.

    A companion need not be there now: the next writer takes whatever file has its name.
    """
    here = os.path.realpath(path)
    for name in {str(ledger), os.path.realpath(ledger)}:  # SQLite's are named by the latter
        for suffix in ("", *COMPANIONS):
            if here == os.path.realpath(name + suffix):
                return True
            with suppress(FileNotFoundError):  # another name for the same file
                if os.path.samefile(path, name + suffix):  # noqa: PTH121 - a name beside a path
                    return True
    return False


def create(path: Path, like: Path | None, *, private: bool = False) -> int:
    """Make a new file; gives its descriptor, open for writing.

    Args:
        path: its name.
        like: the ledger that it is made from, whose permissions it gets; None if that is no file.
        private: whether only its owner may read it for now.

    Raises:
        FileExistsError: something has that name, if only a link to nowhere.
        OSError: it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    if private or like is None:
        return os.open(path, flags, _OWNERS if private else _READ_WRITE)
    ledger = like.stat()
    # The user's umask takes away from this what it takes from any file.
    descriptor = os.open(path, flags, _OWNERS | (ledger.st_mode & _READ_WRITE))
    made = os.fstat(descriptor)
    if made.st_gid != ledger.st_gid:
        path.chmod(_for_another_group(made.st_mode))
    return descriptor


def _for_another_group(mode: int) -> int:
    """The permissions for a file of another group: it may do what everyone may, and no more."""
    return stat.S_IMODE(mode) & (~_GROUPS | (mode & _OTHERS) << 3)


def copy_mode(path: Path, ledger: Path) -> None:
    """Give a file the ledger's permissions; another group than its own gets what others have."""
    theirs = ledger.stat()
    of_group = path.stat().st_gid == theirs.st_gid
    path.chmod(stat.S_IMODE(theirs.st_mode) if of_group else _for_another_group(theirs.st_mode))


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name.

    Raises:
        FileExistsError: something has that name by now. It was not touched.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links. Renaming would replace what came in this very moment.
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists") from None
        partial.rename(path)
    else:
        partial.unlink()
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Wait until a file's name is on the disk, not only its content."""
    with suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
