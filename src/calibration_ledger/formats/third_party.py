"""Formats of other packages, found by their entry points.

A package names a callable in the group `calibration_ledger.formats`. It takes the path of a file
and gives `Call`s, mappings with the fields of a call, or `Skip`s. If it has an attribute
`looks_like`, that takes a `Beginning`, and the format takes part in the recognition of files; an
attribute `reads` says in a line what it reads. Nothing of a package is imported until its format is
asked for, and what it raises is told as an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from calibration_ledger.core.answers import Reason
from calibration_ledger.core.values import Call
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, shown
from calibration_ledger.formats.base import Format, Skip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from importlib.metadata import EntryPoint

    from calibration_ledger.formats.base import Beginning, Input, Placed

GROUP = "calibration_ledger.formats"


def third_parties(taken: Collection[str]) -> list[Format]:
    """The formats of other packages, sorted by name; those with a name of ours have trouble."""
    from importlib.metadata import entry_points  # takes as long to import as a command to start

    found: list[Format] = []
    seen: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda one: (one.name, _package(one))):
        package = _package(point)
        trouble = ""
        if point.name in taken:
            trouble = f"the name is one of ours, and what {package} gives under it is not used"
        elif point.name in seen:
            trouble = f"{seen[point.name]} has the same name, and comes first"
        seen.setdefault(point.name, package)
        found.append(
            Format(
                point.name,
                f"what {package} reads",
                "third party",
                partial(_rows, point),
                partial(_is_it, point),
                trouble=trouble,
            )
        )
    return found


def described(form: Format) -> Format:
    """The same with what its package says of it, or with the trouble that loading it makes."""
    if form.trouble or form.kind != "third party" or not isinstance(form.rows, partial):
        return form
    point = form.rows.args[0]
    try:
        reads = getattr(_load(point), "reads", None)
    except InvalidInputError as error:
        return Format(form.name, form.reads, form.kind, form.rows, form.is_it, trouble=str(error))
    reads = f"{reads} ({_package(point)})" if isinstance(reads, str) and reads else form.reads
    return Format(form.name, reads, form.kind, form.rows, form.is_it)


def _package(point: EntryPoint) -> str:
    """The package of an entry point, with its version."""
    if point.dist is None:
        return point.value
    return f"{point.dist.name} {point.dist.version}"


def _load(point: EntryPoint) -> Any:
    """The callable of a format.

    Raises:
        InvalidInputError: its package cannot be imported, or gives something else.
    """
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"{_package(point)} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    if not callable(found):
        raise InvalidInputError(f"{_package(point)} gives {shown(found)}, which cannot be called")
    return found


def _is_it(point: EntryPoint, beginning: Beginning) -> bool:
    """Whether the package knows the file; one that fails over it does not."""
    try:
        looks_like = getattr(_load(point), "looks_like", None)
        return looks_like is not None and bool(looks_like(beginning))
    except (Exception, SystemExit):  # noqa: BLE001 - `calib formats` tells; the others go on
        return False


def _rows(point: EntryPoint, file: Input) -> Iterator[Placed]:
    if file.path is None:
        file.refuse(None, f"the format {point.name} cannot read a stream: name a file.")
    if not file.path.exists():
        file.refuse(None, "there is no such file.")
    try:
        for place, item in enumerate(_load(point)(str(file.path)), 1):
            if isinstance(item, Skip):
                if item.reason not in get_args(Reason):
                    _fail(point, file, place, f"gave the unknown reason {shown(item.reason)}")
            elif not isinstance(item, Call | Mapping):
                _fail(point, file, place, f"gave {shown(item)}, which is no call and no Skip")
            # A mapping of its own making may raise when it is read.
            yield place, dict(item) if isinstance(item, Mapping) else item
    except ImportRefusedError:
        raise
    except InvalidInputError as error:
        _fail(point, file, None, f"failed: {error}", error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - all is told as the package's own
        _fail(point, file, None, f"failed ({type(error).__name__}: {error})", error)


def _fail(
    point: EntryPoint, file: Input, place: int | None, what: str, cause: BaseException | None = None
) -> NoReturn:
    raise ImportRefusedError(
        file.name,
        place,
        f"the format {point.name} of {_package(point)} {what}. Nothing was recorded: tell the "
        f"authors of the package.",
    ) from cause
