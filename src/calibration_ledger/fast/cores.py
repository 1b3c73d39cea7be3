"""How many cores this process may keep busy: those it may run on, within its container's quota.

A container with a quota still sees every core of its machine. As many threads as cores would use
the quota up at once, and then all of them would stand still together.
"""

from __future__ import annotations

import os
from math import ceil, inf
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """How many, at least one."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    return max(1, min(found, ceil(min(quota(), found))))


def quota(own: Path = _OWN, cgroups: Path = _CGROUPS) -> float:
    """The cores' worth of time that Linux's control groups give this process; infinity for any.

    See the kernel's admin-guide/cgroup-v2 (`cpu.max`) and scheduler/sched-bwc (version 1). A group
    cannot have more than the groups around it.

    Args:
        own: the file that says which groups the process is in.
        cgroups: where the groups are mounted.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except (OSError, ValueError):  # no Linux
        return inf
    least = inf
    for _, controllers, path in (parts for parts in groups if len(parts) == 3):  # noqa: PLR2004 - id:controllers:path
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = cgroups / controllers if controllers else cgroups
        group = mount / path.lstrip("/")
        # In a container the path may be as the machine sees it: then only the mount is there.
        for folder in (group, *(one for one in group.parents if one.is_relative_to(mount))):
            least = min(least, _quota_of(folder, is_first=bool(controllers)))
    return least


def _quota_of(folder: Path, *, is_first: bool) -> float:
    """What one group gives, of the first or second version of control groups."""
    try:
        if is_first:
            quota_us = (folder / "cpu.cfs_quota_us").read_text()
            period_us = (folder / "cpu.cfs_period_us").read_text()
        else:
            quota_us, period_us = (folder / "cpu.max").read_text().split()
        given, period = float(quota_us.replace("max", "inf")), float(period_us)
    except (OSError, ValueError):
        return inf
    return given / period if given > 0 and period > 0 else inf  # version 1 has -1 for no quota
