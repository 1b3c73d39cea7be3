"""Random histories, as hypothesis strategies: everything that a ledger can hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from calibration_ledger import AdaptiveCalibrator

texts = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20
)
models = (
    st.sampled_from(["m", "llama3", "größe 模型", 'a,"b"\n', "\u2028", "import", " x "]) | texts
)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - given one
    lambda naive: naive.replace(tzinfo=UTC)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
details = st.none() | st.dictionaries(st.text(max_size=8), json_values, max_size=4)
tokens = st.integers(0, 2**31 - 1) | st.integers(0, 5000)
milliseconds = st.floats(0, 1e280) | st.floats(0, 1e5) | st.sampled_from([0.0, 5e-324, 0.1])

calls = st.fixed_dictionaries(
    {"prompt_tokens": tokens, "completion_tokens": tokens, "actual_ms": milliseconds},
    optional={
        "called_at": times,
        "request_id": texts,
        "details": details,
        "outcome": st.sampled_from(["ok", "timeout"]),
    },
)
steps = st.one_of(
    st.tuples(st.just("record"), models, calls),
    st.tuples(st.just("record"), models, calls),
    st.tuples(st.just("record"), models, calls),
    st.tuples(st.just("reset"), models, st.none()),
    st.tuples(st.just("recalibrate"), models, st.floats(0.01, 1.0)),
)
histories = st.lists(steps, max_size=25)


def live(calibrator: AdaptiveCalibrator, history: list[tuple[str, str, Any]]) -> None:
    """Do it all; what a ledger refuses is no part of its history."""
    from calibration_ledger.errors import InvalidInputError, ModelNotFoundError

    for verb, model, argument in history:
        try:
            if verb == "record":
                calibrator.record(model, **argument)
            elif verb == "reset":
                calibrator.reset(model)
            else:
                calibrator.recalibrate(argument, model=model)
        except (InvalidInputError, ModelNotFoundError):
            continue


def soon(i: int) -> datetime:
    """A time, i seconds on."""
    return datetime(2025, 5, 1, tzinfo=UTC) + timedelta(seconds=i)


def record_two_models(calibrator: AdaptiveCalibrator, count: int, mark: str = "") -> None:
    """As many calls of each of two models, most with a request id and some with details."""
    for model in ("a", "b"):
        calibrator.record_many(
            {
                "model": model,
                "prompt_tokens": i % 91,
                "completion_tokens": i % 7,
                "actual_ms": 17.25 * (i % 13),
                "called_at": soon(i),
                "request_id": f"{mark}{i}" if i % 3 else None,
                "details": {"i": i} if i % 5 == 0 else None,
                "outcome": "timeout" if i % 11 == 10 else "ok",
            }
            for i in range(count)
        )
