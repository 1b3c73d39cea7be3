"""How honest forecasts are is measured by `benchmarks/coverage.py`; it can tell good from bad."""

import csv
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAM = BENCHMARKS / "coverage.py"


@pytest.fixture(scope="module")
def program():
    """The program as a module: under another name, for there is a package of its own."""
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("measured_coverage", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture
def measure(program, capsys):
    """Run it; gives the exit code and the lines."""

    def run(folder, tasks, *more):
        with pytest.raises(SystemExit) as end:
            program.main([str(folder), "--tasks", tasks, *more])
        return end.value.code, capsys.readouterr().out.splitlines()

    return run


def rows(model, count, speed, seed, spread=0.15):
    """Calls of a model: 200 ms, 0.2 ms a prompt token, and `speed` ms a completion token."""
    lengths, noise = random.Random(1), random.Random(seed)
    for _ in range(count):
        p, c = lengths.randrange(20, 2000), lengths.randrange(10, 300)
        ms = (200 + 0.2 * p + speed * c) * noise.lognormvariate(0, spread)
        yield model, p, c, round(ms, 2), round(min(ms, 200 + 0.2 * p) / 2, 2)


def write(folder, name, *models, more=()):
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "prompt_tokens", "completion_tokens", "latency_ms", "ttft_ms"])
        for model in (*models, more):
            writer.writerows(model)
    return folder


def marks(lines, word):
    """Those that do not depend on how fast the machine is."""
    return [line for line in lines if line.startswith(word) and "us of a forecast" not in line]


def test_honest_forecasts_reach_the_marks(tmp_path, measure):
    write(tmp_path, "mine.csv", *(rows(f"{i}:b", 80, 10.0 + i, i) for i in range(5)))
    _, lines = measure(tmp_path, "known,capped")
    assert not marks(lines, "MISS")
    told = "\n".join(marks(lines, "ok  "))
    for task in ("known", "capped"):
        for asked in ("50%", "80%", "90%", "95%"):
            assert f"{task} mine: range {asked} covers" in told


def test_forecasts_that_are_not_honest_miss_marks_and_the_exit_code_says_so(tmp_path, measure):
    write(tmp_path, "mine.csv", rows("a:1", 440, 10.0, 1), rows("b:1", 440, 20.0, 2))
    code, lines = measure(tmp_path, "known", "--forecaster", "Newest")
    assert code == 1
    assert any("pin over that of the method alone" in line for line in marks(lines, "MISS"))
    assert int(lines[-1].split()[0]) >= len(marks(lines, "MISS")) > 0


