"""What the options of the suite choose: CI runs every test once, in two runs."""

import os
from pathlib import Path

from support.programs import ran

ROOT = Path(__file__).parents[2]
FILES = (
    "tests/promises/test_exit.py",  # cases take turns on the databases
    "tests/verbs/test_rank.py",  # some stand for their verb, on both
    "tests/structure/test_imports.py",  # no database
)


SCRIPT = """
import sys, pytest
for options in ([], ["--postgres-rest"], ["--postgres"]):
    print("run", flush=True)
    pytest.main(["--collect-only", "-q", "-n", "0", *options, *sys.argv[1:]])
"""


def test_a_run_and_the_rest_of_it_on_postgresql_are_together_all_once():
    # Not the options of this run: a measure of coverage would be written over.
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    printed = ran(SCRIPT, *FILES, cwd=ROOT, env=env).stdout
    runs = printed.split("run\n")[1:]
    plain, rest, everything = ([line for line in run.splitlines() if "::" in line] for run in runs)
    assert plain
    assert rest
    assert sorted(plain + rest) == sorted(everything)
