"""What the options of the suite choose: CI runs every test once, in two runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (
    "tests/promises/test_exit.py",  # cases take turns on the databases
    "tests/verbs/test_rank.py",  # some stand for their verb, on both
    "tests/structure/test_imports.py",  # no database
)


def chosen(*options):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", *options, *FILES],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_a_run_and_the_rest_of_it_on_postgresql_are_together_all_once():
    plain, rest, everything = chosen(), chosen("--postgres-rest"), chosen("--postgres")
    assert plain
    assert rest
    assert sorted(plain + rest) == sorted(everything)
