"""A container's quota limits the threads: more of them than it pays for would stand still."""

import os
from math import inf

import pytest

from calibration_ledger.fast import cores as module
from calibration_ledger.fast.cores import cores, quota


def written(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture(name="own")
def _own(tmp_path):
    return tmp_path / "cgroup"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000\n", inf), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("nonsense", inf)],
)
def test_the_quota_of_the_second_version_is_read(tmp_path, own, text, expected):
    own.write_text("0::/\n")
    written(tmp_path / "groups", cpu__max=text)
    assert quota(own, tmp_path / "groups") == expected


def test_the_groups_around_a_group_limit_it_too(tmp_path, own):
    own.write_text("0::/pod/container/mine\n")
    written(tmp_path / "groups" / "pod" / "container", cpu__max="200000 100000")
    written(tmp_path / "groups" / "pod" / "container" / "mine", cpu__max="800000 100000")
    assert quota(own, tmp_path / "groups") == 2.0


@pytest.mark.parametrize(("given", "expected"), [("250000", 2.5), ("-1", inf)])
def test_the_quota_of_the_first_version_is_read(tmp_path, own, given, expected):
    own.write_text("7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n")
    files = {"cpu__cfs_quota_us": given, "cpu__cfs_period_us": "100000"}
    written(tmp_path / "groups" / "cpu,cpuacct", **files)  # as a container sees it
    assert quota(own, tmp_path / "groups") == expected


@pytest.mark.parametrize("text", ["", "no groups at all\n", "\udcff"])
def test_what_cannot_be_read_limits_nothing(tmp_path, own, text):
    own.write_bytes(text.encode(errors="surrogateescape"))
    assert quota(own, tmp_path) == inf
    assert quota(tmp_path / "nothing", tmp_path) == inf


@pytest.mark.parametrize(("given", "expected"), [(0.3, 1), (1.5, 2), (inf, None), (1e9, None)])
def test_there_is_a_thread_for_each_core_that_the_quota_pays_for(monkeypatch, given, expected):
    monkeypatch.setattr(module, "quota", lambda: given)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert cores() == (expected or 64)
