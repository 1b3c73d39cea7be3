"""What the operating system knows of a ledger's file: its disk, and who holds locks on it.

Nothing here opens the database or a file beside it, takes a lock or waits for one: `stat` tells it,
and `/proc` on Linux. What is not known on other systems is None.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.facts import Activity, FileFacts, Process
from calibration_ledger.storage.place import bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

PROC = Path("/proc")

LOOKS = 3
LOOK_EVERY_S = 0.02
"""How often, and how far apart, to look again before saying that somebody writes out of turn."""

_NETWORK = re.compile(
    r"(nfs|smb|cifs|9p|virtiofs|afs|ceph|glusterfs|lustre|gpfs|beegfs|orangefs|pvfs2|ocfs2|gfs|coda|"
    r"ncpfs|davfs|vboxsf|vmhgfs|prl_fs|drvfs)[a-z0-9]*"
)
"""File systems of other machines, and of the host of a virtual one: locks do not reach across."""

_NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|s3fs|mount-s3|goofys|gcsfuse|google|blobfuse|rclone|glusterfs|ceph|davfs|juicefs|"
    r"seaweedfs|weed|nfs|smb|curlftpfs|gvfsd-fuse|grpcfuse|osxfs|vmhgfs)[-a-z0-9]*"
)

_VOLATILE = frozenset({"tmpfs", "ramfs"})

_OCTAL = re.compile(r"\\([0-7]{3})")

# Where SQLite puts its locks in the -shm file; see its "WAL-mode file format".
_CHECKPOINTS = 121  # and 120 is to write; a recovery, at 122, is of no concern
_READS = range(123, 128)
_IS_OPEN = 128


def file_facts(path: Path) -> FileFacts:
    """What the system says of a ledger's file, which need not be there."""
    path = Path(os.path.realpath(path))
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - see `_nearest`
        return FileFacts()  # a folder, say: its size, names and locks are not a ledger's
    kind, is_network, is_volatile = file_system(str(path))
    facts = FileFacts(
        free_bytes=free_bytes(str(path)),
        file_system=kind,
        is_network=is_network,
        is_volatile=is_volatile,
        is_writable=_may_write(path),
    )
    try:
        status = path.stat()
    except OSError:
        return facts
    return replace(
        facts,
        size_bytes=status.st_size,
        wal_bytes=max(0, bytes_of(f"{path}-wal")),
        names=status.st_nlink,
        locked_out=_locked_out(path) if facts.is_writable else (),
        activity=activity(str(path)),
    )


def _may_write(path: Path) -> bool:
    """Whether this user may write to the file, or make it, and make files beside it."""
    may_make = os.access(_nearest(path.parent), os.W_OK | os.X_OK)
    return may_make and (not os.path.exists(path) or os.access(path, os.W_OK))  # noqa: PTH110 - see `_nearest`


def _nearest(path: Path) -> Path:
    """The path, or the folder nearest above it that is there."""
    # Not Path.exists(), which raises where a folder may not be searched.
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110 - see above
        path = path.parent
    return path


def _locked_out(path: Path) -> tuple[str, ...]:
    """The files beside the ledger that this user may not use as writers must."""
    needed = {"-wal": os.R_OK | os.W_OK, "-shm": os.R_OK | os.W_OK, ".lock": os.R_OK}
    beside = {f"{path}{suffix}": mode for suffix, mode in needed.items()}
    return tuple(
        name for name, mode in beside.items() if Path(name).exists() and not os.access(name, mode)
    )


class FileSystem(NamedTuple):
    """The file system that a path lies on."""

    kind: str | None = None
    is_network: bool | None = None
    is_volatile: bool | None = None


