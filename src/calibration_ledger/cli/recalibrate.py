"""`calib recalibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.options import examples, format_option, model_argument, rule_options
from calibration_ledger.cli.output import (
    confirm,
    is_for_people,
    note,
    print_data,
    print_table,
    progress,
)
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.values import ModelCalibration, Replay, json_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Sweep
    from calibration_ledger.rules import RuleName

COLUMNS = (
    MODEL,
    Column("calls", spare=3),
    Column("rule before", left=True, spare=1),
    Column("alpha before", spare=4),
    Column("error before ms"),
    Column("rule", left=True, spare=2),
    Column("alpha"),
    Column("mean error ms"),
)


@click.command(
    epilog=examples(
        "calib recalibrate llama3:8b --alpha 0.3",
        "calib recalibrate --alpha 0.05 --yes",
        "calib recalibrate llama3:8b --best --dry-run",
    )
)
@model_argument()
@rule_options
@click.option(
    "--best", is_flag=True, help="Adopt what `calib sweep` ranks first, where clearly better."
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@format_option
@pass_session
def recalibrate(
    session: Session,
    model: str | None,
    *,
    alpha: float | None,
    rule: RuleName | None,
    best: bool,
    dry_run: bool,
    yes: bool,
    form: Form,
) -> None:
    """Adopt an alpha or rule by replaying the history.

    The live calibration is rebuilt from the whole history under that alpha or rule, and recorded
    as an adjustment. Predictions change, calls do not. With --best, each model adopts what a sweep
    of all rules (or of --rule) ranks first, if that is clearly better than its live one, and not
    by chance. Asks before it adopts the best or changes all models.
    """
    _check(alpha, rule, best=best)
    with session.existing() as calibrator:
        found = _swept(calibrator, model, rule) if best else []
        if is_for_people(form):
            _explain(found)
        names = [sweep.model for sweep in found if sweep.model is not None and sweep.better]
        if not best:
            models = [head.model for head in calibrator.heads() if head.is_of_model]
            names = [name for name in models if model in {None, name}]
        before = {name: calibrator.calibration(name) for name in names}
        work = entries(calibrator, before)
        if names and not dry_run and (best or model is None):
            _ask(calibrator, names, best=best, yes=yes)
        with progress("replaying", work) as done:
            results = calibrator.recalibrate(
                alpha, rule, model=model, best=best and found, dry_run=dry_run, progress=done
            )
    of = {**json_types(Replay), "before": ModelCalibration}
    if print_data(form, [_dict(one, before.get(one.model)) for one in results], of=of):
        pass
    elif results:
        print_table(COLUMNS, [_row(one, before.get(one.model)) for one in results])
    else:
        note(_nothing_adopted(found) if best else "no models to recalibrate yet.")
    if dry_run and results:
        note("nothing was changed (--dry-run).")


def _check(alpha: float | None, rule: RuleName | None, *, best: bool) -> None:
    if best and alpha is not None:
        raise click.UsageError("--best finds the alpha itself: leave --alpha out.")
    if not best and alpha is None and rule is None:
        raise click.UsageError("nothing to adopt: give --alpha, --rule or both, or --best.")


def _swept(calibrator: AdaptiveCalibrator, model: str | None, rule: RuleName | None) -> list[Sweep]:
    with progress("sweeping", entries(calibrator, model), times=20) as done:
        found = calibrator.sweep(rules=rule, model=model, progress=done)
    return [sweep for sweep in found if sweep.model is not None]


def _explain(found: Sequence[Sweep]) -> None:
    """Say what the sweeps found; the tables that follow count every call."""
    for sweep in found:
        if sweep.better is not None:
            calls = f"{text.count(sweep.better.n, 'call')} after the first {sweep.warm_up}"
            note(
                f"{sweep.model}: {sweep.better.rule}, alpha {sweep.better.alpha:g} errs "
                f"{text.number(sweep.better.mean_absolute_error_ms)} ms over the {calls}, the live "
                f"one {text.number(sweep.live.mean_absolute_error_ms)} ms"
            )


def _nothing_adopted(found: Sequence[Sweep]) -> str:
    if found and not any(sweep.is_enough for sweep in found):
        return (
            f"nothing to adopt: there are too few calls to say what is better (each model's first "
            f"{text.count(found[0].warm_up, 'call')} learnt but not scored)."
        )
    close = [sweep for sweep in found if sweep.is_close]
    if close:
        of = "" if len(found) == 1 else f" for {text.count(len(close), 'model')}"
        return (
            f"nothing to adopt: it is too close to tell{of} whether another rule or alpha would "
            f"have predicted better; the lead may be chance."
        )
    return "nothing to adopt: no rule and alpha would have predicted better than the live ones."


def _ask(calibrator: AdaptiveCalibrator, names: Sequence[str], *, best: bool, yes: bool) -> None:
    of = f"the model {names[0]}" if len(names) == 1 else text.count(len(names), "model")
    way_out = "give --yes" if best else "name one MODEL, or give --yes"
    confirm(f"recalibrate {of} in {calibrator.ledger}", way_out, yes=yes)


def _dict(adopted: Replay, before: ModelCalibration | None) -> dict[str, Any]:
    return {**adopted.to_dict(), "before": before}


def _row(adopted: Replay, before: ModelCalibration | None) -> list[str | Cell]:
    now = adopted.calibration
    return [
        adopted.model,
        str(now.sample_count),
        "-" if before is None else before.rule,
        "-" if before is None else f"{before.alpha:g}",
        text.number(None if before is None else before.mean_absolute_error_ms),
        now.rule,
        f"{now.alpha:g}",
        text.number(now.mean_absolute_error_ms),
    ]
