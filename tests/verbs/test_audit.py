"""heads() and audit(): the same history has the same head everywhere, and a rewritten one is seen.

What tampering with single rows does is in `test_tampering`; what noted heads find of a history that
was exchanged for one that explains itself, in `tests/cli/test_forgery.py`.
"""

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, Head
from calibration_ledger.errors import InvalidInputError, LedgerNotFoundError, ModelNotFoundError
from support.reference import digest_of


@pytest.fixture
def still_clock(monkeypatch):
    """The openings of all ledgers are of the same moment, so that only the calls differ."""
    monkeypatch.setattr("calibration_ledger.calibrator.now_us", lambda: 1_767_323_045_000_000)
    monkeypatch.setattr("calibration_ledger.verbs.replay.now_us", lambda: 1_767_323_046_000_000)


def write(path, calls, *, first=()):
    """A ledger of these calls; `first` are recorded before, and the ids are theirs."""
    with AdaptiveCalibrator(path) as calibrator:
        for call in [*first, *calls]:
            calibrator.record_many([call])
        assert calibrator.audit() == []
        return calibrator.heads()


def test_a_head_names_the_model_its_newest_entry_and_64_hexadecimal_digits(calibrator):
    calibrator.record("m", 1, 2.0)
    (head,) = calibrator.heads()
    assert isinstance(head, Head)
    assert (head.model, head.seq, len(head.digest)) == ("m", 2, 64)
    assert head.digest == bytes.fromhex(head.digest).hex()
    with pytest.raises(AttributeError):
        head.seq = 3


def test_heads_come_sorted_by_model(calibrator):
    for model in ("b", "ä", "a", "C"):
        calibrator.record(model, 1, 2.0)
    assert [head.model for head in calibrator.heads()] == ["C", "a", "b", "ä"]


@pytest.mark.usefixtures("still_clock")
def test_the_same_history_has_the_same_heads_whatever_the_databases_ids(tmp_path, make_call):
    calls = {model: [make_call(i, model) for i in range(6)] for model in ("a", "b", "c")}
    forwards = [call for i in range(6) for model in "abc" for call in calls[model][i : i + 1]]
    backwards = [call for model in "cab" for call in calls[model]]
    heads = write(tmp_path / "1.db", forwards)
    assert heads == write(tmp_path / "2.db", backwards)
    other = write(tmp_path / "3.db", forwards, first=[make_call(0, "z"), make_call(0, "y")])
    assert heads == [head for head in other if head.model in "abc"]
    for name in ("1", "2", "3"):
        for head in heads:
            assert digest_of(tmp_path / f"{name}.db", head.model) == head.digest


@pytest.mark.usefixtures("still_clock")
@pytest.mark.parametrize(
    "change", [{"prompt_tokens": 7}, {"request_id": "r"}, {"details": {"a": 1}}], ids=str
)
def test_another_history_has_another_head(tmp_path, make_call, change):
    calls = [make_call(i) for i in range(5)]
    heads = write(tmp_path / "1.db", calls)
    assert heads != write(tmp_path / "2.db", [*calls[:2], make_call(2, **change), *calls[3:]])


def test_every_write_moves_the_head_and_no_read_does(calibrator):
    seen = []

    def moved():
        seen.append(calibrator.heads()[0])
        return len(set(seen)) == len(seen)

    calibrator.record("m", 1, 2.0, request_id="r")
    assert moved()
    calibrator.record("m", 1, 2.0)
    assert moved()
    calibrator.reset("m")
    assert moved()
    calibrator.recalibrate(0.5)
    assert moved()
    calibrator.predict("m", 1)
    list(calibrator.calls())
    calibrator.replay(0.9)
    calibrator.audit()
    calibrator.record("m", 1, 2.0, request_id="r")
    assert not moved()


