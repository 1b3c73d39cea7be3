"""Which import a file is: of calls, of a whole ledger, or of the predecessor's state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from calibration_ledger.core.validation import check_new_model
from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.formats.registry import find_format
from calibration_ledger.verbs.import_calls import import_rows
from calibration_ledger.verbs.import_ledger import import_entries
from calibration_ledger.verbs.import_state import import_state

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TextIO

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import ImportReport
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.verbs.import_calls import Wishes
    from calibration_ledger.verbs.record import Opening


def import_of(
    ledger: Ledger,
    opening: Opening,
    named_rule: tuple[Rule | None, float | None],
    kind: object,
    source: str | os.PathLike[str] | TextIO | None,
    wishes: Wishes,
    progress: Progress | None,
) -> Callable[[], ImportReport]:
    """The import of a file, to be run; see `AdaptiveCalibrator.import_calls`.

    It is not run here, so that its warnings are of the line that called the calibrator.

    Args:
        ledger: where to.
        opening: what a new model starts from.
        named_rule: the rule and the alpha that the program names for new models.
        kind: the name of the format.
        source: the file; None: the place where the format's tool keeps it.
        wishes: what the caller wants besides.
        progress: is told of the steps.
    """
    if not isinstance(kind, str):
        raise InvalidInputError(f"kind must be the name of a format, not {shown(kind)}.")
    form = find_format(kind)
    if source is None:
        source = form.default() if form.default is not None else None
    if source is None or (isinstance(source, str) and not source):
        raise InvalidInputError("name the file, or `-` for what comes on stdin.")
    if form.rows is not None:
        if wishes.model is not None:
            check_new_model(wishes.model)
        return partial(import_rows, ledger, opening, form, source, wishes, progress)
    given = next((name for name, one in wishes._asdict().items() if one), None)
    if given is not None:
        raise InvalidInputError(
            f"{given} is for files of calls: of a {form.name} file every part counts. Leave it out."
        )
    if form.name == "ledger":
        return partial(import_entries, ledger, source, progress=progress)
    return partial(import_state, ledger, source, *named_rule)
