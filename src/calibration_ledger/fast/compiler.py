"""The folds of rules, compiled with numba: once a process, or from its cache."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.fast.kernel import learn_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from calibration_ledger.rules import Rule

_lock = Lock()
_learn_block: list[Any] = []
_folds: dict[str, Any] = {}
"""By the version of their rule; None where one cannot be compiled."""


class Compiled(NamedTuple):
    """Compiled functions."""

    learn_block: Any
    folds: Mapping[str, Any]


def compiled(rules: Iterable[Rule]) -> Compiled | None:
    """The compiled `learn_block`, and the folds of these rules; None where it cannot be done.

    numba that is there and does not work counts as none: it may raise anything, such as an OSError
    where a library below it is broken.
    """
    try:
        import numba  # noqa: F401 - only to see whether it is there
        import numpy  # noqa: ICN001, F401 - the same

        return _compiled(rules)
    except Exception:  # noqa: BLE001 - plain Python does the same
        return None


def _compiled(rules: Iterable[Rule]) -> Compiled | None:
    with _lock:
        if not _learn_block:
            _learn_block.append(_try_to_compile(learn_block, _block_signature()))
        found: dict[str, Any] = {}
        for rule in rules:
            if rule.version not in _folds:
                _folds[rule.version] = _compile_fold(rule)
            found[rule.version] = _folds[rule.version]
        if _learn_block[0] is None or None in found.values():
            return None
        return Compiled(_learn_block[0], found)


def _fold_signature() -> Any:
    from numba import types

    floats, whole = types.float64[::1], types.int64[::1]
    return types.void(floats, types.float64, whole, whole, floats, floats)


def _block_signature() -> Any:
    from numba import types

    floats, whole, flags = types.float64[::1], types.int64[::1], types.boolean[::1]
    # A function as a value of its signature, not as a type of its own: so one compiled
    # `learn_block` serves all rules, and numba can keep it in its cache.
    return types.int64(
        types.FunctionType(_fold_signature()),
        floats,
        types.float64[:, ::1],
        flags,
        *(whole, whole, floats, flags),
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.uint32[:, :, ::1],
        types.int64[:, ::1],
        *(floats, floats, whole, *[types.int64] * 4),
    )


def _try_to_compile(function: Any, signature: Any) -> Any:
    """The compiled function; None where that cannot be done.

    numba keeps what it compiled beside the source, or in the user's cache folder. Where it can
    write to neither, or finds something broken there, it compiles anew in each process.
    """
    from numba import njit

    for cache in (True, False):
        try:
            # As in Python, a division by zero is an error (the default, and no slower here), and
            # no arithmetic is reordered or fused: `fastmath` is off.
            found = njit(signature, nogil=True, cache=cache)(function)
        except Exception:  # noqa: BLE001, S112 - whatever a compiler cannot do, Python can
            continue
        return None if found is function else found  # the same, with NUMBA_DISABLE_JIT
    return None


def _compile_fold(rule: Rule) -> Any:
    """The rule's compiled fold; None where there is none, or where it is not the same to the bit.

    A ledger's history must be explained to the bit by any program on any machine, so no compiler
    is taken at its word.
    """
    import numpy as np

    fold = _try_to_compile(rule.fold, _fold_signature())
    if fold is None:
        return None
    prompt_tokens = [(7919 * i) % 4096 for i in range(300)]
    completion_tokens = [(104_729 * i) % 1024 * (i % 5 > 0) for i in range(300)]
    actual_ms = [(i % 7) * 1e3 / 3 + 1e5 * (i % 101 == 0) for i in range(300)]
    start = [0.5, 8.0, 300.0, 0.0, 0.0, *rule.extra_start((0.5, 8.0, 300.0))]
    ours, predicted_ms = start.copy(), [0.0] * 300
    rule.fold(ours, 0.3, prompt_tokens, completion_tokens, actual_ms, predicted_ms)
    theirs, predicted = np.array(start), np.empty(300)
    columns = (np.array(prompt_tokens, np.int64), np.array(completion_tokens, np.int64))
    fold(theirs, 0.3, *columns, np.array(actual_ms), predicted)
    is_same = theirs.tolist() == ours and predicted.tolist() == predicted_ms
    return fold if is_same else None
