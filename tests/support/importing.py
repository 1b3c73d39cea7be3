"""Exports as texts, and texts imported as a user would: from a file, into a fresh ledger."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError, LedgerNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from calibration_ledger import Call
    from calibration_ledger.core.values import ImportReport

HEADER = "model,prompt_tokens,completion_tokens,actual_ms"


def json_row(**fields: Any) -> str:
    """A good row as a JSON line, with any field replaced, or left out where it is ...."""
    row = {"model": "m", "prompt_tokens": 100, "completion_tokens": 20, "actual_ms": 900.5}
    return json.dumps({k: v for k, v in (row | fields).items() if v is not ...}) + "\n"


def exported(calibrator: AdaptiveCalibrator, **options: Any) -> str:
    """The whole ledger, as a file for another."""
    out = io.StringIO()
    calibrator.export_ledger("jsonl", out, **options)
    return out.getvalue()


def as_in_the_file(calls: Iterable[Call], import_id: str | None) -> list[Call]:
    """Calls without the id of the import that brought them, which each of them must bear."""
    found = []
    for call in calls:
        details = dict(call.details or {})
        assert details.pop("import_id") == import_id
        found.append(replace(call, details=details or None))
    return found


@pytest.fixture
def take(calibrator: AdaptiveCalibrator, tmp_path: Path) -> Callable[..., ImportReport]:
    """Import a text (or bytes) from a file into the ledger of `calibrator`."""

    def take(kind: str, content: str | bytes, **options: Any) -> ImportReport:
        path = tmp_path / f"import.{kind}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return calibrator.import_calls(kind, path, **options)

    return take


@pytest.fixture
def refuse(
    take: Callable[..., ImportReport], calibrator: AdaptiveCalibrator
) -> Callable[..., ImportRefusedError]:
    """Import what must be refused; gives the error, after a look that nothing changed."""

    def refuse(kind: str, content: str | bytes, **options: Any) -> ImportRefusedError:
        before = calibrator.heads()
        with pytest.raises(ImportRefusedError) as caught:
            take(kind, content, **options)
        assert calibrator.heads() == before
        return caught.value

    return refuse


@pytest.fixture
def other(tmp_path: Path) -> Iterator[AdaptiveCalibrator]:
    """A second ledger, which must audit clean in the end."""
    with AdaptiveCalibrator(tmp_path / "other.db") as opened:
        yield opened
        with suppress(LedgerNotFoundError):  # what is refused, or empty, makes no ledger
            assert opened.audit() == []
