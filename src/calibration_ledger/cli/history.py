"""`calib history`."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.chart import chart_width, check_chart, print_chart
from calibration_ledger.cli.options import (
    chart_option,
    examples,
    format_option_of_lines,
    model_argument,
    window_options,
)
from calibration_ledger.cli.output import heading, note, print_live, print_result, reader_watched
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.course import Course
from calibration_ledger.core.validation import EPOCH
from calibration_ledger.core.values import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Head

NEWEST = 20
"""How many calls are shown by default: of all, or of each model with `--by-model`."""

LAST_DRAWN = 60
"""How many a chart of 80 columns has room for, a column each."""

COLUMNS = (
    Column("when", left=True, times=True, spare=5),
    MODEL,
    Column("seq"),
    Column("prompt", spare=2),
    Column("compl", spare=3),
    Column("actual ms"),
    Column("predicted ms", spare=1),
    Column("error ms", spare=4),
    Column("", left=True),
)


@click.command(
    epilog=examples(
        "calib history",
        "calib history llama3:8b --since 1h",
        "calib history --since yesterday --until today --by-model",
        "calib history llama3:8b --chart",
        "calib history --follow --json | jq .error_ms",
        "calib history --all --json > calls.jsonl",
    )
)
@model_argument()
@click.option("-n", "--limit", type=click.INT, metavar="N", help="The newest N calls of all.")
@click.option("--last", type=click.INT, metavar="N", help="Each model's newest N calls.")
@click.option("--all", "everything", is_flag=True, help="Every call.")
@click.option("--by-model", is_flag=True, help="Sort by model, then in the order of recording.")
@click.option(
    "-f",
    "--follow",
    "--tail",
    is_flag=True,
    help="Go on with each call that is recorded from now on, until Ctrl-C.",
)
@window_options
@chart_option
@format_option_of_lines
@pass_session
def history(
    session: Session,
    model: str | None,
    limit: int | None,
    last: int | None,
    *,
    everything: bool,
    by_model: bool,
    follow: bool,
    since: datetime | None,
    until: datetime | None,
    chart: bool,
    form: Form,
) -> None:
    """List the calls, the newest last.

    They are sorted by the time when they were made, over all models; with --by-model, by model,
    then in the order of recording. A time-out is a call that was given up: it would have taken at
    least as long. Without --limit, --last, --all, --since or --until: the newest 20 of all, or with
    --by-model of each model.

    With --chart: what was predicted beside what was measured, a chart for each model, of the calls
    that would be listed, or without --last, --all, --since or --until of the newest 60; voided
    ones are left out. The chart is for people, and goes with no other --format.

    A history of any length streams, in every format. --json gives JSON lines, a call each, which
    `calib import jsonl` reads, as `calib import csv` does those of --format csv.
    """
    is_default = since is None and until is None and not _chosen(limit, last, everything=everything)
    by_model = by_model or chart
    newest = LAST_DRAWN if chart else NEWEST
    if is_default:
        limit, last = (None, newest) if by_model else (newest, None)
    if chart:
        check_chart(form)
    if follow:
        _check_follow(form, until=until, by_model=by_model)
        since = EPOCH if everything and since is None else since
        _follow(session, model, form, {"since": since, "last": last, "limit": limit})
        return
    wanted: dict[str, Any] = {"since": since, "until": until, "last": last, "limit": limit}
    shown: Counter[str] = Counter()
    with session.existing() as calibrator:
        found = _counted(calibrator.calls(model, **wanted, by_time=not by_model), shown)
        if chart:
            _draw(found)
        else:
            print_result(form, found, zone.titled(COLUMNS, "when"), _row, of=Call)
        archived = [head for head in calibrator.archived() if model in {None, head.model}]
    if archived:
        note(_archived(archived, session))
    if not shown:
        note("no calls to show.")
    elif is_default and by_model and max(shown.values()) == newest:
        note(f"(at most the newest {newest} calls of each model are shown: --all shows every one)")
    elif is_default and not by_model and shown.total() == newest:
        note(f"(the newest {newest} calls are shown: --all shows every one)")


def _chosen(limit: int | None, last: int | None, *, everything: bool) -> bool:
    """Whether the user says how many calls are meant, in at most one way."""
    chosen = {"--limit": limit, "--last": last, "--all": everything or None}
    given = [name for name, value in chosen.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other: leave one out.")
    return bool(given)


def _draw(calls: Iterator[Call]) -> None:
    """Print a chart for each model."""
    courses: dict[str, Course] = {}
    for call in calls:
        courses.setdefault(call.model, Course()).add(call)
    for model, course in courses.items():
        heading(model)
        if course.voided:
            note(f"{model}: {text.count(course.voided, 'voided call')} left out.")
        if len(course):
            places = course.places(chart_width())
            print_chart(course.panel(places), _labels(course.times(places)))


def _labels(times: Sequence[datetime]) -> list[str]:
    """As much of each time as tells it from the others."""
    stretch = max(times) - min(times)
    of_a_day, of_an_hour = timedelta(days=1), timedelta(hours=1)
    form = "%m-%d" if stretch > of_a_day * 3 else "%H:%M" if stretch > of_an_hour else "%H:%M:%S"
    if stretch > of_a_day * 300:
        form = "%Y-%m-%d"
    return [f"{zone.here(at):{form}}" for at in times]


def _check_follow(form: Form, *, until: datetime | None, by_model: bool) -> None:
    if until is not None:
        raise click.UsageError("--follow goes on without an end: leave --until out.")
    if by_model:
        raise click.UsageError(
            "--follow prints calls as they come: leave --by-model and --chart out."
        )
    if form == "json":
        raise click.UsageError(
            "a JSON document has an end, and --follow has none: give --format jsonl."
        )


def _follow(session: Session, model: str | None, form: Form, first: dict[str, Any]) -> None:
    """Print calls as they come; Ctrl-C is how that ends well."""
    with session.existing() as calibrator, suppress(KeyboardInterrupt), reader_watched():
        calls = calibrator.follow(model, **first)
        measured = calibrator.calls(model, limit=NEWEST, by_time=True)
        columns = zone.titled(COLUMNS, "when")
        print_live(form, calls, columns, _row, measured=measured, of=Call)


def _archived(heads: Sequence[Head], session: Session) -> str:
    one = heads[0]
    which = f"{one.model}: entries up to {one.seq} are"
    if len(heads) > 1:
        which = f"older entries of {len(heads)} models are"
    back = session.command("import", "ledger", "ARCHIVE")
    return f"{which} archived, and not shown: `{back}` brings them back."


def _counted(calls: Iterator[Call], shown: Counter[str]) -> Iterator[Call]:
    for call in calls:
        shown[call.model] += 1
        yield call


def _row(call: Call) -> list[str | Cell]:
    assert call.called_at is not None  # noqa: S101 - it was recorded
    return [
        zone.shown(call.called_at),
        call.model,
        str(call.seq),
        str(call.prompt_tokens),
        str(call.completion_tokens),
        text.number(call.actual_ms),
        text.number(call.predicted_ms),
        text.signed(call.error_ms),
        _mark(call),
    ]


def _mark(call: Call) -> str | Cell:
    """What is special about a call; a time-out took at least as long as it says."""
    timeout = "" if call.outcome == "ok" else "time-out"
    if call.voided:
        return Cell(", ".join(filter(None, ["voided", timeout])), "bad")
    return Cell(timeout, "dim") if timeout else ""
