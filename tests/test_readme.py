"""Every command and snippet of the README is run, in order, as one user would in one evening.

- `console` blocks: each line `$ command` runs in bash in a fresh folder, with a fresh home; what
  follows is its output (stdout and stderr), compared whole after times, digests and paths that no
  two runs share are blotted out. A block may go on with what earlier ones left behind.
- `python` blocks run as scripts of their own in the same folder; lines `#> ...` are the output.
- `sql` blocks run on a real PostgreSQL, in `tests/postgres/test_readme_sql.py`.
- `sh` blocks are the set-up: each of their lines is a line of `.ci/run`, which runs it, in
  parentheses of its own, so that a failure in the middle of it is one of `.ci/run` too.

After a change, `UPDATE_README=1 pytest tests/test_readme.py` writes the new output into the file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

MYPY = ".venv/bin/mypy"

BLOTS = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"[ \t]+"), " "),
]


def blot(text):
    for pattern, replacement in BLOTS:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture(scope="module", name="evening")
def _evening(tmp_path_factory):
    """A fresh folder and home, with the installed command first on the path."""
    folder = tmp_path_factory.mktemp("evening")
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in {"LANG", "TMPDIR"}}
    environment = {
        **kept,
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        # The sandbox of the tests is not the reader's: warnings of either do not belong here.
        "PYTHONWARNINGS": "ignore",
    }
    return folder, environment


def shell(command, evening):
    folder, environment = evening
    output = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    ).stdout
    return output.replace(str(folder), "/home/me")


def run_console(block, evening):
    """The block with the output that its commands give now."""
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
    parts = [f"$ {command}\n{shell(command, evening)}" for command in commands]
    return "".join(part if part.endswith("\n") else part + "\n" for part in parts)


def run_python(block, evening):
    """The block with the output that it prints now, behind the statements as before."""
    folder, environment = evening
    code = re.sub(r"^#> .*\n", "", block, flags=re.MULTILINE)
    script = folder / "snippet.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return code + "".join(f"#> {line}\n" for line in done.stdout.splitlines())


RUN = {"console": run_console, "python": run_python}


def test_every_command_and_snippet_gives_the_output_that_the_readme_shows(evening):
    text = README.read_text(encoding="utf-8")
    differences = []

    def check(match):
        language, block = match.groups()
        if language not in RUN:
            return match.group()
        now = RUN[language](block, evening)
        if blot(now) == blot(block):
            return match.group()
        differences.append((block, now))
        return f"```{language}\n{now}```"

    updated = BLOCK.sub(check, text)
    if os.environ.get("UPDATE_README"):
        README.write_text(updated, encoding="utf-8")
        return
    for block, now in differences:
        assert blot(now) == blot(block)


def test_every_set_up_command_is_one_that_ci_runs():
    blocks = [block for name, block in BLOCK.findall(README.read_text("utf-8")) if name == "sh"]
    commands = [line for block in blocks for line in block.splitlines()]
    assert [command.split()[-1] for command in commands] == ["demo", ".venv/bin/pytest", MYPY]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in commands:
        alone = rf"^\($(?:\n    cd .*$)?\n    {re.escape(command)}\n\)$"
        assert re.search(alone, script, re.MULTILINE), command


def test_a_command_that_fails_in_the_middle_fails_ci():
    script = "set -euo pipefail\n(\n    {}\n)\necho on\n"
    for command, said in (("true && true", "on\n"), ("false && true", ""), ("true && false", "")):
        done = subprocess.run(
            ["bash", "-c", script.format(command)], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.returncode == 0) == (said, said != "")
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_every_command_is_in_the_readme():
    from calibration_ledger.cli.main import COMMANDS

    text = README.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"calib {name}" not in text] == []


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {name for name, _ in BLOCK.findall(README.read_text(encoding="utf-8"))}
    assert kinds <= {"console", "python", "sh", "sql", "text"}


def test_every_test_and_benchmark_that_it_names_is_there():
    named = set(re.findall(r"`((?:tests|benchmarks)/[a-z_/]+\.py)`", README.read_text()))
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).is_file()} == set()
