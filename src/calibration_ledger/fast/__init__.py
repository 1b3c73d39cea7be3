"""Long replays and sweeps, compiled: the very same folds, to the bit, where numba is installed.

Needs the extra `fast` (numba and numpy), which nothing outside this package imports, and nothing in
it before the work is long enough. Without the extra, or where it cannot work, `replay.Runs` does
the same in plain Python.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from calibration_ledger.core.replay import Runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calibration_ledger.core.replay import Start
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
    in_all = calls if in_all is None else in_all
    if calls < FEW + FEW_FOR_ONE / candidates or in_all * candidates < LONG or in_all >= MOST:
        return Runs
    from calibration_ledger.fast.compiler import compiled

    found = compiled(rules)
    if found is None:
        return Runs
    from calibration_ledger.fast.runs import CompiledRuns

    return partial(CompiledRuns, found)
