"""What is compiled beside the rules' folds: learn a block of calls under many candidates.

A plain function of numbers and arrays, which needs neither numpy nor numba to be imported. Even
constants are arguments: compiled code would keep the old value of one that changes elsewhere, as
numba's cache only notices when this file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration_ledger.rules.base import Fold


def learn_block(  # noqa: C901, PLR0912 - compiled as one: it could not call an ordinary function
    fold: Fold,
    alphas: Any,
    states: Any,
    is_finite: Any,
    prompt_tokens: Any,
    completion_tokens: Any,
    actual_ms: Any,
    scored: Any,
    sums: Any,
    marks: Any,
    counts: Any,
    outside: Any,
    predicted: Any,
    values: Any,
    bits: Any,
    shift: int,
    first: int,
    seen: int,
    stride: int,
) -> int:
    """Learn the calls under each candidate that is still finite, and add up its figures.

    Arrays have an element for each call (`prompt_tokens` to `scored`, and `predicted`, `values` and
    `bits`, which are room to work in) or a row for each candidate (the others):

    - `states` is changed in place, and useless where `is_finite` is set to false.
    - `actual_ms` is >= 0; `scored` says which calls count in the figures.
    - `sums` are `Accuracy.sums_ms`, gone on with after `seen` calls, and so are, if there are
      columns, `marks` of `Marks.sums`, at every `stride`-th call.
    - `counts` has a row of buckets, from number `first` on, for shares, and maybe one for sizes. No
      call of 0 ms has a share.
    - `outside` gets pairs (2 * candidate + row, bucket) of what falls outside: gives how many.
    - `bits` is `values` seen as whole numbers, which shifted by `shift` are buckets.
    """
    found = 0
    for k in range(len(alphas)):
        if not is_finite[k]:
            continue
        fold(states[k], alphas[k], prompt_tokens, completion_tokens, actual_ms, predicted)
        for number in states[k]:
            is_finite[k] &= 0.0 * number == 0.0  # NaN where it is not finite
        if not is_finite[k]:
            continue
        absolute, signed, actual = sums[k, 0], sums[k, 1], sums[k, 2]
        mark, left = seen // stride, stride - seen % stride
        for i in range(len(actual_ms)):
            if scored[i]:
                error = actual_ms[i] - predicted[i]
                absolute += abs(error)
                signed += error
                actual += actual_ms[i]
                left -= 1
                if left == 0 and mark < marks.shape[1]:
                    marks[k, mark] = absolute
                    mark, left = mark + 1, stride
        sums[k, 0], sums[k, 1], sums[k, 2] = absolute, signed, actual
        for row in range(counts.shape[1]):
            for i in range(len(actual_ms)):
                size = abs(actual_ms[i] - predicted[i])
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
