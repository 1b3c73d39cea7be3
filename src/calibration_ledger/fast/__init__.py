"""Long replays and sweeps, compiled: the very same folds, to the bit, where numba is installed.

Needs the extra `fast` (numba and numpy), which nothing outside this package imports, and nothing in
it before the work is long enough. Without the extra, or where it cannot work, `replay.Runs` does
the same in plain Python.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.binned import Calls
from calibration_ledger.core.replay import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from calibration_ledger.core.replay import Start
    from calibration_ledger.core.state import State
    from calibration_ledger.fast.compiler import Compiled
    from calibration_ledger.rules import Rule

LONG = 1_000_000
"""Calls times candidates from which compiled code pays, measured in a fresh process. A sweep of so
many takes 1.5 s in plain Python; compiled 0.7 s, of which numba takes 0.2 s to be imported and 0.3
s to load what it once compiled. (It compiles for 2 s, but once for each machine, not in every
process.) A single replay of so many calls takes 1.2 s either way, and a longer one less."""

MOST = 2**32
"""Calls, of all models, from which the histograms' 32 bits might not suffice."""


FEW, FEW_FOR_ONE = 50, 500
"""Calls of one model from which compiled code pays, once it is there: 50, and 500 more divided by
the candidates. To set it up takes 0.5 ms, and 0.1 ms for each candidate with its histograms. Plain
Python learns 500 calls in that time. With compiled code throughout, a sweep of 5,000 models of 10
calls took five times as long."""


class Tools(NamedTuple):
    """What reads a history for charts: plain, or of arrays and compiled.

    Attributes:
        start: what learns under many candidates.
        calls: the kind of columns.
        state: makes one state learn such columns.
    """

    start: Start
    calls: type[Calls]
    state: Callable[[State], State]


def how_to_run(
    rules: Iterable[Rule], calls: int, candidates: int, in_all: int | None = None
) -> Start:
    """What learns a model under so many candidates of these rules: compiled, or plain.

    Args:
        rules: those of the candidates.
        calls: how many calls the model has.
        candidates: how many there are.
        in_all: how many calls all models have that are learnt one after the other; None: just
            this one.
    """
    found = _compiled_for(rules, calls, candidates, calls if in_all is None else in_all)
    return Runs if found is None else _start(found)


def how_to_look(rules: Iterable[Rule], calls: int, candidates: int, in_all: int) -> Tools:
    """What reads a model for charts; takes what `how_to_run` takes."""
    found = _compiled_for(rules, calls, candidates, in_all)
    if found is None:
        return Tools(Runs, Calls, _same)
    from calibration_ledger.fast.arrays import ArrayCalls, ArrayState

    return Tools(_start(found), ArrayCalls, partial(ArrayState.of, found))


def _same(state: State) -> State:
    return state


def _compiled_for(
    rules: Iterable[Rule], calls: int, candidates: int, in_all: int
) -> Compiled | None:
    if calls < FEW + FEW_FOR_ONE / candidates or in_all * candidates < LONG or in_all >= MOST:
        return None
    from calibration_ledger.fast.compiler import compiled

    return compiled(rules)


def _start(found: Compiled) -> Start:
    from calibration_ledger.fast.runs import CompiledRuns

    return partial(CompiledRuns, found)
