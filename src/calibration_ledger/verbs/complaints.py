"""What recording costs a program: errors that are told and raised nowhere, and counts.

Recorders and `timed` run inside a program's own calls, which come first. So no error of theirs gets
there: `Complaints` tells it as the program wishes, and what it cost is counted.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from itertools import repeat
from operator import length_hint
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from calibration_ledger.errors import InvalidInputError, NotRecordedWarning, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

OnError: TypeAlias = Literal["warn", "raise"] | Callable[[Exception], object]
"""What becomes of an error that must not reach the program's own call; see `Complaints`."""

_WISHES = ("warn", "raise")


class Count:
    """A number that any thread or signal handler may raise by one.

    `+=` reads, adds and stores, and another thread can come between. Here C does it in one step.
    """

    __slots__ = ("_left", "add")

    def __init__(self) -> None:
        """Start at 0."""
        self._left = repeat(None, sys.maxsize)
        self.add = self._left.__next__

    @property
    def value(self) -> int:
        """How often `add` was called."""
        return sys.maxsize - length_hint(self._left)


class Tally:
    """How many calls were left out, by reason."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        """Start with none."""
        self._counts: dict[str, Count] = {}

    def of(self, reason: str) -> Count:
        """The count of a reason."""
        found = self._counts.get(reason)
        return self._counts.setdefault(reason, Count()) if found is None else found

    def snapshot(self) -> Mapping[str, int]:
        """The counts of now."""
        counts = dict(self._counts)  # in one step of C: others may count meanwhile
        return MappingProxyType({name: one.value for name, one in counts.items() if one.value})


class Complaints:
    """What becomes of errors that must not reach the program's own calls.

    `"warn"`: the first of each kind is a warning, and the others are only counted. `"raise"`: the
    first is kept, for a method to raise that the program calls for it. A function is called with
    each error. What it raises is kept like that, too, and so is a warning that a filter turned into
    an error. A `DoubtfulCallWarning` is no error, and is only raised where a filter wants that.
    """

    def __init__(self, on_error: OnError) -> None:
        """Follow this wish.

        Raises:
            InvalidInputError: it is none of the three.
        """
        if not callable(on_error) and not (isinstance(on_error, str) and on_error in _WISHES):
            raise InvalidInputError(
                f'on_error must be "warn", "raise" or a function that takes the error, not '
                f"{shown(on_error)}."
            )
        self._on_error = on_error
        self._warned: dict[type[Exception], object] = {}
        self._kept: list[BaseException] = []

    def tell(self, error: Exception, stacklevel: int = 2) -> None:
        """Tell of an error; raises nothing. `stacklevel` is whose line a warning names."""
        try:
            if callable(self._on_error):
                self._on_error(error)
            elif self._on_error == "warn" or isinstance(error, Warning):
                self._warn(error, stacklevel + 1)
            else:
                self._keep(error)
        except KeyboardInterrupt:  # it is nobody's answer to the error
            raise
        except BaseException as failure:  # noqa: BLE001 - of the caller's function, or a warning
            self._keep(failure)

    def _keep(self, error: BaseException) -> None:
        if not self._kept:
            self._kept.append(error)

    def _warn(self, error: Exception, stacklevel: int) -> None:
        me = object()
        if self._warned.setdefault(type(error), me) is me:
            if isinstance(error, Warning):
                warnings.warn(error, stacklevel=stacklevel + 1)
                return
            warnings.warn(
                f"{error} The program goes on; more of the kind is only counted.",
                NotRecordedWarning,
                stacklevel=stacklevel + 1,
            )

    def raise_kept(self) -> None:
        """Raise the error that was kept, once."""
        try:
            error = self._kept.pop()
        except IndexError:
            return
        raise error
