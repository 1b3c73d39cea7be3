"""The id of an import: what brought a call, kept with the call, so that it can be named later.

An id is a digest over the calls of a file, so one file has one id, however often it is taken in:
an import that was cut short and is completed is one import. It lies in the `details` of each call
that the import recorded, under the key `import_id`. That name is the ledger's own: what a file
says under it, such as an export of another ledger, is replaced.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.validation import DETAILS_BYTES_MAX, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calibration_ledger.interchange.rows import Row

KEY = "import_id"
"""The key in the details of a call."""

ID_BYTES = 6
"""Bytes of SHA-256: an id has twice as many hexadecimal digits."""

_BEGINNING = f'{{"{KEY}":"'
_MEMBER = r'"[ !#-\[\]-h][^"\\]*":(?:"[^"\\]*"|[^"{\[,}]+)'
_BEFORE = re.compile(rf"\{{{_MEMBER}(?:,{_MEMBER})*")
"""Plain members whose keys begin with less than an i: those that come before ours."""

_ID = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
_ALONE_LENGTH = len(_BEGINNING) + 2 * ID_BYTES + len('"}')

DETAILS_BYTES_LEFT = DETAILS_BYTES_MAX - _ALONE_LENGTH + len("{")
"""What the id leaves to details that do not hold one yet; a comma takes the place of a brace."""


class ImportDigest:
    """Works an id out of the rows of a file, in their order. Released, it never changes.

    What makes a row another call makes the id another one, and so does the order. Of a row goes
    in what the file says: one without a time is the same whenever it is taken in. So two files of
    one id hold the same calls; the same calls in JSON lines and CSV have one id, unless one of
    the formats was given more (an export has request ids that the file it came from had not).
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self._hash = hashlib.sha256(b"calibration-ledger/import-id/1\0")

    def add(self, rows: Iterable[Row]) -> None:
        """Take the next rows."""
        # No part can hold a NUL and each ends in one, so no rows can be mistaken for others.
        self._hash.update(
            "".join(
                [
                    f"{model}\0{'' if at is None else at}\0{prompt_tokens}\0{completion_tokens}\0"
                    f"{actual_ms.hex()}\0{request_id or ''}\0{details or ''}\0"
                    for model, at, prompt_tokens, completion_tokens, actual_ms, request_id, details,
                        _ in rows
                ]
            ).encode()
        )  # fmt: skip

    def import_id(self) -> str:
        """The id, as 12 hexadecimal digits."""
        return self._hash.digest()[:ID_BYTES].hex()


def with_import_id(details: str | None, import_id: str) -> str:
    """Canonical details with the id in its place; one that they hold already is replaced."""
    if details is None:
        return f'{_BEGINNING}{import_id}"}}'
    # The keys are sorted and in ASCII, so that mostly the place can be seen without parsing.
    if details[2] > KEY[0]:
        return f'{_BEGINNING}{import_id}",{details[1:]}'
    before = _BEFORE.match(details)
    if before is not None:
        end = before.end()
        if details[end] == "}" or details[end + 2] > KEY[0]:
            return f'{details[:end]},"{KEY}":"{import_id}"{details[end:]}'
    return canonical_json({**json.loads(details), KEY: import_id})


def check_room(details: str) -> None:
    """Refuse canonical details that would be too long with an id.

    Raises:
        InvalidInputError: they would be.
    """
    if len(details) <= DETAILS_BYTES_LEFT:
        return
    size = len(with_import_id(details, "0" * 2 * ID_BYTES))
    if size > DETAILS_BYTES_MAX:
        raise InvalidInputError(
            f"details take {size} bytes as JSON with the {KEY} that each imported call gets: keep "
            f"them to at most {DETAILS_BYTES_LEFT} without it"
        )


def import_id_of(details: str | None) -> str | None:
    """The id of the import that brought the call with these details (JSON); None for no import.

    Details that were damaged name none.
    """
    if details is None or f'"{KEY}"' not in details:
        return None
    found: object
    if len(details) == _ALONE_LENGTH and details.startswith(_BEGINNING):
        found = details[len(_BEGINNING) : -len('"}')]  # so are most, and parsing takes time
    else:
        try:
            values = json.loads(details)
        except (ValueError, RecursionError):
            return None
        found = values.get(KEY) if isinstance(values, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None
