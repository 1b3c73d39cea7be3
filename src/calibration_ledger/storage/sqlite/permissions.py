"""Who may use the files of a ledger: whoever may write to one of them may write to all of them.

SQLite gives a `-wal` and a `-shm` the permissions of the file. What we add is the file itself,
which SQLite makes with 0644 whatever the umask allows, and the lock file, which has to be closed to
those who may only read: to open it for reading is enough to lock it, and to keep every writer out.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

LOCK = ".lock"
"""What the name of the lock file ends in, behind that of the ledger."""

_WRITES = 0o222
_OWNERS = 0o600


def make_empty(ledger: str | os.PathLike[str]) -> None:
    """Make the file of a new ledger, empty, with what the umask allows.

    Where that cannot be, SQLite says why. The caller holds the writers' lock, and has no connection
    to the file: closing the descriptor would drop its locks.
    """
    with suppress(OSError):
        os.close(os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))


def open_lock(path: str) -> int:
    """Open the lock file of a ledger, and make it if need be; gives the descriptor.

    Raises:
        PermissionError: this user may not write to the ledger, or not use its lock file.
        OSError: it cannot be opened.
    """
    ledger = path.removesuffix(LOCK)
    try:
        theirs = os.stat(ledger).st_mode  # noqa: PTH116 - a name beside a path
    except OSError:
        theirs = _WRITES  # it is still to be made: the umask decides, as it will then
    else:
        # Who may only read shall not leave a lock file behind that is closed to the owner.
        if not os.access(ledger, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), ledger)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _OWNERS | theirs & _WRITES)
    except PermissionError as denied:
        # Another user made it: reading is enough for a flock. Or nobody may make it.
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise denied from None
    admit_writers(descriptor, ledger)
    return descriptor


def admit_writers(lock: int, ledger: str) -> None:
    """Open a lock file to those who may write to the ledger, and close it to all others.

    Only who made it may do that, and the superuser.
    """
    if os.name != "posix":
        return
    mine = theirs = os.fstat(lock)
    with suppress(OSError):
        theirs = os.stat(ledger)  # noqa: PTH116 - a name beside a path
    if (mine.st_uid, mine.st_gid) != (theirs.st_uid, theirs.st_gid):
        with suppress(OSError):  # no member of that group, or not ours
            owner = theirs.st_uid if os.geteuid() == 0 else -1
            os.fchown(lock, owner, theirs.st_gid)
    writes = theirs.st_mode & _WRITES
    if os.fstat(lock).st_gid != theirs.st_gid:  # that group may do what everyone may
        writes = writes & ~0o020 | (writes & 0o002) << 3
    mode = _OWNERS | writes | writes << 1
    if mode != stat.S_IMODE(mine.st_mode):
        with suppress(OSError):
            os.fchmod(lock, mode)
