"""`calib top`."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from math import ceil, isfinite
from textwrap import wrap
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import examples, format_option, models_argument
from calibration_ledger.cli.output import (
    echo_lines,
    encodable,
    heading,
    print_data,
    print_table,
    say,
)
from calibration_ledger.cli.prediction import drift_cell
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column, Table, cut
from calibration_ledger.cli.terminal import colour, is_lively, is_terminal
from calibration_ledger.core import text
from calibration_ledger.core.top import TopModel
from calibration_ledger.errors import (
    CalibrationLedgerError,
    InvalidInputError,
    LedgerBusyError,
    LedgerClosedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from types import FrameType

    from rich.live import Live

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.top import Top, TopBy
    from calibration_ledger.core.values import Call

MODEL_COLUMNS = (
    MODEL,
    Column("calls"),
    Column("a minute", spare=4),
    Column("typically within"),
    Column("drift", spare=3),
    Column("usual call", left=True, spare=2),
    Column("newest call", left=True, spare=1),
)
CALL_COLUMNS = (
    Column("when", left=True, spare=4),
    MODEL,
    Column("seq"),
    Column("prompt", spare=2),
    Column("compl", spare=3),
    Column("predicted ms"),
    Column("actual ms"),
    Column("error ms", spare=1),
    Column("error", spare=5),
    Column("", left=True),
)

LOOK_EVERY_S = 0.1
"""How soon a change of the terminal's size shows."""

LEAST_S, MOST_S = 0.1, 86_400.0
"""What `--every` may be: so often the ledger is read without anybody noticing; and a day."""

PATIENCE_S = 2.0
"""How long a look waits for a ledger that somebody holds: meanwhile the screen stands still."""

ERROR_LINES = 4
"""As much of an error as leaves room for what was seen before."""

LOW = 12
"""Of a terminal with fewer lines, nothing would be left for the calls."""

_TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*(ms|s|min|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, None: 1.0}


def seconds_of(value: str) -> float:
    """Read a time such as `2s`, `500ms` or `1m`; a number alone is seconds."""
    found = _TIME.fullmatch(value.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not (isfinite(seconds) and LEAST_S <= seconds <= MOST_S):
        raise click.BadParameter(
            f"{value!r} is no time from 100ms to 24h: write it like 2s, 500ms or 1m."
        )
    return seconds


@click.command(
    epilog=examples(
        "calib top",
        "calib top llama3:8b phi3:mini --every 500ms",
        "calib top --once --limit 5",
        "calib top --by rate",
    )
)
@models_argument
@click.option(
    "--every", type=seconds_of, default="2s", show_default=True, help="How often to look again."
)
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@click.option(
    "-n",
    "--limit",
    type=click.INT,
    metavar="N",
    default=20,
    show_default=True,
    help="So many of the newest calls.",
)
@click.option(
    "--by",
    metavar="FIGURE",
    default="newest",
    show_default=True,
    help="Sort models by their newest call, their name (model), or the largest of calls, rate, "
    "error, drift and forecast.",
)
@format_option
@pass_session
def top(
    session: Session,
    models: tuple[str, ...],
    *,
    every: float,
    once: bool,
    limit: int,
    by: TopBy,
    form: Form,
) -> None:
    """Watch the models in use and their newest calls.

    The screen is kept fresh while other programs record, until Ctrl-C. Above are the models (the
    100 that were called last, or the ones named): "a minute" are the calls of the last five
    minutes, "usual call" is what 9 of 10 calls with the model's usual prompt take. Below are the
    newest calls, with what had been predicted beside what was measured.

    Reading keeps no writer waiting. A ledger that is not there yet is waited for, and an error of
    a moment is shown. With --once, or where stdout is no terminal: one picture, complete and plain,
    for cron and watch. With --json: what top() gives; CSV has the
    models, as the calls are those of `calib history`.
    """
    from calibration_ledger.calibrator import AdaptiveCalibrator

    once = once or form != "table" or not is_terminal(sys.stdout)

    def look(calibrator: AdaptiveCalibrator) -> Top:
        return calibrator.top(models or None, limit=limit, by=by)

    if not once:
        with suppress(KeyboardInterrupt), ExitStack() as stack:
            _watch(
                lambda: stack.enter_context(
                    AdaptiveCalibrator(session.ledger, timeout_s=PATIENCE_S)
                ),
                look,
                every,
            )
        return
    with session.existing() as calibrator:
        found, where = look(calibrator), calibrator.ledger
    is_lines = form in {"csv", "tsv"}
    if print_data(form, [*found.models] if is_lines else found, of=TopModel):
        return
    say(_title(found, where))
    if found.models:
        heading("models")
        print_table(
            zone.titled(MODEL_COLUMNS, "newest call"),
            [_model_row(one, zone.shown) for one in found.models],
        )
    if found.calls:
        heading("newest calls")
        print_table(
            zone.titled(CALL_COLUMNS, "when"), [_call_row(one, zone.shown) for one in found.calls]
        )


# -- one picture ----------------------------------------------------------------------------


class Picture:
    """What there is to see at one moment, as lines of text.

    Attributes:
        width: the columns that it is laid out for.
    """

    def __init__(self, found: Top | None, where: str, width: int, error: str | None = None) -> None:
        """Of what was found, or of the error that was met instead."""
        self._found = found
        self._where = where
        self.width = width
        self._error = error

    def lines(self, height: int) -> list[str]:
        """At most so many lines: models and calls get half each; of few, the models get all."""
        found = self._found
        error = "" if self._error is None else text.escape(f"error: {self._error}")
        told = wrap(error, self.width)[:ERROR_LINES]
        above = [click.style(line, fg="red") for line in told]
        if found is None:
            return above[:height]
        above.insert(0, self._cut(_title(found, self._where), bold=True))
        if not found.models:
            return [*above, self._cut("no calls yet: this waits for the first")][:height]
        age, clock = partial(_age, now=found.at), partial(_clock, now=found.at)
        models = self._table(MODEL_COLUMNS, [_model_row(one, age) for one in found.models])
        calls = self._table(CALL_COLUMNS, [_call_row(one, clock) for one in found.calls])
        if height < LOW:
            return [*above, *models][:height]
        room = height - len(above) - 2  # an empty line before each table
        models = models[: max(room - len(calls), ceil(room / 2))]
        calls = calls[: room - len(models)]
        tables = [line for table in (models, calls) if table for line in ("", *table)]
        return [*above, *tables]

    def _cut(self, line: str, **style: Any) -> str:
        return click.style(cut(text.escape(line), self.width), **style)

    def _table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]]) -> list[str]:
        if not rows:
            return []
        table = Table(columns, rows, self.width)
        return [*table.header().split("\n"), *map(table.line, rows)]


