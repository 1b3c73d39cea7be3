import pytest

READING = {
    "stats": ("stats",),
    "stats of one": ("stats", "m"),
    "stats by day": ("stats", "--by-day"),
    "drift": ("drift",),
    "drift of some": ("drift", "m", "n", "--fail-above", 1),
    "history": ("history",),
    "replay": ("replay",),
    "recalibrate": ("recalibrate", "--alpha", 0.3, "--yes"),
    "reset": ("reset", "m"),
    "reset all": ("reset", "--all", "--yes"),
    "audit": ("audit",),
    "export": ("export", "jsonl"),
    "export to a file": ("export", "csv", "out.csv"),
    "db current": ("db", "current"),
    "db check": ("db", "check"),
    "db backup": ("db", "backup", "copy.db"),
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("args", READING.values(), ids=READING)
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_a_missing_ledger_is_told_and_not_made(run, tmp_path, args, as_json):
    path = tmp_path / "here" / "calls.db"
    result = run("--ledger", path, *args, *as_json)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: there is no ledger at {path}: ")
    assert result.stderr.count("\n") == 1
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("args", READING.values(), ids=READING)
def test_the_users_own_folder_is_not_made_either(run, tmp_path, monkeypatch, args):
    monkeypatch.delenv("CALIBRATION_LEDGER")
    for name in ("HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    result = run(*args)
    assert result.exit_code == 1
    assert "there is no ledger at" in result.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("args", READING.values(), ids=READING)
def test_an_empty_file_is_no_ledger_and_stays_empty(run, tmp_path, args):
    path = tmp_path / "here" / "calls.db"
    path.touch()
    result = run("--ledger", path, *args)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no ledger at")
    assert [file.name for file in path.parent.iterdir()] == ["calls.db"]
    assert path.stat().st_size == 0


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_a_prediction_without_a_ledger_is_the_priors_and_makes_none(run, tmp_path, as_json):
    path = tmp_path / "here" / "calls.db"
    result = run("--ledger", path, "predict", "m", "--prompt-tokens", 1, *as_json)
    assert result.exit_code == 0
    assert "1324.5" in result.stdout  # and 128 completion tokens at 8 ms, which it assumes
    assert result.stderr == ""
    assert list(path.parent.iterdir()) == []


def test_a_ledger_in_memory_is_empty_and_fine(run):
    assert "no calls yet in :memory:" in run("--ledger", ":memory:", "stats").stderr
    assert run("--ledger", ":memory:", "audit").stdout == "ok: 0 models, 0 entries\n"
