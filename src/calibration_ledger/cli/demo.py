"""`calib demo`: the packaged sample in a ledger of its own, looked at from all sides.

The sample was measured, so the figures are what it gives, flattering or not. Every learnt
prediction in them was made before the ledger knew the call that it is compared with.
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

from calibration_ledger.cli import text
from calibration_ledger.cli.main import EXIT_FINDINGS
from calibration_ledger.cli.options import FilePath, examples, json_option
from calibration_ledger.cli.output import heading, print_json, print_table, say
from calibration_ledger.cli.session import Session, adopting, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core.command import calib, quoted
from calibration_ledger.core.files import full_path
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.values import fields_of
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.rules import predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.values import Call, Finding, ImportReport, Suggestion

    Command = Callable[..., str]
    """`calib` with the program and perhaps the ledger filled in."""


SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
"""Measured calls; `data/README.md` says how, when and on what."""

ALPHAS = (0.005, 0.01, 0.05, 0.15, 0.5)
"""From very slow to very fast, with the default among them."""

WORTH_ADOPTING = 0.01
"""The part of the error that another alpha must save to be worth a mention."""


@dataclass(frozen=True)
class ModelTour:
    """One model's figures; errors are means of |actual - predicted| in ms.

    Attributes:
        model: its name.
        calls: how many it has; all figures are over all of them.
        mean_actual_ms: how long they took on average.
        prior_error_ms: the error of its prior.
        learnt_error_ms: the error of the ledger's predictions.
        example: a typical call: both errors, its prior's and the ledger's, are near their medians.
        example_prior_ms: what the prior predicts for that one.
        live_alpha: the alpha that it learns with.
        errors_ms: the error by alpha.
    """

    model: str
    calls: int
    mean_actual_ms: float
    prior_error_ms: float
    learnt_error_ms: float
    example: Call
    example_prior_ms: float
    live_alpha: float
    errors_ms: dict[float, float]

    @property
    def best_alpha(self) -> float:
        """The alpha that would have predicted best."""
        return min(self.errors_ms, key=lambda alpha: self.errors_ms[alpha])

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the best alpha, as JSON can hold them; the example with its prior's."""
        told = fields_of(self)
        told["example"]["prior_ms"] = told.pop("example_prior_ms")
        told["errors_ms"] = {f"{alpha:g}": error for alpha, error in self.errors_ms.items()}
        return {**told, "best_alpha": self.best_alpha}


@dataclass(frozen=True)
class Tour:
    """All that the demo shows."""

    ledger: str
    report: ImportReport
    models: Sequence[ModelTour]
    entries: int
    findings: Sequence[Finding]
    better: Sequence[Suggestion]
    """Where another rule or alpha would have predicted clearly better."""


def take_tour(calibrator: AdaptiveCalibrator) -> Tour:
    """Load the sample into an empty ledger, and look at it from all sides."""
    with as_file(SAMPLE) as path:
        report = calibrator.import_calls("csv", path)
    replays: dict[str, dict[float, float]] = {}
    for alpha in ALPHAS:
        for replay in calibrator.replay(alpha):
            replays.setdefault(replay.model, {})[alpha] = replay.mean_absolute_error_ms
    heads = calibrator.heads()
    models = [_model_tour(calibrator, head.model, replays[head.model]) for head in heads]
    entries = sum(head.seq for head in heads)
    return Tour(
        calibrator.ledger, report, models, entries, calibrator.audit(), calibrator.suggest()
    )


def _model_tour(
    calibrator: AdaptiveCalibrator, model: str, errors_ms: dict[float, float]
) -> ModelTour:
    calls = list(calibrator.calls(model))
    example = _typical(calls)
    return ModelTour(
        model=model,
        calls=len(calls),
        mean_actual_ms=statistics.fmean(call.actual_ms for call in calls),
        prior_error_ms=statistics.fmean(map(_prior_error_ms, calls)),
        learnt_error_ms=statistics.fmean(map(_error_ms, calls)),
        example=example,
        example_prior_ms=_prior_ms(example),
        live_alpha=calibrator.calibration(model).alpha,
        errors_ms=errors_ms,
    )


def _typical(calls: Sequence[Call]) -> Call:
    """The call whose place among all, by either error, is nearest to the middle."""
    middle = (len(calls) - 1) / 2
    farthest = dict.fromkeys((call.seq for call in calls), 0.0)
    for error_ms in (_error_ms, _prior_error_ms):
        for place, call in enumerate(sorted(calls, key=error_ms)):
            farthest[call.seq] = max(farthest[call.seq], abs(place - middle))
    return min(calls, key=lambda call: farthest[call.seq])


def _error_ms(call: Call) -> float:
    """How far off the ledger's prediction was."""
    assert call.predicted_ms is not None  # noqa: S101 - it was recorded
    return abs(call.actual_ms - call.predicted_ms)


def _prior_error_ms(call: Call) -> float:
    return abs(call.actual_ms - _prior_ms(call))


def _prior_ms(call: Call) -> float:
    """What would have been predicted if nothing had ever been learnt."""
    return predict_ms(default_prior(call.model), call.prompt_tokens, call.completion_tokens)


# -- the command and its output -------------------------------------------------------------


