"""Pages of calls, gathered into arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.validation import TOKENS_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.replay import Columns, Scoring, Window

SHORTEST, LONGEST = 8_192, 65_536
"""Calls to a block: the first is short, so that the cores soon have something to do, and each is
half as long again as the one before, for each candidate has histograms of its own, which the
processor fetches for every block anew. With 16,384 throughout, a sweep took a tenth longer."""


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
