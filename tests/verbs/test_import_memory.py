"""An import of any size runs in bounded memory, measured in a process of its own."""

import json
import subprocess
import sys

import pytest

TAKE = """
import resource, sys, threading, time
from calibration_ledger import AdaptiveCalibrator

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

peak, done = 0.0, threading.Event()
def watch():
    global peak
    while not done.wait(0.02):
        peak = max(peak, resident_mib())

with AdaptiveCalibrator(sys.argv[1], durability="normal") as calibrator:
    calibrator.import_calls("jsonl", sys.argv[2])
    before = resident_mib()
    thread = threading.Thread(target=watch)
    thread.start()
    report = calibrator.import_calls("jsonl", sys.argv[3])
    done.set()
    thread.join()
    print(report.recorded, peak - before, peak)
"""
"""Takes in a small file, then a large one; prints its calls, and the peak in MiB: more, and all."""


def write(path, first, mib):
    """JSON lines with ids, in the order of time, of three models."""
    size, number = 0, first
    with path.open("w") as file:
        while size < mib * 2**20:
            row = {
                "model": f"m{number % 3}",
                "prompt_tokens": number % 4096,
                "completion_tokens": number % 511,
                "actual_ms": 100.5 + number % 977,
                "called_at": f"2025-01-{1 + number // 10**6:02}T{number // 3600 % 24:02}"
                f":{number // 60 % 60:02}:{number % 60:02}.000001Z",
                "request_id": f"request-{number:020}",
            }
            line = json.dumps(row) + "\n"
            file.write(line)
            size += len(line)
            number += 1
    return number - first


def take(folder, mib):
    write(folder / "small.jsonl", 0, 0.5)
    calls = write(folder / "large.jsonl", 10**6, mib)
    names = [folder / "calls.db", folder / "small.jsonl", folder / "large.jsonl"]
    run = subprocess.run(
        [sys.executable, "-c", TAKE, *names], capture_output=True, text=True, check=True
    )
    recorded, more, peak = run.stdout.split()
    assert int(recorded) == calls
    return float(more), float(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_larger_file_takes_no_more_memory(tmp_path):
    more_mib, _ = take(tmp_path, 5)
    assert more_mib < 24  # its 33,000 rows as Python values would take that alone


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_gigabytes_of_json_lines_take_less_than_200_mb(tmp_path):
    assert take(tmp_path, 2_048)[1] < 200 * 1e6 / 2**20
