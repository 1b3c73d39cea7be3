"""Values as notebooks show them: small tables of HTML, made of nothing but escaped text.

A table sets no colours, so that it is readable in light notebooks and in dark ones, and nothing in
it is obeyed: names of models are other people's text. A notebook typesets formulas that it finds
in HTML, but not in what has the two classes of `_BEGIN`, as pandas' tables have them.
"""

from __future__ import annotations

from html import escape as quote
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from calibration_ledger.core.text import count, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS_MOST = 60
"""Rows that are shown of a longer table: as many as pandas shows."""

_BEGIN = '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto"><table>'
_LEFT, _RIGHT = 'style="text-align: left"', 'style="text-align: right"'


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        text: what stands in it of a value, as people read it.
        left: whether that is text (on the left) or a number (on the right).
    """

    title: str
    text: Callable[[Any], str]
    left: bool = False


def table(caption: str, columns: Sequence[Column], values: Sequence[Any]) -> str:
    """A table with a row for each value; its first column names the rows."""
    rows = [[column.text(value) for column in columns] for value in values[:ROWS_MOST]]
    sides = [_LEFT if column.left else _RIGHT for column in columns]
    head = "".join(
        f'<th scope="col" {side}>{_shown(column.title)}</th>'
        for column, side in zip(columns, sides, strict=True)
    )
    body = "".join(_row(row, sides) for row in rows)
    return (
        f"{_BEGIN}<caption {_LEFT}>{_shown(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{_rest(values)}</div>"
    )


def _row(texts: Sequence[str], sides: Sequence[str]) -> str:
    name, *others = (f"{side}>{_shown(text)}" for text, side in zip(texts, sides, strict=True))
    return f'<tr><th scope="row" {name}</th>{"".join(f"<td {one}</td>" for one in others)}</tr>'


def _rest(values: Sequence[Any]) -> str:
    left_out = len(values) - ROWS_MOST
    if left_out <= 0:
        return ""
    return f"<p>{count(left_out, 'more row')} of {len(values)} in all: not shown here.</p>"


def _shown(text: str) -> str:
    return quote(escape(text))


class Tabular:
    """A value that a notebook shows as a table."""

    __slots__ = ()

    @classmethod
    def _html_table(cls, values: Sequence[Any]) -> str:
        """What a notebook shows of several."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self._html_table([self])


Item = TypeVar("Item")


class Rows(list[Item]):
    """A list that a notebook shows as one table. Everything else takes it for a list."""

    def _repr_html_(self) -> str | None:
        first = self[0] if self else None
        return first._html_table(self) if isinstance(first, Tabular) else None  # noqa: SLF001 - ours