@click.command(epilog=examples("calib demo", "calib demo --at demo.db"))
@click.option(
    "--at",
    type=FilePath(readable=False, path_type=Path),
    metavar="PATH",
    help="Where to put the demo's ledger, a new file. Default: in a temporary folder.",
)
@json_option
@click.pass_context
@pass_session
def demo(session: Session, ctx: click.Context, at: Path | None, *, as_json: bool) -> None:
    """Try everything on measured calls, in a ledger of its own.

    Loads the packaged sample, compares predictions before and after learning with what was
    measured, replays under other alphas, and audits. Your own ledger is not touched; the demo's
    stays for you to experiment with.
    """
    if session.ledger is not None:
        raise click.UsageError("the demo uses a ledger of its own: name its place with --at PATH.")
    path = _place(at)
    with Session(str(path)).writing() as calibrator:
        tour = take_tour(calibrator)
    if as_json:
        print_json(_dict(tour, partial(calib, ledger=str(path), program=program())))
    else:
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


def better_alphas(models: Sequence[ModelTour], command: Command) -> list[str]:
    """The commands that adopt a better alpha, for each model that has one."""
    return [
        command(*adopting(one.best_alpha), names=[one.model])
        for one in models
        if _gain(one) >= WORTH_ADOPTING
    ]


def trying(tour: Tour, command: Command) -> list[str]:
    """Some commands to try next."""
    model = [tour.models[0].model]
    tokens = ("--prompt-tokens", "64", "--completion-tokens", "8")
    return [
        command("stats"),
        command("predict", *tokens, names=model),
        command("history", "--last", "5", names=model),
        command("replay", "--alpha", "0.05"),
        command("sweep", names=model),
    ]


def _gain(model: ModelTour) -> float:
    """The part of the live error that the best alpha would have saved."""
    live = model.errors_ms[model.live_alpha]
    return (live - model.errors_ms[model.best_alpha]) / live if live else 0.0


def _dict(tour: Tour, command: Command) -> dict[str, object]:
    return {
        "ledger": tour.ledger,
        "import": tour.report,
        "models": tour.models,
        "entries": tour.entries,
        "findings": tour.findings,
        "better": tour.better,
        "adopt": better_alphas(tour.models, command),
        "next": trying(tour, command),
    }


def _show(tour: Tour) -> None:
    calls = text.count(tour.report.recorded, "measured call")
    models = text.count(tour.report.models, "model")
    say(f"Recorded {calls} of {models}. Each is predicted, then learnt.")
    heading("Before and after learning: mean error over all calls of a model")
    print_table(
        columns("calls", "mean latency", "prior's error", "ledger's", "change"),
        map(_error_row, tour.models),
    )
    heading("A typical call of each: both errors are near their medians")
    print_table(
        columns("prompt", "compl", "measured", "prior said", "ledger said"),
        map(_example_row, tour.models),
    )
    live = tour.models[0].live_alpha
    heading(f"Replayed under other alphas: mean error in ms (live: {live:g})")
    alphas = [f"{alpha:g}" for alpha in tour.models[0].errors_ms]
    print_table(columns("prior", *alphas, "best", "saves"), map(_alpha_row, tour.models))
    if any(one.learnt_error_ms > one.prior_error_ms for one in tour.models):
        say("Where learning did worse than the prior, it followed single calls too closely:")
        say("a smaller alpha follows them less.")
    heading("Audit: does the history explain the calibrations, to the last bit?")
    for finding in tour.findings:
        say(str(finding))
    if not tour.findings:
        say(f"ok: {models}, {text.count(tour.entries, 'entry', 'entries')}")
    _show_next(tour)


def _show_next(tour: Tour) -> None:
    command = partial(calib, program=program())
    heading("The ledger stays: go on in it")
    say(f"  export CALIBRATION_LEDGER={quoted(tour.ledger)}")
    for one in trying(tour, command):
        say(f"  {one}")
    commands = better_alphas(tour.models, command)
    if commands:
        heading("Adopt what would have predicted better")
        for one in commands:
            say(f"  {one}")
    if tour.better:
        models = text.count(len(tour.better), "model")
        say(f"Another rule would have done clearly better on {models}. Each its own best:")
        say(f"  {command('recalibrate', '--best', '--yes')}")


def columns(*titles: str) -> list[Column]:
    """The model, and a column for each title."""
    return [MODEL, *map(Column, titles)]


def _example_row(one: ModelTour) -> list[str | Cell]:
    call = one.example
    return [
        one.model,
        str(call.prompt_tokens),
        str(call.completion_tokens),
        _ms(call.actual_ms),
        _ms(one.example_prior_ms),
        _ms(call.predicted_ms),
    ]


def _error_row(one: ModelTour) -> list[str | Cell]:
    change = 100 * (one.learnt_error_ms - one.prior_error_ms) / one.prior_error_ms
    return [
        one.model,
        str(one.calls),
        _ms(one.mean_actual_ms),
        _ms(one.prior_error_ms),
        _ms(one.learnt_error_ms),
        Cell(text.signed_percent(change), "good" if change < 0 else "bad"),
    ]


def _alpha_row(one: ModelTour) -> list[str | Cell]:
    errors: list[str | Cell] = [
        Cell(text.number(error, 0), "good" if alpha == one.best_alpha else "")
        for alpha, error in one.errors_ms.items()
    ]
    gain = _gain(one)
    saves = text.percent(100 * gain) if gain >= WORTH_ADOPTING else "-"
    prior = text.number(one.prior_error_ms, 0)
    return [one.model, prior, *errors, f"{one.best_alpha:g}", saves]


def _ms(value: float | None) -> str:
    return f"{text.number(value, 0)} ms"
