"""Every command and snippet of every page is run, in order, as one reader would, a page a test.

- `console` blocks: each line `$ command` runs in a folder of the page's own, with a home of its
  own; what follows is its output (stdout and stderr), compared whole after times, digests and
  paths that no two runs share are blotted out. A block may go on with what earlier ones on the
  page left behind. A plain `calib ...` runs in this process, everything else in bash.
- `python` blocks run as scripts of their own in the same folder; lines `#> ...` are the output.
  Those that import a client of models run in `tests/live/test_snippets.py`, where it is installed.
- `sql` blocks run on a real PostgreSQL: see `tests/storage/postgres/test_docs_sql.py`.
- `sh` blocks are for a clone. Those of the README are the set-up, which `.ci/run` runs.

After a change, `UPDATE_DOCS=1 pytest tests/docs/test_docs.py` writes the new output into the pages.
"""

import inspect
import os
import re
import runpy
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

import calibration_ledger
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.main import COMMANDS, main
from calibration_ledger.core.answers import Reason
from support.snippets import BLOCK, clients_of

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "calibration_ledger"
AT_THE_TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [*(ROOT / name for name in AT_THE_TOP), *sorted((ROOT / "docs").glob("*.md"))]
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
README_LINES_MAX = 200

SAMPLES = ROOT / "tests" / "formats" / "samples"
LOGS = {
    "home/.config/io.datasette.llm/logs.db": "llm.0-36.sql",
    "phoenix.db": "phoenix.8.sql",
    "webui.db": "openwebui.messages.sql",
    "mlflow.db": "mlflow.3.sql",
    "profile_export.jsonl": "aiperf.profile_export.jsonl",
    "benchmarks.json": "guidellm.0-8.json",
    "individual_responses.json": "llmperf.individual.json",
    "eval.json": "inspect.log.json",
    "results.json": "promptfoo.results.json",
    "telemetry.jsonl": "hmft.telemetry.jsonl",
    "telemetry.log": "gemini-cli.telemetry.log.json",
    "activity.csv": "openrouter.activity.csv",
}
"""What the reader of the page on imports has of other tools already."""

IS_UPDATE = bool(os.environ.get("UPDATE_DOCS"))

# In bash these mean more than themselves; a command without them can run in this process.
PLAIN = re.compile(r"calib ([^|<>;&$`*?~\\\n]*)(?: > ([\w.]+))?")
BLOTS = [
    # Its form stays, which says for whom it is: `2026-11-24 03:09:13Z` for people.
    (re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.\d+)?(Z|\+00:00)?"), r"<time\1\2>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"[ \t]+"), " "),
]


def blocks(name, *languages):
    return [block for language, block in BLOCK.findall(TEXTS[name]) if language in languages]


def blot(text):
    for pattern, replacement in BLOTS:
        text = pattern.sub(replacement, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Reader:
    """Somebody who reads one page, in a fresh folder."""

    def __init__(self, folder):
        self.folder = folder

    def shell(self, command):
        plain = PLAIN.fullmatch(command)
        if plain is None:
            return self.run("bash", "-c", command, stderr=subprocess.STDOUT)
        arguments, target = plain.groups()
        result = CliRunner().invoke(main, shlex.split(arguments), prog_name="calib")
        assert result.exception is None or isinstance(result.exception, SystemExit)
        if target is None:
            return result.output
        (self.folder / target).write_text(result.stdout, encoding="utf-8")
        return result.stderr

    def run(self, *arguments, stderr=None, check=False):
        return subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=120,
            check=check,
        ).stdout

    def console(self, block):
        """The block with the output that its commands give now."""
        commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
        parts = [f"$ {command}\n{self.shell(command)}" for command in commands]
        text = "".join(part if part.endswith("\n") else part + "\n" for part in parts)
        return text.replace(f"{self.folder}/home", "/home/me").replace(str(self.folder), "/home/me")

    def python(self, block):
        """The block with the output that it prints now, behind the statements as before."""
        code = re.sub(r"^#> .*\n", "", block, flags=re.MULTILINE)
        script = self.folder / "snippet.py"
        script.write_text(code, encoding="utf-8")
        if "__main__" in code:  # it starts processes, which import it once more
            printed = self.run(sys.executable, script, check=True)
        else:
            with redirect_stdout(StringIO()) as output:
                runpy.run_path(str(script), run_name="__main__")
            printed = output.getvalue()
        return code + "".join(f"#> {line}\n" for line in printed.splitlines())


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """With a home of its own, and the command on the path."""
    for name in set(os.environ) - {"LANG", "TMPDIR", "PATH"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    # The sandbox of the tests is not the reader's: warnings of either do not belong here.
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.chdir(tmp_path)
    return Reader(tmp_path)


def keep_logs(folder):
    for place, sample in LOGS.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if sample.endswith(".sql"):
            with closing(sqlite3.connect(target)) as database:
                database.executescript((SAMPLES / sample).read_text(encoding="utf-8"))
        else:
            shutil.copy(SAMPLES / sample, target)


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name, "console", "python")])
def test_every_command_and_snippet_gives_the_output_that_the_page_shows(name, reader):
    if name == "CONTRIBUTING.md":  # its reader stands in a clone
        if shutil.which("make") is None:
            pytest.skip("make is not here")
        for part in ("Makefile", "alembic.ini"):
            shutil.copy(ROOT / part, reader.folder)
        shutil.copytree(ROOT / "migrations", reader.folder / "migrations")
    if name == "docs/import.md":
        keep_logs(reader.folder)
    run = {"console": reader.console, "python": reader.python}
    differences = []

    def check(match):
        language, block = match.groups()
        if language not in run or (language == "python" and clients_of(block)):
            return match.group()
        now = run[language](block)
        if blot(now) == blot(block):
            return match.group()
        differences.append((block, now))
        return f"```{language}\n{now}```"

    updated = BLOCK.sub(check, TEXTS[name])
    if IS_UPDATE:
        PAGES[name].write_text(updated, encoding="utf-8")
        return
    for block, now in differences:
        assert blot(now) == blot(block)


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {(name, kind) for name, text in TEXTS.items() for kind, _ in BLOCK.findall(text)}
    checked = {"console", "python", "sh", "text", "mermaid"}
    assert {(name, kind) for name, kind in kinds if kind not in checked} == {
        ("docs/postgresql.md", "sql")
    }