def file_system(path: str) -> FileSystem:
    """The file system of a path that need not be there yet."""
    try:
        mounts = (PROC / "self" / "mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return FileSystem()
    kind = kind_of(mounts, os.path.realpath(path))
    if kind is None:
        return FileSystem()
    is_network = any(form.fullmatch(kind) for form in (_NETWORK, _NETWORK_FUSE))
    return FileSystem(kind, is_network, kind in _VOLATILE)


def kind_of(mounts: str, path: str) -> str | None:
    """The type of the file system that a real path lies on, from the text of `mountinfo`.

    The device numbers of a file and of its mount differ on some file systems, so it goes by the
    longest mount point above the path; of several at one point, the last covers the others.
    """
    found, length = None, 0
    for line in mounts.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 5:  # noqa: PLR2004 - see proc_pid_mountinfo(5)
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= length:
            found, length = right.split(" ")[0], len(point)
    return found


def free_bytes(path: str) -> int | None:
    """What this user may still write on the disk that a path lies on, or would lie on."""
    try:
        return shutil.disk_usage(_nearest(Path(path))).free
    except OSError:
        return None


# -- locks --------------------------------------------------------------------------------------


class Lock(NamedTuple):
    """A line of `/proc/locks`."""

    kind: str
    is_write: bool
    waits: bool
    pid: int
    device: tuple[int, int]
    inode: int
    first: int
    last: float


def parse_locks(text: str) -> list[Lock]:
    """The locks of a system; a line of a form that is not known is left out."""
    locks = []
    for line in text.splitlines():
        fields = line.split()[1:]
        waits = fields[:1] == ["->"]
        try:
            kind, _, mode, pid, file, first, last = fields[waits:]
            major, minor, inode = file.split(":")
            device = (int(major, 16), int(minor, 16))
            end = float("inf") if last == "EOF" else int(last)
            locks.append(
                Lock(kind, mode == "WRITE", waits, int(pid), device, int(inode), int(first), end)
            )
        except ValueError:
            continue
    return locks


def activity(ledger: str) -> Activity | None:
    """Who uses the ledger file now; None where the system does not tell."""
    seen = _look(ledger)
    # The lines of one look are not quite of one moment: a writer that gives the lock back in
    # between seems to write without it. Whoever really does is there a moment later, too.
    for _ in range(LOOKS):
        if seen is None or not seen.outside:
            break
        sleep(LOOK_EVERY_S)
        again = _look(ledger)
        if again is None:
            break
        outside = tuple(process for process in again.outside if process in seen.outside)
        seen = replace(again, outside=outside)
    return seen


def _look(ledger: str) -> Activity | None:
    try:
        locks = parse_locks((PROC / "locks").read_text())
    except OSError:
        return None
    ledger = os.path.realpath(ledger)
    queue = _on(locks, f"{ledger}.lock", "FLOCK")
    index = _on(locks, f"{ledger}-shm", "POSIX")
    in_turn = {lock.pid for lock in queue if not lock.waits}
    held = [lock for lock in index if not lock.waits]
    writing = {lock.pid for lock in held if lock.is_write and lock.first <= _CHECKPOINTS}
    reading = {lock.pid for lock in held if not lock.is_write and lock.first in _READS}
    users = {lock.pid for lock in held if lock.first <= _IS_OPEN <= lock.last}
    others = {os.getpid()}
    return Activity(
        _processes(in_turn),
        len({lock.pid for lock in queue if lock.waits}),
        _processes(writing - in_turn),
        _processes(reading - others),
        _processes(users - others),
    )


def _on(locks: Iterable[Lock], path: str, kind: str) -> list[Lock]:
    """The locks of a kind on a file, which need not be there."""
    try:
        status = Path(path).stat()
    except OSError:
        return []
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    return [
        lock
        for lock in locks
        if lock.kind == kind
        and lock.inode == status.st_ino
        # Some file systems (overlay, btrfs) give a file another device number than its locks.
        and (lock.device == device or _has_open(lock.pid, status))
    ]


def _has_open(pid: int, status: os.stat_result) -> bool:
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            if os.path.samestat(descriptor.stat(), status):
                return True
    except OSError:
        pass  # another user's process, or one that has just ended
    return False


def _processes(pids: Iterable[int]) -> tuple[Process, ...]:
    return tuple(_process(pid) for pid in sorted(pids))


def _process(pid: int) -> Process:
    try:
        text = (PROC / str(pid) / "status").read_text(errors="backslashreplace")
    except OSError:  # it ended, or the system hides it
        return Process(pid, None)
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    state = fields.get("State", "").strip()
    return Process(pid, fields.get("Name", "").strip() or None, state[:1] in {"T", "t"})
