"""The doctor: from what the storage and the system tell of a ledger to a diagnosis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from calibration_ledger.core.advice import diagnose
from calibration_ledger.storage.engines import examine
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.system import file_facts
from calibration_ledger.verbs.drift import drifted

if TYPE_CHECKING:
    import os

    from calibration_ledger.core.facts import Diagnosis
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.storage.place import Place


def doctor(ledger: Ledger) -> Diagnosis:
    """See `AdaptiveCalibrator.doctor`."""
    return _diagnosis(ledger.place, ledger)


def doctor_of(ledger: str | os.PathLike[str] | None) -> Diagnosis:
    """The same for a ledger that need not be one that can be opened, nor be there.

    Raises:
        InvalidInputError: the name is none of a ledger.
    """
    return _diagnosis(find_place(ledger), None)


def _diagnosis(place: Place, ledger: Ledger | None) -> Diagnosis:
    # Look first who uses the file: to read it is to use it.
    file = None if place.path is None else file_facts(place.path)
    return diagnose(replace(examine(place, ledger, drifted), file=file))
