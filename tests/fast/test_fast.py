"""Compiled replays and sweeps are those of plain Python, to the bit, whatever the history."""

import importlib.util
import math
import os
import random
import shutil
import struct
from functools import partial
from pathlib import Path

import pytest

import calibration_ledger
from calibration_ledger import Call, fast
from calibration_ledger.core.entries import Adjustment
from calibration_ledger.core.figures import Histogram
from calibration_ledger.core.replay import Columns, Runs, Scoring, Window, fold_history, fold_states
from calibration_ledger.errors import LedgerCorruptError, NotFiniteError
from calibration_ledger.fast.runs import BUCKETS, FIRST, ArrayHistogram
from calibration_ledger.rules import RULES
from calibration_ledger.verbs.sweep import Together, sweep_history
from support.programs import ran
from support.reference import LOCAL_PRIOR, Ema, Lived

if importlib.util.find_spec("numba") is None:
    pytest.skip(
        "numba is not installed: it has no wheel for this Python or machine",
        allow_module_level=True,
    )

from calibration_ledger.fast import runs as blocks
from calibration_ledger.fast.compiler import compiled
from calibration_ledger.fast.runs import CompiledRuns

CANDIDATES = [(rule, alpha) for rule in RULES for alpha in (5e-324, 0.01, 0.15, 1.0)]
LONG_ONES = (6, 10, 11)
"""Seeds of histories that are long, and finite under every candidate."""
WINDOWS = (None, Window(1100, None), Window(None, 1200), Window(1050, 1150), Window(0, 1))


@pytest.fixture(scope="module", name="start")
def _start():
    found = compiled(RULES)
    assert found is not None
    return partial(CompiledRuns, found)


@pytest.fixture(name="small_blocks")
def _small_blocks(monkeypatch):
    """Blocks of a few calls, so that a short history has many."""
    monkeypatch.setattr(blocks, "SHORTEST", 5)
    monkeypatch.setattr(blocks, "LONGEST", 30)


class Paged:
    """A `History` in pages of any size."""

    def __init__(self, lived, rng):
        self.model = lived.model
        self.calls = [e for e in lived.entries if e["kind"] == "call"]
        self.adjustments = [Adjustment(**e) for e in lived.entries if e["kind"] != "call"]
        self.last = len(lived.entries)
        self._sizes = [rng.choice([1, 2, 3, 7, 40]) for _ in range(1000)]

    def columns(self, after, through):
        found = [e for e in self.calls if after < e["seq"] <= through]
        sizes = iter(self._sizes)
        while found:
            page, found = found[: (size := next(sizes))], found[size:]
            yield Columns(*(tuple(e[name] for e in page) for name in Columns._fields))


def random_call(rng, wildness):
    tokens = lambda: rng.choice([0, 1, rng.randrange(4096), rng.randrange(2**31)])  # noqa: E731 - short
    p, c = (tokens(), tokens()) if rng.random() < wildness else (rng.randrange(4096), 100)
    y = rng.lognormvariate(7, 1)
    if rng.random() < wildness:
        y = rng.choice([0.0, 5e-324, 1e-300, rng.uniform(0, 1e9), 1e300 * (wildness > 0.2), 0.1])
    return p, c, y


def random_history(seed):
    """Calls tame or wild, with resets, recalibrations and opening balances between them."""
    rng = random.Random(seed)
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    wildness = rng.choice([0.0, 0.1, 0.1, 0.5])
    for _ in range(rng.choice([0, 1, 30, 300])):
        draw = rng.random()
        if draw < 0.01:
            lived.adjust("reset", Ema(0.15, *LOCAL_PRIOR))
        elif draw < 0.02:
            lived.adjust("imported", Ema(0.3, 1.0, 2.0, 3.0, 12, 600.0, 9000.0))
        elif draw < 0.03:
            lived.adjust("recalibrated", Ema(0.3, 1.0, 2.0, 3.0, 12, 600.0, 9000.0))
        else:
            at = 1000 + rng.randrange(300)
            lived.call(*random_call(rng, wildness), called_at=at)
    return Paged(lived, rng)


def bits(number):
    return struct.pack(">d", number)


