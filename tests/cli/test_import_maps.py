"""`calib import` with maps: several items behind one option, and files beside them."""

import json

import pytest
from click.testing import CliRunner

from calibration_ledger.cli.main import main

MAP = ["model=req.model", "prompt_tokens=u.in", "completion_tokens=u.out", "actual_ms=took:s"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.jsonl").write_text(
        "".join(
            json.dumps({"req": {"model": "m"}, "u": {"in": n, "out": 2}, "took": 0.5, "ok": n != 2})
            + "\n"
            for n in (1, 2, 3)
        )
    )

    def run(*words):
        return CliRunner().invoke(main, ["--ledger", "calls.db", "import", *words])

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["jsonl", "calls.jsonl", "--map", *MAP, "--where", "ok=true"],
        ["jsonl", "--map", *MAP, "--where", "ok=true", "calls.jsonl"],
        ["--where", "ok=true", "--map", *MAP, "calls.jsonl"],
        ["calls.jsonl", *(w for item in MAP for w in ("--map", item)), "--where", "ok!=false"],
        ["jsonl", "calls.jsonl", f"--map={MAP[0]}", "--map", *MAP[1:], "--where=ok=true"],
        ["--map", *MAP, "--where", "ok=true", "--", "calls.jsonl"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_options_take_all_items_that_follow_before_or_behind_the_file(words, run):
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "2 calls recorded" in done.output
    assert "1 of 3 records left out" in done.output


def test_a_recipe_of_the_users_is_named_by_its_file(run, tmp_path):
    recipe = tmp_path / "my.toml"
    recipe.write_text("[map]\n" + "".join('{} = "{}"\n'.format(*item.split("=")) for item in MAP))
    done = run("calls.jsonl", "--recipe", "my.toml", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["recorded"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jsonl", "calls.jsonl", "--map"], "requires an argument"),
        (["jsonl", "calls.jsonl", "--map", "modl=x"], "did you mean 'model'"),
        (["jsonl", "calls.jsonl", "--map", *MAP[:3], "actual_ms=took:sec"], "is no unit"),
        (["jsonl", "calls.jsonl", "--map", *MAP[:3], "actual_ms=tooks:s"], "did you mean 'took'"),
        (["jsonl", "calls.jsonl", "--where", "ok=true"], "are read by a map"),
        (["otlp", "calls.jsonl", "--map", *MAP], "map is for files of your own"),
    ],
)
def test_a_wrong_map_is_wrong_usage_and_records_nothing(words, said, run, tmp_path):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "calls.db").exists()
