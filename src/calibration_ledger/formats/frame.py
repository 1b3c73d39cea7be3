"""Data frames, of pandas or of Polars (the extra `frame`), column by column.

Each part of a frame has the types of the whole, and they are joined at the end: so a frame of any
size takes little more memory than itself twice.
"""

from __future__ import annotations

from datetime import date
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from calibration_ledger.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FrameLibrary = Literal["pandas", "polars"]
"""What makes data frames. Where both are installed and none is named, it is pandas."""

Kind = Literal["text", "whole", "number", "truth", "time", "day"]
"""What a column holds; `time` as microseconds since the epoch, `day` as `datetime.date`."""

LIBRARIES: tuple[FrameLibrary, ...] = get_args(FrameLibrary)

PART_ROWS = 50_000
"""Rows to a part: their Python values take some ten megabytes."""


def find_library(library: FrameLibrary | None) -> FrameLibrary:
    """The library that is meant, and is installed.

    Raises:
        InvalidInputError: there is none such.
    """
    if library is not None and library not in LIBRARIES:
        raise InvalidInputError(
            f"library must be one of {', '.join(LIBRARIES)}, not {shown(library)}."
        )
    wanted = LIBRARIES if library is None else (library,)
    for name in wanted:
        if find_spec(name) is not None:
            return name
    raise InvalidInputError(
        f"a data frame needs {' or '.join(wanted)}, which is not installed: "
        f"{' or '.join(f'pip install {name}' for name in wanted)}."
    )


class Frames:
    """Makes data frames with the same columns."""

    def __init__(self, library: FrameLibrary, kinds: Mapping[str, Kind]) -> None:
        """Take the names of the columns, in their order, with what they hold."""
        self._made, self._joined = _MAKERS[library]
        self._kinds = kinds

    def part(self, columns: Sequence[Sequence[Any]]) -> Any:
        """A frame of some rows, which come column by column; None is for no value."""
        named = zip(self._kinds.items(), columns, strict=True)
        return self._made({name: (kind, values) for (name, kind), values in named})

    def whole(self, parts: Sequence[Any]) -> Any:
        """One frame of several, which may be none."""
        if not parts:
            return self.part([()] * len(self._kinds))
        return parts[0] if len(parts) == 1 else self._joined(parts)


# -- pandas -------------------------------------------------------------------------------------

_PANDAS = {"text": "string", "whole": "int64", "number": "float64", "truth": "bool"}
_NULLABLE = {"whole": "Int64", "truth": "boolean"}

_NOT_A_TIME = -(2**63)
"""The number that stands for no time."""


def _pandas_part(columns: Mapping[str, tuple[Kind, Sequence[Any]]]) -> Any:
    import pandas as pd

    def column(kind: Kind, values: Sequence[Any]) -> Any:
        if kind in {"time", "day"}:
            # By way of whole numbers: pandas' readers of times end with the year 2262.
            numbers = [_NOT_A_TIME if one is None else _us(one) for one in values]
            times = pd.Series(numbers, dtype="int64").astype("datetime64[us]")
            return times.dt.tz_localize("UTC")
        dtype = _PANDAS[kind]
        if kind in _NULLABLE and None in values:
            dtype = _NULLABLE[kind]
        return pd.Series(values, dtype=dtype)

    return pd.DataFrame({name: column(*one) for name, one in columns.items()})


def _us(time: int | date) -> int:
    """Microseconds since the epoch; of a day, its first moment in UTC."""
    if isinstance(time, int):
        return time
    return (time.toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000_000


def _pandas_whole(parts: Sequence[Any]) -> Any:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


# -- Polars -------------------------------------------------------------------------------------


def _polars_part(columns: Mapping[str, tuple[Kind, Sequence[Any]]]) -> Any:
    import polars as pl

    types = {
        "text": pl.String,
        "whole": pl.Int64,
        "number": pl.Float64,
        "truth": pl.Boolean,
        "time": pl.Int64,
        "day": pl.Date,
    }
    found = []
    for name, (kind, values) in columns.items():
        column = pl.Series(name, values, types[kind])
        found.append(column.cast(pl.Datetime("us", "UTC")) if kind == "time" else column)
    return pl.DataFrame(found)


def _polars_whole(parts: Sequence[Any]) -> Any:
    import polars as pl

    return pl.concat(parts)


_MAKERS = {"pandas": (_pandas_part, _pandas_whole), "polars": (_polars_part, _polars_whole)}
