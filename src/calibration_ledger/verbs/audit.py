"""The audit of a whole ledger: each model's history goes through a `ModelAudit`, page by page.

While others write, a model's calibration is read first, then its entries up to the `last_seq` in
it: entries are never changed, so there is no false finding and no long transaction. A model whose
beginning is archived meanwhile is audited once more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from calibration_ledger.core.audit import ModelAudit, whole
from calibration_ledger.core.entries import Adjustment, Snapshot, is_head, state_digest
from calibration_ledger.core.history import voids_text, walk
from calibration_ledger.core.settings import settings_findings
from calibration_ledger.core.values import SETTINGS, Finding, Head
from calibration_ledger.errors import InvalidInputError, LedgerCorruptError, damage_told, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    NotedHead = Head | tuple[str, int, str]

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored


# -- heads and audit ------------------------------------------------------------------------


def heads(ledger: Ledger) -> list[Head]:
    """See `AdaptiveCalibrator.heads`."""
    of_models = [
        _head(live.model, live.last_seq, live.head, live.snapshot)
        for live in ledger.models(with_aliases=True)
    ]
    return [*ledger.settings().noted(), *of_models]


def _head(model: str, seq: int, head: bytes, state: Snapshot) -> Head:
    with damage_told(model):
        return Head(model, seq, head.hex(), state_digest(state))


def audit(
    ledger: Ledger,
    model: str | None,
    *,
    heads: Iterable[NotedHead] | None,
    progress: Progress | None,
) -> list[Finding]:
    """See `AdaptiveCalibrator.audit`."""
    noted = checked_heads(heads or ())
    try:
        found = ledger.models(model, must_exist=True, with_aliases=True)
    except LedgerCorruptError as error:
        finding = Finding(model, None, "storage", "a readable ledger", str(error))
        return [finding, *([] if model is not None else _audit_whole(ledger))]
    findings = []
    if model is not None:
        noted = [head for head in noted if head.model == found[0].model]
    else:
        findings += _audit_whole(ledger)
        findings += _audit_events(ledger)
        findings += _audit_settings(ledger, [head for head in noted if not head.is_of_model])
        of_models = [head for head in noted if head.is_of_model]
        findings += missing_models(of_models, (live.model for live in found))
    findings += contradictions(noted)
    for live in found:
        of_model = [head for head in noted if head.model == live.model]
        findings += _audit_model(ledger, live, of_model, progress)
    return findings


def archived(ledger: Ledger) -> list[Head]:
    """See `AdaptiveCalibrator.archived`."""
    found = []
    for live in ledger.models(with_aliases=True):
        entry = ledger.beginning(live)
        if entry is not None and entry.archived_head is not None:
            found.append(_head(live.model, entry.seq, entry.archived_head, entry.snapshot))
    return found


def _audit_model(
    ledger: Ledger, live: Stored, noted: list[Head], progress: Progress | None
) -> list[Finding]:
    try:
        return ledger.whole(live, partial(_findings, ledger, noted, progress))
    except LedgerCorruptError as error:
        return [Finding(live.model, None, "storage", "readable entries", str(error))]


def _findings(
    ledger: Ledger, noted: list[Head], progress: Progress | None, history: ModelHistory
) -> list[Finding]:
    live = history.live
    digests = {head.seq: head.digest for head in noted}
    states = {head.seq: head.state for head in noted if head.state}
    fold = ModelAudit(live.model, history.adjustments, digests, states)
    for part in walk(history, 0, live.last_seq):
        if isinstance(part, Adjustment):
            fold.adjust(part)
            continue
        fold.calls(part.rows)
        fold.check_keys(part.keys)
        if progress is not None:
            progress(len(part.rows))
    with damage_told(live.model):
        last_seq, lowest, newest = ledger.ends(live.model_id)
    if lowest < 1:
        fold.report("sequence", lowest, "entries from 1 on", f"entry {lowest}")
    for request_id, first, last in ledger.repeated_requests(live.model_id):
        fold.report("request id", last, f"one call of {request_id!r}", f"call {first}, too")
    _check_voided(ledger, live, fold)
    behind = max(newest - last_seq, 0)
    return fold.finish(live.snapshot, live.last_seq, live.head, live.last_seq + behind)


def _check_voided(ledger: Ledger, live: Stored, fold: ModelAudit) -> None:
    try:
        stored, in_force = ledger.voidings(live.model_id)
    except TypeError:
        return  # that a voiding cannot be read is a finding of the entry's own
    for ranges, others, expected, found in (
        (in_force, {*stored}, "{} stored as voided", "not so"),
        (stored, {*in_force}, "{} not voided", "stored as voided"),
    ):
        for pair in ranges:
            if pair not in others:
                fold.report("voided entries", pair[0], expected.format(voids_text((pair,))), found)


def _audit_settings(ledger: Ledger, noted: list[Head]) -> list[Finding]:
    try:
        # Read anew: an alias may have come since the models were read.
        marked = {live.model: live.alias_seq or 0 for live in ledger.models(with_aliases=True)}
        return settings_findings(ledger.settings(), noted, marked)
    except LedgerCorruptError as error:
        return [Finding(SETTINGS, None, "storage", "readable settings", str(error))]


def _audit_events(ledger: Ledger) -> list[Finding]:
    try:
        return list(ledger.events().findings())
    except LedgerCorruptError as error:
        return [Finding(None, None, "storage", "readable events", str(error))]


def _audit_whole(ledger: Ledger) -> list[Finding]:
    """The findings on the ledger as a whole: the engine's own check, and foreign rows."""
    try:
        engine = ledger.check_engine()
        foreign = ledger.foreign_rows()
    except LedgerCorruptError as error:
        return [Finding(None, None, "storage", "a readable ledger", str(error))]
    findings = [Finding(None, None, "storage", "a sound file", text) for text in engine]
    for table, model_id, count in foreign.unknown_models:
        expected = f"no rows of {table} without a model"
        found = f"{count} of the unknown model id {model_id}"
        findings.append(Finding(None, None, "foreign row", expected, found))
    for model_id, seq in foreign.unknown_calls:
        found = f"details of the missing call ({model_id}, {seq})"
        findings.append(Finding(None, whole(seq), "foreign row", "details of a call", found))
    for _, model in foreign.uncalibrated:
        findings.append(Finding(model, None, "calibration", "a calibration", "none"))
    return findings


