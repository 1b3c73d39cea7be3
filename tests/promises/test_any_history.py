"""Any history at all: what hypothesis thinks of is lived in a ledger and in plain Python alike.

Whatever is done in whatever order, crashes, imports, restored backups and moves to another
database included: the live state is what the design's arithmetic gives, a replay without arguments
gives it again to the bit, the heads are what the rows digest to, and the audit is silent.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tempfile
import warnings
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from calibration_ledger import AdaptiveCalibrator, CalibrationLedgerError, Call
from calibration_ledger.errors import HistoryArchivedError, NotFiniteError, RequestConflictError
from calibration_ledger.verbs.record import new_call, record_calls
from support.reference import (
    LOCAL_PRIOR,
    Ema,
    Lived,
    digest_of,
    entries_of,
    fold_file,
    numbers_of,
    voided_seqs,
)

MODELS = ["m", "größe", "x:1"]
models = st.sampled_from(MODELS)
alphas = st.sampled_from([0.15, 0.4, 1.0, 1e-9])
tokens = st.one_of(st.integers(0, 3), st.integers(0, 5000), st.just(2**31 - 1))
milliseconds = st.one_of(
    st.floats(0.0, 60_000.0), st.sampled_from([0.0, -0.0, 5e-324, 1e6]), st.integers(0, 10_000)
)
request_ids = st.none() | st.sampled_from(["r", "s", "ü"])
outcomes = st.sampled_from(["ok", "ok", "ok", "timeout"])
calls = st.tuples(models, tokens, tokens, milliseconds, request_ids, outcomes)


@dataclass
class Model:
    """What the ledger should say of a model."""

    lived: Lived
    requests: dict[str, tuple[int, int, float, str, float, int]] = field(default_factory=dict)


class Histories(RuleBasedStateMachine):
    """Everything that can be done to a ledger, in any order."""

    def __init__(self, database):
        """`database` gives a context with a place for a ledger, as often as one is wanted."""
        super().__init__()
        self.cleanup = ExitStack()
        self.folder = Path(self.cleanup.enter_context(tempfile.TemporaryDirectory()))
        self.database = database
        self.ledger = self.another()
        self.expected: dict[str, Model] = {}
        self.kept: tuple[Path, dict[str, Model]] | None = None
        self.count = 0

    def another(self):
        return self.cleanup.enter_context(self.database(self.folder))

    @property
    def is_file(self):
        return "://" not in self.ledger

    @initialize(alpha=alphas)
    def open(self, alpha):
        self.alpha = alpha
        self.calibrator = AdaptiveCalibrator(self.ledger, alpha, durability="normal")

    def name(self, kind):
        self.count += 1
        return self.folder / f"{self.count}.{kind}"

    def prior(self):
        return Ema(self.alpha, *LOCAL_PRIOR)

    def expect(self, model, p, c, y, request_id, outcome):
        """Live the call in the reference; gives its error."""
        y += 0.0  # the ledger knows no negative zero
        if model not in self.expected:
            self.expected[model] = Model(Lived(model).adjust("opened", self.prior()))
        known = self.expected[model].requests
        if request_id in known:
            is_same = known[request_id][:4] == (p, c, y, outcome)
            assert is_same, "the test asks only for what is possible"
            return known[request_id][4]
        given_up = outcome if outcome == "timeout" else None
        self.expected[model].lived.call(p, c, y, outcome=given_up)
        error = y - self.expected[model].lived.entries[-1]["predicted_ms"]
        if request_id is not None:
            last_seq = self.expected[model].lived.last_seq
            known[request_id] = (p, c, y, outcome, error, last_seq)
        return error

    def conflicts(self, call):
        model, p, c, y, request_id, outcome = call
        known = self.expected[model].requests if model in self.expected else {}
        return request_id in known and known[request_id][:4] != (p, c, y, outcome)

    @rule(call=calls)
    def record(self, call):
        if self.conflicts(call):
            heads = self.calibrator.heads()
            try:
                record(self.calibrator, call)
            except RequestConflictError:
                assert self.calibrator.heads() == heads
                return
            raise AssertionError("a conflict was not noticed")
        error = record(self.calibrator, call)
        assert error.hex() == float(self.expect(*call)).hex()

    def possible(self, batch):
        """Without those that would be a conflict."""
        possible, ids = [], {}
        for call in batch:
            key = call[0], call[4]
            numbers = (*call[1:4], call[5])
            same = call[4] is None or ids.setdefault(key, numbers) == numbers
            if same and not self.conflicts(call):
                possible.append(call)
        return possible

    @rule(batch=st.lists(calls, max_size=12))
    def record_many(self, batch):
        possible = self.possible(batch)
        errors = self.calibrator.record_many(
            Call(model, p, c, y, request_id=request_id, outcome=outcome)
            for model, p, c, y, request_id, outcome in possible
        )
        # Batches go model by model; the errors come in the order of the calls all the same.
        expected = [self.expect(*call) for call in possible]
        assert [error.hex() for error in errors] == [float(error).hex() for error in expected]

    @rule(model=st.none() | models)
    def reset(self, model):
        self.calibrator.reset(model)
        for name, found in self.expected.items():
            if model in {None, name}:
                found.lived.adjust("reset", self.prior())

    @precondition(lambda self: self.expected)
    @rule(alpha=alphas, data=st.data())
    def recalibrate(self, alpha, data):
        model = data.draw(st.none() | st.sampled_from(sorted(self.expected)))
        replays = self.calibrator.recalibrate(alpha, model=model)
        for name, found in self.expected.items():
            if model in {None, name}:
                lived = found.lived
                if lived.replayed(alpha) != lived.state:
                    lived.recalibrate(alpha)
                (replay,) = [replay for replay in replays if replay.model == name]
                assert numbers_of(replay.calibration) == lived.state.numbers()

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def void(self, data):
        model = data.draw(st.sampled_from(sorted(self.expected)))
        lived = self.expected[model].lived
        if lived.last_seq == 1:
            return
        seqs = data.draw(st.sets(st.integers(2, lived.last_seq), min_size=1, max_size=6))
        heads = self.calibrator.heads()
        try:
            (done,) = self.calibrator.void(model, seq=sorted(seqs))
        except HistoryArchivedError:
            assert lived.entries[0]["kind"] == "archived"
            assert self.calibrator.heads() == heads
            return
        if seqs <= voided_seqs(lived.entries):
            assert done.seq is None
            assert self.calibrator.heads() == heads
        else:
            lived.void(*seqs)
            assert done.seq == lived.last_seq
        assert numbers_of(done.calibration) == lived.state.numbers()

    @rule(alpha=alphas)
    def reopen(self, alpha):
        self.calibrator.close()
        self.open(alpha)

    # -- files --------------------------------------------------------------------------

    @rule(batch=st.lists(calls, max_size=12), kind=st.sampled_from(["jsonl", "csv"]))
    def import_calls(self, batch, kind):
        possible = self.possible(batch)
        file = io.StringIO(rows_of(possible, self.count, kind))
        self.count += len(possible)
        before = sum(len(found.lived.entries) for found in self.expected.values())
        opened = {call[0] for call in possible} - self.expected.keys()
        # A file is recorded model by model.
        for call in sorted(possible, key=lambda call: call[0]):
            self.expect(*call)
        after = sum(len(found.lived.entries) for found in self.expected.values())
        # The second time all of them are there.
        for recorded in (after - before - len(opened), 0):
            file.seek(0)
            report = self.calibrator.import_calls(kind, file)
            assert (report.recorded, report.already) == (recorded, len(possible) - recorded)

    @precondition(lambda self: self.expected)
    @rule()
    def move_to_another_database(self):
        """Export, import: the same ledger."""
        file, heads = self.name("jsonl"), self.calibrator.heads()
        self.calibrator.export_ledger("jsonl", file)
        self.calibrator.close()
        self.ledger = self.another()
        self.open(self.alpha)
        self.calibrator.import_calls("ledger", file)
        assert self.calibrator.heads() == heads

    @precondition(lambda self: self.expected)
    @rule()
    def back_up(self):
        path = self.name("backup")
        if self.is_file:
            self.calibrator.backup(path)
        else:
            self.calibrator.export_ledger("jsonl", path)
        self.kept = path, deepcopy(self.expected)

    @precondition(lambda self: self.kept)
    @rule(catch_up=st.booleans())
    def restore(self, catch_up):
        """Put the backup in the ledger's place; perhaps with all that was recorded since."""
        path, expected = self.kept
        file = self.name("jsonl")
        self.calibrator.export_ledger("jsonl", file)
        self.calibrator.close()
        if self.is_file:
            # A child that was killed may have left its calls in the log, and who has only read
            # since cannot take them into the file: beside the copy they would be taken for its.
            for suffix in ("-wal", "-shm"):
                Path(f"{self.ledger}{suffix}").unlink(missing_ok=True)
            shutil.copyfile(path, self.ledger)
        else:
            self.ledger = self.another()
        self.open(self.alpha)
        if not self.is_file:
            self.calibrator.import_calls("ledger", path)
        if catch_up:
            self.calibrator.import_calls("ledger", file)
        else:
            self.expected = deepcopy(expected)

    # -- crashes ------------------------------------------------------------------------

    @precondition(lambda _: hasattr(os, "fork"))
    @rule(call=calls, in_time=st.booleans())
    def crash(self, call, in_time):
        """A child is killed just before its commit, or just after."""
        if self.conflicts(call):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if child == 0:
            try:
                record_and_die(self.calibrator, call, in_time=in_time)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        if in_time:
            self.expect(*call)

    @rule(call=calls)
    def fail_in_the_middle(self, call):
        """What stops a transaction undoes all of it."""
        if self.conflicts(call):
            return
        heads = self.calibrator.heads()
        with pytest.raises(ZeroDivisionError):
            self.calibrator._ledger.write(record_and, self.calibrator, call, lambda: 1 / 0)
        assert self.calibrator.heads() == heads

    @precondition(lambda self: self.expected)
    @rule(alpha=alphas)
    def replay(self, alpha):
        heads = self.calibrator.heads()
        for replay in self.calibrator.replay(alpha):
            lived = self.expected[replay.model].lived
            assert numbers_of(replay.calibration) == lived.replayed(alpha).numbers()
        assert self.calibrator.heads() == heads

    @invariant()
    def the_live_state_is_what_was_lived(self):
        heads = {head.model: head for head in self.calibrator.heads()}
        assert heads.keys() == self.expected.keys()
        for name, found in self.expected.items():
            live = self.calibrator.calibration(name)
            assert numbers_of(live) == found.lived.state.numbers()
            assert heads[name].seq == found.lived.last_seq
            assert self.calibrator.predict(name, 7, 9).predicted_ms == live.predict(7, 9)

    @invariant()
    def the_history_explains_it(self):
        if not self.calibrator.heads():
            return  # there is no ledger yet
        assert self.calibrator.audit() == []
        for replay in self.calibrator.replay():
            assert replay.calibration == self.calibrator.calibration(replay.model)
            expected = self.expected[replay.model].lived
            entries = [entry for entry in expected.entries if entry["kind"] == "call"]
            counting = [entry for entry in expected.counting() if entry["kind"] == "call"]
            assert replay.n == sum(entry["outcome"] is None for entry in counting)
            names = "seq", "prompt_tokens", "completion_tokens", "actual_ms", "predicted_ms"
            stored = [
                (*(getattr(call, name) for name in names), call.outcome)
                for call in self.calibrator.calls(replay.model)
            ]
            assert stored == [
                (*(entry[name] for name in names), entry["outcome"] or "ok") for entry in entries
            ]
            stats = self.calibrator.get_stats(replay.model)
            assert (stats.get("timeouts") or 0) == expected.timeouts()

    def teardown(self):
        if hasattr(self, "calibrator"):
            noted = self.calibrator.heads()
            assert not noted or self.calibrator.audit(heads=noted) == []
            self.calibrator.close()
            for head in noted:
                assert digest_of(self.ledger, head.model) == head.digest
                expected = self.expected[head.model].lived.state
                assert fold_file(self.ledger, head.model).numbers() == expected.numbers()
        self.cleanup.close()


