"""Calls as Parquet, for pandas, Polars, DuckDB and the like (the extra `parquet`: pyarrow).

The same columns as in CSV, and the same numbers to the bit, with the types that CSV cannot have. A
file is written in row groups, so that a ledger of any size takes the memory of one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import needing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

GROUP_ROWS = 122_880
"""Rows to a row group. DuckDB reads a file with as many threads as it has groups of this size."""

GROUP_CHARACTERS = 2**25
"""Characters of details to a row group at the most: long ones must not fill the memory."""


def check_pyarrow() -> None:
    """See that it can be used, before anything is written.

    Raises:
        InvalidInputError: it is not installed.
    """
    with needing("an export to parquet needs", "pyarrow"):
        import pyarrow.parquet  # noqa: F401 - only to see whether it is there


class ParquetWriter:
    """Makes a file of calls: what `add` and `end` give, one after the other, is its bytes."""

    def __init__(self) -> None:
        """Begin an empty file."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter as Writer

        self._schema = pa.schema(
            [
                pa.field("model", pa.dictionary(pa.int32(), pa.string()), nullable=False),
                pa.field("seq", pa.int64(), nullable=False),
                pa.field("called_at", pa.timestamp("us", tz="UTC"), nullable=False),
                pa.field("prompt_tokens", pa.int64(), nullable=False),
                pa.field("completion_tokens", pa.int64(), nullable=False),
                pa.field("actual_ms", pa.float64(), nullable=False),
                pa.field("predicted_ms", pa.float64(), nullable=False),
                pa.field("request_id", pa.string()),
                pa.field("details", pa.string()),
                pa.field("voided", pa.bool_(), nullable=False),
                pa.field("outcome", pa.string(), nullable=False),
            ]
        )
        self._sink = _Sink()
        self._writer = Writer(self._sink, self._schema)
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def add(
        self, model: str, rows: Iterable[Sequence[Any]], is_voided: Callable[[int], bool]
    ) -> bytes:
        """Take a model's calls; gives what can be written by now, mostly nothing."""
        for seq, at, prompt, completion, actual, predicted, outcome, request_id, details in rows:
            ended = "ok" if outcome is None else outcome
            of_call = (model, seq, at, prompt, completion, actual, predicted)
            self._rows.append((*of_call, request_id, details, is_voided(seq), ended))
            self._characters += len(details or "")
        if len(self._rows) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        """The last bytes of the file."""
        if self._rows:
            self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True)
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        group = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(group, row_group_size=len(group))
        self._rows = []
        self._characters = 0


class _Sink:
    """A file of bytes, for pyarrow to write to, that is emptied on the way."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
