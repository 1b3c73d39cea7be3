"""Datasette and sqlite-utils read a ledger while others write: the real tools, from outside."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.programs import started
from support.steps import wait_until

for tool in ("datasette", "sqlite_utils"):
    pytest.importorskip(tool, reason=f"{tool} is not installed: .ci/run installs it")

BIN = Path(sys.executable).parent
TOOL_S = 60.0
SLOWEST_S = 2.5
"""Far more than a call takes, and far less than waiting for a reader would."""

WRITER = """
import sys, time
from pathlib import Path
from calibration_ledger import AdaptiveCalibrator

with AdaptiveCalibrator(sys.argv[1], timeout_s=5.0) as calibrator:
    slowest = count = 0
    print("begun", flush=True)
    while True:
        began = time.perf_counter()
        calibrator.record("m", count % 50, 20.0 + count % 7, request_id=f"w{count}")
        slowest = max(slowest, time.perf_counter() - began)
        count += 1
        if count % 20 == 0:
            calibrator.void("m", request_id=f"w{count - 1}")
            if not Path(sys.argv[1]).with_name("more").exists():
                break
    print(count, slowest, flush=True)
    sys.stdin.read()
"""

COUNTS = "SELECT count(*) AS calls, coalesce(sum(voided), 0) AS voided FROM readable_calls"


@pytest.fixture
def filled(ledger_path):
    """A ledger with a voided call, its correction, a time-out, and a model that became another."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for i in range(60):
            calibrator.record("m", i, 20.0 + i, request_id=f"r{i}", details={"ttft_ms": i})
        calibrator.void("m", request_id="r7")
        calibrator.record("m", 7, 27.5, request_id="r7")
        calibrator.record("m", 8, 500.0, outcome="timeout", request_id="late")
        calibrator.record("nick", 9, 90.0, request_id="n")
        calibrator.alias("nick", "m", merge=True)
    return ledger_path


@contextmanager
def writing(path):
    """Another process records and voids meanwhile; none of it waits for who reads."""
    more = path.with_name("more")
    more.touch()
    with started(WRITER, path) as writer:
        try:
            assert writer.stdout.readline() == "begun\n"
            yield
            more.unlink()
            count, slowest = writer.stdout.readline().split()
        finally:
            more.unlink(missing_ok=True)
            writer.stdin.close()
            writer.wait(TOOL_S)
    assert int(count) > 20
    assert float(slowest) < SLOWEST_S


def tool(*arguments):
    """What one of the tools printed, run to its end, without a complaint."""
    done = subprocess.run(
        [BIN / arguments[0], *map(str, arguments[1:])],
        capture_output=True,
        text=True,
        check=False,
        timeout=TOOL_S,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def check_alone(path):
    """Nothing lies beside the ledger but its lock, and it is sound."""
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []
    assert {one.name for one in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


COLUMNS = ("model", "seq", "request_id", "actual_ms", "error_ms", "outcome", "voided")


def test_both_show_what_the_library_tells(filled):
    with AdaptiveCalibrator(filled) as calibrator:
        library = [tuple(getattr(call, name) for name in COLUMNS) for call in calibrator.calls()]
    shown = (
        tool("sqlite-utils", "rows", filled, "readable_calls"),
        tool("datasette", filled, "--get", "/calls/readable_calls.json?_shape=array&_size=max"),
    )
    for rows in shown:
        found = [tuple(row[name] for name in COLUMNS) for row in rows if row["model"] == "m"]
        assert found == library
        assert [row["voided"] for row in rows if row["model"] == "nick"] == [1]
    check_alone(filled)


def test_sqlite_utils_reads_while_another_process_writes(filled):
    with writing(filled):
        seen = []
        for _ in range(3):
            ((row),) = tool("sqlite-utils", "query", filled, COUNTS)
            seen.append((row["calls"], row["voided"]))
            assert len(tool("sqlite-utils", "rows", filled, "readable_calls")) >= row["calls"]
    assert seen == sorted(seen)
    assert seen[0] < seen[-1], "each sees what was recorded by then"
    check_alone(filled)


@contextmanager
def served(path):
    """Datasette's server on the ledger; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [BIN / "datasette", "serve", path, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert any("running on" in line for line in server.stderr)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(TOOL_S)


def asked(address, path):
    """What the server answers, as text."""
    with urlopen(address + path, timeout=TOOL_S) as answer:  # noqa: S310 - our own server
        return answer.read().decode()


def test_datasette_serves_the_view_while_another_process_writes(filled):
    query = urlencode({"sql": COUNTS, "_shape": "array"})
    seen = []
    with writing(filled), served(filled) as address:

        def has_grown():
            ((row),) = json.loads(asked(address, f"/calls.json?{query}"))
            seen.append((row["calls"], row["voided"]))
            return seen[-1][1] > seen[0][1] and len(seen) > 20

        wait_until(has_grown)
        for path in ("/calls", "/calls/readable_calls", "/calls/voided"):
            assert "first_seq" in asked(address, path) or "readable_calls" in asked(address, path)
    assert seen == sorted(seen)
    check_alone(filled)


def test_datasette_inspects_a_ledger_that_is_open_elsewhere(filled):
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("m", 1, 2.0)
        tables = tool("datasette", "inspect", filled)["calls"]["tables"]
        began = time.perf_counter()
        calibrator.record("m", 1, 2.0)
        assert time.perf_counter() - began < SLOWEST_S
    assert {"calls", "call_details", "voided"} <= tables.keys()
    check_alone(filled)
