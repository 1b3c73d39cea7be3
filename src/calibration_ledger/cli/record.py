"""`calib record`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.options import (
    details_of,
    examples,
    format_option,
    key_and_value,
    model_argument,
    rule_options,
    time_with_zone,
    token_options,
)
from calibration_ledger.cli.output import note, print_data, say
from calibration_ledger.cli.prediction import describe, ground_of
from calibration_ledger.cli.session import Session, adopting, pass_session
from calibration_ledger.core import text
from calibration_ledger.errors import NotFiniteError

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Outcome, RecordedCall
    from calibration_ledger.rules import RuleName


@click.command(
    epilog=examples(
        "calib record llama3:8b --prompt-tokens 512 --completion-tokens 128 \\",
        "    --actual-ms 3400",
        "calib record llama3:8b --prompt-tokens 512 --actual-ms 900 \\",
        "    --called-at 2026-11-24T08:30:00Z --request-id r17 --detail ttft_ms=80.5",
    )
)
@model_argument(required=True)
@token_options
@click.option(
    "--actual-ms", type=click.FLOAT, required=True, help="The measured wall-clock time in ms."
)
@click.option(
    "--request-id", metavar="ID", help="Your id for this call: recording it again adds nothing."
)
@click.option(
    "--called-at",
    type=time_with_zone,
    metavar="TIME",
    help="When it was made: its start, such as 2026-11-24T08:30:00Z. Default: now.",
)
@click.option(
    "--detail",
    "details",
    type=key_and_value,
    multiple=True,
    callback=details_of,
    metavar="KEY=VALUE",
    help="What else was measured, such as ttft_ms=80.5. May be given several times.",
)
@click.option(
    "--outcome",
    type=click.Choice(["ok", "timeout"]),
    default="ok",
    show_default=True,
    help="`timeout`: it was given up after --actual-ms. It is kept, and no rule learns it.",
)
@click.option("--strict", is_flag=True, help="Refuse a call that looks wrong.")
@rule_options
@format_option
@pass_session
def record(
    session: Session,
    *,
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    actual_ms: float,
    request_id: str | None,
    called_at: datetime | None,
    details: dict[str, Any] | None,
    outcome: Outcome,
    strict: bool,
    alpha: float | None,
    rule: RuleName | None,
    form: Form,
) -> None:
    """Record an observed call and learn from it.

    The first record makes the ledger. --alpha and --rule apply only to a model that is new to the
    ledger (without them, `calib rule` says what it learns by); a model with history keeps its own
    until it is reset or recalibrated.

    A call looks wrong if it took 0 ms though it has tokens, more than 24 h, or more than 2,000
    times as long as any call of its model before, or if it was made in the future (by more than a
    minute). It is recorded with a warning that says how to void it, unless you give --strict.
    """
    from calibration_ledger.core.values import Call

    with session.writing(alpha, rule) as calibrator:
        recorded = calibrator.record_call(
            Call(
                model,
                prompt_tokens,
                completion_tokens,
                actual_ms,
                called_at,
                request_id,
                details,
                outcome=outcome,
            ),
            strict=strict,
        )
        try:
            prediction = calibrator.predict(model, prompt_tokens, completion_tokens)
            ground = ground_of(calibrator, prediction)
        except NotFiniteError as error:  # the call was recorded all the same
            prediction = None
            note(str(error))
        ignored = _ignored(session, calibrator, model, alpha, rule)
    call = {
        "model": model,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "actual_ms": actual_ms + 0.0,  # the ledger knows no -0.0 either
        "outcome": outcome,
        "error_ms": recorded.error_ms,
        "seq": recorded.seq,
        "added": recorded.is_new,
    }
    if not print_data(form, {**call, "prediction": prediction}):
        already = "" if recorded.is_new else "recorded already, nothing added: "
        say(f"{model}: {already}{_measured(actual_ms, recorded, outcome)}, entry {recorded.seq}")
        if prediction is not None:
            say(f"now predicts {describe(prediction)}")
            say(ground)
    if ignored is not None:
        note(ignored)


def _measured(actual_ms: float, recorded: RecordedCall, outcome: Outcome) -> str:
    actual, predicted = map(text.number, (actual_ms, actual_ms - recorded.error_ms))
    if outcome == "timeout":
        return f"given up after {actual} ms ({predicted} predicted), kept and not learnt"
    error = text.signed(recorded.error_ms)
    return f"error {error} ms ({actual} measured, {predicted} predicted)"


def _ignored(
    session: Session,
    calibrator: AdaptiveCalibrator,
    model: str,
    alpha: float | None,
    rule: RuleName | None,
) -> str | None:
    """What to say if --alpha or --rule was given for a model that keeps its own."""
    live = calibrator.calibration(model)
    is_alpha = alpha is None or calibrator.alpha == live.alpha
    if is_alpha and (rule is None or calibrator.rule == live.rule):
        return None
    adopt = session.command(*adopting(alpha, rule), names=[model])
    return (
        f"{model} has history and keeps its rule {live.rule} and alpha {live.alpha:g}: "
        f"`{adopt}` adopts what was asked for."
    )
