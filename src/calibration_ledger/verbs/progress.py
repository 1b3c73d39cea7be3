"""Progress: `timed` with a bar on the terminal that shows how much longer the call will take.

A thread of its own reads the forecast and draws, so that the program waits for neither. What the
program prints meanwhile is passed on as it is: the bar steps aside before, and comes back below a
whole line. The cursor stays visible, so a program that is killed leaves nothing to restore. Where
nobody would see a bar, there is no thread, and it is `timed` alone.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core import text
from calibration_ledger.core.validation import check_tokens
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.verbs.timed import Timed, level_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.timed import Block, TimedCalls

    ForecastOf = Callable[[str, int], Forecast]

EVERY_S = 0.2
"""How often bars move. The first time is the first sight: a shorter call flashes nothing up."""

PATIENCE_S = 0.2
"""How long the program waits for a terminal that takes nothing; then the bar is given up."""

LATE = 0.95
"""A call that takes longer than so many is told to."""

SEVERAL = 3.0
"""A call that is so many times as slow as its model is rare, but several tokens to an event are
not."""

HIGHEST = 0.995
"""A bar is never full: nobody knows that a call is over before it is."""

BLIND = {"dumb", "unknown"}
"""Values of TERM of which rich shows nothing either."""

BAR_MAX, BAR_LEAST, LABEL_LEAST = 30, 5, 12
"""Columns."""

SPINNER = "|/-\\"

_CLEAR, _UP = "\r\x1b[2K", "\x1b[1A"


# -- one call -------------------------------------------------------------------------------


class View(NamedTuple):
    """What a bar shows at one moment: the share that is done, None for nobody knows, and words."""

    label: str
    share: float | None
    words: str


class Bar:
    """The bar of one running call.

    Attributes:
        is_over: whether the call has ended.
    """

    def __init__(self, block: Block, forecast: ForecastOf, per_event: dict[str, float]) -> None:
        """Look at this block; nothing is read yet.

        Args:
            block: the call.
            forecast: what forecasts it.
            per_event: the completion tokens to an event of a stream, by model, as learnt so far.
        """
        self.is_over = False
        self._block = block
        self._forecast_of = forecast
        self._per_event = per_event
        self._asked: tuple[str | None, int | None] = (None, None)
        self._forecast: Forecast | None = None
        self._share = 0.0

    def end(self) -> None:
        """The call is over. Its stream tells how many tokens an event has."""
        bars.remove(self)
        model, share = self._block.model, self._block.tokens_per_event()
        if model is not None and share is not None:
            self._per_event[model] = share

    def view(self) -> View:
        """What to show now."""
        block = self._block
        elapsed_ms = (time.perf_counter() - block.start) * 1000.0
        label = text.escape(block.model) if isinstance(block.model, str) else "call"
        told = _time(elapsed_ms)
        forecast = self._known_forecast()
        if forecast is None:
            return View(label, None, told)
        left_ms, is_paced = self._left_ms(forecast, elapsed_ms)
        share = elapsed_ms / (elapsed_ms + left_ms) if left_ms > 0.0 else HIGHEST
        self._share = max(self._share, min(share, HIGHEST))  # what is done stays done
        behind, left = forecast.chance_within(elapsed_ms), f"{_time(left_ms)} left"
        if behind < LATE:
            return View(label, self._share, f"{told}, {left}")
        late = f"longer than {int(100.0 * behind)} % of such calls"
        # Of a call that runs late and tells nothing, what is left is anybody's guess.
        return View(
            label, self._share, f"{told}, {left}, {late}" if is_paced else f"{told}, {late}"
        )

    def _known_forecast(self) -> Forecast | None:
        """The forecast of the call, once its model and prompt are known; None where there is none.

        It is asked for once, whatever becomes of that.
        """
        model, prompt_tokens = asked = self._block.model, self._block.prompt_tokens
        if asked != self._asked and model is not None and prompt_tokens is not None:
            self._asked, self._forecast = asked, None
            with suppress(Exception):  # the call is recorded all the same, or refused then
                forecast = self._forecast_of(model, prompt_tokens)
                if forecast.status != "no history":
                    self._forecast = forecast
        return self._forecast

    def _left_ms(self, forecast: Forecast, elapsed_ms: float) -> tuple[float, bool]:
        """How much longer it takes, and whether that is by the pace so far."""
        tokens, ttft_ms = self._block.tokens_so_far()
        if tokens is None:
            tokens, ttft_ms = self._tokens_of_stream(forecast, elapsed_ms)
        with suppress(InvalidInputError):  # what the block said is no number of tokens
            return forecast.remaining(elapsed_ms, tokens, ttft_ms).median_ms, bool(tokens)
        return forecast.remaining(elapsed_ms).median_ms, False

    def _tokens_of_stream(
        self, forecast: Forecast, elapsed_ms: float
    ) -> tuple[int | None, float | None]:
        """How many tokens a stream has brought, and when the first came.

        Few providers say so before the end. What an event of a model's stream holds is known once
        one has ended. Before, it is taken to be a token, but where the call would then be several
        times as slow as the model is: there, events hold several.
        """
        events, said, ttft_ms = self._block.events_so_far()
        if not events or ttft_ms is None:
            return None, None
        known = self._per_event.get(self._block.model or "")
        usual = forecast.basis.coefficients[1]
        if known is None and elapsed_ms - ttft_ms > SEVERAL * usual * events:
            return said, ttft_ms
        return max(said or 0, round(events * (known or 1.0))), ttft_ms


def _time(milliseconds: float) -> str:
    """A time that does not change its unit at each look."""
    if milliseconds >= 59_950.0:  # noqa: PLR2004 - what would round to 60.0 s
        return text.duration(milliseconds)
    return f"{milliseconds / 1000.0:.1f} s"


# -- the terminal ---------------------------------------------------------------------------


class Screen:
    """The lines of a terminal that bars take, below all that the program writes.

    Whoever calls holds the lock of `Bars`.
    """

    def __init__(self, stream: TextIO, lock: threading.RLock) -> None:
        """Take the terminal behind a stream; what is written to it passes here from now on."""
        self.is_left = False
        self._lock = lock
        self._fd = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        self._height = 0
        self._is_at_start = False  # nobody knows what was written before
        self._open_lines: set[int] = set()
        self._hooked: list[tuple[Any, Any]] = []
        self._file = stream
        self._console: Any = None
        for one in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a stream of somebody's own need not be one of ours
                self._hook(one)

    def _hook(self, stream: Any) -> None:
        """Step aside before the program writes to this stream, if it is the same terminal.

        The stream itself gets another `write`, for handlers of `logging` hold on to the stream.
        """
        if not stream.isatty() or os.fstat(stream.fileno()).st_rdev != os.fstat(self._fd).st_rdev:
            return
        write: Callable[[str], int] = stream.write

        def polite(written: str) -> int:
            if self.is_left:
                return write(written)
            with self._lock:
                self.erase()
                if written[-1:] == "\n":
                    self._open_lines.discard(id(stream))
                elif written:
                    self._open_lines.add(id(stream))
                return write(written)

        stream.write = polite
        self._hooked.append((stream, polite))

    def draw(self, views: Sequence[View]) -> None:
        """Show these bars; not in the middle of a line that the program has begun."""
        if self._open_lines:
            return
        columns, rows = os.get_terminal_size(self._fd)
        columns, rows = columns or 80, rows or 24  # some terminals do not say
        lines = self._lines(views[-max(1, rows - 1) :], columns)
        start = "" if self._is_at_start else " " * columns + "\r"
        # A row of blanks ends on the same line where that was empty, and else on the next one.
        if self._put(start + self._cleared() + "\r\n".join(lines)):
            self._is_at_start, self._height = True, len(lines)

    def erase(self) -> None:
        """Leave the terminal as it would be without bars."""
        if self._height and self._put(self._cleared()):
            self._height = 0

    def _cleared(self) -> str:
        return _CLEAR + (_UP + _CLEAR) * (self._height - 1) if self._height else ""

    def _put(self, written: str) -> bool:
        """Write to the terminal, unless it takes nothing. Never through the stream's own lock."""
        with suppress(OSError, ValueError):
            if select.select([], [self._fd], [], 0.0)[1]:
                os.write(self._fd, written.encode(self._encoding, "replace"))
                return True
        return False

    def _lines(self, views: Sequence[View], columns: int) -> list[str]:
        """A line for each bar, none of which the terminal breaks."""
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=self._file, force_terminal=True, highlight=False)
        console, width = self._console, max(1, columns - 1)
        console.width = width
        words = max(len(view.words) for view in views)
        longest = max(len(view.label) for view in views)
        names = max(1, min(longest, max(LABEL_LEAST, width // 3), width - words - 1))
        shorten: Any = "crop" if console.options.ascii_only else "ellipsis"
        rooms = [width - names - len(view.words) - 2 for view in views]
        # Bars are of one length; beside long words there is none.
        room = min([BAR_MAX, *(one for one in rooms if one >= BAR_LEAST)])
        spinner = SPINNER[int(time.monotonic() / EVERY_S) % len(SPINNER)]
        lines = []
        for view, own_room in zip(views, rooms, strict=True):
            grid = Table.grid(padding=(0, 1, 0, 0))
            parts: list[Any] = [Text(view.label, no_wrap=True, overflow=shorten)]
            grid.add_column(width=names, no_wrap=True)
            if own_room >= BAR_LEAST:
                is_known = view.share is not None
                bar = ProgressBar(1.0, view.share, width=room) if is_known else Text(spinner)
                parts.append(bar)
                grid.add_column(width=room)
            parts.append(Text(view.words, no_wrap=True, overflow="crop"))
            grid.add_column(no_wrap=True)
            grid.add_row(*parts)
            with console.capture() as capture:
                console.print(grid, end="", no_wrap=True, overflow="crop", crop=True)
            lines.append(capture.get().split("\n")[0])
        return lines

    def leave(self) -> None:
        """Let what is written go its own way again."""
        self.is_left = True
        for stream, polite in self._hooked:
            with suppress(Exception):
                if vars(stream).get("write") is polite:  # else somebody put a hook above ours
                    del stream.write
        self._hooked = []


# -- all calls of a process -----------------------------------------------------------------


class Bars:
    """The bars of this process, the thread that moves them, and their terminal.

    Nothing here raises into the program, and nothing waits for the terminal for long.
    """

    def __init__(self) -> None:
        """Begin without a bar, a thread or a terminal."""
        self._lock = threading.RLock()
        self._bars: list[Bar] = []
        self._screen: Screen | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._is_reading = False
        self._is_registered = False

    @contextmanager
    def _hold(self) -> Iterator[bool]:
        """Hold the lock, if it is to be had within reason."""
        is_held = self._lock.acquire(timeout=PATIENCE_S)
        try:
            yield is_held
        finally:
            if is_held:
                self._lock.release()

    def add(self, bar: Bar) -> None:
        """Show the bar of a call that begins."""
        with suppress(Exception), self._hold() as is_held:
            if not is_held:
                return
            if not self._is_registered:
                self._is_registered = True
                atexit.register(self.close)
                os.register_at_fork(after_in_child=self.forget)
            self._bars.append(bar)
            if self._screen is None:
                self._screen = Screen(sys.stderr, self._lock)
                self._stop = threading.Event()
                name = "calibration-ledger progress"
                run = self._run
                thread = threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
                thread.start()
                self._thread = thread

    def remove(self, bar: Bar) -> None:
        """Take the bar of a call away that is over; the last one takes the thread along."""
        bar.is_over = True  # whatever comes next, the thread sees it
        thread = self._thread
        with suppress(Exception):
            with self._hold() as is_held:
                if is_held:
                    self._sort_out()
            is_last = self._screen is None
            if is_last and thread is not None and not self._is_reading:
                thread.join(PATIENCE_S)

    def _sort_out(self) -> None:
        """Forget the calls that are over; without any other, leave the terminal."""
        self._bars = [bar for bar in self._bars if not bar.is_over]
        if not self._bars:
            self._stop.set()
            screen, self._screen, self._thread = self._screen, None, None
            if screen is not None:
                screen.erase()
                screen.leave()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY_S):
            try:
                self._tick(stop)
            except Exception:  # noqa: BLE001 - without a bar, the program goes on as well
                with suppress(Exception), self._lock:
                    if not stop.is_set():
                        self._bars = []
                        self._sort_out()

    def _tick(self, stop: threading.Event) -> None:
        self._is_reading = True
        views = [bar.view() for bar in list(self._bars)]
        self._is_reading = False
        with self._lock:
            if stop.is_set():
                return
            self._sort_out()
            if self._screen is not None:
                self._screen.draw(views)

    def close(self) -> None:
        """Leave the terminal: the interpreter ends, and nothing may write any more."""
        with suppress(Exception), self._hold():
            self._bars = []
            self._sort_out()

    def forget(self) -> None:
        """Begin anew in a fork: the terminal and the thread are the parent's."""
        screen = self._screen
        self._lock = threading.RLock()  # the other may have been held
        self._bars, self._screen, self._thread = [], None, None
        if screen is not None:
            screen.leave()


bars = Bars()
"""They share a terminal, whatever calibrator they are of."""


# -- progress -------------------------------------------------------------------------------


def is_seen(stream: TextIO | None) -> bool:
    """Whether a person would see a bar there: on a terminal that knows control codes."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") not in BLIND
    except Exception:  # noqa: BLE001 - a stream that was closed, or of somebody's own
        return False


class TimedProgress(Timed):
    """What `AdaptiveCalibrator.progress` gives: `Timed` with a bar."""

    __slots__ = ("_forecast", "_max_tokens")

    def __init__(
        self,
        calls: TimedCalls,
        model: str | None,
        prompt_tokens: int | None,
        on_error: OnError,
        forecast: Callable[..., Forecast],
        max_tokens: int | None,
    ) -> None:
        """See `AdaptiveCalibrator.progress`, which makes it."""
        super().__init__(calls, model, prompt_tokens, on_error)
        self._forecast = forecast
        self._max_tokens = None if max_tokens is None else check_tokens("max_tokens", max_tokens)

    def _anew(self) -> Timed:
        wishes = (self._model, self._prompt_tokens, self._on_error)
        return TimedProgress(self._calls, *wishes, self._forecast, self._max_tokens)

    def _begin(self, block: Block) -> None:
        if not is_seen(sys.stderr):
            return
        with suppress(Exception):
            from importlib.util import find_spec

            if find_spec("rich") is None:
                _tell_of_extra()
                return
            wishes = {"max_tokens": self._max_tokens, "as_of": None}
            forecast = partial(self._forecast, completion_tokens=None, **wishes)
            bar = Bar(block, forecast, self._calls.tokens_per_event)
            block.on_end = bar.end
            bars.add(bar)
            block.start = time.perf_counter()  # what it took to get here is not the call's


_told: list[bool] = []


def _tell_of_extra() -> None:
    if not _told:
        _told.append(True)
        warnings.warn(
            "progress() shows no bar, for rich is not installed: pip install "
            "rich. Calls are recorded as by timed().",
            UserWarning,
            stacklevel=level_outside(),
        )