def figures_of(accuracy):
    """Every figure, to the bit, but for which NaN it is."""
    numbers = (
        accuracy.mean_absolute_error_ms,
        accuracy.bias_ms,
        accuracy.mean_actual_ms,
        accuracy.relative_error,
        accuracy.median_absolute_percentage_error,
        *(accuracy.quantile_absolute_error_ms(share) for share in (0.0, 0.5, 0.9, 1.0)),
    )
    parts = [(count, bits(total)) for count, total in accuracy.parts]
    return (
        accuracy.n,
        parts,
        *("nan" if math.isnan(number) else bits(number) for number in numbers),
    )


def everything_of(runs):
    return (
        [None if state is None else state.bits() for state in runs.states],
        {index: str(error) for index, error in runs.errors.items()},
        [figures_of(one) for index, one in enumerate(runs.figures) if index not in runs.errors],
    )


def run(history, start, window=None, warm_up=0, progress=None, candidates=CANDIDATES):
    begin = partial(start, keeps_sizes=True)
    scoring = Scoring(window, warm_up)
    return fold_states(history, candidates, history.last, begin, scoring, progress)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "seeds", [range(40), pytest.param(range(40, 400), marks=pytest.mark.stress)], ids=len
)
def test_any_history_gives_the_same_states_figures_and_refusals(start, seeds):
    refused = 0
    for seed in seeds:
        history, rng = random_history(seed), random.Random(seed)
        window, warm_up = rng.choice(WINDOWS), rng.choice([0, 1, 20, 1000])
        plain = everything_of(run(history, Runs, window, warm_up))
        assert everything_of(run(history, start, window, warm_up)) == plain, seed
        refused += len(plain[1])
    assert refused >= len(seeds) / 12


def test_blocks_of_full_length_give_the_same(start):
    rng = random.Random(7)
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    entries = [
        lived.entries[0],
        *(
            {"kind": "call", "seq": i, "called_at": i, "prompt_tokens": p, "completion_tokens": c}
            | {"actual_ms": y}
            for i in range(2, 8 * blocks.SHORTEST)
            for p, c, y in [random_call(rng, 0.1)]
        ),
    ]
    lived.entries = entries
    history = Paged(lived, rng)
    history._sizes = [500] * 1000
    candidates = [(rule, alpha) for rule in RULES for alpha in (0.02, 0.2)]
    plain = everything_of(run(history, Runs, candidates=candidates))
    assert plain[1] == {}
    assert everything_of(run(history, start, candidates=candidates)) == plain


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_a_replay_alone_is_refused_with_the_same_words(start, rule):
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for i in range(30):
        lived.call(10 + i, 10, 500.0)
    lived.call(1, 0, 1.7e308).call(2**31 - 1, 0, 1.7e308).call(2**31 - 1, 1, 1.7e308)
    history = Paged(lived, random.Random(1))
    words = []
    for way in (Runs, start):
        with pytest.raises(NotFiniteError) as caught:
            fold_history(history, rule, 1.0, history.last, start=way)
        words.append(str(caught.value))
    assert words[0] == words[1]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "odd",
    [
        {"prompt_tokens": 7.5},
        {"completion_tokens": 2**40},
        {"prompt_tokens": -3},
        {"actual_ms": 12},
        {"actual_ms": -1.5},
        {"prompt_tokens": True},
        {"prompt_tokens": "12"},
        {"actual_ms": "12.5"},
        {"actual_ms": None},
        {"actual_ms": b"x"},
        {"called_at": "noon"},
    ],
    ids=str,
)
def test_what_no_program_of_ours_wrote_is_met_as_in_python(start, odd):
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for i in range(60):
        lived.call(10 + i, 10, 500.0 + i)
    lived.entries[30].update(odd)
    outcomes = []
    for way in (Runs, start):
        history = Paged(lived, random.Random(3))
        try:
            outcomes.append(everything_of(run(history, way, Window(1010, 1055), 3)))
        except (LedgerCorruptError, ValueError) as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("noise", [-1.0, -math.inf, 0.0, math.nan])
def test_a_rule_state_that_no_program_of_ours_wrote_is_met_as_in_python(start, noise):
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for i in range(60):
        lived.call(10 + i, 10, 500.0 + i)
    further = struct.pack(">8d", *[0.0] * 6, noise, 5.0)
    lived.entries[0].update(rule="kalman.1", rule_state=further)
    histories = [Paged(lived, random.Random(3)) for _ in range(2)]
    ways = zip(histories, (Runs, start), strict=True)
    outcomes = [everything_of(run(history, way, None, 3)) for history, way in ways]
    assert outcomes[0] == outcomes[1]


