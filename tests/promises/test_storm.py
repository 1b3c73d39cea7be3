"""Storms of SIGKILLs: no acknowledged call is lost, none is there twice, the audit is clean."""

import sys

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.storm import WRITERS, Storm
from support.storm_findings import examine
from support.storm_roles import call_of, record_call

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")


def server_of(request, ledger):
    return request.getfixturevalue("postgres") if "://" in ledger else None


@pytest.mark.parametrize(
    ("kills", "crashes"), [(8, 1), pytest.param(500, 8, marks=pytest.mark.stress)]
)
def test_kills_amid_everything_lose_no_acknowledged_call(
    request, quick, no_ledger, tmp_path, kills, crashes
):
    storm = Storm(quick, no_ledger, tmp_path, server=server_of(request, no_ledger))
    storm.rage(kills, crashes)
    tally = examine(storm)
    print(tally)
    assert tally.acknowledged > 0
    assert sum(tally.kills.values()) == kills
    if kills >= 300:
        assert sum(tally.kills[role] for role in set(WRITERS)) >= 250
        for role in ("import calls", "import ledger", "recalibrate", "void", "migrate"):
            assert tally.amid[role] > 0, f"none was killed in the middle of {role}"


@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.stress)])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_kills_amid_the_making_of_a_ledger_leave_one_that_goes_on(
    request, quick, tmp_path, database, rounds
):
    """Who comes next makes it, or finds it made."""
    for i in range(rounds):
        folder = tmp_path / str(i)
        if database == "sqlite":
            make_and_kill(quick, str(tmp_path / f"{i}.db"), folder, i)
        else:
            server = request.getfixturevalue("postgres")
            with server.database() as name:
                make_and_kill(quick, server.url(name), folder, i)


def make_and_kill(context, ledger, folder, seed):
    storm = Storm(context, ledger, folder, crew=WRITERS, seed=seed)
    storm.sweep(0.4)
    with AdaptiveCalibrator(ledger) as calibrator:
        record_call(calibrator, call_of("id-after"), request_id="id-after")
    examine(storm)