def test_the_readme_stays_short():
    assert len(TEXTS["README.md"].splitlines()) <= README_LINES_MAX


# -- the set-up, and what else runs in a clone ------------------------------------------------


def test_every_set_up_command_is_one_that_ci_runs():
    commands = [line for block in blocks("README.md", "sh") for line in block.splitlines()]
    assert [command.split()[-1] for command in commands] == ["demo", ".venv/bin/pytest"]
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


def test_every_task_that_a_page_names_is_in_the_makefile():
    tasks = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {task for text in TEXTS.values() for task in re.findall(r"\bmake ([a-z-]+)`", text)}
    assert named
    assert named <= tasks


def test_ci_builds_the_site_as_strictly_as_make_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (command,) = re.findall(r"-m (sphinx -W .*)$", makefile, re.MULTILINE)
    assert f".venv/bin/python -m {command}\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_public_name_is_in_the_api_reference():
    reference = (ROOT / "docs" / "reference.rst").read_text(encoding="utf-8")
    documented = {name.split(".")[-1] for name in re.findall(r":: ([\w.]+)", reference)}
    assert set(calibration_ledger.__all__) - documented == {"__version__"}


# -- complete, and true -------------------------------------------------------------------------


def test_every_command_is_on_some_page():
    text = "\n".join(TEXTS.values())
    assert [name for name in COMMANDS if f"calib {name}" not in text] == []


def test_every_public_method_and_value_is_in_the_pages_of_the_library():
    public = [name for name, _ in inspect.getmembers(AdaptiveCalibrator) if name[0] != "_"]
    library = TEXTS["docs/library.md"]
    assert [name for name in public if not re.search(rf"`{name}[(`]", library)] == []
    rows = re.findall(r"^\| `(\w+)\((.*?)\)`", library, re.MULTILINE)
    assert len(rows) > 20
    for name, parameters in rows:
        method = getattr(AdaptiveCalibrator, name, None) or getattr(calibration_ledger, name)
        known = set(inspect.signature(method).parameters) - {"self", "progress"}
        named = {part.split("=")[0].strip() for part in parameters.split(",")} - {"", "*"}
        assert named == known, name


def test_the_page_on_recording_tells_every_reason_for_which_a_call_is_not_learnt():
    table = TEXTS["docs/live.md"].partition("| reason |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)
    of_records = {"refused", "ledger failed"}  # what a recorder and `timed` count besides
    assert sorted(told) == sorted({*get_args(Reason), *of_records})


def test_every_error_that_a_page_names_is_public():
    named = {name for text in TEXTS.values() for name in re.findall(r"`([A-Z]\w+Error)`", text)}
    builtin = {"ValueError", "TimeoutError", "FileNotFoundError"}
    assert named - builtin
    assert named - builtin - set(calibration_ledger.__all__) == set()


def test_every_file_that_a_page_names_is_there():
    """Folders end in a slash; what a reader will make is a NAME in capitals, or lies in build/."""
    path = re.compile(r"`((?:[a-z]+|\.ci)/[\w./-]*)`")
    named = {(name, found) for name, text in TEXTS.items() for found in path.findall(text)}
    made = re.compile(r"\b[A-Z]{3,}\b|build/")
    named = {(name, found) for name, found in named if not made.search(found)}
    rooms = {path.name for path in SOURCE.iterdir()}
    assert len({found for _, found in named}) > 30
    homes = {found: SOURCE if found.split("/")[0] in rooms else ROOT for _, found in named}
    assert {(name, found) for name, found in named if not (homes[found] / found).exists()} == set()


def anchors_of(text):
    """The anchors that its headings get, on the usual hosts of code and on the site."""
    prose = BLOCK.sub("", text)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_to_a_page_and_a_heading():
    broken = []
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            page = (PAGES[name].parent / path).resolve() if path else PAGES[name]
            is_there = page.exists() and (
                not anchor or anchor in anchors_of(page.read_text(encoding="utf-8"))
            )
            if not is_there:
                broken.append((name, target))
    assert broken == []


def test_the_index_leads_to_every_page():
    for name in PAGES:
        if name.startswith("docs/") and name != "docs/index.md":
            assert f"({Path(name).name})" in TEXTS["docs/index.md"], name
            assert f"({name})" in TEXTS["README.md"], name


def test_no_text_says_that_the_package_is_on_an_index():
    sources = [*(ROOT / "src").rglob("*.py"), ROOT / "pyproject.toml", *PAGES.values()]
    for path in sources:
        for command in re.findall(r"pip install [^`\n]*", path.read_text(encoding="utf-8")):
            assert not re.search(r"install (-\S+ )*['\"]?calibration-ledger", command), path