class Archives(Histories):
    """The same, and archives at any cut; but no older backup, which would know less than they."""

    restore = None

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def archive(self, data):
        model = data.draw(st.sampled_from(sorted(self.expected)))
        entries = entries_of(self.ledger, model)
        times = [entry.get("called_at", entry.get("recorded_at")) for entry in entries]
        before = data.draw(st.sampled_from([*times, times[-1] + 10**6]))
        younger = [e["seq"] for e, at in zip(entries[1:], times[1:], strict=True) if at >= before]
        k = min([*younger, entries[-1]["seq"] + 1]) - 1
        moved = [entry["seq"] for entry in entries if entry["seq"] <= k]
        text, path = self.exported(), self.name("archive")
        report = self.calibrator.archive(
            datetime.fromtimestamp(0, UTC) + timedelta(microseconds=before), path, model=model
        )
        if all(entry["kind"] != "call" for entry in entries if entry["seq"] in moved):
            assert report.models == ()
            assert not path.exists()
            return
        assert [(one.model, one.seq) for one in report.models] == [(model, k)]
        found = self.expected[model]
        found.lived = found.lived.archived(k)
        # What was archived is forgotten.
        found.requests = {name: r for name, r in found.requests.items() if r[5] > k}
        if self.is_file and data.draw(st.booleans()):
            copy = self.calibrator.backup(self.name("copy"))
            with AdaptiveCalibrator(copy) as restored:
                restored.import_calls("ledger", path)
                assert self.exported(restored) == text
                assert restored.audit() == []

    def exported(self, calibrator=None):
        out = io.StringIO()
        (calibrator or self.calibrator).export_ledger("jsonl", out)
        return out.getvalue()