def test_progress_is_told_of_every_call(start):
    history, told = random_history(LONG_ONES[0]), []
    run(history, start, progress=told.append)
    assert sum(told) == len(history.calls) > 100


@pytest.mark.usefixtures("small_blocks")
def test_an_error_of_the_users_own_ends_it(start):
    def fail(_count):
        raise TypeError("enough")  # what damage is told by, where the ledger's own values raise it

    with pytest.raises(TypeError, match="enough"):
        run(random_history(LONG_ONES[0]), start, progress=fail)


# -- figures --------------------------------------------------------------------------------


def histogram_of(kind, values):
    import numpy as np

    histogram = Histogram()
    histogram.add(values)
    if kind is Histogram:
        return histogram
    return ArrayHistogram(np.zeros(BUCKETS, np.uint32)).joined(histogram)


@pytest.mark.parametrize("first", [Histogram, ArrayHistogram])
@pytest.mark.parametrize("second", [Histogram, ArrayHistogram])
def test_histograms_of_either_kind_can_be_joined(first, second):
    rng = random.Random(5)
    values = [[10 ** rng.uniform(-12, 12) * (rng.random() > 0.1) for _ in range(99)] for _ in "ab"]
    plain = histogram_of(Histogram, values[0] + values[1])
    mixed = histogram_of(first, values[0]).joined(histogram_of(second, values[1]))
    assert mixed.total() == plain.total() == 198
    shares = [i / 198 for i in range(199)]
    assert [mixed.quantile(s) for s in shares] == [plain.quantile(s) for s in shares]
    copy = mixed.copy()
    copy.add([1.0, 1e99])
    assert (mixed.total(), copy.total()) == (198, 200)


def test_the_array_holds_what_is_common():
    histogram = Histogram()
    histogram.add([1e-4, 0.5, 1e7])
    assert all(FIRST <= bucket < FIRST + BUCKETS for bucket in histogram._counts)


@pytest.mark.usefixtures("small_blocks")
def test_models_add_up_alike_in_either_way(start):
    sums = []
    for ways in ([Runs] * 3, [start] * 3, [Runs, start, Runs], [start, Runs, start]):
        together = Together()
        for way, seed in zip(ways, LONG_ONES[:3], strict=True):
            history = random_history(seed)
            together.add(sweep_history(history, CANDIDATES, history.last, warm_up=5, start=way))
        sums.append([None if one is None else figures_of(one) for one in together.figures])
    assert sums[0] == sums[1] == sums[2] == sums[3]
    assert None not in sums[0]


# -- the library ----------------------------------------------------------------------------


def test_the_library_gives_the_same_and_adopts_it(calibrator, monkeypatch):
    rng = random.Random(2)
    for model in ("a", "b"):
        calls = [random_call(rng, 0.0) for _ in range(700)]
        calibrator.record_many(Call(model, p, c, y) for p, c, y in calls)
        calibrator.reset("a")
    found = []
    for long in (2**60, 0):
        monkeypatch.setattr(fast, "LONG", long)
        found.append((calibrator.sweep([0.05, 0.3]), calibrator.replay(0.3, "kalman")))
    assert found[0] == found[1]
    adopted = calibrator.recalibrate(0.02, "kalman")
    assert [one.calibration for one in adopted] == [
        one.calibration for one in calibrator.replay(0.02, "kalman")
    ]
    monkeypatch.setattr(fast, "LONG", 2**60)
    assert calibrator.replay() == adopted


def test_what_comes_while_a_compiled_recalibration_runs_is_learnt(calibrator, monkeypatch):
    monkeypatch.setattr(fast, "LONG", 0)
    calibrator.record_many(Call("m", 10 + i % 50, 10, 500.0 + i % 77) for i in range(600))

    def record(_count):
        calibrator.record("m", 20, 700.0, completion_tokens=5)

    (adopted,) = calibrator.recalibrate(0.02, "kalman", progress=record)
    assert adopted.n == 601
    monkeypatch.setattr(fast, "LONG", 2**60)
    assert calibrator.replay() == [adopted]


# -- where it cannot work, or does not pay --------------------------------------------------


