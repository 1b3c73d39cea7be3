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
        NotCopiableError,
        NotFiniteError,
        NotRecordedError,
        OutcomeUnknownError,
        ReentrantCallError,
        RemovedParameterError,
        RequestConflictError,
        StoredRuleError,
        UnknownRuleError,
    )

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
    "NotCopiableError",
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


_HOMES = {
    "AdaptiveCalibrator": "calibrator",
    "Prior": "core.priors",
    "default_prior": "core.priors",
}
"""Where a name lives that is neither an error nor one of `core.values`."""


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
