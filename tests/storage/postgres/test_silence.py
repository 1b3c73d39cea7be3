"""A network that swallows everything and tells nobody: every call ends at its deadline.

The wire goes on taking what is sent, as a firewall or a proxy does whose other side is gone, so
that the system itself notices nothing.
"""

import time

import pytest

from calibration_ledger import AdaptiveCalibrator, NotRecordedError, OutcomeUnknownError
from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.postgres import connections, server
from calibration_ledger.storage.postgres.connections import make_engine

TIMEOUT_S = 0.4
ANSWER_S = 0.3
MOST_S = 5.0  # another look whether the server answers, and a slow machine


@pytest.fixture(autouse=True)
def _answers_are_quick(monkeypatch):
    for module in (connections, server):
        monkeypatch.setattr(module, "ANSWER_S", ANSWER_S)


@pytest.fixture(name="far")
def _far(proxy, calibrator):
    calibrator.record("m", 1, 2.0)
    url = proxy.url.render_as_string(hide_password=False)
    with AdaptiveCalibrator(url, timeout_s=TIMEOUT_S) as opened:
        opened.record("m", 1, 2.0)
        yield opened


def timed(use, error, match):
    begun = time.monotonic()
    with pytest.raises(error, match=match):
        use()
    assert time.monotonic() - begun < MOST_S


def test_a_prediction_ends(proxy, far):
    proxy.fall_silent_at(0)
    timed(lambda: far.predict("m", 1), LedgerError, r"did not answer for 0\.7 s")
    proxy.cut_at(None)
    assert far.predict("m", 1).sample_count == 2


def test_a_record_ends_at_every_message_and_says_what_is_known(proxy, far, calibrator):
    def record(i):
        far.record("m", 3, 4.0, request_id=f"{i}")

    proxy.cut_at(None)
    record("whole")
    count = proxy.messages
    for i in range(count):
        is_commit = i == count - 1
        proxy.fall_silent_at(i, delivered=True)
        error = OutcomeUnknownError if is_commit else NotRecordedError
        timed(lambda: record(i), error, "did not answer")  # noqa: B023 - it is called at once
        proxy.cut_at(None)
        ids = {call.request_id for call in calibrator.calls("m")}
        assert (f"{i}" in ids) == is_commit, i
        record(i)
    assert len(list(calibrator.calls("m"))) == 3 + count


def test_connecting_ends(proxy, calibrator):
    url = proxy.url.render_as_string(hide_password=False)
    for i in range(3):
        proxy.fall_silent_at(i)
        timed(
            lambda: AdaptiveCalibrator(url, timeout_s=TIMEOUT_S),
            LedgerError,
            "no connection|did not answer",
        )
    proxy.cut_at(None)


def test_what_takes_long_is_not_given_up(url, run, calibrator):
    calibrator.record("m", 1, 2.0)
    slow = "SELECT pg_sleep(0.8)"
    with AdaptiveCalibrator(url, timeout_s=0.0) as hasty:
        backend = hasty._ledger.backend
        backend._long |= {slow}
        assert len(backend.read(slow)) == 1
        with pytest.raises(LedgerError, match=r"did not answer for 0\.3 s"):
            backend.read("SELECT pg_sleep(5.0)")


def test_the_system_gives_up_what_is_not_acknowledged_in_time(url):
    engine = make_engine(url, 7.0)
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw.info.get_parameters()["tcp_user_timeout"] == "7000"
        connection.invalidate()
    engine.dispose()
