"""Prometheus: what a ledger knows of its models, for a program's own registry or as text.

    REGISTRY.register(LedgerCollector(calibrator))

A scrape reads the newest calls of each model, never a whole history. All of it is read before the
first figure is given, so that a scrape is whole or says that the ledger could not be read.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from calibration_ledger.core.drift import LEAST_CALLS
from calibration_ledger.core.validation import check_path
from calibration_ledger.errors import ExportFailedError, LedgerCorruptError, NotFiniteError
from calibration_ledger.formats.source import shown_name
from calibration_ledger.formats.target import check_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.values import ModelStats

PREFIX = "calibration_ledger_"
LEVELS = (0.5, 0.9, 0.95, 0.99)
"""The levels of the forecasts. Their label is `level`: Prometheus keeps `quantile` for what it
calls a summary."""

_OF_MODEL = {"reset", "recalibrated", "voided", "imported"}
"""The kinds of a log's entries that have numbers among a model's calls."""


class _Known(NamedTuple):
    """What is known of one model."""

    stats: ModelStats
    rule: str
    alpha: float
    entries: int
    calls: int
    forecast: Forecast | None
    drift_at: datetime | None


class _Figure(NamedTuple):
    """A figure of each model; where it has none, there is no sample."""

    name: str
    help: str
    read: Callable[[_Known], float | None]
    is_counter: bool = False


def _drift(known: _Known) -> float | None:
    if known.forecast is None or known.stats["sample_count"] < LEAST_CALLS:
        return None
    drift = known.forecast.drift
    return 1.0 if drift is None else drift.factor


def _seconds(name: str) -> Callable[[_Known], float | None]:
    def read(known: _Known) -> float | None:
        ms: Any = known.stats.get(name)
        return None if ms is None else ms / 1000.0

    return read


def _median_error(known: _Known) -> float | None:
    percent = known.stats.get("median_absolute_percentage_error")
    return None if percent is None else percent / 100.0


FIGURES = (
    _Figure(
        "entries", "The number of the newest entry.", lambda known: known.entries, is_counter=True
    ),
    _Figure(
        "calls",
        "Calls that were recorded, time-outs and voided ones included.",
        lambda known: known.calls,
        is_counter=True,
    ),
    _Figure(
        "learnt_calls",
        "Calls that the calibration was learnt from, since the model was opened or reset.",
        lambda known: known.stats["sample_count"],
    ),
    _Figure(
        "timeouts",
        "Calls that were given up, since the model was opened or reset.",
        lambda known: known.stats.get("timeouts") or 0,
    ),
    _Figure(
        "last_call_timestamp_seconds",
        "When the last call that was learnt was made.",
        lambda known: known.stats.get("last_updated"),
    ),
    _Figure(
        "latency_mean_seconds",
        "The mean latency of the newest 100 calls.",
        _seconds("mean_actual_ms"),
    ),
    _Figure(
        "absolute_error_mean_seconds",
        "The mean of |actual - predicted| of the learnt calls, before each was learnt.",
        _seconds("mean_absolute_error_ms"),
    ),
    _Figure(
        "absolute_error_median_ratio",
        "Half of the newest 100 calls took at most this share more or less than predicted.",
        _median_error,
    ),
    _Figure(
        "drift_ratio",
        "How many times as long the newest calls take as those before; 1 without drift.",
        _drift,
    ),
    _Figure(
        "drift_start_timestamp_seconds",
        "When the first call after the drift was made; only while there is drift.",
        lambda known: None if known.drift_at is None else known.drift_at.timestamp(),
    ),
    _Figure(
        "forecast_prompt_tokens",
        "The prompt of the call that is forecast: the median of the newest calls.",
        lambda known: None if known.forecast is None else known.forecast.prompt_tokens,
    ),
)


class LedgerCollector(Collector):
    """Gives what the ledger knows of its models at each scrape; see `docs/look.md`.

    It never fails: where the ledger cannot be read, `calibration_ledger_up` is 0, and there is
    nothing else of it.
    """

    def __init__(self, calibrator: AdaptiveCalibrator, models: Iterable[str] | None = None) -> None:
        """Read here.

        Args:
            calibrator: a calibrator, which stays open as long as there are scrapes.
            models: only these; None: all of the ledger.
        """
        self._calibrator = calibrator
        self._models = None if models is None else list(models)

    def collect(self) -> Iterator[Any]:
        """The figures of now."""
        try:
            known, unread = read(self._calibrator, self._models)
        except Exception:  # noqa: BLE001 - the program's other figures must not be lost with ours
            yield _up(0)
            return
        yield from families(known, unread)

    def describe(self) -> Iterator[Any]:
        """The names, so that to register it reads nothing."""
        yield from families([], 0)


def metrics(
    calibrator: AdaptiveCalibrator,
    models: Iterable[str] | None = None,
    *,
    openmetrics: bool = False,
) -> str:
    """What the ledger knows of its models, as `calib metrics` prints it.

    Args:
        calibrator: a calibrator.
        models: only these; None: all of the ledger.
        openmetrics: in the format of OpenMetrics, instead of Prometheus' own.

    Raises:
        LedgerNotFoundError: there is no ledger yet.
        ModelNotFoundError: the ledger has no entry of one of the models.
        LedgerError: the ledger cannot be read.
    """
    registry = CollectorRegistry()
    registry.register(_Read(*read(calibrator, models)))
    generate = generate_openmetrics if openmetrics else generate_latest
    return generate(registry).decode()


def samples(
    calibrator: AdaptiveCalibrator, models: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """The same one by one, as `calib metrics --json` prints it: `metric`, its labels, `value`.

    Raises what `metrics` raises.
    """
    return [
        {"metric": sample.name, **sample.labels, "value": sample.value}
        for family in families(*read(calibrator, models))
        for sample in family.samples
    ]


def write_metrics(
    calibrator: AdaptiveCalibrator,
    output: str | os.PathLike[str],
    models: Iterable[str] | None = None,
    *,
    openmetrics: bool = False,
) -> Path:
    """Write to a file what `metrics` gives; for a textfile collector. Gives its path.

    The file is replaced as a whole, and only by one that is complete. Unlike other files that are
    made of a ledger, it is as readable as any new file of this user: other users' programs collect
    it, and it holds no calls.

    Raises:
        InvalidInputError: the path is the ledger's, or leads nowhere.
        ExportFailedError: it cannot be written; the file that was there stays.

    And what `metrics` raises.
    """
    path = check_path("output", output)
    check_target(path, Path(calibrator.ledger), overwrite=True)
    text = metrics(calibrator, models, openmetrics=openmetrics)
    # Of a name of its own: what a killed one left behind is in nobody's way, nor collected.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{get_ident()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ExportFailedError(
            f"{shown_name(path)} could not be written ({error.strerror or error}): what was there "
            f"stays. Make room, or name another place."
        ) from error
    return path


class _Read(Collector):
    """What was read already."""

    def __init__(self, known: Sequence[_Known], unread: int) -> None:
        self._found = known, unread

    def collect(self) -> Iterator[Any]:
        yield from families(*self._found)


# -- what is read -----------------------------------------------------------------------------


def read(calibrator: AdaptiveCalibrator, models: Iterable[str] | None) -> tuple[list[_Known], int]:
    """What is known of each model, and of how many the newest calls could not be read."""
    calibrator.check_exists()
    if models is None:
        stats = calibrator.all_stats(uncalibrated=True, rounded=False)
    else:
        names = sorted(set(models))
        for name in names:
            calibrator.check_exists(name)
        # Several names may stand for one model.
        found = (calibrator.get_stats(name, rounded=False) for name in names)
        stats = [*{one["model"]: one for one in found}.values()]
    seqs = {head.model: head.seq for head in calibrator.heads()}
    begun = {head.model: head.seq for head in calibrator.archived()}
    adjusted = Counter(
        entry.model
        for entry in calibrator.log()
        if entry.kind in _OF_MODEL and entry.seq > begun.get(entry.model or "", 1)
    )
    known, unread = [], 0
    for one in stats:
        model = one["model"]
        entries = seqs.get(model, 0)  # opened since the heads were read
        calls = max(0, entries - 1 - adjusted[model])
        calibration = calibrator.calibration(model)
        forecast = drift_at = None
        try:
            if one["sample_count"]:
                forecast = _typical(calibrator, model)
            if forecast is not None and forecast.drift is not None:
                drift_at = calibrator.drift(model)[0].first_at
        except (LedgerCorruptError, NotFiniteError):
            unread += 1  # what was learnt is still there, and so are the other models
        known.append(
            _Known(one, calibration.rule, calibration.alpha, entries, calls, forecast, drift_at)
        )
    return known, unread


def _typical(calibrator: AdaptiveCalibrator, model: str) -> Forecast | None:
    """The forecast of a call of the usual prompt length."""
    prompt = calibrator.forecast(model, 0).basis.middle_prompt
    return None if prompt is None else calibrator.forecast(model, prompt)


# -- what is given ----------------------------------------------------------------------------


def families(known: Sequence[_Known], unread: int) -> Iterator[Any]:
    """The figures of models, whole, in the order of `FIGURES`."""
    yield _up(1)
    yield GaugeMetricFamily(
        f"{PREFIX}unreadable_models",
        "Models whose newest calls could not be read: `calib audit` says why.",
        unread,
    )
    info = InfoMetricFamily(f"{PREFIX}model", "The learning rule of a model.", labels=["model"])
    for one in known:
        info.add_metric([one.stats["model"]], {"rule": one.rule, "alpha": f"{one.alpha:g}"})
    yield info
    for figure in FIGURES:
        kind = CounterMetricFamily if figure.is_counter else GaugeMetricFamily
        family = kind(PREFIX + figure.name, figure.help, labels=["model"])
        for one in known:
            value = figure.read(one)
            if value is not None:
                family.add_metric([one.stats["model"]], value)
        yield family
    forecasts = GaugeMetricFamily(
        f"{PREFIX}forecast_seconds",
        "The time that a call of the usual prompt does not exceed with the chance `level`.",
        labels=["model", "level"],
    )
    for one in known:
        if one.forecast is not None:
            for level in LEVELS:
                seconds = one.forecast.quantile(level) / 1000.0
                forecasts.add_metric([one.stats["model"], f"{level:g}"], seconds)
    yield forecasts


def _up(value: int) -> Any:
    return GaugeMetricFamily(f"{PREFIX}up", "Whether the ledger could be read.", value)
