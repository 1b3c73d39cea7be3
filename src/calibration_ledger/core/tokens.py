"""How many tokens a text has: counted by tiktoken (the extra `tokens`), or by a rule of thumb.

tiktoken fetches the table of an encoding from the network when it first needs it, and waits for it
without a deadline. Nobody expects that of a count, so an encoding is only used where its table has
been fetched before. The text is looked at and forgotten.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from dataclasses import dataclass
from hashlib import sha1, sha256
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.values import Value
from calibration_ledger.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

RULE_OF_THUMB = "rule of thumb"

LATIN, OTHERS, WIDE = 4.0, 2.5, 1.25
"""Characters to a token: of Latin script, of other scripts, and of those as wide as Chinese.

Beside the encoding o200k_base, the rule was 21 % low to 37 % high for texts in 23 languages, 23 %
high at the most for programs, and half of what it should be for tables of numbers.
"""

LATIN_ENDS = 0x250
"""The first character beyond Latin script, as far as most languages use it."""

ENCODINGS = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""The encodings that may be used, with the digests of their tables; the first that is there is."""

TABLES = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""Where tiktoken fetches them. A table lies in a folder, and its name is the digest of this."""

FOLDERS = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
"""The variables that name the folder."""

_encodings: dict[Path | None, Any] = {}
"""Those that were read, by their tables."""

PIECE = 20_000
"""Characters that are encoded at a time: a million blanks at once are too many for tiktoken."""


@dataclass(frozen=True, slots=True)
class TokenCount(Value):
    """How many tokens a text has.

    Attributes:
        tokens: their number.
        counted_by: `tiktoken o200k_base`, `tiktoken cl100k_base` or `rule of thumb`.
        remark: why it is the rule of thumb, and what would help; else empty.
    """

    tokens: int
    counted_by: str
    remark: str = ""


def count_tokens(text: str) -> TokenCount:
    """Count the tokens of a text, such as a prompt. It is stored nowhere, and sent nowhere.

    With tiktoken, and an encoding that it has fetched before, they are counted. Else it is a rule
    of thumb: a token for each 4 characters of Latin script, 2.5 of other scripts, and 1.25 of
    Chinese, Japanese and Korean. Models count by tables of their own: either is near, not exact.

    Raises:
        InvalidInputError: it is no text.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"text must be a str, not {shown(text)}.")
    encoding, remark = _encoding()
    if encoding is not None:
        try:
            tokens = sum(len(encoding.encode_ordinary(piece)) for piece in _pieces(text))
            return TokenCount(tokens, f"tiktoken {encoding.name}")
        except Exception as error:  # noqa: BLE001 - whatever it is, there is the rule of thumb
            remark = f"tiktoken failed ({error})"
    return TokenCount(by_rule_of_thumb(text), RULE_OF_THUMB, remark)


def by_rule_of_thumb(text: str) -> int:
    """About how many tokens a text has; at least 1 for one that is not empty."""
    if text.isascii():
        return ceil(len(text) / LATIN)
    latin = sum(ord(char) < LATIN_ENDS for char in text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return ceil(latin / LATIN + wide / WIDE + (len(text) - latin - wide) / OTHERS)


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def _encoding() -> tuple[Any, str]:
    """An encoding of tiktoken's that is here already, or None with the reason."""
    try:
        import tiktoken

        for name in ENCODINGS:
            table = table_of(name)
            if table not in _encodings and is_fetched(name):
                _encodings[table] = tiktoken.get_encoding(name)
            if table in _encodings:
                return _encodings[table], ""
    except ModuleNotFoundError:
        return None, "`pip install tiktoken` counts them"
    except Exception as error:  # noqa: BLE001 - a tiktoken that does not work counts as none
        return None, f"tiktoken failed ({error})"
    fetch = f"python -c 'import tiktoken; tiktoken.get_encoding(\"{next(iter(ENCODINGS))}\")'"
    return None, f"tiktoken has no table of an encoding yet: `{fetch}` fetches one, once"


def is_fetched(name: str) -> bool:
    """Whether the table of an encoding is where tiktoken keeps it, and is whole.

    One that is damaged tiktoken would fetch anew.
    """
    table = table_of(name)
    if table is None or not table.is_file():
        return False
    return sha256(table.read_bytes()).hexdigest() == ENCODINGS[name]


def table_of(name: str) -> Path | None:
    """Where tiktoken keeps the table of an encoding; None where it was told to keep none."""
    named = [os.environ[variable] for variable in FOLDERS if variable in os.environ]
    folder = named[0] if named else str(Path(tempfile.gettempdir(), "data-gym-cache"))
    key = sha1(TABLES.format(name).encode(), usedforsecurity=False).hexdigest()
    return Path(folder, key) if folder else None
