"""`llm calib`: the plugin in the real `llm`, from a prompt to a forecast."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator
from support.fake_provider import Behaviour, FakeProvider

pytest.importorskip("llm", reason="llm is not installed: .ci/run installs it for these tests")
if not any(point.name == "calibration-ledger" for point in entry_points(group="llm")):
    pytest.skip("this package was installed before it had a plugin", allow_module_level=True)

LLM = Path(sys.executable).with_name("llm")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder of llm's with two models, a stand-in that answers for them, and no key of anybody's.

    The ledger is where `calib` finds it.
    """
    home = tmp_path / "llm"
    home.mkdir()
    monkeypatch.setenv("LLM_USER_PATH", str(home))
    monkeypatch.setenv("CALIBRATION_LEDGER", str(tmp_path / "calls.db"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    return home


@pytest.fixture
def fake(home):
    behaviour = Behaviour(prompt_tokens=11, completion_tokens=7, first_ms=10)
    with FakeProvider(behaviour) as opened:
        lines = "".join(
            f"- model_id: {name}\n  model_name: {name}\n  api_base: {opened.openai}\n"
            f"  aliases: [{alias}]\n"
            for name, alias in (("swift", "sw"), ("slow", "sl"))
        )
        (home / "extra-openai-models.yaml").write_text(lines, encoding="utf-8")
        opened.models["slow"] = Behaviour(prompt_tokens=11, completion_tokens=7, first_ms=400)
        yield opened


def llm(*arguments, stdin=""):
    """What the program says, in a process of its own."""
    return subprocess.run(
        [LLM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def here(*arguments, stdin=""):
    """The same in this process, which is quicker."""
    from llm.cli import cli

    return CliRunner().invoke(cli, arguments, input=stdin)


def test_from_a_prompt_to_its_eta(fake, home, tmp_path):
    for model in ("swift", "slow"):
        assert llm("-m", model, "Why is the sky blue?").returncode == 0
    first = llm("calib", "sync")
    assert first.stdout == "2 new calls recorded, of 2 models\n"
    assert first.stderr == '`llm calib eta "PROMPT"` says how long each model would take.\n'
    assert llm("calib", "sync").stdout == "0 new calls; 2 there already\n"
    eta = llm("calib", "eta", "Why is the sky blue?")
    header, *rows = eta.stdout.splitlines()
    assert header.split()[:2] == ["model", "mean"]
    assert {row.split()[0] for row in rows} == {"swift", "slow"}  # a start of llm takes longer
    assert "prompt token" in eta.stderr
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        calls = list(calibrator.calls())
        assert [(one.model, one.prompt_tokens, one.completion_tokens) for one in calls] == [
            ("slow", 11, 7),
            ("swift", 11, 7),
        ]
        assert {one.details["clock"] for one in calls} == {"client+start"}
        assert calls[0].actual_ms > 400
        assert calibrator.audit() == []
    assert sorted(path.name for path in home.iterdir()) == ["extra-openai-models.yaml", "logs.db"]


def test_a_log_that_grew_adds_what_is_new(fake):
    here("-m", "swift", "one")
    assert here("calib", "sync").stdout == "1 new call recorded, of 1 model\n"
    here("-m", "swift", "two")
    here("-m", "slow", "three")
    done = here("calib", "sync", "--json")
    report = json.loads(done.stdout)
    assert (report["recorded"], report["already"], report["models"]) == (2, 1, 2)


def test_a_log_of_another_place_is_named(fake, tmp_path):
    here("-m", "swift", "one", "-d", str(tmp_path / "other.db"))
    assert here("calib", "sync").exit_code == 1
    done = here("calib", "sync", "-d", str(tmp_path / "other.db"), "--ledger", str(tmp_path / "x"))
    assert done.stdout == "1 new call recorded, of 1 model\n"
    assert not (tmp_path / "calls.db").exists()
    assert (tmp_path / "x").exists()


def test_where_nothing_was_logged_one_sentence_says_so(home, tmp_path):
    done = here("calib", "sync")
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: there is no log of llm at {home / 'logs.db'}: the first prompt makes it, unless "
        f"`llm logs off` was said.\n"
    )
    assert not (tmp_path / "calls.db").exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_where_nothing_was_learnt_eta_says_what_to_do(is_there, tmp_path):
    if is_there:
        with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
            calibrator.set_default_rule("kalman")
    done = here("calib", "eta", "Why?")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "`llm calib sync` takes in the calls that llm has logged." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def learnt(tmp_path):
    """A ledger with what is not from llm at all: it is of use all the same."""
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        for i in range(20):
            calibrator.record("swift", 10 + i, 300.0 + i, completion_tokens=20)
            calibrator.record("slow", 10 + i, 3000.0 + i, completion_tokens=20)


def test_stdin_stands_before_the_prompt(learnt):
    alone = json.loads(here("calib", "eta", "--json", "Why is the sky blue?").stdout)
    both = here("calib", "eta", "--json", "Why?", stdin="A long text. " * 200)
    stdin = here("calib", "eta", "--json", stdin="A long text. " * 200)
    assert alone[0]["prompt_tokens"] < 10
    assert json.loads(both.stdout)[0]["prompt_tokens"] > 400
    assert json.loads(stdin.stdout)[0]["prompt_tokens"] > 400
    assert [one["model"] for one in alone] == ["swift", "slow"]
    assert alone[0]["counted_by"]
    none = here("calib", "eta")
    assert none.exit_code == 2
    assert "give a prompt" in none.stderr


def test_a_model_may_be_named_by_its_alias_in_llm(fake, learnt):
    done = here("calib", "eta", "-m", "sl", "--json", "Why?")
    assert [one["model"] for one in json.loads(done.stdout)] == ["slow"]
    unknown = here("calib", "eta", "-m", "none-such", "Why?")
    assert unknown.exit_code == 1
    assert "none-such" in unknown.stderr


def test_llm_starts_without_what_only_calib_needs():
    code = (
        "import sys; from llm.cli import cli; before = set(sys.modules)\n"
        "assert 'calib' in cli.commands\n"
        "print(*sorted(m for m in before if m.startswith('calibration_ledger')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == [
        "calibration_ledger",
        "calibration_ledger._version",
        "calibration_ledger.cli",
        "calibration_ledger.cli.llm",
        "calibration_ledger.cli.options",
        "calibration_ledger.cli.session",
        "calibration_ledger.cli.zone",
        "calibration_ledger.core",
        "calibration_ledger.core.command",
        "calibration_ledger.core.text",
        "calibration_ledger.core.visible",
        "calibration_ledger.errors",
    ]
