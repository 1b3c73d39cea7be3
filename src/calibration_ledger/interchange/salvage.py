"""Salvage: the calls of a damaged ledger that can still be read, as files to import again.

Of a damaged history the heads no longer hold, so what is written are calls, not a ledger: they are
learnt anew where they are imported. Every number of an entry that is missing is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import InvalidInputError, ModelNotFoundError
from calibration_ledger.interchange.exporting import CSV_COLUMNS, csv_lines
from calibration_ledger.interchange.json_text import encode
from calibration_ledger.interchange.lines import shown_name
from calibration_ledger.interchange.reports import ExportReport
from calibration_ledger.interchange.target import open_target
from calibration_ledger.storage.salvage import opened
from calibration_ledger.validation import check_model, iso_from_us

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from calibration_ledger.entries import CallRow
    from calibration_ledger.facts import LostRange
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.place import Place
    from calibration_ledger.storage.salvage import Salvage
    from calibration_ledger.storage.salvage_model import Found


@dataclass(frozen=True, slots=True)
class SalvageReport(ExportReport):
    """What a salvage wrote, and what it could not.

    Attributes:
        lost: the entries that could not be read, by model and in order.
        incomplete: the calls whose request ids and details may be missing, for some of them could
            not be read.
        stand_ins: the names that stand for those of models whose own could not be read.
    """

    lost: tuple[LostRange, ...] = ()
    incomplete: tuple[LostRange, ...] = ()
    stand_ins: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return {
            **ExportReport.to_dict(self),
            "lost": [lost._asdict() for lost in self.lost],
            "incomplete": [lost._asdict() for lost in self.incomplete],
            "stand_ins": list(self.stand_ins),
        }


def salvage(
    place: Place,
    kind: str,
    target: str | os.PathLike[str] | TextIO,
    *,
    model: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SalvageReport:
    """Write what can be read; see `AdaptiveCalibrator.export_ledger`.

    The ledger need not be one that can be opened.
    """
    if place.path is None:
        raise InvalidInputError(
            f"{place.shown} is no file, and only files are salvaged: leave --salvage out."
        )
    with opened(place) as source:
        models = source.models() if model is None else [_one(source, model, place)]
        written = _Written(source, models, progress)
        lines = _json_lines if kind == "jsonl" else csv_lines
        with open_target(target, place.path, overwrite=overwrite) as write:
            if kind == "csv":
                write(",".join(CSV_COLUMNS) + "\n")
            written.write(lines, write)
    return SalvageReport(
        kind,
        shown_name(target),
        len(models),
        written.calls,
        0,
        tuple(written.lost),
        tuple(written.incomplete),
        tuple(found.model for found in models if not found.is_named),
    )


def _one(source: Salvage, model: str, place: Place) -> Found:
    model = check_model(model)
    for found in source.models():
        if found.model == model:
            return found
    raise ModelNotFoundError(
        f"nothing of a model {model!r} can be read in {place.shown}: leave --model out, and see "
        f"which there are."
    )


class _Written:
    """Writes the calls of one model after the other, and counts."""

    def __init__(self, source: Salvage, models: list[Found], progress: Progress | None) -> None:
        self.calls = 0
        self.lost: list[LostRange] = []
        self.incomplete: list[LostRange] = []
        self._source = source
        self._models = models
        self._progress = progress

    def write(
        self,
        lines: Callable[[str, Iterable[CallRow], Callable[[int], bool]], Iterable[str]],
        write: Callable[[str], object],
    ) -> None:
        for found in self._models:
            model = self._source.model(found)
            for rows in model.pages():
                write("".join(lines(found.model, rows, model.is_voided)))
                if self._progress is not None:
                    self._progress(len(rows))
            self.calls += model.calls
            self.lost += model.lost
            self.incomplete += model.incomplete


def _json_lines(
    model: str, rows: Iterable[CallRow], is_voided: Callable[[int], bool]
) -> Iterator[str]:
    for seq, at, prompt_tokens, completion_tokens, actual_ms, predicted_ms, key, text in rows:
        values: dict[str, Any] = {
            "model": model,
            "seq": seq,
            "called_at": iso_from_us(at),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "actual_ms": actual_ms,
            "predicted_ms": predicted_ms,
        }
        if key is not None:
            values["request_id"] = key
        if text is not None:
            values["details"] = json.loads(text)
        if is_voided(seq):
            values["voided"] = True
        yield encode(values) + "\n"
