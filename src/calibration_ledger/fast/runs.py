"""`replay.Runs`, compiled: blocks of calls are learnt on all cores while the next one is read."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.figures import (
    KEPT,
    PART_LEAST,
    PARTS,
    SHIFT,
    Histogram,
    bucket_at,
)
from calibration_ledger.core.replay import Columns, Runs
from calibration_ledger.core.state import learn_columns
from calibration_ledger.core.validation import TOKENS_LIMIT
from calibration_ledger.errors import NotFiniteError, damage_told
from calibration_ledger.fast.cores import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from calibration_ledger.core.figures import Accuracy
    from calibration_ledger.core.replay import Progress, Scoring, Window
    from calibration_ledger.core.state import State
    from calibration_ledger.fast.compiler import Compiled


# -- pages of calls, gathered into arrays ---------------------------------------------------

SHORTEST, LONGEST = 8_192, 65_536
"""Calls to a block. The first is short, so that the cores soon have something to do. Each is half
as long again as the one before, because the processor fetches the histograms of every candidate
anew for each block. With 16,384 throughout, a sweep took a tenth longer."""


class Block(NamedTuple):
    """Calls as arrays."""

    prompt_tokens: Any
    completion_tokens: Any
    actual_ms: Any
    in_window: Any
    """None: all of them."""
    last_called_at: int


def scored_of(block: Block, scoring: Scoring) -> Any:
    """Which calls of a block count, as an array."""
    import numpy as np

    scored = np.ones(len(block.actual_ms), np.bool_) if block.in_window is None else block.in_window
    scored[: scoring.left_out(len(scored))] = False
    return scored


def parts(pages: Iterable[Columns], window: Window | None) -> Iterator[Block | Columns]:
    """The pages as blocks; those with values that cannot be are left as they are."""
    held: list[Block] = []
    count, enough = 0, SHORTEST
    for page in pages:
        block = _block(page, window)
        if block is not None:
            held.append(block)
            count += len(page.actual_ms)
        if held and (block is None or count >= enough):
            yield _joined(held)
            held, count, enough = [], 0, min(3 * enough // 2, LONGEST)
        if block is None:
            yield page
    if held:
        yield _joined(held)


def _block(page: Columns, window: Window | None) -> Block | None:
    """A page as arrays; None where its values are not what every program of ours writes."""
    import numpy as np

    columns = [np.array(column) for column in page[1:]]
    if [column.dtype.kind for column in columns] != ["i", "i", "f"]:
        return None
    prompt_tokens, completion_tokens = (c.astype(np.int64, copy=False) for c in columns[:2])
    actual_ms = columns[2]
    # Both in one look: a bit that either has is in this, and a negative number is a huge one.
    either = (prompt_tokens | completion_tokens).view(np.uint64)
    if either.max() >= TOKENS_LIMIT or not actual_ms.min() >= 0.0:
        return None
    in_window = None
    if window is not None:
        called_at = np.array(page.called_at)
        if called_at.dtype.kind != "i":
            return None
        since = -1 if window.since is None else window.since
        in_window = called_at >= since
        if window.until is not None:
            in_window &= called_at < window.until
    return Block(prompt_tokens, completion_tokens, actual_ms, in_window, page.called_at[-1])


def _joined(blocks: list[Block]) -> Block:
    import numpy as np

    prompt_tokens, completion_tokens, actual_ms, in_window, last_called_at = zip(
        *blocks, strict=True
    )
    return Block(
        np.concatenate(prompt_tokens),
        np.concatenate(completion_tokens),
        np.concatenate(actual_ms),
        None if in_window[0] is None else np.concatenate(in_window),
        last_called_at[-1],
    )


# -- a histogram that compiled code counts in -----------------------------------------------

LEAST_EXPONENT, MOST_EXPONENT = -14, 24
FIRST = (1023 + LEAST_EXPONENT) << KEPT
BUCKETS = (MOST_EXPONENT - LEAST_EXPONENT) << KEPT
"""The buckets in the array: of numbers from 6e-5 to 1.6e7, be they milliseconds or shares. What
lies outside is rare, and counted as `Histogram` does."""


class ArrayHistogram(Histogram):
    """The same counts as `Histogram` keeps, the common buckets in an array."""

    def __init__(self, counts: Any) -> None:
        """Count on in this array of `BUCKETS` whole numbers."""
        super().__init__()
        self._array = counts

    def copy(self) -> ArrayHistogram:
        """See `Histogram`."""
        other = ArrayHistogram(self._array.copy())
        other._counts = self._counts.copy()
        return other

    def add(self, values: Sequence[float]) -> None:
        """See `Histogram`."""
        super().add(values)
        self._settle()

    def add_outside(self, buckets: Iterable[int]) -> None:
        """Count numbers whose buckets are outside of the array."""
        self._counts.update(buckets)

    def joined(self, other: Histogram) -> ArrayHistogram:
        """See `Histogram`."""
        if isinstance(other, ArrayHistogram):
            used = other._octaves().nonzero()[0]  # noqa: SLF001 - of its own kind
            if len(used):
                some = slice(used[0] << KEPT, (used[-1] + 1) << KEPT)
                self._array[some] += other._array[some]  # noqa: SLF001 - likewise
        self._counts.update(other._counts)  # noqa: SLF001 - likewise
        self._settle()
        return self

    def _settle(self) -> None:
        """Move what was counted elsewhere to the array, where it belongs there."""
        for bucket in [b for b in self._counts if FIRST <= b < FIRST + BUCKETS]:
            self._array[bucket - FIRST] += self._counts.pop(bucket)

    def _octaves(self) -> Any:
        """How many numbers lie in each power of two of the array (see `fast.MOST`)."""
        return self._array.reshape(-1, 1 << KEPT).sum(axis=1, dtype="uint32")

    def total(self) -> int:
        """See `Histogram`."""
        return super().total() + int(self._octaves().sum(dtype="int64"))

    def _bucket_at(self, rank: int) -> int:
        below = {bucket: count for bucket, count in self._counts.items() if bucket < FIRST}
        low = sum(below.values())
        if rank <= low:
            return bucket_at(below, rank)
        up_to = self._octaves().cumsum(dtype="int64")
        octave = int(up_to.searchsorted(rank - low))
        if octave == len(up_to):
            above = {bucket: count for bucket, count in self._counts.items() if bucket >= FIRST}
            return bucket_at(above, rank - low - int(up_to[-1]))
        if octave:
            low += int(up_to[octave - 1])
        start = octave << KEPT
        inside = self._array[start : start + (1 << KEPT)].cumsum(dtype="int64")
        return FIRST + start + int(inside.searchsorted(rank - low))


# -- runs -----------------------------------------------------------------------------------

TASKS_PER_CORE = 4
"""Candidates are dealt out in this many portions for each core, so that none idles for long."""

BATCH = 16
"""Candidates that are learnt in one go at most: it takes room for each of them."""


class CompiledRuns(Runs):
    """See `core.replay.Runs`."""

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
        accuracies = self._accuracies()
        sums = [accuracy.sums_ms for accuracy in accuracies]
        self._sums = np.array(sums or [(0.0, 0.0, 0.0)] * len(states))
        kept = [accuracy.marks for accuracy in accuracies if accuracy.marks is not None]
        self._marks = np.zeros((len(states), PARTS if kept else 0))
        self._seen, self._stride = 0, PART_LEAST
        for row, accuracy, marks in zip(self._marks, accuracies, kept, strict=False):
            row[: len(marks.sums)] = marks.sums
            # All learn the same calls; one that was given up got no further.
            self._seen, self._stride = max((self._seen, self._stride), (accuracy.n, marks.stride))
        self._learnt = self._scored = 0
        self._last_called_at: int | None = None

    def learn(self, block: Block, scored: Any) -> None:
        """Learn a block of calls; the interpreter's lock is free meanwhile."""
        np, count = self._np, len(block.actual_ms)
        columns = (block.prompt_tokens, block.completion_tokens, block.actual_ms)
        before, was_finite = self._states.copy(), self._is_finite.copy()
        values = np.empty(count)
        scored_count = int(scored.sum())
        self._make_room(self._seen + scored_count)
        outside = np.empty((self._counts.shape[0] * self._counts.shape[1] * count, 2), np.int64)
        found = self._learn_block(
            self._fold,
            self._alphas,
            self._states,
            self._is_finite,
            *columns,
            scored,
            self._sums,
            self._marks,
            self._counts,
            outside,
            np.empty(count),
            values,
            values.view(np.int64),
            SHIFT,
            FIRST,
            self._seen,
            self._stride,
        )
        self._learnt += count
        self._scored += scored_count
        self._seen += scored_count
        self._last_called_at = block.last_called_at
        self._count_outside(outside[:found])
        for k in np.flatnonzero(was_finite & ~self._is_finite).tolist():
            self._give_up(k, before[k].tolist(), columns)

    def _make_room(self, n: int) -> None:
        """See `Marks.make_room`."""
        while n > PARTS * self._stride:
            self._marks[:, : PARTS // 2] = self._marks[:, 1::2].copy()
            self._stride *= 2

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
                accuracy = self._runs.figures[index]
                accuracy.go_on(self._scored, self._sums[k].tolist())
                if accuracy.marks is not None:
                    accuracy.marks.stride = self._stride
                    accuracy.marks.sums = self._marks[k, : self._seen // self._stride].tolist()


def _wait(pending: list[Future[None]]) -> None:
    for future in pending:
        future.result()
    pending.clear()
