"""Names of models: what nobody sees in one is refused, and one that differs in case is told."""

import io
import warnings

import pytest

from calibration_ledger import (
    AdaptiveCalibrator,
    Call,
    DoubtfulCallWarning,
    ImportRefusedError,
    InvalidInputError,
    SimilarNameWarning,
)
from support.importing import exported, json_row
from support.old_names import record_old

BLANK = "must not begin or end with a blank"
CONTROL = "must not hold a control character"
BAD = {
    "a blank behind": ("m ", BLANK),
    "a blank before": (" m", BLANK),
    "a blank alone": (" ", BLANK),
    "a tab behind": ("m\t", BLANK),
    "a line end": ("m\n", BLANK),
    "no-break space": ("m\u00a0", BLANK),
    "narrow no-break space": ("\u202fm", BLANK),
    "ideographic space": ("m\u3000", BLANK),
    "braille blank": ("m\u2800", BLANK),
    "hangul filler": ("\u3164", BLANK),
    "a tab inside": ("a\tb", CONTROL),
    "escape": ("a\x1b[2Jb", CONTROL),
    "delete": ("a\x7fb", CONTROL),
    "next line": ("a\x85b", CONTROL),
    "zero width space": ("a\u200bb", CONTROL),
    "zero width at the end": ("m\u200d", CONTROL),
    "byte order mark": ("\ufeffm", CONTROL),
    "soft hyphen": ("a\u00adb", CONTROL),
    "right-to-left override": ("a\u202eb", CONTROL),
    "isolate": ("\u2066m\u2069", CONTROL),
    "line separator": ("a\u2028b", CONTROL),
    "paragraph separator": ("a\u2029b", CONTROL),
    "tag": ("m\U000e0041", CONTROL),
}
GOOD = [
    "a b",
    "a\u00a0b",
    "größe",
    "模型",
    "a\u0308",
    "m\u2764\ufe0f",
    "a/b:c@d",
    "-m",
    "\U0001d11e",
]

WAYS = {
    "record": lambda calibrator, name: calibrator.record(name, 1, 2.0),
    "record_call": lambda calibrator, name: calibrator.record_call(Call(name, 1, 2, 3.0)),
    "record_many": lambda calibrator, name: calibrator.record_many([Call(name, 1, 2, 3.0)]),
    "timed": lambda calibrator, name: calibrator.timed(name, 1),
}


@pytest.mark.parametrize("which", BAD)
def test_a_name_with_what_nobody_sees_is_refused(calibrator, which):
    name, why = BAD[which]
    for way in WAYS.values():
        with pytest.raises(InvalidInputError, match=rf"model {why} \(U\+[0-9A-F]{{4,5}}\)"):
            way(calibrator, name)
    assert calibrator.heads() == []


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_seen_is_a_name(calibrator, name):
    calibrator.record(name, 1, 2.0)
    calibrator.record_many([Call(name, 1, 2, 3.0)])
    assert [head.model for head in calibrator.heads()] == [name]


