"""What the verbs ask of a ledger, whatever database it lies in."""

from datetime import UTC, datetime

import pytest

from calibration_ledger.errors import (
    HistoryArchivedError,
    LedgerNotFoundError,
    ModelNotFoundError,
)

LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def opened(calibrator, make_call):
    """A ledger with a model of ten calls."""
    calibrator.record_many(make_call(i, "m", request_id=f"r-{i}") for i in range(10))
    return calibrator._ledger


def seqs(history):
    pages = history.calls(0, history.live.last_seq)
    return [seq for page in pages for seq, *_ in page.rows]


def test_a_history_that_is_archived_while_it_is_read_is_read_again_whole(
    calibrator, opened, tmp_path
):
    asked = []

    def work(history):
        asked.append(history.archived)
        if len(asked) == 1:
            calibrator.archive(LATER, tmp_path / "archive.jsonl")
            calibrator.record("m", 1, 2.0)
        return seqs(history)

    assert opened.whole(opened.find("m"), work) == [12]
    assert asked == [0, 11]


def test_an_error_of_the_work_itself_does_not_begin_it_anew(opened):
    asked = []

    def work(history):
        asked.append(history)
        raise HistoryArchivedError("its own")

    with pytest.raises(HistoryArchivedError, match="its own"):
        opened.whole(opened.find("m"), work)
    assert len(asked) == 1


def test_what_lies_in_a_ledger_is_asked_for_by_name(opened):
    (live,) = opened.models()
    assert live == opened.find("m") == opened.models("m", must_exist=True)[0]
    assert (live.last_seq, live.snapshot.sample_count) == (11, 10)
    assert opened.coefficients("m") == ("m", live.snapshot.numbers[:3], 10)
    assert opened.beginning(live).kind == "opened"
    assert opened.call_of(live.model_id, "r-3") == 5
    assert opened.call_of(live.model_id, "nobody's") is None
    assert seqs(opened.history(live)) == [*range(2, 12)]


def test_a_model_never_seen_is_none_and_not_to_be_listed(opened):
    assert opened.find("another") is None
    assert opened.coefficients("another") == ("another", None, 0)
    with pytest.raises(ModelNotFoundError, match="'another'"):
        opened.models("another")


@pytest.mark.usefixtures("ledger_path")  # on PostgreSQL the fixture's is there
def test_a_ledger_that_is_not_there_is_empty_unless_it_must_exist(calibrator):
    ledger = calibrator._ledger
    assert not ledger.exists()
    assert ledger.find("m") is None
    assert ledger.coefficients("m") == ("m", None, 0)
    assert ledger.models() == []
    with pytest.raises(ModelNotFoundError):
        ledger.models("m")
    for asked in (None, "m"):
        with pytest.raises(LedgerNotFoundError):
            ledger.models(asked, must_exist=True)
    with pytest.raises(LedgerNotFoundError):
        ledger.check_exists()


@pytest.mark.parametrize("voided", [range(3, 200, 2), range(2, 120), range(90, 202), [150], []])
def test_the_newest_calls_are_read_in_pages_however_many_between_them_are_voided(
    calibrator, make_call, monkeypatch, voided
):
    calibrator.record_many(make_call(i, "m") for i in range(200))
    if voided:
        calibrator.void("m", seq=list(voided))
    ledger, asked = calibrator._ledger, []
    history = ledger.history(ledger.find("m"))
    read = history._backend.read
    left = [seq for seq in range(201, 1, -1) if seq not in voided]
    assert history.voided is not None
    monkeypatch.setattr(history._backend, "read", lambda *a: asked.append(a) or read(*a))
    for n, after in ((1, 0), (40, 0), (60, 100), (500, 0), (0, 0)):
        found = [seq for seq, *_ in history.newest(n, after)]
        assert found == [seq for seq in left if seq > after][:n]
    assert len(asked) <= 12
