"""A whole ledger as JSON lines: every entry of every model, with the heads.

    {"ledger":"calibration-ledger/1"}
    {"entry":"opened","model":"m","seq":1,"recorded_at":"2025-01-31T12:00:00.000000Z", ...}
    {"entry":"call","model":"m","seq":2,"called_at":"2025-01-31T12:00:00.000000Z", ...}
    {"head":"<64 hexadecimal digits>","model":"m","seq":2}
    {"end":{"models":1,"entries":2}}

Models come sorted, each with its entries by seq and then its head; the last line tells a file that
was cut short. A model whose beginning was archived begins with its `archived` entry, whatever the
number of that. There is no time of the export in it: the same ledger gives the same bytes. Floats
are written so that they come back to the bit. Here is the order of the lines; `ledger_lines` has
the lines themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from calibration_ledger.entries import Adjustment
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, UnknownRuleError
from calibration_ledger.interchange.json_text import parse_object
from calibration_ledger.interchange.ledger_lines import (
    FORMAT,
    HEADER,
    adjustment_of,
    call_of,
    check_keys,
    digest_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.entries import CallRow
    from calibration_ledger.interchange.lines import Source


class ModelEnd(NamedTuple):
    """The line behind a model's entries."""

    seq: int
    digest: bytes


class LedgerReader:
    """Reads the lines in order, and holds them to the order that they must have."""

    def __init__(self, source: Source) -> None:
        """Begin before the header."""
        self._source = source
        self._line = 0
        self._model: str | None = None
        self._newest_model = ""
        self._seq = 0
        self._models = self._entries = 0
        self._ended = False

    def items(self) -> Iterator[tuple[int, str, Adjustment | CallRow | ModelEnd]]:
        """Each entry and head, as (line, model, item).

        Raises:
            ImportRefusedError: the file is not what the export writes, or not all of it.
        """
        for number, text, fault in self._source.lines():
            self._line = number
            if fault is not None:
                self._refuse(fault)
            if not text.strip():
                continue
            try:
                item = self._take(parse_object(text.strip(), HEADER))
            except ImportRefusedError:
                raise
            except UnknownRuleError as error:
                self._source.refuse(number, f"{error} Nothing was recorded.")
            except InvalidInputError as error:
                self._refuse(str(error))
            if item is not None:
                yield number, *item
        if not self._ended:
            self._refuse("the file is cut short here: its last line, with the end, is missing")

    def _refuse(self, reason: str) -> NoReturn:
        self._source.refuse(
            self._line or None,
            f"{reason.rstrip('.')}. Nothing was recorded: export the ledger again.",
        )

    def _take(self, values: dict[str, Any]) -> tuple[str, Adjustment | CallRow | ModelEnd] | None:
        if self._line == 1 or values.keys() == {"ledger"}:
            self._take_header(values)
            return None
        if self._ended:
            self._refuse("there is more behind the end")
        if "end" in values:
            self._take_end(values)
            return None
        if "head" in values:
            return self._take_head(values)
        taken = call_of(values) if values.get("entry") == "call" else adjustment_of(values)
        model, entry = taken
        self._follow(model, entry)
        return taken

    def _take_header(self, values: dict[str, Any]) -> None:
        if values != {"ledger": FORMAT} or self._line != 1:
            self._refuse(
                f"a ledger file begins with {HEADER}, once; for rows of calls there are "
                f"`calib import jsonl` and `calib import csv`"
            )

    def _follow(self, model: str, entry: Adjustment | CallRow) -> None:
        """An entry stands behind the one before it, or begins the next model.

        What an archived entry stands for was written to another file.
        """
        seq = entry[0]
        if self._model is None:
            if self._models and model <= self._newest_model:
                self._refuse(f"the model {model!r} must come before {self._newest_model!r}, once")
            is_archived = isinstance(entry, Adjustment) and entry.kind == "archived"
            self._model, self._seq = model, max(0, seq - 1) if is_archived else 0
        if model != self._model:
            self._refuse(f"the head of the model {self._model!r} is missing")
        if seq != self._seq + 1:
            self._refuse(f"entry {seq} of {model!r} where entry {self._seq + 1} must be")
        self._seq = seq
        self._entries += 1

    def _take_head(self, values: dict[str, Any]) -> tuple[str, ModelEnd]:
        check_keys(values, ("head", "model", "seq"), ())
        if (values["model"], values["seq"]) != (self._model, self._seq):
            self._refuse(
                f"the head of entry {values['seq']!r} of {values['model']!r} stands behind entry "
                f"{self._seq} of {self._model!r}"
            )
        digest = digest_of(values["head"])
        model, self._newest_model, self._model = values["model"], values["model"], None
        self._models += 1
        return model, ModelEnd(self._seq, digest)

    def _take_end(self, values: dict[str, Any]) -> None:
        if self._model is not None:
            self._refuse(f"the head of the model {self._model!r} is missing")
        if values != {"end": {"models": self._models, "entries": self._entries}}:
            self._refuse(
                f"the end counts {values['end']!r}, and the file has {self._models} models and "
                f"{self._entries} entries"
            )
        self._ended = True