@pytest.mark.parametrize("name", ["m ", "a\u200bb"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_row_of_such_a_name_is_a_bad_one(take, calibrator, kind, name):
    rows = {
        "jsonl": json_row() + json_row(model=name),
        "csv": f'model,prompt_tokens,completion_tokens,actual_ms\nm,1,2,3\n"{name}",1,2,3\n',
    }
    with pytest.raises(ImportRefusedError, match="model must not"):
        take(kind, rows[kind])
    assert calibrator.heads() == []
    report = take(kind, rows[kind], skip_bad=True)
    assert (report.recorded, report.skipped) == (1, 1)
    assert [head.model for head in calibrator.heads()] == ["m"]


def test_a_state_of_the_predecessor_with_such_a_name_is_refused(take, calibrator):
    model = (
        '{"model":"m ","ms_per_prompt_token":1,"ms_per_completion_token":1,"base_overhead_ms":1}'
    )
    with pytest.raises(ImportRefusedError, match=f"model 1 of the list.*{BLANK}"):
        take("state", f'{{"version":1,"models":[{model}]}}')
    assert calibrator.heads() == []


# -- names that a ledger has from before ----------------------------------------------------


@pytest.mark.both
def test_what_a_ledger_has_under_such_a_name_stays_of_use(calibrator):
    name = " a\u200b\tb "
    record_old(calibrator, [Call(name, 1, 2, 3.0 + i) for i in range(3)])
    assert calibrator.predict(name, 1).sample_count == 3
    assert calibrator.forecast(name, 1).n == 2
    assert len(list(calibrator.calls(name))) == 3
    assert calibrator.get_stats(name)["sample_count"] == 3
    assert [one.model for one in calibrator.replay(model=name)] == [name]
    assert calibrator.audit(name) == []
    calibrator.void(name, seq=2)
    calibrator.reset(name)
    calibrator.recalibrate(0.5, model=name)
    with pytest.raises(InvalidInputError, match=BLANK):
        calibrator.record(name, 1, 2.0)
    with AdaptiveCalibrator(":memory:") as other:
        other.import_calls("ledger", io.StringIO(exported(calibrator)))
        assert other.heads() == calibrator.heads()
        assert other.audit() == []


# -- names that differ only in case ---------------------------------------------------------


@pytest.mark.both
@pytest.mark.parametrize("way", [name for name in WAYS if name != "timed"])
def test_a_new_name_that_differs_only_in_case_is_recorded_and_told(calibrator, way):
    calibrator.record("phi3:mini", 1, 2.0)
    with pytest.warns(SimilarNameWarning) as told:
        WAYS[way](calibrator, "Phi3:Mini")
    (warning,) = told
    assert "new model 'Phi3:Mini' differs only in case from 'phi3:mini'" in str(warning.message)
    assert "alias --merge -- Phi3:Mini phi3:mini`" in str(warning.message)
    assert warning.filename == __file__
    assert [head.model for head in calibrator.heads()] == ["Phi3:Mini", "phi3:mini"]
    WAYS[way](calibrator, "Phi3:Mini")  # once: it is not new any more
    WAYS[way](calibrator, "phi3:mini")


@pytest.mark.both
def test_an_alias_is_a_known_name(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.alias("nick", "m")
    with pytest.warns(SimilarNameWarning, match="'NICK' .* from 'nick'"):
        calibrator.record("NICK", 1, 2.0)
    calibrator.alias("NICK", "nick", merge=True)  # as the warning says
    calibrator.record("NICK", 1, 2.0)
    assert [call.model for call in calibrator.calls("m")][-1] == "m"


def test_case_is_that_of_every_script(calibrator):
    calibrator.record("größe", 1, 2.0)
    with pytest.warns(SimilarNameWarning, match="'GRÖSSE' .* from 'größe'"):
        calibrator.record("GRÖSSE", 1, 2.0)


@pytest.mark.both
@pytest.mark.parametrize("way", [name for name in WAYS if name != "timed"])
def test_a_filter_that_makes_it_an_error_undoes_nothing(calibrator, way):
    calibrator.record("m", 1, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SimilarNameWarning):
            WAYS[way](calibrator, "M")
    assert len(list(calibrator.calls("M"))) == 1


def test_a_call_that_looks_wrong_besides_has_both_told(calibrator):
    calibrator.record("m", 1, 2.0)
    with pytest.warns(SimilarNameWarning), pytest.warns(DoubtfulCallWarning):
        calibrator.record("M", 100, 0.0)


def test_several_in_one_batch_are_one_warning(calibrator):
    calibrator.record_many([Call(name, 1, 2, 3.0) for name in "abcdef"])
    with pytest.warns(SimilarNameWarning) as told:
        calibrator.record_many([Call(name, 1, 2, 3.0) for name in "ABCDEFxyYz"])
    (warning,) = told
    said = str(warning.message)
    assert said.startswith("the names of 7 new models differ only in case: 'A' from 'a', 'B' from")
    assert "'C' from 'c' and 4 more." in said


def test_an_import_tells_them_in_one_line(take, calibrator):
    calibrator.record("m", 1, 2.0)
    with pytest.warns(SimilarNameWarning) as told:
        take("jsonl", "".join(json_row(model=name) for name in ("M", "m", "x", "X")))
    assert len(told) == 1
    assert take("jsonl", json_row(model="M", actual_ms=5)).recorded == 1


def test_whole_ledgers_and_states_tell_them_too(take, calibrator):
    with AdaptiveCalibrator(":memory:") as other:
        other.record("m", 1, 2.0)
        other.record("n", 1, 2.0)
        whole = exported(other)
    calibrator.record("M", 1, 2.0)
    with pytest.warns(SimilarNameWarning, match="'m' .* from 'M'"):
        take("ledger", whole)
    model = '{"model":"N","ms_per_prompt_token":1,"ms_per_completion_token":1,"base_overhead_ms":1}'
    with pytest.warns(SimilarNameWarning, match="'N' .* from 'n'"):
        take("state", f'{{"version":1,"models":[{model}]}}')


def test_names_that_differ_otherwise_are_not_told(calibrator):
    for name in ("m", "m1", "ä", "a\u0308", "M2"):
        calibrator.record(name, 1, 2.0)


def test_a_recorder_tells_them_under_on_error(calibrator):
    calibrator.record("m", 1, 2.0)
    told = []
    with calibrator.recorder(on_error=told.append) as recorder:
        for call in (Call("M", 1, 2, 3.0), Call("m ", 1, 2, 3.0)):
            recorder.put(call)
    assert {type(error) for error in told} == {InvalidInputError, SimilarNameWarning}
    assert (recorder.recorded, recorder.skipped) == (1, {"refused": 1})
