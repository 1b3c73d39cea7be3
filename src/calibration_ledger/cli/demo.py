"""`calib demo`: the packaged sample in a ledger of its own, looked at from all sides.

The sample was measured, so the figures are what it gives, flattering or not. Every forecast in them
was made before the ledger knew the call that it is compared with.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.main import EXIT_FINDINGS
from calibration_ledger.cli.options import FilePath, examples, format_option
from calibration_ledger.cli.output import heading, print_data, print_table, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.command import calib, quoted
from calibration_ledger.core.files import full_path
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.values import ImportReport, fields_of
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.rules import predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.coverage import ForecastReplay
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.values import Call, Finding, Replay, Sweep

    Command = Callable[..., str]
    """`calib` with the program and perhaps the ledger filled in."""


SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
"""Measured calls; `data/README.md` says how, when and on what."""

ALPHAS = (0.005, 0.01, 0.05, 0.15, 0.5)
"""From very slow to very fast, with the default among them."""


@dataclass(frozen=True)
class ModelTour:
    """One model's figures; errors are means of |actual - predicted| in ms.

    Attributes:
        model: its name.
        calls: how many it has.
        mean_actual_ms: how long they took on average.
        newest: the newest of them.
        forecast: how long that might take, by the calls before it.
        told: the same, told how many tokens come out.
        ranges: how often the ranges of such forecasts held over all calls.
        prior_error_ms: the error of its prior, over all calls.
        live_alpha: the alpha that it learnt with.
        errors_ms: the error by alpha.
        sweep: which rule and alpha would have predicted best.
    """

    model: str
    calls: int
    mean_actual_ms: float
    newest: Call
    forecast: Forecast
    told: Forecast
    ranges: ForecastReplay
    prior_error_ms: float
    live_alpha: float
    errors_ms: dict[float, float]
    sweep: Sweep

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        errors = {f"{alpha:g}": error for alpha, error in self.errors_ms.items()}
        return {**fields_of(self), "errors_ms": errors}


@dataclass(frozen=True)
class Tour:
    """All that the demo shows."""

    ledger: str
    report: ImportReport
    models: Sequence[ModelTour]
    adopted: Sequence[Replay]
    """The replays that the models adopted: those of the rule and alpha that is clearly better."""
    entries: int
    findings: Sequence[Finding]


def take_tour(calibrator: AdaptiveCalibrator) -> Tour:
    """Load the sample into an empty ledger, and look at it from all sides."""
    with as_file(SAMPLE) as path:
        report = calibrator.import_calls("csv", path)
    replays: dict[str, dict[float, float]] = {}
    for alpha in ALPHAS:
        for replay in calibrator.replay(alpha):
            replays.setdefault(replay.model, {})[alpha] = replay.mean_absolute_error_ms
    sweeps = calibrator.sweep()
    ranges = {one.model: one for one in calibrator.replay_forecasts()}
    models = [
        _model_tour(calibrator, one, replays[one.model], ranges[one.model])
        for one in sweeps
        if one.model is not None  # the last is of all models together
    ]
    adopted = calibrator.recalibrate(best=sweeps)
    entries = sum(head.seq for head in calibrator.heads())
    return Tour(calibrator.ledger, report, models, adopted, entries, calibrator.audit())


def _model_tour(
    calibrator: AdaptiveCalibrator,
    sweep: Sweep,
    errors_ms: dict[float, float],
    ranges: ForecastReplay,
) -> ModelTour:
    calls = list(calibrator.calls(ranges.model))
    newest = calls[-1]
    before = partial(
        calibrator.forecast, ranges.model, newest.prompt_tokens, as_of=newest.called_at
    )
    return ModelTour(
        model=ranges.model,
        calls=len(calls),
        mean_actual_ms=statistics.fmean(call.actual_ms for call in calls),
        newest=newest,
        forecast=before(),
        told=before(completion_tokens=newest.completion_tokens),
        ranges=ranges,
        prior_error_ms=statistics.fmean(map(_prior_error_ms, calls)),
        live_alpha=calibrator.calibration(ranges.model).alpha,
        errors_ms=errors_ms,
        sweep=sweep,
    )


def _prior_error_ms(call: Call) -> float:
    """How far off it would have been if nothing had ever been learnt."""
    prior = default_prior(call.model)
    return abs(call.actual_ms - predict_ms(prior, call.prompt_tokens, call.completion_tokens))


# -- the command and its output -------------------------------------------------------------


@click.command(epilog=examples("calib demo", "calib demo --at demo.db"))
@click.option(
    "--at",
    type=FilePath(readable=False, path_type=Path),
    metavar="PATH",
    help="Where to put the demo's ledger, a new file. Default: in a temporary folder.",
)
@format_option
@click.pass_context
@pass_session
def demo(session: Session, ctx: click.Context, at: Path | None, *, form: Form) -> None:
    """Try everything on measured calls, in a ledger of its own.

    Loads the packaged sample, shows forecasts beside what was measured and how often their ranges
    held, replays under other alphas, sweeps, adopts what is better, and audits. Your own ledger is
    not touched; the demo's stays for you to experiment with.
    """
    if session.ledger is not None:
        raise click.UsageError("the demo uses a ledger of its own: name its place with --at PATH.")
    path = _place(at)
    with Session(str(path)).writing() as calibrator:
        tour = take_tour(calibrator)
    document = _dict(tour, partial(calib, ledger=str(path), program=program()))
    of = {**dict.fromkeys(document), "import": ImportReport, "models": list[ModelTour]}
    if not print_data(form, document, lines="models", of=of):
        _show(tour)
    if tour.findings:
        ctx.exit(EXIT_FINDINGS)


def _place(at: Path | None) -> Path:
    if at is None:
        from tempfile import mkdtemp

        return Path(mkdtemp(prefix="calib-demo-")) / "demo.db"
    if os.path.lexists(at):
        raise InvalidInputError(f"{at} exists already: the demo only makes a ledger of its own.")
    return full_path(at)


def program() -> str:
    """How to start this program again: by its name if the shell finds it, else by its path."""
    called = sys.argv[0]
    if Path(called).stem != "calib" or not Path(called).exists():
        return "calib"
    found = shutil.which("calib")
    return "calib" if found is not None and Path(found).samefile(called) else called


def trying(tour: Tour, command: Command) -> list[str]:
    """Some commands to try next."""
    model = [tour.models[0].model]
    tokens = ("--prompt-tokens", "64")
    return [
        command("forecast", *tokens, names=model),
        command("timeout", *tokens, names=model),
        command("compare", *tokens),
        command("stats"),
        command("history", "--last", "5", names=model),
        command("replay", "--forecast"),
    ]


def _dict(tour: Tour, command: Command) -> dict[str, object]:
    return {
        "ledger": tour.ledger,
        "import": tour.report,
        "models": tour.models,
        "adopted": tour.adopted,
        "entries": tour.entries,
        "findings": tour.findings,
        "next": trying(tour, command),
    }


def _show(tour: Tour) -> None:
    calls = text.count(tour.report.recorded, "measured call")
    models = text.count(tour.report.models, "model")
    say(f"Recorded {calls} of {models}.")
    heading("The newest call of each: forecast before it was recorded, then measured")
    print_table(columns("prompt", *FORECAST), map(_forecast_row, tour.models))
    heading("The same, where it is known how many tokens come out")
    print_table(columns("prompt", "compl", *FORECAST), map(_told_row, tour.models))
    warm_up = tour.models[0].ranges.warm_up
    heading(f"How often the first ranges held, of all calls but each model's first {warm_up}")
    print_table(columns("calls", "50 %", "80 %", "90 %", "95 %"), map(_range_row, tour.models))
    live = tour.models[0].live_alpha
    heading(f"Replayed under other alphas: mean error in ms (live: {live:g})")
    alphas = [f"{alpha:g}" for alpha in ALPHAS]
    print_table(columns("mean latency", "prior", *alphas), map(_alpha_row, tour.models))
    heading("Swept: the rule and alpha that would have predicted best")
    print_table(columns("rule", "alpha", "mean error", "live error"), map(_sweep_row, tour.models))
    heading("Adopted, where that is clearly better")
    print_table(columns("rule", "alpha", "mean error"), map(_adopted_row, tour.adopted))
    heading("Audit: does the history explain the calibrations, to the last bit?")
    for finding in tour.findings:
        say(str(finding))
    if not tour.findings:
        say(f"ok: {models}, {text.count(tour.entries, 'entry', 'entries')}")
    heading("The ledger stays: go on in it")
    say(f"  export CALIBRATION_LEDGER={quoted(tour.ledger)}")
    for one in trying(tour, partial(calib, program=program())):
        say(f"  {one}")


FORECAST = ("forecast", "9 of 10 take", "measured")


def columns(*titles: str) -> list[Column]:
    """The model, and a column for each title."""
    return [MODEL, *map(Column, titles)]


def _forecast_row(one: ModelTour) -> list[str | Cell]:
    return [one.model, str(one.newest.prompt_tokens), *_held(one.forecast, one.newest)]


def _told_row(one: ModelTour) -> list[str | Cell]:
    tokens = (one.newest.prompt_tokens, one.newest.completion_tokens)
    return [one.model, *map(str, tokens), *_held(one.told, one.newest)]


def _held(forecast: Forecast, call: Call) -> list[str | Cell]:
    """A forecast beside what was measured."""
    low, high = forecast.interval(0.9)
    return [
        text.duration(forecast.median_ms),
        f"{text.duration(low)} to {text.duration(high)}",
        Cell(text.duration(call.actual_ms), "good" if low <= call.actual_ms <= high else "bad"),
    ]


def _range_row(one: ModelTour) -> list[str | Cell]:
    found = one.ranges.unknown
    held = (found.coverage_50, found.coverage_80, found.coverage_90, found.coverage_95)
    return [one.model, str(one.ranges.n), *(text.percent(100.0 * share) for share in held)]


def _alpha_row(one: ModelTour) -> list[str | Cell]:
    least = min(one.errors_ms.values())
    errors: list[str | Cell] = [
        Cell(text.number(error, 0), "good" if error == least else "")
        for error in one.errors_ms.values()
    ]
    prior = text.number(one.prior_error_ms, 0)
    return [one.model, _ms(one.mean_actual_ms), prior, *errors]


def _sweep_row(one: ModelTour) -> list[str | Cell]:
    best, live = one.sweep.winner, one.sweep.live
    assert best is not None  # noqa: S101 - every model of the sample has calls enough
    return [
        one.model,
        str(best.rule),
        f"{best.alpha:g}",
        _ms(best.mean_absolute_error_ms),
        _ms(live.mean_absolute_error_ms),
    ]


def _adopted_row(one: Replay) -> list[str | Cell]:
    return [one.model, one.rule, f"{one.alpha:g}", _ms(one.mean_absolute_error_ms)]


def _ms(value: float) -> str:
    return f"{text.number(value, 0)} ms"
