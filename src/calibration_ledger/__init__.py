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
    from calibration_ledger.core.priors import Prior, default_prior
    from calibration_ledger.core.values import (
        DEFAULT_ALPHA,
        Call,
        CostPrediction,
        Finding,
        Head,
        ModelCalibration,
        Replay,
        Score,
        Suggestion,
        Sweep,
        Voiding,
    )
    from calibration_ledger.errors import (
        CalibrationLedgerError,
        CompletionTokensMissingError,
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
        NoSuchEntryError,
        NoSuchRuleError,
        NotALedgerError,
        NotFiniteError,
        NotRecordedError,
        OutcomeUnknownError,
        ReentrantCallError,
        RemovedParameterError,
        RequestConflictError,
        StoredRuleError,
        UnknownRuleError,
    )

_HOMES = {
    "AdaptiveCalibrator": "calibrator",
    "Call": "core.values",
    "CostPrediction": "core.values",
    "DEFAULT_ALPHA": "core.values",
    "Finding": "core.values",
    "Head": "core.values",
    "ModelCalibration": "core.values",
    "Prior": "core.priors",
    "Replay": "core.values",
    "Score": "core.values",
    "Suggestion": "core.values",
    "Sweep": "core.values",
    "Voiding": "core.values",
    "default_prior": "core.priors",
    "CalibrationLedgerError": "errors",
    "CompletionTokensMissingError": "errors",
    "ExportFailedError": "errors",
    "ImportRefusedError": "errors",
    "InvalidInputError": "errors",
    "HistoryArchivedError": "errors",
    "LedgerBusyError": "errors",
    "LedgerClosedError": "errors",
    "LedgerCorruptError": "errors",
    "LedgerError": "errors",
    "LedgerNotFoundError": "errors",
    "LedgerOutdatedError": "errors",
    "LedgerPathError": "errors",
    "LedgerPermissionError": "errors",
    "LedgerReplacedError": "errors",
    "LedgerRevisionError": "errors",
    "LedgerTooNewError": "errors",
    "MigrationsNotFoundError": "errors",
    "ModelNotFoundError": "errors",
    "NoSuchEntryError": "errors",
    "NoSuchRuleError": "errors",
    "NotALedgerError": "errors",
    "NotFiniteError": "errors",
    "NotRecordedError": "errors",
    "OutcomeUnknownError": "errors",
    "ReentrantCallError": "errors",
    "RemovedParameterError": "errors",
    "RequestConflictError": "errors",
    "StoredRuleError": "errors",
    "UnknownRuleError": "errors",
}

__all__ = [
    "DEFAULT_ALPHA",
    "AdaptiveCalibrator",
    "CalibrationLedgerError",
    "Call",
    "CompletionTokensMissingError",
    "CostPrediction",
    "ExportFailedError",
    "Finding",
    "Head",
    "HistoryArchivedError",
    "ImportRefusedError",
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
    "MigrationsNotFoundError",
    "ModelCalibration",
    "ModelNotFoundError",
    "NoSuchEntryError",
    "NoSuchRuleError",
    "NotALedgerError",
    "NotFiniteError",
    "NotRecordedError",
    "OutcomeUnknownError",
    "Prior",
    "ReentrantCallError",
    "RemovedParameterError",
    "Replay",
    "RequestConflictError",
    "Score",
    "StoredRuleError",
    "Suggestion",
    "Sweep",
    "UnknownRuleError",
    "Voiding",
    "__version__",
    "default_prior",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for.

    SQLAlchemy takes five times as long to import as click; `calib --help` needs neither it nor
    anything else of the library.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