def _title(found: Top, where: str) -> str:
    all_of = f"{len(found.models)} of " if found.models_in_all > len(found.models) else ""
    models = f"{all_of}{text.count(found.models_in_all, 'model')}"
    rate = f"{text.number(found.calls_per_minute)} calls a minute"
    return f"{zone.told(found.at)}  {models}  {rate}  {where}"


def _age(at: datetime, now: datetime) -> str:
    return text.age((now - at).total_seconds())


def _clock(at: datetime, now: datetime) -> str:
    """The time of day, or of another day the date: nobody reads more at a glance."""
    when, today = zone.shown(at), zone.shown(now)
    return when[11:19] if when[:10] == today[:10] else when[:10]


def _model_row(one: TopModel, told: Callable[[datetime], str]) -> list[str | Cell]:
    return [
        one.model,
        str(one.calls),
        text.number(one.calls_per_minute),
        text.within(one.median_absolute_percentage_error),
        "" if one.drift is None else drift_cell(one.drift),
        "-" if one.interval_ms is None else text.span(*one.interval_ms),
        "-" if one.newest_at is None else told(one.newest_at),
    ]


def _call_row(call: Call, told: Callable[[datetime], str]) -> list[str | Cell]:
    assert call.called_at is not None  # noqa: S101 - it was recorded
    error_ms = call.error_ms
    share = None
    if error_ms is not None and call.actual_ms:
        share = text.signed_percent(100.0 * error_ms / call.actual_ms)
    return [
        told(call.called_at),
        call.model,
        str(call.seq),
        str(call.prompt_tokens),
        str(call.completion_tokens),
        text.number(call.predicted_ms),
        text.number(call.actual_ms),
        text.signed(error_ms),
        share or "-",
        "" if call.outcome == "ok" else Cell("time-out", "dim"),
    ]


# -- a terminal that is kept fresh ----------------------------------------------------------


def _watch(
    begin: Callable[[], AdaptiveCalibrator],
    look: Callable[[AdaptiveCalibrator], Top],
    every_s: float,
) -> None:
    """Look again and again, and show it, until Ctrl-C."""
    calibrator, found = None, None
    with _screen() as show:
        while True:
            error = None
            try:
                calibrator = calibrator or begin()
                found = look(calibrator)
            except (InvalidInputError, LedgerClosedError):
                raise
            except CalibrationLedgerError as met:  # busy, not there, upgraded: it may pass
                if calibrator is None and not isinstance(met, LedgerBusyError):
                    raise
                error = str(met)
            where = "" if calibrator is None else calibrator.ledger
            until, size = monotonic() + every_s, None
            while (left := until - monotonic()) > 0.0:
                if size != (size := shutil.get_terminal_size()):
                    show(Picture(found, where, size.columns, error), size.lines)
                sleep(min(left, LOOK_EVERY_S))


@contextmanager
def _screen() -> Iterator[Callable[[Picture, int], None]]:
    """A function that shows a picture: on a screen of its own, or where there is none, below."""
    if not is_lively(sys.stdout):
        yield _print
        return
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError as error:
        raise InvalidInputError(
            "to keep the terminal fresh takes rich, which is not installed: pip install "
            "rich. What there is now, `--once` prints without it."
        ) from error
    console = Console(file=sys.stdout, no_color=colour() is False)
    live = Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )

    def show(picture: Picture, height: int) -> None:
        console.size = (picture.width, height)
        lines = (encodable(line, sys.stdout) for line in picture.lines(height))
        shown = Text("\n", no_wrap=True, overflow="crop").join(map(Text.from_ansi, lines))
        live.update(shown, refresh=True)

    with _ended_cleanly(live), live:
        yield show


def _print(picture: Picture, height: int) -> None:
    echo_lines([*picture.lines(height), ""])


@contextmanager
def _ended_cleanly(live: Live) -> Iterator[None]:
    """Let the terminal be restored where the program is told to end, or its terminal closes.

    And while it is stopped by Ctrl-Z.
    """

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    def pause(number: int, _: FrameType | None) -> None:
        live.stop()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, pause)  # it goes on, in the foreground again
        live.start(refresh=True)

    wanted = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGTSTP: pause}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
