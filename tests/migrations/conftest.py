"""Fixtures of the migration tests: a revision of tomorrow, in a copy of the migrations' folder."""

import pytest

from calibration_ledger.storage import migrate
from support.newer_program import TOMORROW, make_migrations


@pytest.fixture(name="tomorrow")
def _tomorrow(tmp_path, monkeypatch):
    """A function that adds a revision to the migrations, as a newer program would bring."""

    def add(*, fails=False):
        more = "raise RuntimeError('the power went')" if fails else "pass"
        folder = make_migrations(tmp_path, more=more)
        monkeypatch.setattr(migrate, "migrations_dir", lambda: folder)
        monkeypatch.setattr(migrate, "REVISION", TOMORROW)

    return add
