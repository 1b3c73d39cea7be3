"""Which import a file is: of calls, of a whole ledger, or of the predecessor's state.

The format is named, or told by how the file begins. Where that leaves a doubt, the user is asked.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.validation import check_new_model
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, named, shown
from calibration_ledger.formats.base import AUTO
from calibration_ledger.formats.beginning import recognised
from calibration_ledger.formats.csv import header
from calibration_ledger.formats.names import why_no_calls
from calibration_ledger.formats.recipe import format_of, own_kind
from calibration_ledger.formats.registry import all_formats, find_format, usable
from calibration_ledger.formats.source import begin_input, check_place
from calibration_ledger.storage.foreign import ForeignDatabase
from calibration_ledger.verbs.import_calls import import_rows
from calibration_ledger.verbs.import_ledger import import_entries
from calibration_ledger.verbs.import_state import import_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import ImportReport
    from calibration_ledger.formats.base import Beginning, Format
    from calibration_ledger.formats.recipe import Given
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.verbs.import_calls import Wishes
    from calibration_ledger.verbs.record import Opening


@contextmanager
def import_of(
    ledger: Ledger,
    opening: Opening,
    named_rule: tuple[Rule | None, float | None],
    kind: object,
    source: str | os.PathLike[str] | TextIO | None,
    wishes: Wishes,
    progress: Progress | None,
) -> Iterator[Callable[[], ImportReport]]:
    """The import of a file, to be run; see `AdaptiveCalibrator.import_calls`.

    It is not run here, so that its warnings are of the line that called the calibrator.

    Args:
        ledger: where to.
        opening: what a new model starts from.
        named_rule: the rule and the alpha that the program names for new models.
        kind: the name of the format, or `auto`.
        source: the file; None: the place where the format's tool keeps it.
        wishes: what the caller wants besides.
        progress: is told of the steps.
    """
    if not isinstance(kind, str):
        raise InvalidInputError(f"kind must be the name of a format, not {shown(kind)}.")
    if wishes.model is not None:
        check_new_model(wishes.model)
    with ExitStack() as stack:
        form, source = _found(ledger, kind, source, wishes.given, stack)
        if isinstance(source, str | os.PathLike):
            check_place(source, ledger.path)
        if form.rows is not None:
            yield partial(import_rows, ledger, opening, form, source, wishes, progress)
            return
        wanted = {**wishes._asdict(), "given": ""}
        wish = wishes.given.said or next((name for name, one in wanted.items() if one), None)
        if wish is not None:
            raise InvalidInputError(
                f"{wish} is for files of calls: of a {form.name} file every part counts. Leave it "
                f"out."
            )
        if form.name == "ledger":
            yield partial(import_entries, ledger, source, progress=progress)
        else:
            yield partial(import_state, ledger, source, *named_rule)


def _found(
    ledger: Ledger,
    kind: str,
    source: str | os.PathLike[str] | TextIO | None,
    given: Given,
    stack: ExitStack,
) -> tuple[Format, Any]:
    """The format, and the file to read; an error over a file whose format was told says which."""
    form = None if kind == AUTO else find_format(kind)
    if given.said:
        if form is None and source is not None:
            beginning, source = begin_input(source, ledger.path, ForeignDatabase, stack)
            kind = own_kind(beginning.head)
        form = format_of(kind, given)
    if source is None and form is not None and form.default is not None:
        source = form.default()
        if source is None:
            raise InvalidInputError(f"there is no file of {form.name} in its usual place: name it.")
    if source is None or (isinstance(source, str) and not source):
        raise InvalidInputError("name the file, or `-` for what comes on stdin.")
    if form is None:
        form, source = _recognised(ledger, source, stack)
        stack.enter_context(_told_how(form))
    return form, source


@contextmanager
def _told_how(form: Format) -> Iterator[None]:
    """Let an error over a file say which format it was taken for: that may be what is wrong."""
    try:
        yield
    except ImportRefusedError as error:
        raise ImportRefusedError(
            error.source,
            error.line,
            f"{error.reason} The file was read as `{form.name}`, as it begins like one; if it is "
            f"another, name its format.",
            error.unit,
        ) from error


def _recognised(
    ledger: Ledger, source: str | os.PathLike[str] | TextIO, stack: ExitStack
) -> tuple[Format, Any]:
    """The format of a file, and the file to read.

    Raises:
        ImportRefusedError: no format, or more than one, begins so.
    """
    beginning, source = begin_input(source, ledger.path, ForeignDatabase, stack)
    found = recognised(beginning, usable(all_formats()).values())
    if len(found) == 1:
        return found[0], source
    if found:
        names = " or ".join(one.name for one in found)
        matter = f"the file may be one of {names}. Say which, as in"
        told = f"{matter} `{ledger.command('import', found[0].name, 'FILE')}`"
    else:
        told = _what_it_is(ledger, beginning)
    raise ImportRefusedError(beginning.name, None, f"{told}. Nothing was recorded.")


def _what_it_is(ledger: Ledger, beginning: Beginning) -> str:
    """What can be said of a file that no format knows, and what to do."""
    if beginning.tables >= _LEDGER:
        return (
            "this is a ledger: write it to a file with `calib --ledger FILE export jsonl`, and "
            "import that"
        )
    if beginning.head.startswith(b"SQLite format 3\0"):
        return "a database cannot be read from a stream: name its file"
    if _is_utf_16(beginning.head):
        return "the text is UTF-16, as some editors and shells write it: save the file as UTF-8"
    if not beginning.tables and not beginning.head.strip():
        return "the file is empty"
    known = "no format begins like this file"
    if beginning.tables:
        tables = named(sorted(beginning.tables), _SHOWN_MAX)
        known = f"no format knows this database, with the tables {tables}"
    record = beginning.records[0] if beginning.records else ()
    for kind, noun, names in (("jsonl", "key", record), ("csv", "column", header(beginning))):
        reason = why_no_calls(names, noun)
        if reason is not None:
            return f"{known}. As `{kind}`, {reason}"
    return (
        f"{known}. Name its format, as in `{ledger.command('import', 'jsonl', 'FILE')}`; "
        f"`calib formats` lists them all, and `--map` reads files with names of your own"
    )


def _is_utf_16(head: bytes) -> bool:
    """Whether it begins with UTF-16's mark, and goes on with what JSON and names of columns are."""
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    with suppress(UnicodeDecodeError):
        return head[:_MARKED].decode("utf-16").isascii()
    return False


_MARKED = 64
"""Bytes to look at."""

_LEDGER = frozenset({"models", "calls", "adjustments", "calibrations"})
_SHOWN_MAX = 5
