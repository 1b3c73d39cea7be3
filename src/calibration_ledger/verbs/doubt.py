"""Tell of what looks wrong: as a warning once it is recorded, or of calls as an error before."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.doubt import Worst, doubt, look_usual, worst_at_least
from calibration_ledger.errors import (
    DoubtfulCallError,
    DoubtfulCallWarning,
    LedgerError,
    SimilarNameWarning,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from calibration_ledger.core.doubt import Kind
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.verbs.record import NewCall

NAMED_MAX = 3
"""Calls that a warning names; the others are counted."""


# -- before: refuse -------------------------------------------------------------------------


def worst_of(ledger: Ledger, model: str) -> Worst:
    """The longest call of a model up to now."""
    live = ledger.find(model)
    if live is None:
        return Worst(0.0)
    return Worst(
        worst_at_least(live.snapshot), lambda: ledger.history(live).worst_ms(live.last_seq)
    )


def refuse_doubtful(ledger: Ledger, calls: Sequence[tuple[str, NewCall]], now: int) -> None:
    """Refuse calls that look wrong.

    Raises:
        DoubtfulCallError: one does. Nothing was recorded.
    """
    worst: dict[str, Worst] = {}
    for place, (model, call) in enumerate(calls, 1):
        if model not in worst:
            worst[model] = worst_of(ledger, model)
        kind = doubt(call, now, worst[model])
        if kind is not None:
            which = f"call {place}" if len(calls) > 1 else "the call"
            raise DoubtfulCallError(f"{which}, of the model {shown(model)}, {kind.one}")


# -- afterwards: warn -----------------------------------------------------------------------


class Recent(NamedTuple):
    """Calls of one model that were recorded just now.

    Attributes:
        model: the model's name.
        calls: the calls of one transaction, in order.
        seqs: the numbers of their entries.
        least_ms: how long a call before them took at least; None for no call.
    """

    model: str
    calls: Sequence[NewCall]
    seqs: Sequence[int]
    least_ms: float | None


def warn_of_doubtful(ledger: Ledger, recent: Iterable[Recent], now: int) -> None:
    """Warn of calls that were recorded and look wrong, and say how to void them.

    A filter may turn the warning into an error; what was recorded stays.
    """
    told = tell_of_doubtful(ledger, recent, now)
    if told is not None:
        # Of the line that called the calibrator: from here over its method, which may be wrapped.
        warnings.warn(told, DoubtfulCallWarning, stacklevel=4)


def tell_of_doubtful(ledger: Ledger, recent: Iterable[Recent], now: int) -> str | None:
    """What to say of calls that were recorded and look wrong; None where none does."""
    found: list[tuple[str, int, Kind]] = []
    try:
        for one in recent:
            if not look_usual(one.calls, one.least_ms, now):
                found += _doubtful(ledger, one, now)
    except LedgerError:
        return None  # what cannot be read any more is told to whoever reads it next
    return _told(ledger, found) if found else None


def _doubtful(ledger: Ledger, recent: Recent, now: int) -> Iterator[tuple[str, int, Kind]]:
    """The calls that look wrong, with their seqs."""
    model, calls, seqs, least_ms = recent

    def look() -> float | None:
        live = ledger.find(model)
        return None if live is None else ledger.history(live).worst_ms(min(seqs) - 1)

    worst = Worst(0.0) if least_ms is None else Worst(least_ms, look)
    for call, seq in zip(calls, seqs, strict=True):
        kind = doubt(call, now, worst)
        if kind is not None:
            yield model, seq, kind


def _told(ledger: Ledger, found: Sequence[tuple[str, int, Kind]]) -> str:
    told = "; ".join(
        f"the call of {shown(model)}, entry {seq}, {kind.one}"
        for model, seq, kind in found[:NAMED_MAX]
    )
    more = f"; and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    was, it = ("It was", "it is") if len(found) == 1 else ("They were", "they are")
    model = found[0][0]
    seqs = [seq for name, seq, _ in found[:NAMED_MAX] if name == model]
    words = [word for seq in seqs for word in ("--seq", str(seq))]
    command = ledger.command("void", *words, names=[model])
    method = f"void({shown(model)}, seq={seqs[0] if len(seqs) == 1 else seqs})"
    return f"{told}{more}. {was} recorded; if {it} wrong: `{command}`, or {method} in Python."


# -- a whole file ---------------------------------------------------------------------------


def warn_of_file(
    ledger: Ledger, name: str, doubts: Sequence[str], count: int, import_id: str | None
) -> None:
    """Warn of what looks wrong in a file that was imported; `count` is of how many calls."""
    if doubts and import_id is not None:
        out = ledger.command("void", "--import", import_id)
        one, calls = ledger.command("void", "MODEL", "--seq", "N"), ledger.command("history")
        warnings.warn(
            f"{name}: {'; '.join(doubts)}. {'It was' if count == 1 else 'They were'} recorded. If "
            f"that is wrong, take the import out (`{out}`), or void single calls (`{one}`; "
            f"`{calls}` tells each call's N).",
            DoubtfulCallWarning,
            stacklevel=4,
        )


# -- names ----------------------------------------------------------------------------------


def warn_of_similar(ledger: Ledger, opened: Collection[str]) -> None:
    """Warn of models that were opened just now beside others whose names differ only in case.

    A filter may turn the warning into an error; what was recorded stays.
    """
    told = tell_of_similar(ledger, opened)
    if told is not None:
        # As above: of the line that called the calibrator.
        warnings.warn(told, SimilarNameWarning, stacklevel=4)


def tell_of_similar(ledger: Ledger, opened: Collection[str]) -> str | None:
    """What to say of them; None where there are none.

    A model is opened once, so that the names of all are not read for each call.
    """
    if not opened:
        return None
    alike: dict[str, list[str]] = {name.casefold(): [] for name in sorted(opened)}
    try:
        for name in {*ledger.names(), *ledger.aliases()}:
            if (group := alike.get(name.casefold())) is not None:
                group.append(name)
    except LedgerError:
        return None  # as above
    pairs = []
    for group in alike.values():
        new = max((name for name in group if name in opened), default=None)
        other = min((name for name in group if name != new), default=None)
        if new is not None and other is not None:
            pairs.append((new, other))
    return _told_of_names(ledger, pairs) if pairs else None


def _told_of_names(ledger: Ledger, pairs: Sequence[tuple[str, str]]) -> str:
    told = ", ".join(f"{shown(new)} from {shown(other)}" for new, other in pairs[:NAMED_MAX])
    more = f" and {len(pairs) - NAMED_MAX} more" if len(pairs) > NAMED_MAX else ""
    (new, other), *others = pairs
    one = f"`{ledger.command('alias', '--merge', names=[new, other])}`"
    if not others:
        return (
            f"the name of the new model {shown(new)} differs only in case from {shown(other)}: "
            f"they are two models. If they shall be one: {one}."
        )
    return (
        f"the names of {len(pairs)} new models differ only in case: {told}{more}. Each is a model "
        f"of its own. If two shall be one: {one}, for instance."
    )


# -- in a program's own calls ---------------------------------------------------------------


def doubts_of(
    ledger: Ledger, recent: Iterable[Recent], opened: Collection[str], now: int
) -> Iterator[Warning]:
    """All of this as values, for those who must not let a warning become an error."""
    told = tell_of_doubtful(ledger, recent, now)
    if told is not None:
        yield DoubtfulCallWarning(told)
    told = tell_of_similar(ledger, opened)
    if told is not None:
        yield SimilarNameWarning(told)