# -- heads that the user noted earlier ------------------------------------------------------


def checked_head(head: NotedHead) -> Head:
    """A head as `heads()` gives it; InvalidInputError if it is none."""
    try:
        found = Head(*head)
        valid = is_head(*found)
    except TypeError:
        valid = False
    if not valid:
        raise InvalidInputError(
            f"{shown(head)} is no head: pass what heads() gave, (model, seq, 64 hexadecimal "
            f"digits)."
        )
    return found._replace(digest=found.digest.lower(), state=found.state.lower())


def checked_heads(heads: Iterable[NotedHead]) -> list[Head]:
    """The heads that the user gave; raises what `checked_head` raises."""
    try:
        given = list(heads)
    except TypeError:
        raise InvalidInputError(
            f"heads must be a list of heads, as heads() gives them, not {shown(heads)}."
        ) from None
    return [checked_head(head) for head in given]


def missing_models(noted: Iterable[Head], present: Iterable[str]) -> list[Finding]:
    """A finding for each noted head whose model is not in the ledger."""
    models = set(present)
    return [
        Finding(head.model, head.seq, "noted head", head.digest, "no such model in the ledger")
        for head in noted
        if head.model not in models
    ]


def contradictions(noted: Iterable[Head]) -> list[Finding]:
    """A finding for each noted head that differs from an earlier one of the same entry."""
    digests: dict[tuple[str, int, bool], str] = {}
    return [
        Finding(head.model, head.seq, "noted head", first, f"{digest}, noted as well")
        for head in noted
        for is_state, digest in enumerate((head.digest, head.state))
        if digest
        and (first := digests.setdefault((head.model, head.seq, bool(is_state)), digest)) != digest
    ]
