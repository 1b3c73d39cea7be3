"""What an import or an export did, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class SkippedLine(NamedTuple):
    """A line that was left out.

    Attributes:
        line: its number in the file, from 1.
        reason: what was wrong with it.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        kind: what was imported: `jsonl`, `csv`, `ledger` or `state`.
        source: the file as the user named it, or `<stdin>`.
        recorded: how many calls were added to the ledger.
        already: how many calls of the file were in the ledger before, or are repeated in the file.
        already_voided: how many of these are voided in the ledger, and stay so (`jsonl` and `csv`).
        older: how many of the added calls were made before their model's newest call that was in
            the ledger already; they were appended behind it all the same.
        adjustments: how many adjustments were added (`ledger` and `state`; the `opened` entry of
            a model that an import of calls opens is not counted).
        skipped: how many bad lines were left out.
        skipped_reasons: why, most frequent first, as (reason without its values, lines).
        skipped_lines: the first of the skipped lines, in order.
        models: how many models the file holds something of.
        models_opened: how many of them had no history before.
        models_extended: how many of them had one, and got more.
        models_unchanged: how many of them had everything already.
        voided: how many calls were left out because the file says that they are voided.
        import_id: what the calls that were added bear in their details, to name this import by
            (`jsonl` and `csv`); None where none was added.
    """

    kind: str
    source: str
    recorded: int = 0
    already: int = 0
    already_voided: int = 0
    older: int = 0
    adjustments: int = 0
    skipped: int = 0
    skipped_reasons: tuple[tuple[str, int], ...] = ()
    skipped_lines: tuple[SkippedLine, ...] = ()
    models: int = 0
    models_opened: int = 0
    models_extended: int = 0
    models_unchanged: int = 0
    voided: int = 0
    import_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return {
            **asdict(self),
            "skipped_reasons": dict(self.skipped_reasons),
            "skipped_lines": [line._asdict() for line in self.skipped_lines],
        }


class ArchivedModel(NamedTuple):
    """What was archived of one model.

    Attributes:
        model: its name.
        calls: how many calls.
        adjustments: how many adjustments, besides an archived entry from before.
        seq: the number of the newest archived entry.
        head: the head behind it, as 64 hexadecimal digits.
    """

    model: str
    calls: int
    adjustments: int
    seq: int
    head: str


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What an archive took out of the ledger.

    Attributes:
        target: the file as the user named it; it was not made where there was nothing to archive.
        models: what it holds of each model, sorted by model.
        bytes_before: what the ledger took before; None where that is not knowable.
        bytes_after: what it takes now.
        trouble: why the space could not be given back, where it could not: the archive stands.
    """

    target: str
    models: tuple[ArchivedModel, ...] = ()
    bytes_before: int | None = None
    bytes_after: int | None = None
    trouble: str | None = None

    @property
    def calls(self) -> int:
        """How many calls were archived."""
        return sum(model.calls for model in self.models)

    @property
    def adjustments(self) -> int:
        """How many adjustments were."""
        return sum(model.adjustments for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return {
            **asdict(self),
            "models": [model._asdict() for model in self.models],
            "calls": self.calls,
            "adjustments": self.adjustments,
        }


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        kind: `jsonl` or `csv`.
        target: the file as the user named it, or `<stdout>`.
        models: how many models it holds.
        calls: how many calls.
        adjustments: how many adjustments (`jsonl` only).
    """

    kind: str
    target: str
    models: int
    calls: int
    adjustments: int

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return asdict(self)
