"""Moving calls and whole ledgers in and out of files.

What a file says is worked out by pure modules that know no database (`lines`, `json_text`, `rows`,
`jsonl_file`, `csv_file`, `ledger_file`, `state_file`); the others bring file and ledger together.
A file is checked whole, in constant memory, before anything of it is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import InvalidInputError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TextIO

    from calibration_ledger.core.entries import Adjustment
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import ExportReport, ImportReport
    from calibration_ledger.storage.ledger import Ledger

IMPORT_KINDS = ("jsonl", "csv", "ledger", "state")
"""What `import_calls` takes: calls as JSON lines or CSV, a whole ledger, the predecessor's JSON."""

EXPORT_KINDS = ("jsonl", "csv")
"""What `export_ledger` writes: the whole ledger as JSON lines, or its calls as CSV."""


def import_calls(
    ledger: Ledger,
    opening: Callable[[str], Adjustment],
    kind: str,
    source: str | os.PathLike[str] | TextIO | None,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """See `AdaptiveCalibrator.import_calls`.

    Args:
        ledger: the ledger.
        opening: the first entry of a model that has no history yet.
        kind: one of `IMPORT_KINDS`.
        source: a path or an open file.
        skip_bad: whether bad lines are left out and counted, instead of refusing the file.
        progress: called with the number of steps done since the last time.
    """
    if kind not in IMPORT_KINDS:
        raise InvalidInputError(f"kind must be one of {', '.join(IMPORT_KINDS)}, not {kind!r}.")
    if skip_bad and kind in {"ledger", "state"}:
        raise InvalidInputError(
            f"skip_bad is for files of calls: of a {kind} file every part counts. Leave it out."
        )
    if kind == "ledger":
        from calibration_ledger.verbs.import_ledger import import_entries

        return import_entries(ledger, source, progress=progress)
    if kind == "state":
        from calibration_ledger.verbs.import_state import import_state

        return import_state(ledger, source)
    from calibration_ledger.verbs.import_calls import import_rows

    return import_rows(ledger, opening, kind, source, skip_bad=skip_bad, progress=progress)


def export_ledger(
    ledger: Ledger,
    kind: str,
    target: str | os.PathLike[str] | TextIO,
    *,
    model: str | None = None,
    overwrite: bool = False,
    salvage: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """See `AdaptiveCalibrator.export_ledger`."""
    if kind not in EXPORT_KINDS:
        raise InvalidInputError(f"kind must be one of {', '.join(EXPORT_KINDS)}, not {kind!r}.")
    if salvage:
        from calibration_ledger.verbs import export as salvaging

        return salvaging.salvage(
            ledger.place, kind, target, model=model, overwrite=overwrite, progress=progress
        )
    from calibration_ledger.verbs.export import export

    return export(ledger, kind, target, model=model, overwrite=overwrite, progress=progress)
