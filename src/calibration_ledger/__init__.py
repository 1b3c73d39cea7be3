"""Know before a language-model call how long it will take.

The ledger keeps every observed call, learns each model's latency from it, and can be replayed and
audited to the bit. `AdaptiveCalibrator` is the front door; everything else here is what it takes,
gives or raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger._version import __version__

if TYPE_CHECKING:
    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.answers import from_answer
    from calibration_ledger.core.charts import Axis, Chart, ChartEvent, ChartKind, Panel, Series
    from calibration_ledger.core.coverage import ForecastReplay, ForecastScore
    from calibration_ledger.core.drift import ModelDrift
    from calibration_ledger.core.facts import (
        Advice,
        Diagnosis,
        Facts,
        LostRange,
    )
    from calibration_ledger.core.forecast import Completion, Forecast, Remaining
    from calibration_ledger.core.priors import Prior, default_prior
    from calibration_ledger.core.rank import RankBy
    from calibration_ledger.core.tokens import TokenCount, count_tokens
    from calibration_ledger.core.top import Top, TopBy, TopModel
    from calibration_ledger.core.validation import Durability
    from calibration_ledger.core.values import (
        DEFAULT_ALPHA,
        Alias,
        AliasReport,
        ArchivedModel,
        ArchiveReport,
        Call,
        CostPrediction,
        DefaultRule,
        Distribution,
        Drift,
        ExportKind,
        ExportReport,
        Finding,
        Head,
        ImportKind,
        ImportPreview,
        ImportReport,
        LogEntry,
        ModelCalibration,
        ModelPreview,
        ModelStats,
        Obstacle,
        Outcome,
        PeriodStats,
        RecordedCall,
        Replay,
        RuleSetting,
        Score,
        SkippedLine,
        Suggestion,
        Sweep,
        Voiding,
    )
    from calibration_ledger.errors import (
        AliasRefusedError,
        CalibrationLedgerError,
        CallIncompleteError,
        CallsDroppedError,
        CompletionTokensMissingError,
        DeadlineError,
        DoubtfulCallError,
        DoubtfulCallWarning,
        ExportFailedError,
        HistoryArchivedError,
        ImportRefusedError,
        InvalidInputError,
        LedgerBusyError,
        LedgerClosedError,
        LedgerCorruptError,
        LedgerError,
        LedgerNotFoundError,
        LedgerOutdatedError,
        LedgerPathError,
        LedgerPermissionError,
        LedgerReplacedError,
        LedgerRevisionError,
        LedgerTooNewError,
        MigrationsNotFoundError,
        ModelNotFoundError,
        NoHistoryError,
        NoSuchEntryError,
        NoSuchRuleError,
        NotALedgerError,
        NotCopiableError,
        NotFiniteError,
        NotRecordedError,
        NotRecordedWarning,
        OutcomeUnknownError,
        ReentrantCallError,
        RemovedParameterError,
        RequestConflictError,
        SimilarNameWarning,
        StoredRuleError,
        UnknownRuleError,
        UnlearnableAnswerError,
    )
    from calibration_ledger.formats.base import Beginning, Format, Skip
    from calibration_ledger.formats.frame import FrameLibrary
    from calibration_ledger.rules import RuleName
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.export import SalvageReport
    from calibration_ledger.verbs.recorder import Recorder
    from calibration_ledger.verbs.timed import Timed, TimedCall, TimedStream

__all__ = [
    "DEFAULT_ALPHA",
    "AdaptiveCalibrator",
    "Advice",
    "Alias",
    "AliasRefusedError",
    "AliasReport",
    "ArchiveReport",
    "ArchivedModel",
    "Axis",
    "Beginning",
    "CalibrationLedgerError",
    "Call",
    "CallIncompleteError",
    "CallsDroppedError",
    "Chart",
    "ChartEvent",
    "ChartKind",
    "Completion",
    "CompletionTokensMissingError",
    "CostPrediction",
    "DeadlineError",
    "DefaultRule",
    "Diagnosis",
    "Distribution",
    "DoubtfulCallError",
    "DoubtfulCallWarning",
    "Drift",
    "Durability",
    "ExportFailedError",
    "ExportKind",
    "ExportReport",
    "Facts",
    "Finding",
    "Forecast",
    "ForecastReplay",
    "ForecastScore",
    "Format",
    "FrameLibrary",
    "Head",
    "HistoryArchivedError",
    "ImportKind",
    "ImportPreview",
    "ImportRefusedError",
    "ImportReport",
    "InvalidInputError",
    "LedgerBusyError",
    "LedgerClosedError",
    "LedgerCorruptError",
    "LedgerError",
    "LedgerNotFoundError",
    "LedgerOutdatedError",
    "LedgerPathError",
    "LedgerPermissionError",
    "LedgerReplacedError",
    "LedgerRevisionError",
    "LedgerTooNewError",
    "LogEntry",
    "LostRange",
    "MigrationsNotFoundError",
    "ModelCalibration",
    "ModelDrift",
    "ModelNotFoundError",
    "ModelPreview",
    "ModelStats",
    "NoHistoryError",
    "NoSuchEntryError",
    "NoSuchRuleError",
    "NotALedgerError",
    "NotCopiableError",
    "NotFiniteError",
    "NotRecordedError",
    "NotRecordedWarning",
    "Obstacle",
    "OnError",
    "Outcome",
    "OutcomeUnknownError",
    "Panel",
    "PeriodStats",
    "Prior",
    "RankBy",
    "RecordedCall",
    "Recorder",
    "ReentrantCallError",
    "Remaining",
    "RemovedParameterError",
    "Replay",
    "RequestConflictError",
    "RuleName",
    "RuleSetting",
    "SalvageReport",
    "Score",
    "Series",
    "SimilarNameWarning",
    "Skip",
    "SkippedLine",
    "StoredRuleError",
    "Suggestion",
    "Sweep",
    "Timed",
    "TimedCall",
    "TimedStream",
    "TokenCount",
    "Top",
    "TopBy",
    "TopModel",
    "UnknownRuleError",
    "UnlearnableAnswerError",
    "Voiding",
    "__version__",
    "count_tokens",
    "default_prior",
    "from_answer",
]


_HOMES = {
    "AdaptiveCalibrator": "calibrator",
    "DoubtfulCallWarning": "errors",
    "NotRecordedWarning": "errors",
    "OnError": "verbs.complaints",
    "Recorder": "verbs.recorder",
    "SimilarNameWarning": "errors",
    "Timed": "verbs.timed",
    "TimedCall": "verbs.timed",
    "TimedStream": "verbs.timed",
    "Prior": "core.priors",
    "default_prior": "core.priors",
    "Durability": "core.validation",
    "RuleName": "rules",
    "SalvageReport": "verbs.export",
    "Advice": "core.facts",
    "Diagnosis": "core.facts",
    "Facts": "core.facts",
    "LostRange": "core.facts",
    "Axis": "core.charts",
    "Chart": "core.charts",
    "ChartEvent": "core.charts",
    "ChartKind": "core.charts",
    "Panel": "core.charts",
    "Series": "core.charts",
    "ModelDrift": "core.drift",
    "Completion": "core.forecast",
    "Forecast": "core.forecast",
    "ForecastReplay": "core.coverage",
    "ForecastScore": "core.coverage",
    "Remaining": "core.forecast",
    "RankBy": "core.rank",
    "TokenCount": "core.tokens",
    "Top": "core.top",
    "TopBy": "core.top",
    "TopModel": "core.top",
    "count_tokens": "core.tokens",
    "from_answer": "core.answers",
    "Beginning": "formats.base",
    "Format": "formats.base",
    "FrameLibrary": "formats.frame",
    "Skip": "formats.base",
}
"""Where a name lives that is neither an error nor one of `core.values`."""

if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for a right one

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for.

        SQLAlchemy takes five times as long to import as click; `calib --help` needs neither it nor
        anything else of the library.
        """
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = _HOMES.get(name, "errors" if name.endswith("Error") else "core.values")
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, those that were not asked for yet included."""
    return __all__
