"""What a format is: something that reads a file of another tool, and gives its calls.

A reader yields what it finds, one item a record, and never stops for a record that it cannot use:

- a mapping with the fields of a call (`row.REQUIRED` and `row.OPTIONAL`), a `Call`, or a `Row`
  that is checked already;
- a `Skip`: a call that cannot be learnt from, and why;
- a `BadRow`: something that should be a call and is not one.

What is no call at all, such as a span of a database query, is no item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.core.values import Call
    from calibration_ledger.formats.row import BadRow, Row
    from calibration_ledger.formats.source import Source

AUTO = "auto"
"""What stands for the format that a file is found to have; so no format can be called that."""

Clock = Literal["attempt", "client", "client+start", "server", "server-queue"]
"""Which clock measured a call; it lies in its details under `clock`.

- `attempt`: the client's, around one attempt;
- `client`: the client's, with the attempts that failed before and the pauses between them;
- `client+start`: the same, with the start of the program that called;
- `server`: the server's, from the arrival of the request, waiting included;
- `server-queue`: the server's, without waiting.
"""


class Skip(NamedTuple):
    """A call that is in the file and cannot be learnt from; it is counted by its reason."""

    reason: Reason


Item: TypeAlias = "Row | Mapping[str, Any] | Call | Skip | BadRow"

Placed: TypeAlias = "tuple[int, Item]"
"""An item with its place in the file: the line that it begins in, or its number in order."""


class Database(Protocol):
    """A SQLite database of another tool: one snapshot of it, taken when the first row is read."""

    def tables(self) -> frozenset[str]:
        """The names of its tables, in lower case."""

    def has(self, table: str, *columns: str) -> bool:
        """Whether it has this table, with these columns."""

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        *,
        order_by: str | None = None,
        each: Sequence[str] = (),
        beside: tuple[str, str, str] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a table; ask for those of all tables before reading the first one.

        They do not lie in memory. A table that is not there has no rows, and a column that is not
        there is None in each.

        Args:
            table: its name.
            columns: a name each, or `name->key->key`: that member of the JSON in the column `name`,
                as Python has it, None also where there is no JSON; a key in digits is a place in a
                list.
            order_by: the column to order them by, one of `columns`.
            each: `name->key->key`, or several such in the same column: a row for each item of the
                list or object at the first of these places that holds any; `each` is its column,
                `each->key` a member of it.
            beside: (table, its column, the column here): the row of that table where both columns
                are the same, if there is one; its columns are `table.name`.
        """


class Input(Protocol):
    """A file that was named, as a reader gets it: opened when the reader asks, and read once.

    Attributes:
        name: the file's name as it may be shown.
        path: where it lies; None for a stream.
        model: the name that the user gives to calls that name no model; None for none. A reader
            gives them that, or gives them as mappings without a model: the import fills it in.
        unit: what the places of items count: `line`, or `record` where there are no lines.
    """

    name: str
    path: Path | None
    model: str | None
    unit: str

    @property
    def source(self) -> Source:
        """Its lines, or its whole text, with compression undone.

        Raises:
            ImportRefusedError: it cannot be opened.
        """

    def is_database(self) -> bool:
        """Whether it is a SQLite database, readable or not."""

    def database(self) -> Database:
        """The file as a SQLite database.

        Raises:
            ImportRefusedError: it is none, or cannot be read.
        """

    def say(self, how: str) -> None:
        """Say how the file was read, in a line for people; the import tells it."""

    def refuse(self, place: int | None, reason: str) -> NoReturn:
        """Refuse the whole file: raises ImportRefusedError."""


class Beginning(NamedTuple):
    """How a file begins, for telling its format.

    Attributes:
        name: the file's name.
        head: its first 64 KiB, with compression undone.
        first: the first JSON value, of the first line or of a whole document; of one that goes on
            behind the head, the part that is in it. None where the file does not begin with one.
        tables: the tables of a SQLite database, in lower case; empty for any other file.
        records: the first JSON objects, at most 50: values of the file or, of a list, its members.
            The first may go on behind the head; the others are whole.
    """

    name: str
    head: bytes
    first: Any
    tables: frozenset[str]
    records: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A format that `calib import` reads.

    Attributes:
        name: what the command line calls it.
        reads: what it reads, in a line for people.
        kind: `own`, `module`, `recipe` or `third party`.
        rows: reads a file; None: it is taken in as a whole, and not call by call.
        is_it: whether a file looks like one of this format; None: it is never told by itself.
        default: gives the place where the tool keeps its file, if there is one.
        trouble: why a format of a third party cannot be used; empty where it can.
    """

    name: str
    reads: str
    kind: Literal["own", "module", "recipe", "third party"]
    rows: Callable[[Input], Iterable[Placed]] | None
    is_it: Callable[[Beginning], bool] | None = None
    default: Callable[[], Path | None] | None = None
    trouble: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What can be said of it, as JSON can hold it; the place is null where there is none."""
        place = None if self.default is None else self.default()
        return {
            "name": self.name,
            "kind": self.kind,
            "reads": self.reads,
            "default": None if place is None else str(place),
            "trouble": self.trouble or None,
        }
