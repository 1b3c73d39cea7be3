import json
import re

from calibration_ledger import AdaptiveCalibrator


def names(path):
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []
        return {one.name: one.model for one in calibrator.aliases()}


def test_a_ledger_lists_its_aliases(calib, filled):
    nothing = calib("alias")
    assert (nothing.stdout, json.loads(calib("alias", "--json").stdout)) == ("", [])
    assert "no name stands for another" in nothing.stderr
    told = calib("alias", "tiny:latest", "tiny")
    assert told.stdout == "tiny:latest stands for tiny\n"
    [line] = calib("alias").stdout.splitlines()[1:]
    assert re.fullmatch(r"tiny:latest +tiny +20\S+ \S+Z +-", line.strip())
    [one] = json.loads(calib("alias", "--json").stdout)
    assert (one["name"], one["model"], one["merged"]) == ("tiny:latest", "tiny", None)
    assert "tiny is also called 'tiny:latest'." in calib("stats").stderr
    assert json.loads(calib("stats", "tiny:latest", "--json").stdout)["aliases"] == ["tiny:latest"]
    doctor = calib("doctor").stdout
    assert re.search(r"aliases +tiny:latest stands for tiny\n", doctor)
    assert re.search(r"1 setting head,\s+1 alias\b", doctor)
    assert calib("predict", "tiny:latest", "--prompt-tokens", "5").stdout.startswith("tiny")
    assert names(filled) == {"tiny:latest": "tiny"}


def test_a_merge_is_tried_made_and_undone_by_the_command_that_is_told(calib, filled):
    calib("record", "other", "--prompt-tokens", "1", "--actual-ms", "2")
    refused = calib("alias", "other", "tiny", exit_code=2)
    assert "has a history of its own" in refused.stderr
    assert "--merge" in refused.stderr
    tried = calib("alias", "other", "tiny", "--merge", "--dry-run")
    assert "nothing was changed (--dry-run)" in tried.stderr
    assert names(filled) == {}
    done = calib("alias", "other", "tiny", "--merge")
    assert "learns 1 call of other" in done.stderr
    assert names(filled) == {"other": "tiny"}
    assert "did before" in calib("alias", "other", "tiny").stderr
    [undo] = re.findall(r"take that back: calib --ledger \S+ (.*)\n", done.stderr)
    undone = calib(*undo.split())
    assert "stands for itself again" in undone.stdout
    assert "no longer counts" in undone.stderr
    assert names(filled) == {}


def test_a_name_needs_a_model_or_to_be_removed(calib, filled):
    for words in (["a"], ["a", "tiny", "--remove"], ["a", "--remove", "--merge"]):
        assert calib("alias", *words, exit_code=2).stderr
    assert "is no alias" in calib("alias", "a", "--remove", exit_code=2).stderr
    assert names(filled) == {}


def test_a_model_that_is_not_there_yet_is_told(calib, ledger_path):
    assert "no ledger" in calib("alias", exit_code=1).stderr
    told = calib("alias", "a", "m", "--json")
    assert json.loads(told.stdout)["is_known"] is False
    assert "its first call opens it" in calib("alias", "b", "m").stderr
    assert names(ledger_path) == {"a": "m", "b": "m"}