def rows_of(calls, count, kind):
    """Calls as a file, each made a second after the one before."""
    rows = [
        {
            "model": model,
            "called_at": f"2026-01-02T{i // 3600 % 24:02}:{i // 60 % 60:02}:{i % 60:02}Z",
            "prompt_tokens": p,
            "completion_tokens": c,
            "actual_ms": y,
            "request_id": request_id or "",
            "outcome": outcome,
        }
        for i, (model, p, c, y, request_id, outcome) in enumerate(calls, count)
    ]
    if kind == "csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        return "\n".join(
            ["model,called_at,prompt_tokens,completion_tokens,actual_ms,request_id,outcome", *lines]
        )
    return "\n".join(
        json.dumps({name: value for name, value in row.items() if value != ""}) for row in rows
    )


def record_and(transaction, calibrator, call, then):
    """Record inside this transaction, then do something else in it."""
    model, p, c, y, request_id, outcome = call
    checked = new_call(p, c, y, None, request_id, None, outcome)
    record_calls(transaction, model, (checked,), calibrator._opening(model))
    then()


def record(calibrator, call):
    model, p, c, y, request_id, outcome = call
    return calibrator.record(
        model, p, y, completion_tokens=c, request_id=request_id, outcome=outcome
    )


def record_and_die(calibrator, call, *, in_time):
    if in_time:
        record(calibrator, call)
    else:
        calibrator._ledger.write(
            record_and, calibrator, call, lambda: os.kill(os.getpid(), signal.SIGKILL)
        )


