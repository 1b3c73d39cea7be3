"""Charts made by hand, one of each kind, with every mark, scale and kind of event."""

from calibration_ledger.core.charts import Axis, Chart, ChartEvent, Panel, Series

TIME, MS = Axis("Time", scale="time"), Axis("Error", "ms")
START_S = 1_795_000_000
EVENTS = ("reset", "recalibrated", "voided", "imported", "archived", "drift")
TIMES = tuple(START_S + 36_000.0 * at for at in range(60))
WAVE = tuple(40.0 * ((at * 7) % 11) - 200.0 for at in range(60))

NASTY = '</script><b onclick="x()">\u202e & {{name}} ${x} \x1b[2J'
"""A name that must do nothing, wherever it stands."""


def _moved(values, by):
    return tuple(one + by for one in values)


def charts_of(model):
    """The seven charts of a model."""
    line = (0.0, 7000.0)
    found = [
        Chart(
            "actual",
            model,
            "Predicted against actual",
            f"Half of the calls of {model} took within 14 % of what was predicted.",
            (
                Panel(
                    "",
                    Axis("Predicted", "ms"),
                    Axis("Actual", "ms"),
                    (
                        Series("as predicted", "line", line, line),
                        Series(
                            "calls",
                            "points",
                            _moved(WAVE, 2000.0),
                            _moved(WAVE, 2100.0),
                            count=tuple(range(1, 61)),
                            labels=tuple(f"call {at} of {model}" for at in range(60)),
                        ),
                    ),
                ),
            ),
        ),
        Chart(
            "error",
            model,
            "Error over time",
            "The median error fell from 612 ms to 88 ms.",
            (
                Panel(
                    "",
                    TIME,
                    MS,
                    (
                        Series("9 of 10 calls", "band", TIMES, low=_moved(WAVE, -300), high=WAVE),
                        Series("median", "line", TIMES, _moved(WAVE, -150)),
                    ),
                    tuple(
                        ChartEvent(TIMES[5 + 10 * at], kind, f"{kind} of {model}")
                        for at, kind in enumerate(EVENTS)
                    ),
                ),
            ),
        ),
        Chart(
            "coefficients",
            model,
            "Learnt coefficients",
            "A prompt token takes 0.52 ms, a completion token 21 ms, and a call 311 ms besides.",
            tuple(
                Panel(title, TIME, Axis(title, unit), (Series(title, "steps", TIMES, WAVE),))
                for title, unit in (
                    ("Prompt token", "ms per token"),
                    ("Completion token", "ms per token"),
                    ("Overhead", "ms"),
                )
            ),
        ),
        Chart(
            "ranges",
            model,
            "Ranges, promised and found",
            "Of the 90 % ranges, 88.7 % held.",
            (
                Panel(
                    "",
                    Axis("Promised", "%"),
                    Axis("Found", "%"),
                    (
                        Series("as promised", "line", (0.0, 100.0), (0.0, 100.0)),
                        Series(
                            "found",
                            "points",
                            (50.0, 80.0, 90.0),
                            (49.0, 78.0, 88.7),
                            low=(45.0, 75.0, 86.0),
                            high=(53.0, 81.0, 91.0),
                        ),
                    ),
                ),
            ),
        ),
        Chart(
            "sweep",
            model,
            "Sweep",
            "With kalman the error would have been 9 % less.",
            (
                Panel(
                    "",
                    Axis("Alpha", scale="log"),
                    Axis("Mean absolute error", "ms"),
                    (
                        Series("ema", "line", (0.01, 0.1, 1.0), (400.0, 300.0, 500.0)),
                        Series("kalman", "line", (0.01, 0.1, 1.0), (350.0, 280.0, 420.0)),
                    ),
                    (ChartEvent(0.15, "live", "the live setting: ema, 0.15"),),
                ),
            ),
        ),
        Chart(
            "tokens",
            model,
            "Latency by tokens",
            "A completion token costs 41 prompt tokens.",
            (
                Panel(
                    "By completion tokens",
                    Axis("Completion tokens", "tokens"),
                    Axis("Actual", "ms"),
                    (
                        Series(
                            "calls",
                            "cells",
                            (0.0, 100.0, 200.0),
                            (0.0, 1000.0, 2000.0),
                            x_end=(100.0, 200.0, 300.0),
                            y_end=(1000.0, 2000.0, 3000.0),
                            count=(3, 90, 7),
                        ),
                        Series("learnt", "line", (0.0, 300.0), (300.0, 2800.0)),
                    ),
                ),
            ),
        ),
        Chart("speed", model, "Speed", "There is no call with completion tokens yet.", ()),
    ]
    assert len(found) == 7
    return found


def models_chart(models):
    """The chart over all models."""
    middle = tuple(900.0 + 700.0 * at for at in range(len(models)))
    return Chart(
        "models",
        None,
        "All models side by side",
        "For 512 prompt tokens, the first is the soonest.",
        (
            Panel(
                "",
                Axis("Model", scale="names"),
                Axis("Duration", "ms"),
                (
                    Series(
                        "8 of 10 calls",
                        "points",
                        tuple(models),
                        middle,
                        low=tuple(0.6 * one for one in middle),
                        high=tuple(1.9 * one for one in middle),
                    ),
                ),
            ),
        ),
    )
