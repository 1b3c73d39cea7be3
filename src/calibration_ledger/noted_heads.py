"""Heads that the user noted earlier: what they say before any history is looked at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.validation import shown
from calibration_ledger.values import Finding, Head

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGEST = re.compile("[0-9a-fA-F]{64}")  # of SHA-256


def is_head(model: object, seq: object, digest: object) -> bool:
    """Whether `heads()` could give this."""
    if not isinstance(model, str) or type(seq) is not int or not isinstance(digest, str):
        return False
    return seq > 0 and _DIGEST.fullmatch(digest) is not None


def checked_head(head: Head | tuple[str, int, str]) -> Head:
    """A head as `heads()` gives them.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        model, seq, digest = head
        valid = is_head(model, seq, digest)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InvalidInputError(
            f"{shown(head)} is no head: pass what heads() gave, (model, seq, 64 hexadecimal "
            f"digits)."
        )
    return Head(model, seq, digest.lower())


def checked_heads(heads: Iterable[Head | tuple[str, int, str]]) -> list[Head]:
    """The heads that an audit was given; raises as `checked_head` does."""
    try:
        given = list(heads)
    except TypeError:
        raise InvalidInputError(
            f"heads must be a list of heads, as heads() gives them, not {shown(heads)}."
        ) from None
    return [checked_head(head) for head in given]


def missing_models(noted: Iterable[Head], present: Iterable[str]) -> list[Finding]:
    """A finding for each noted head whose model is not in the ledger."""
    models = set(present)
    return [
        Finding(head.model, head.seq, "noted head", head.digest, "no such model in the ledger")
        for head in noted
        if head.model not in models
    ]


def contradictions(noted: Iterable[Head]) -> list[Finding]:
    """A finding for each noted head that says otherwise than one before it."""
    digests: dict[tuple[str, int], str] = {}
    return [
        Finding(head.model, head.seq, "noted head", first, f"{head.digest}, noted as well")
        for head in noted
        if (first := digests.setdefault((head.model, head.seq), head.digest)) != head.digest
    ]
