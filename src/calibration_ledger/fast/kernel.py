"""What is compiled beside the rules' folds: learn a block of calls under many candidates.

A plain function of numbers and arrays, which needs neither numpy nor numba to be imported. Even
constants are arguments: compiled code would keep the old value of one that changes elsewhere, as
numba's cache only notices when this file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration_ledger.rules.base import Fold


def learn_block(  # noqa: C901 - compiled as one: it could not call an ordinary function
    fold: Fold,
    alphas: Any,
    states: Any,
    is_finite: Any,
    prompt_tokens: Any,
    completion_tokens: Any,
    actual_ms: Any,
    scored: Any,
    sums: Any,
    counts: Any,
    outside: Any,
    predicted: Any,
    values: Any,
    bits: Any,
    shift: int,
    first: int,
) -> int:
    """Learn the calls under each candidate that is still finite, and add up its figures.

    Arrays have an element for each call (`prompt_tokens` to `scored`, and `predicted`, `values` and
    `bits`, which are room to work in) or a row for each candidate (the others):

    - `states` is changed in place, and useless where `is_finite` is set to false.
    - `actual_ms` is >= 0; `scored` says which calls count in the figures.
    - `sums` are `Accuracy.sums_ms`, gone on with.
    - `counts` has a row of buckets, from number `first` on, for shares, and maybe one for sizes.
    - `outside` gets pairs (2 * candidate + row, bucket) of what falls outside of them.
    - `bits` is `values` seen as whole numbers, which shifted by `shift` are buckets.

    Gives how many pairs there are in `outside`.
    """
    found = 0
    for k in range(len(alphas)):
        if not is_finite[k]:
            continue
        fold(states[k], alphas[k], prompt_tokens, completion_tokens, actual_ms, predicted)
        watch = 0.0
        for number in states[k]:
            watch += 0.0 * number  # NaN where one is not finite
        if watch != 0.0:
            is_finite[k] = False
            continue
        absolute, signed, actual = sums[k, 0], sums[k, 1], sums[k, 2]
        for i in range(len(actual_ms)):
            if scored[i]:
                error = actual_ms[i] - predicted[i]
                absolute += abs(error)
                signed += error
                actual += actual_ms[i]
        sums[k, 0], sums[k, 1], sums[k, 2] = absolute, signed, actual
        for row in range(counts.shape[1]):
            for i in range(len(actual_ms)):
                size = abs(actual_ms[i] - predicted[i])
                # No percentage of nothing: such calls are left out below.
                values[i] = size if row == 1 or actual_ms[i] == 0.0 else size / actual_ms[i]
            for i in range(len(actual_ms)):
                if scored[i] and (row == 1 or actual_ms[i] != 0.0):
                    place = (bits[i] >> shift) - first
                    if 0 <= place < counts.shape[2]:
                        counts[k, row, place] += 1
                    else:
                        outside[found, 0], outside[found, 1] = 2 * k + row, place + first
                        found += 1
    return found
