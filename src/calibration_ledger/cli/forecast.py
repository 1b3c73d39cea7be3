"""`calib forecast`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import (
    coming_options,
    examples,
    format_option,
    model_argument,
)
from calibration_ledger.cli.output import print_data, print_facts, say
from calibration_ledger.cli.prediction import expectation, note_unknown, standing
from calibration_ledger.cli.prompt import prompt_of
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.core import text
from calibration_ledger.core.values import json_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.forecast import Forecast, Remaining

WIDTH = 80
"""The width at which the explanation is wrapped."""


@click.command(
    epilog=examples(
        "calib forecast llama3:8b -p 512",
        "calib forecast llama3:8b --text prompt.txt --max-tokens 300",
        "calib forecast llama3:8b -p 512 --elapsed 2500",
        "calib forecast m -p 512 --elapsed 2500 --tokens-so-far 60 --ttft-ms 180",
        "calib forecast llama3:8b -p 512 --ttft --json",
    )
)
@model_argument(required=True)
@coming_options
@click.option("--ttft", is_flag=True, help="Forecast the time to the first token instead.")
@click.option(
    "--as-of",
    type=zone.time_of,
    metavar="TIME",
    help="Forecast as it would have been then: 1h ago, yesterday, 2026-11-24, or a time.",
)
@click.option("--elapsed", type=click.FLOAT, metavar="MS", help="The call has run for so long.")
@click.option("--tokens-so-far", type=click.INT, help="The tokens that came, with --elapsed.")
@click.option("--ttft-ms", type=click.FLOAT, help="When the first came, with --tokens-so-far.")
@format_option
@pass_session
def forecast(
    session: Session,
    *,
    model: str,
    prompt_tokens: int | None,
    text: str | None,
    completion_tokens: int | None,
    max_tokens: int | None,
    ttft: bool,
    as_of: datetime | None,
    elapsed: float | None,
    tokens_so_far: int | None,
    ttft_ms: float | None,
    form: Form,
) -> None:
    """Forecast how long a call may take, with honest ranges.

    It rests on the newest 150 calls of the model: how long such calls are predicted to take, and
    how far each of those was off. Where you do not know how many tokens will come out, it takes
    the lengths that they had. `calib predict` has the number of the calibration itself.

    With --elapsed, it says how much longer a call takes that is running. The tokens that came so
    far, and when the first came, tell its pace. --ttft rests on the calls whose details hold
    ttft_ms.

    The range of 9 in 10 ends with the longest call that was seen at the latest. "95 % within" and
    "99 % within" are what `calib timeout` prints: beyond that call, they leave room for a longer
    one. So with few calls, 95 % may be beyond the range.

    A model without calls is forecast from its prior, and its status says `no history`.
    """
    given = {"--completion-tokens": completion_tokens, "--max-tokens": max_tokens}
    check_options(given, tokens_so_far, ttft_ms, elapsed, ttft=ttft)
    prompt = prompt_of(session, prompt_tokens, text)
    with session.writing() as calibrator:
        if ttft:
            found = calibrator.forecast_ttft(model, prompt.tokens, as_of=as_of)
        else:
            found = calibrator.forecast(
                model, prompt.tokens, completion_tokens, max_tokens=max_tokens, as_of=as_of
            )
        left = None if elapsed is None else found.remaining(elapsed, tokens_so_far, ttft_ms)
        note_unknown(calibrator, model)
    more = {"counted_by": prompt.counted_by, "as_of": as_of, "remaining": left}
    if not print_data(
        form, {**found.to_dict(), **more}, of={**json_types(type(found)), **dict.fromkeys(more)}
    ):
        show(found, left, as_of)


def check_options(
    given: dict[str, int | None],
    tokens_so_far: int | None,
    ttft_ms: float | None,
    elapsed: float | None,
    *,
    ttft: bool,
) -> None:
    """Refuse options of which one would be ignored beside the others."""
    if (tokens_so_far is None) != (ttft_ms is None) or (ttft_ms is not None and elapsed is None):
        raise click.UsageError("--tokens-so-far and --ttft-ms go together, and with --elapsed.")
    if tokens_so_far is not None:
        if ttft:
            raise click.UsageError("once the first token came, --ttft has nothing to forecast.")
        if given["--completion-tokens"] is not None:
            raise click.UsageError(
                "the pace so far is of use where the completion is not known: leave out "
                "--completion-tokens, or --tokens-so-far and --ttft-ms."
            )
    for option, value in given.items():
        if ttft and value is not None:
            raise click.UsageError(f"{option} tells nothing about the first token (--ttft).")


def show(found: Forecast, left: Remaining | None, as_of: datetime | None) -> None:
    """Print a forecast for people: what to expect first, then what it rests on."""
    say(f"{found.model}: {headline(found, left)}")
    print_facts(_rows(found, left, as_of), WIDTH)


def headline(found: Forecast, left: Remaining | None) -> str:
    """What to expect, in one sentence."""
    if left is None:
        return expectation(found)
    what = "come after" if found.is_ttft else "take"
    return (
        f"after {text.duration(left.elapsed_ms)}, 9 of 10 {what} "
        f"{text.span(*left.interval(0.9))} more"
    )


def _rows(
    found: Forecast, left: Remaining | None, as_of: datetime | None
) -> Iterator[tuple[str, str]]:
    yield from _figures(found if left is None else left)
    yield "prompt", text.count(found.prompt_tokens, "token")
    if not found.is_ttft:
        yield "completion", completion_of(found)
    yield "status", standing(found)
    if found.newest is not None:
        now = datetime.now(UTC) if as_of is None else as_of
        yield "newest call", text.age((now - found.newest).total_seconds())
    yield "rests on", found.explain()


def _figures(of: Forecast | Remaining) -> Iterator[tuple[str, str]]:
    """The times to expect; of two that look the same, the one that says more."""
    half, most, nearly_all, mean = map(
        text.duration, (of.median_ms, of.timeout_ms(0.95), of.timeout_ms(0.99), of.mean_ms)
    )
    yield "half within", half
    if most != nearly_all:
        yield "95 % within", most
    yield "99 % within", nearly_all
    if mean != half:
        yield "mean", mean


def completion_of(found: Forecast) -> str:
    """The completion length that was given or assumed."""
    assumed = found.completion_tokens
    usual = text.count(assumed.median, "token")
    most = "" if found.max_tokens is None else f", at most {found.max_tokens}"
    if assumed.is_given:
        return f"{usual}, as given{most}"
    if not found.n:
        return f"{usual}, assumed{most}"
    low, high = assumed.interval(0.9)
    spread = "" if low == high else f", 9 of 10 have {low:.0f} to {high:.0f}"
    return f"typically {usual}{spread}{most}"