def test_only_long_work_is_compiled(start):
    del start
    assert fast.how_to_run(RULES, fast.LONG - 1, 1) is Runs
    assert fast.how_to_run(RULES, fast.MOST, 1) is Runs
    for calls, candidates in ((fast.LONG, 1), (1 + fast.LONG // 20, 20)):
        assert fast.how_to_run(RULES, calls, candidates).func is CompiledRuns


SHORT = """
from calibration_ledger import AdaptiveCalibrator
with AdaptiveCalibrator(":memory:") as calibrator:
    call = {"model": "m", "prompt_tokens": 10, "completion_tokens": 10, "actual_ms": 500.0}
    calibrator.record_many(call for _ in range(100))
    calibrator.replay(), calibrator.sweep(), calibrator.recalibrate(0.3), calibrator.suggest()
import sys
print(*sorted({"numba", "numpy"} & sys.modules.keys()))
"""


def run_python(code, **variables):
    done = ran(code, flags=["-W", "error"], env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_short_work_imports_nothing_of_it():
    assert run_python(SHORT) == []


@pytest.mark.parametrize("missing", ["numba", "numpy"])
def test_without_the_extra_plain_python_does_it(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from calibration_ledger.fast import how_to_run\n"
        "from calibration_ledger.rules import RULES\n"
        "print(how_to_run(RULES, 10**9, 1).__name__)"
    )
    assert run_python(code) == ["Runs"]


FAULTS = {
    "a broken library": "raise OSError('libllvmlite.so: cannot open shared object file')",
    "a broken C API": "raise SystemError('initialization of _internal failed')",
    "a folder named coverage": "import coverage; coverage.types.Tracer",
    "another numpy": "raise ImportError('Numba needs NumPy 2.4 or less')",
    "half a package": "",
    "a compiler that fails": "def njit(*a, **k): raise KeyError('codegen')\nclass types: pass",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_numba_that_does_not_work_counts_as_none(tmp_path, fault):
    (tmp_path / "numba").mkdir()
    (tmp_path / "coverage").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(FAULTS[fault])
    code = (
        "from calibration_ledger.fast import how_to_run\n"
        "from calibration_ledger.rules import RULES\n"
        "print(*(how_to_run(RULES, 10**9, 1).__name__ for _ in range(2)))"
    )
    assert run_python(code, PYTHONPATH=str(tmp_path)) == ["Runs", "Runs"]


def test_a_numba_that_compiles_nothing_counts_as_none():
    code = (
        "from calibration_ledger.fast import how_to_run\n"
        "from calibration_ledger.rules import RULES\n"
        "print(how_to_run(RULES, 10**9, 1).__name__)"
    )
    assert run_python(code, NUMBA_DISABLE_JIT="1") == ["Runs"]


COMPILED = """
from calibration_ledger.fast.compiler import compiled
from calibration_ledger.rules import EMA
found = compiled([EMA])
print(sum(found.folds["ema.1"].stats.cache_hits.values()))
"""


@pytest.fixture(name="copied")
def _copied(tmp_path):
    """A copy of the package, with nowhere else to keep what was compiled."""
    source = Path(calibration_ledger.__file__).parent
    copy = tmp_path / "copy" / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "no_folder").touch()
    nowhere = str(tmp_path / "no_folder" / "below")
    variables = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), nowhere)
    return copy, variables | {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def test_where_nothing_can_be_kept_it_is_compiled_each_time(copied):
    copy, variables = copied
    for folder in ("fast", "rules"):
        (copy / folder / "__pycache__").touch()  # where a folder would have to be
    assert run_python(COMPILED, **variables) == ["0"]


@pytest.mark.stress
def test_what_was_kept_is_used_and_a_broken_one_is_not(copied):
    copy, variables = copied
    assert run_python(COMPILED, **variables) == ["0"]
    assert run_python(COMPILED, **variables) == ["1"]
    kept = list(copy.rglob("*.nb[ci]"))
    assert len(kept) == 4
    for path in kept:
        path.write_bytes(path.read_bytes()[:50])
    assert run_python(COMPILED, **variables) == ["0"]


def test_a_compiler_that_errs_is_not_taken_at_its_word(monkeypatch):
    from calibration_ledger.fast import compiler

    ema = RULES[0]

    def nearly(state, alpha, p, c, y, predicted):
        ema.fold(state, alpha * (1 + 2**-50), p, c, y, predicted)

    monkeypatch.setattr(compiler, "_folds", {})
    monkeypatch.setattr(compiler, "_try_to_compile", lambda _function, _signature: nearly)
    assert compiler.compiled([ema]) is None