def test_the_command_prints_what_was_found_beside_its_limits(tmp_path):
    write(tmp_path, "mine.csv", rows("a:1", 80, 10.0, 1))
    command = [sys.executable, PROGRAM, tmp_path, "--tasks", "cold", "--forecaster", "Method"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    *lines, last = told.stdout.splitlines()
    assert re.fullmatch(
        r"ok   cold, calls 6 to 10: range 90% covers +[01]\.\d{4}   >= 0\.8", lines[0]
    )
    assert last == "0 marks missed"


def test_calls_that_are_given_up_or_run_are_measured_too(tmp_path, measure):
    write(tmp_path, "mine.csv", rows("a", 310, 10.0, 1))
    _, lines = measure(tmp_path, "late,tokens,ttft,shift,timeouts")
    for task in ("late", "tokens", "ttft"):
        assert any(line.startswith(f"     {task} mine: 1 models") for line in lines)
    assert sum("x as long, calls " in line for line in lines) == 10
    covers = [float(line.split("covers")[1].split()[0]) for line in lines if "given up" in line]
    assert len(covers) == 4
    assert min(covers) > 0.8


def test_a_change_is_told_and_a_mixed_order_is_none(program):
    calls = [program.Call(p, c, ms) for _, p, c, ms, _ in rows("a", 210, 10.0, 1)]
    still = program.mixed("1", calls, 600)
    assert program.told_of(program.Method, "a", still, 200) == []
    told = program.told_of(program.Method, "a", program.changed_from(still, 400, 1.5), 400)
    assert 400 < told[0] < 415


def test_peers_that_are_not_installed_are_left_out_in_plain_words(tmp_path, measure):
    write(tmp_path, "mine.csv", rows("a", 70, 10.0, 1))
    _, lines = measure(tmp_path, "peers", "--forecaster", "Method")
    missing = importlib.util.find_spec("xgboost") is None
    assert any("XGBoost is left out" in line for line in lines) == missing
    tables = [line for line in lines if line.startswith("| ")]
    assert sum(line.startswith("| forecast |") for line in tables) == 2
    assert sum(line.startswith("| adaptive conformal inference |") for line in tables) == 1


def test_routing_is_left_out_in_plain_words_where_no_prompts_are_the_same(tmp_path, measure):
    write(tmp_path, "mine.csv", rows("a", 70, 10.0, 1))
    code, lines = measure(tmp_path, "routing", "--forecaster", "Method")
    assert code == 0
    assert "left out, for no file bfcl_result_20240811 of 5 models" in lines[0]


def test_routing_finds_the_quick_model(program, tmp_path):
    write(tmp_path, "mine.csv", rows("slow", 200, 20.0, 1), rows("quick", 200, 10.0, 2))
    calls, lot = program.read(tmp_path)["mine"], [None] * 200
    group = ["slow", "quick"]
    best = program.best_of_thirds(group, calls, lot)
    assert program.played(program.Method, group, calls, lot) == pytest.approx(best, rel=0.02)


def test_rows_without_a_number_and_short_histories_are_left_out(program, tmp_path):
    odd = [
        ("a", "", 5, 100.0, ""),
        ("a", 10, "x", 100.0, ""),
        ("a", 10, 5, "", ""),
        ("a", 10, 5, "nan", ""),
        ("a", 10, 5, "inf", ""),
        ("a", 10, 5, 0.0, ""),
        ("a", -1, 5, 9.0, ""),
    ]
    write(tmp_path, "mine.csv", odd, rows("a", 60, 10.0, 1), rows("b", 59, 10.0, 1))
    (tmp_path / "other.txt").write_text("model\n")
    found = program.read(tmp_path)
    assert {file: list(models) for file, models in found.items()} == {"mine": ["a"]}
    assert len(found["mine"]["a"]) == 60
    assert all(call.ttft for call in found["mine"]["a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "known,nope"], "no task nope: there are known, "),
        (["--forecaster", "Nobody"], "forecasters.py has no class Nobody"),
        ([], "has a model of 60 calls"),
    ],
)
def test_wrong_arguments_are_refused(program, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        program.main([str(tmp_path), *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_figures_are_what_they_are_by_hand(program):
    """Quantiles 1 to 9 each time; what came: 200 times 5, then 20 times 9.5."""
    quantiles = [float(i) for i in range(1, 10)]
    came = [5.0] * 200 + [9.5] * 20
    rows = [program.Row(i, y, quantiles, float(i), 2e-6) for i, y in enumerate(came)]
    found = program.figures(rows, mean=2.0)
    assert found["cover"] == pytest.approx(dict.fromkeys((0.5, 0.8, 0.9, 0.95), 200 / 220))
    assert found["block"] == pytest.approx(180 / 200)
    assert found["third"] == pytest.approx(1 - 20 / 73)
    losses = []
    for y in came:
        for level, q in zip(program.LEVELS, quantiles, strict=True):
            losses.append(level * (y - q) if y > q else (1 - level) * (q - y))
    assert found["pin"] == pytest.approx(sum(losses) / len(losses) / 2.0)
    assert found["us"] == pytest.approx(2.0)
    assert found["sound"]
    rows[7] = rows[7]._replace(quantiles=quantiles[::-1])
    assert not program.figures(rows, mean=2.0)["sound"]