@pytest.mark.both
def test_heads_noted_at_any_time_are_still_on_the_way(calibrator, make_call):
    noted = []
    for i in range(12):
        calibrator.record_many([make_call(i, f"m{i % 3}")])
        if i == 5:
            calibrator.reset()
        if i == 8:
            calibrator.recalibrate(0.7)
        noted += calibrator.heads()
        assert calibrator.audit(heads=noted) == []
    assert calibrator.audit("m1", heads=noted) == []


def test_noted_heads_may_be_plain_tuples_and_any_iterable(calibrator):
    calibrator.record("m", 1, 2.0)
    (head,) = calibrator.heads()
    assert calibrator.audit(heads=iter([("m", head.seq, head.digest.upper())])) == []
    assert calibrator.audit(heads=[]) == []


@pytest.mark.parametrize("heads", [None, [Head("m", 2, "ab" * 32)]])
@pytest.mark.parametrize("model", [None, "m"])
def test_a_missing_ledger_is_an_error_and_no_clean_audit(tmp_path, model, heads):
    with AdaptiveCalibrator(tmp_path / "typo.db") as calibrator:
        with pytest.raises(LedgerNotFoundError, match=r"there is no ledger at .*typo\.db"):
            calibrator.audit(model, heads=heads)
        assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_memory_is_empty_from_the_start_and_not_missing():
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.audit() == calibrator.replay() == calibrator.recalibrate(0.5) == []


def test_noted_heads_that_disagree_are_found(calibrator):
    calibrator.record("m", 1, 2.0)
    (head,) = calibrator.heads()
    for noted in ([head, head._replace(digest="ab" * 32)], [head._replace(digest="ab" * 32), head]):
        findings = calibrator.audit(heads=noted)
        assert {(f.model, f.seq, f.check) for f in findings} == {("m", 2, "noted head")}


@pytest.mark.parametrize(
    "head",
    [
        "m",
        None,
        ("m", 1),
        ("m", 0, "ab" * 32),
        ("m", -1, "ab" * 32),
        ("m", True, "ab" * 32),
        ("m", 1.0, "ab" * 32),
        (1, 1, "ab" * 32),
        ("m", 1, "ab" * 31),
        ("m", 1, "ab " * 32),
        ("m", 1, b"ab" * 32),
    ],
)
def test_noted_heads_that_are_none_are_refused(calibrator, head):
    calibrator.record("m", 1, 2.0)
    with pytest.raises(InvalidInputError, match=r"no head: pass what heads\(\) gave"):
        calibrator.audit(heads=[head])


def test_an_audit_of_one_model_looks_at_the_noted_heads_of_that_one(calibrator):
    calibrator.record("a", 1, 2.0)
    calibrator.record("b", 1, 2.0)
    a, b = calibrator.heads()
    of_others = [b, b._replace(digest="ab" * 32), Head("gone", 2, "cd" * 32)]
    assert calibrator.audit("a", heads=[a, *of_others]) == []
    assert {finding.model for finding in calibrator.audit(heads=[a, *of_others])} == {"b", "gone"}


def test_an_audit_of_a_model_never_seen_is_an_error(calibrator):
    calibrator.record("m", 1, 2.0)
    with pytest.raises(ModelNotFoundError, match="no entry of a model 'unseen'"):
        calibrator.audit("unseen")


def test_progress_is_told_of_every_call(calibrator, make_call):
    calibrator.record_many(make_call(i, f"m{i % 3}") for i in range(30))
    told = []
    calibrator.audit(progress=told.append)
    assert sum(told) == 30


def test_an_audit_while_others_write_gives_no_false_finding(calibrator, ledger_path, make_call):
    """Each page read, somebody records, resets and recalibrates."""
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(3000))
    with AdaptiveCalibrator(ledger_path, durability="normal") as writer:

        def disturb(_done):
            writer.record_many(Call(model, 1, 2, 3.0) for model in ("m0", "m1", "new"))
            writer.reset("m1")
            writer.recalibrate(0.3, model="m0")

        assert calibrator.audit(progress=disturb) == []
        assert calibrator.audit() == []
