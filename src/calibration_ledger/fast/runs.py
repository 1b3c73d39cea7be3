"""`replay.Runs`, compiled: blocks of calls are learnt on all cores while the next one is read."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from calibration_ledger.cores import cores
from calibration_ledger.damage import damage_told
from calibration_ledger.errors import NotFiniteError
from calibration_ledger.fast.blocks import parts, scored_of
from calibration_ledger.fast.histogram import BUCKETS, FIRST, ArrayHistogram
from calibration_ledger.figures import SHIFT
from calibration_ledger.learning import learn_columns
from calibration_ledger.replay import Columns, Runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.fast.blocks import Block
    from calibration_ledger.fast.compiling import Compiled
    from calibration_ledger.figures import Accuracy
    from calibration_ledger.learning import State
    from calibration_ledger.replay import Progress, Scoring

TASKS_PER_CORE = 4
"""Candidates are dealt out in this many portions for each core, so that none idles for long."""

BATCH = 16
"""Candidates that are learnt in one go at most: it takes room for each of them."""


class CompiledRuns(Runs):
    """See `replay.Runs`."""

    def __init__(
        self,
        compiled: Compiled,
        model: str,
        states: Sequence[State],
        *,
        keeps_figures: bool = True,
        keeps_sizes: bool = False,
    ) -> None:
        """Start from these with compiled folds of all their rules."""
        super().__init__(model, states, keeps_figures=keeps_figures, keeps_sizes=keeps_sizes)
        self._cores = cores()
        self._batches = []
        size = min(BATCH, max(1, -(-len(states) // (self._cores * TASKS_PER_CORE))))
        by_rule = sorted(range(len(states)), key=lambda index: states[index].rule.version)
        for _, group in groupby(by_rule, key=lambda index: states[index].rule.version):
            indexes = list(group)
            for i in range(0, len(indexes), size):
                batch = Batch(compiled, self, indexes[i : i + size], 1 + keeps_sizes)
                self._batches.append(batch)

    def learn(
        self, pages: Iterable[Columns], scoring: Scoring, progress: Progress | None = None
    ) -> None:
        """See `Runs.learn`."""
        for batch in self._batches:
            batch.load()
        with ThreadPoolExecutor(self._cores, "calibration-ledger") as pool:
            pending: list[Future[None]] = []
            for part in parts(pages, scoring.window):
                count = len(part.actual_ms)
                _wait(pending)
                if isinstance(part, Columns):
                    with damage_told(self.model):
                        self._learn_odd_page(part, scoring)
                elif len(self._batches) == 1:
                    self._batches[0].learn(part, scored_of(part, scoring))
                else:
                    scored = scored_of(part, scoring)
                    pending = [pool.submit(one.learn, part, scored) for one in self._batches]
                if progress is not None:
                    progress(count)
                if len(self.errors) == len(self.states):
                    break
            _wait(pending)
        for batch in self._batches:
            batch.store()

    def _learn_odd_page(self, page: Columns, scoring: Scoring) -> None:
        """Learn values that no program of ours wrote as Python does, whatever comes of it."""
        for batch in self._batches:
            batch.store()
        self.learn_page(page, scoring.scored(page.called_at))
        for batch in self._batches:
            batch.load()


class Batch:
    """Some candidates of one rule, as arrays."""

    def __init__(self, compiled: Compiled, runs: Runs, indexes: list[int], histograms: int) -> None:
        """These of the runs; from now on their figures are counted here."""
        import numpy as np

        states: list[State] = [state for i in indexes if (state := runs.states[i]) is not None]
        self._np = np
        self._runs = runs
        self._indexes = indexes
        self._learn_block = compiled.learn_block
        self._rule = states[0].rule
        self._fold = compiled.folds[self._rule.version]
        self._alphas = np.array([state.alpha for state in states])
        self._counts: Any = np.zeros((len(indexes), histograms, BUCKETS), np.uint32)
        for accuracy, counts in zip(self._accuracies(), self._counts, strict=False):
            accuracy.shares = ArrayHistogram(counts[0])
            if accuracy.sizes is not None:
                accuracy.sizes = ArrayHistogram(counts[1])

    def _accuracies(self) -> list[Accuracy]:
        return [self._runs.figures[i] for i in self._indexes] if self._runs.figures else []

    def load(self) -> None:
        """Take the states and figures over from the runs."""
        np, states = self._np, [self._runs.states[i] for i in self._indexes]
        self._is_finite = np.array([state is not None for state in states])
        width = 5 + len(self._rule.extra_numbers)
        nothing = [0.0] * width
        self._states = np.array([nothing if one is None else one.numbers for one in states])
        sums = [accuracy.sums_ms for accuracy in self._accuracies()]
        self._sums = np.array(sums or [(0.0, 0.0, 0.0)] * len(states))
        self._learnt = self._scored = 0
        self._last_called_at: int | None = None

    def learn(self, block: Block, scored: Any) -> None:
        """Learn a block of calls; the interpreter's lock is free meanwhile."""
        np, count = self._np, len(block.actual_ms)
        columns = (block.prompt_tokens, block.completion_tokens, block.actual_ms)
        before, was_finite = self._states.copy(), self._is_finite.copy()
        values = np.empty(count)
        outside = np.empty((self._counts.shape[0] * self._counts.shape[1] * count, 2), np.int64)
        found = self._learn_block(
            self._fold,
            self._alphas,
            self._states,
            self._is_finite,
            *columns,
            scored,
            self._sums,
            self._counts,
            outside,
            np.empty(count),
            values,
            values.view(np.int64),
            SHIFT,
            FIRST,
        )
        self._learnt += count
        self._scored += int(scored.sum())
        self._last_called_at = block.last_called_at
        self._count_outside(outside[:found])
        for k in np.flatnonzero(was_finite & ~self._is_finite).tolist():
            self._give_up(k, before[k].tolist(), columns)

    def _count_outside(self, pairs: Any) -> None:
        if not self._runs.figures:
            return
        for which in self._np.unique(pairs[:, 0]).tolist():
            accuracy = self._runs.figures[self._indexes[which // 2]]
            histogram = accuracy.sizes if which % 2 else accuracy.shares
            assert isinstance(histogram, ArrayHistogram)  # noqa: S101 - see __init__
            histogram.add_outside(pairs[pairs[:, 0] == which, 1].tolist())

    def _give_up(self, k: int, numbers: list[float], columns: Sequence[Any]) -> None:
        """Learn the block again in Python, which names the call that cannot be learnt."""
        try:
            learn_columns(
                self._rule, float(self._alphas[k]), numbers, *(c.tolist() for c in columns)
            )
        except NotFiniteError as error:
            self._runs.give_up(self._indexes[k], error)
        else:
            raise AssertionError(f"the compiled fold of {self._rule.version} is not the same")

    def store(self) -> None:
        """Hand the states and figures back to the runs."""
        for k, index in enumerate(self._indexes):
            state = self._runs.states[index]
            if state is None:
                continue
            state.numbers = self._states[k].tolist()
            state.sample_count += self._learnt
            if self._last_called_at is not None:
                state.updated_at = self._last_called_at
            if self._runs.figures:
                self._runs.figures[index].go_on(self._scored, self._sums[k].tolist())


def _wait(pending: list[Future[None]]) -> None:
    for future in pending:
        future.result()
    pending.clear()
