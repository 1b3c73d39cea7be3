"""Mappings and lists that are handed out: equal to a dict or list, and refusing to be changed.

They are a dict and a list still, so that `json`, `pickle`, `copy` and comparisons take them for
what they are. `dict(details)` gives one that can be changed.
"""

from __future__ import annotations

from typing import Any, NoReturn


def _refuse(self: object, *_arguments: object, **_keywords: object) -> NoReturn:
    raise TypeError(
        f"a {type(self).__name__} cannot be changed, for it was handed out: copy it, with "
        f"dict(...) or list(...)."
    )


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        """Of the keys alone: what is equal has the same, whatever kinds of numbers are in it."""
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle whole: a dict is otherwise filled item by item."""
        return type(self), (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # a list has none
        """Of the length alone, for the same reason."""
        return hash(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle whole: a list is otherwise filled item by item."""
        return type(self), (list(self),)


_CHANGING = {
    FrozenDict: "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update",
    FrozenList: "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove "
    "reverse sort",
}
for _kind, _names in _CHANGING.items():
    for _name in _names.split():
        setattr(_kind, _name, _refuse)


def frozen(value: Any) -> Any:
    """The same value of JSON, with no part that can be changed."""
    if isinstance(value, dict):
        return FrozenDict((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    return value
