"""Every format that `calib import` reads, by its name.

A format of another tool is a module beside this one, and a line in the table here.
"""

from __future__ import annotations

from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats import csv, jsonl, ledger, predecessor
from calibration_ledger.formats.base import Format

_OWN = (
    Format("jsonl", "calls, a JSON object a line", "own", jsonl.jsonl_rows, jsonl.looks_like),
    Format("csv", "calls, with a line of column names", "own", csv.csv_rows, csv.looks_like),
    Format(
        "ledger",
        "a whole ledger, as `calib export jsonl` writes it",
        "own",
        None,
        ledger.looks_like,
    ),
    Format(
        "state",
        "the JSON of the older calibrator",
        "own",
        None,
        predecessor.looks_like,
        predecessor.default_place,
    ),
)

_MODULES: tuple[Format, ...] = ()


def formats() -> dict[str, Format]:
    """Every format by its name, our own first."""
    return {one.name: one for one in (*_OWN, *_MODULES)}


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        InvalidInputError: there is none.
    """
    known = formats()
    found = known.get(name)
    if found is None:
        raise InvalidInputError(
            f"there is no format {shown(name)}",
            advice=f"{did_you_mean(name, known)}`calib formats` lists them all",
        )
    return found