@contextmanager
def file_in(folder):
    yield str(folder / f"{len(list(folder.iterdir()))}.db")


SHORT = settings(max_examples=10, stateful_step_count=20)
LONG = settings(max_examples=150, stateful_step_count=40)
LENGTHS = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.stress)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("machine", [Histories, Archives])
def test_any_history_in_files(machine, length):
    run_state_machine_as_test(lambda: machine(file_in), settings=length)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("machine", [Histories, Archives])
def test_any_history_in_postgresql(postgres, machine, length):
    @contextmanager
    def on_the_server(_folder):
        with postgres.ledger() as name:
            yield postgres.url(name)

    run_state_machine_as_test(lambda: machine(on_the_server), settings=length)


def test_a_history_of_anything_finite_or_not_is_refused_whole_or_lived(ledger_path):
    """Numbers at the edge of the floats: each call is refused, or learnt as the design says."""
    numbers = [0.0, 5e-324, 1.0, 1e154, 1e300, 1.7e308]
    reference = Ema(1.0, *LOCAL_PRIOR)
    with AdaptiveCalibrator(ledger_path, 1.0, durability="normal") as calibrator:
        refused = 0
        for i in range(120):
            p, c, y = i * 7919 % 5000, i * 104_729 % 3000, numbers[i * 31 % 6]
            heads = calibrator.heads()
            before = Ema(**vars(reference))
            predicted, error = reference.learn(p, c, y)
            try:
                assert calibrator.record("m", p, y, completion_tokens=c).hex() == error.hex()
            except NotFiniteError:
                refused += 1
                assert calibrator.heads() == heads
                reference = before
            else:
                assert numbers_of(calibrator.calibration("m")) == reference.numbers()
                assert predicted < float("inf")
        assert 0 < refused < 120
        assert calibrator.audit() == []
        assert issubclass(NotFiniteError, CalibrationLedgerError)
