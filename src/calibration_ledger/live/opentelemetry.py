"""OpenTelemetry: record the model calls among the spans of a program.

    provider.add_span_processor(BatchSpanProcessor(LedgerSpanExporter(calibrator)))

Whichever instrumentation wrote them, `core/spans.py` knows its words. Only sampled spans come here,
and a span holds all attempts at a call, with the pauses between them; `watch` sees each attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from calibration_ledger.core.answers import Unlearnable
from calibration_ledger.core.spans import Event, Innermost, Span, call_of_span
from calibration_ledger.live.hook import Hook, maker_of
from calibration_ledger.verbs.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.verbs.complaints import OnError


class LedgerSpanExporter(Hook, SpanExporter):  # type: ignore[misc]  # opentelemetry is not followed
    """Records each span that is a call of a model; for a `BatchSpanProcessor`.

    A call's request id is `traceId:spanId`, its model the one asked for, its details what the span
    says of cached and reasoning tokens, of the model that answered and of the first token; `clock`
    is `client`. Texts of prompts and answers are not looked at.

    Of spans that several tools wrote around one call, the innermost that says enough is recorded,
    as soon as it comes, and the others count as `nested`. Spans of failed calls, without token
    counts, and of embeddings count by their reason. Spans of agents, tools and all else are none
    of calls, and are not counted.
    """

    def __init__(
        self, calibrator: AdaptiveCalibrator | Recorder, *, on_error: OnError = "warn"
    ) -> None:
        """Record here.

        Args:
            calibrator: a calibrator, or a recorder of yours, which `shutdown` leaves open.
            on_error: what becomes of errors of the ledger; see `AdaptiveCalibrator.recorder`. A
                recorder of yours has its own.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        self._is_ours = not isinstance(calibrator, Recorder)
        self.recorder = (
            calibrator
            if isinstance(calibrator, Recorder)
            else maker_of(calibrator)(on_error=on_error)
        )
        self._innermost = Innermost()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take the calls among these spans. Never raises, and waits for nothing."""
        for span, reading in self._innermost.read(self._read(spans)):
            if isinstance(reading, Unlearnable):
                self.recorder.skip(reading.reason)
                continue
            try:
                self.recorder.put(call_of_span(span, reading))
            except Exception as error:  # noqa: BLE001 - it must not cost the others of its batch
                self.recorder.fail(error)
        return SpanExportResult.SUCCESS

    def _read(self, spans: Sequence[ReadableSpan]) -> Iterator[Span]:
        for span in spans:
            try:
                yield _span(span)
            except Exception:  # noqa: BLE001 - as above: it is no span
                self.recorder.skip("unreadable")

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Wait until the calls that were exported are in the ledger; whether it came to that.

        A processor's `force_flush` exports, and does not call this.

        Raises:
            InvalidInputError: the time-out is not what it must be.
            CalibrationLedgerError: with `on_error="raise"`, the first error so far.
        """
        return self.recorder.flush(timeout_millis / 1e3)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Record what waits, and end; what comes later counts as dropped.

        Raises:
            InvalidInputError: the time-out is not what it must be.
            CalibrationLedgerError: with `on_error="raise"`, the first error so far.
        """
        if self._is_ours:
            self.recorder.close(timeout_millis / 1e3)
        else:
            self.recorder.flush(timeout_millis / 1e3)


def _span(span: ReadableSpan) -> Span:
    context: Any = span.context
    return Span(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        name=span.name,
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        is_error=span.status.status_code.name == "ERROR",
        attributes=span.attributes or {},
        events=[Event(one.name, one.timestamp, one.attributes or {}) for one in span.events],
    )
