"""Results as tables for programs: flat records, unrounded. Pure: nothing here prints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from calibration_ledger.core.values import as_json, json_types

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

Record: TypeAlias = "type[Any] | Mapping[str, Any]"
"""What records are: their class, or their names with the type of each; None for any other."""

WHOLE = frozenset({"details"})
"""Objects whose names are anybody's: no columns come of them, and they stay JSON."""


def json_text(value: object, indent: int | None = None) -> str:
    """JSON in ASCII, so that no name can control the terminal; NaN and infinity become null."""
    return without_delete(json.dumps(as_json(value), indent=indent, allow_nan=False))


def without_delete(text: str) -> str:
    """JSON without the one control character that it leaves as it is."""
    return text.replace("\x7f", "\\u007f")


def columns_of(record: Record, lines: str | None = None) -> list[str]:
    """The columns of such records, whatever is in them: `{"drift": Drift}` gives `drift.factor`.

    The fields of a class within become columns of their own, also where there may be none of it.
    Everything else is one column: a list, and an object of which anybody chose the names.

    Args:
        record: what each is.
        lines: the list whose items are the lines.
    """
    found = []
    types = record if isinstance(record, Mapping) else json_types(record)
    for name, kind in types.items():
        inner = _record_in(get_args(kind)[0] if name == lines else kind)
        found += [name] if inner is None else [f"{name}.{one}" for one in columns_of(inner)]
    return found


def _record_in(kind: Any) -> Record | None:
    """What a type is of, or `X | None`, where that has fields."""
    for one in get_args(kind) if isinstance(kind, UnionType) else (kind,):
        if isinstance(one, Mapping) or (isinstance(one, type) and json_types(one)):
            return one
    return None


def lines_of(
    value: object, lines: str | None = None, columns: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The flat records of a document: one for each item of its list `lines`.

    What else the document says stands in each of them; where the list is empty, in the only one.
    Without a name, the document is one record. What is in `columns` is flat enough.
    """
    document = as_json(value)
    if lines is None:
        return [flat(document, columns)]
    items = document.pop(lines)
    return [flat({**document, lines: item}, columns) for item in items or [None]]


def flat(record: dict[str, Any], columns: Collection[str] = (), before: str = "") -> dict[str, Any]:
    """A record without objects in it: `{"live": {"n": 5}}` is `{"live.n": 5}`.

    A list is a text of JSON, and so is an object of which anybody chose the names.
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        name = before + key
        if isinstance(value, dict) and value and key not in WHOLE and name not in columns:
            found.update(flat(value, columns, f"{name}."))
        elif isinstance(value, dict | list):
            found[name] = json_text(value)
        else:
            found[name] = value
    return found


def fields_of_all(records: Iterable[dict[str, Any]]) -> list[str]:
    """The names in any of these flat records.

    An object that some of them lack is no column of its own: `drift` beside `drift.factor`.
    """
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    objects = {name[:at] for name in names for at, char in enumerate(name) if char == "."}
    return [name for name in names if name not in objects]


class Lines:
    """Flat records as lines of CSV or TSV: RFC 4180, but for lines that end with a line feed.

    A text that a spreadsheet would take for a formula stays as it is: it is data.
    """

    def __init__(
        self, fields: Sequence[str], delimiter: str, shown: Callable[[str], str] = str
    ) -> None:
        """Take the names of the columns, in their order, and how a text is shown."""
        self._fields = fields
        self._shown = shown
        self._text = io.StringIO()
        self._plain = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
        # Left to itself, the module quotes a carriage return only if it ends lines, and refuses
        # to read one that is not quoted.
        self._quoting = csv.writer(
            self._text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
        )

    def header(self) -> str:
        """The names, as the first line."""
        return self.of([dict(zip(self._fields, self._fields, strict=True))])

    def of(self, records: Iterable[dict[str, Any]]) -> str:
        """Records, a line each."""
        self._text.seek(0)
        self._text.truncate()
        for record in records:
            cells = [self._shown(_cell(record.get(name))) for name in self._fields]
            has_return = any("\r" in cell for cell in cells)
            (self._quoting if has_return else self._plain).writerow(cells)
        return self._text.getvalue()


def _cell(value: Any) -> str:
    """A value as JSON has it, without quotes; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
