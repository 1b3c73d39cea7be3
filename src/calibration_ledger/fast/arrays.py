"""What charts count, with numpy: `binned.Calls` of arrays, and a state that learns arrays."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.binned import Calls
from calibration_ledger.core.drift import LEAST_MS
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import TOKENS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.core.replay import Window
    from calibration_ledger.fast.compiler import Compiled

TYPES = "qqqdd"
"""Of the columns of `Calls`, as `struct` and numpy name them."""

DENSE = 32
"""With more cells than so many for each call, the calls are sorted, not counted in an array."""


class ArrayCalls(Calls):
    """See `binned.Calls`."""

    called_at: Any
    prompt_tokens: Any
    completion_tokens: Any
    actual_ms: Any
    predicted_ms: Any

    @classmethod
    def of(cls, columns: Sequence[Sequence[Any]]) -> Calls:  # noqa: D102 - as in `Calls`
        import numpy as np

        # Packed first, for numpy alone takes three times as long to look what each value is.
        try:
            packed = [
                struct.pack(f"{len(column)}{kind}", *column)
                for kind, column in zip(TYPES, columns, strict=True)
            ]
        except struct.error:
            return Calls.of(columns)
        made = cls(*(np.frombuffer(one, kind) for kind, one in zip(TYPES, packed, strict=True)))
        either = made.prompt_tokens | made.completion_tokens
        least = min(made.called_at.min(), either.min(), made.actual_ms.min())
        if not least >= 0 or either.max() >= TOKENS_LIMIT or not made.predicted_ms.min() >= 0.0:
            return Calls.of(columns)  # which no program of ours wrote
        return made

    @classmethod
    def joined(cls, some: Sequence[Calls]) -> Calls:  # noqa: D102 - as in `Calls`
        import numpy as np

        if not all(isinstance(one, ArrayCalls) for one in some):
            return Calls.joined(some)
        # Also where there is but one: compiled code takes no array that cannot be written to.
        return cls(*map(np.concatenate, zip(*(one.columns() for one in some), strict=True)))

    def where(self, held: Sequence[bool]) -> Calls:  # noqa: D102 - as in `Calls`
        import numpy as np

        kept = np.array(held, np.bool_)
        return ArrayCalls(*(column[kept] for column in self.columns()))

    def within(self, window: Window) -> Calls:  # noqa: D102 - as in `Calls`
        since = -1 if window.since is None else window.since
        kept = self.called_at >= since
        if window.until is not None:
            kept &= self.called_at < window.until
        return ArrayCalls(*(column[kept] for column in self.columns()))

    def earliest(self) -> int:  # noqa: D102 - as in `Calls`
        return int(self.called_at.min())

    def latest(self) -> int:  # noqa: D102 - as in `Calls`
        return int(self.called_at.max())

    def ratios(self) -> Any:  # noqa: D102 - as in `Calls`
        import numpy as np

        return self.actual_ms / np.maximum(LEAST_MS, self.predicted_ms)

    def speeds(self) -> Calls:  # noqa: D102 - as in `Calls`
        import numpy as np

        kept = (self.completion_tokens > 0) & (self.actual_ms > 0.0)
        at, prompts, completions, actual, predicted = (one[kept] for one in self.columns())
        with np.errstate(over="ignore"):
            speeds = 1000.0 * completions / actual
        return ArrayCalls(at, prompts, completions, speeds, predicted)

    def leading_bits(self, values: Any, shift: int, added: int) -> Any:  # noqa: D102 - as in `Calls`
        import numpy as np

        return (values.astype(np.float64, copy=False).view(np.int64) + added) >> shift

    def times(self, width_us: int) -> Any:  # noqa: D102 - as in `Calls`
        return self.called_at // width_us

    def count(self, xs: Any, ys: Any) -> Iterable[tuple[tuple[int, int], int]]:  # noqa: D102 - as in `Calls`
        import numpy as np

        first_x, first_y = xs.min(), ys.min()
        height = int(ys.max() - first_y) + 1
        cells = (xs - first_x) * height + (ys - first_y)
        if (int(xs.max() - first_x) + 1) * height <= DENSE * len(xs):
            every = np.bincount(cells)
            found = every.nonzero()[0]
            counts = every[found]
        else:
            found, counts = np.unique(cells, return_counts=True)
        x, y = found // height + first_x, found % height + first_y
        return zip(zip(x.tolist(), y.tolist(), strict=True), counts.tolist(), strict=True)


class ArrayState(State):
    """A state that learns arrays with the compiled fold of its rule."""

    __slots__ = ("_fold",)

    _fold: Any

    @classmethod
    def of(cls, compiled: Compiled, state: State) -> ArrayState:
        """The same state."""
        made = cls(state.rule, state.alpha, state.numbers, state.sample_count, state.updated_at)
        made._fold = compiled.folds[state.rule.version]
        return made

    def learn(
        self, called_at: Any, prompt_tokens: Any, completion_tokens: Any, actual_ms: Any
    ) -> Any:
        """See `State.learn`."""
        import numpy as np

        if not isinstance(actual_ms, np.ndarray):
            return super().learn(called_at, prompt_tokens, completion_tokens, actual_ms)
        numbers, predicted = np.array(self.numbers), np.empty(len(actual_ms))
        self._fold(numbers, self.alpha, prompt_tokens, completion_tokens, actual_ms, predicted)
        if not np.isfinite(numbers).all():  # in Python, which names the call
            columns = (called_at, prompt_tokens, completion_tokens, actual_ms)
            return super().learn(*(column.tolist() for column in columns))
        self.numbers = numbers.tolist()
        self.sample_count += len(actual_ms)
        self.updated_at = int(called_at[-1])
        return predicted
