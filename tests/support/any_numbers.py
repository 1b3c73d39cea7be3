"""Any numbers that a call or a calibration may have, as hypothesis thinks of them."""

from __future__ import annotations

from hypothesis import strategies as st

tokens = st.one_of(st.integers(0, 5), st.integers(0, 2**31 - 1))
milliseconds = st.one_of(
    st.floats(0.0, 1e7), st.floats(0.0, allow_infinity=False), st.sampled_from([0.0, 5e-324])
)
coefficients = st.tuples(*[st.one_of(st.floats(0.0, 1e4), st.floats(0.0, 1e308))] * 3)


def hexed(numbers):
    """Floats to the bit, so that two that print alike differ."""
    return [number.hex() for number in numbers]
