"""The errors: one root, families that callers can tell apart, and whole after a pickle."""

import copy
import inspect
import pickle

import pytest

from calibration_ledger import CalibrationLedgerError, errors
from calibration_ledger.errors import (
    ImportRefusedError,
    InvalidInputError,
    LedgerBusyError,
    LedgerError,
    LedgerNotFoundError,
    LedgerOutdatedError,
    LedgerPathError,
    LedgerPermissionError,
    LedgerTooNewError,
    ModelNotFoundError,
    NoSuchRuleError,
    NotFiniteError,
    NotRecordedError,
    OutcomeUnknownError,
    RemovedParameterError,
    RequestConflictError,
    StoredRuleError,
    UnknownRuleError,
)

ALL = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == errors.__name__
    if not issubclass(error, Warning)
]
SENTENCE = "this was wrong: do that"


def made(error):
    if error is ImportRefusedError:
        return error("calls.csv", 3, SENTENCE)
    if issubclass(error, errors.LedgerRevisionError):
        return error(SENTENCE, found="0001", expected="0002")
    return error(SENTENCE)


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_under_one_root_and_says_what_it_means(error):
    assert issubclass(error, CalibrationLedgerError)
    assert (error.__doc__ or "").strip()
    assert SENTENCE in str(made(error))


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("through", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301 - our own
def test_an_error_comes_whole_out_of_another_process(error, through):
    """Pools of processes pickle what their workers raise, and hang on what does not come back."""
    before = made(error)
    before.add_note("while importing")
    after = through(before)
    assert type(after) is error
    assert str(after) == str(before)
    assert vars(after) == vars(before)


@pytest.mark.parametrize("error", ALL)
def test_what_stayed_and_what_to_do_are_kept_apart_until_they_are_shown(error):
    if error is ImportRefusedError or issubclass(error, errors.LedgerRevisionError):
        pytest.skip("made of other parts")
    found = error("it broke", stayed="nothing was recorded", advice="mend it")
    assert (found.matter, found.stayed, found.advice) == (
        "it broke",
        "nothing was recorded",
        "mend it",
    )
    assert str(found) == "it broke. Nothing was recorded: mend it."
    assert str(error("it broke", stayed="", advice="mend it")) == "it broke: mend it."
    told = str(error("it broke.", stayed="nothing was changed", advice=""))
    assert told == "it broke. Nothing was changed."
    assert str(error("it broke: mend it.", stayed="", advice="")) == "it broke: mend it."


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("through", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301 - our own
def test_what_earlier_transactions_left_is_told_in_another_process_too(error, through):
    before = made(error)
    before.recorded, before.errors_ms = 2, (1.0, -2.0)
    before.keep("the first 2 calls were recorded", "the third was not")
    after = through(before)
    assert str(after) == str(before)
    assert (after.recorded, after.errors_ms) == (2, (1.0, -2.0))
    is_known = error is not OutcomeUnknownError
    assert ("the third was not" in str(after)) is is_known
    assert ("whether more was recorded cannot be known" in str(after)) is not is_known


def test_a_write_that_failed_says_what_became_of_it_by_its_type():
    assert str(LedgerBusyError("it broke")) == "it broke. Nothing was recorded."
    told = str(OutcomeUnknownError("it broke", advice="look"))
    assert told == "it broke. Whether it was recorded cannot be known: look."


def test_of_many_names_the_first_are_named_and_the_others_counted():
    assert errors.named(["a", "b"]) == "'a', 'b'"
    assert errors.named(list("abcde"), 2) == "'a', 'b' and 3 more"


def test_wrong_input_and_failed_writes_can_be_told_apart():
    for error in (NoSuchRuleError, NotFiniteError, RequestConflictError, ImportRefusedError):
        assert issubclass(error, InvalidInputError)
        assert not issubclass(error, LedgerError)
    for error in (StoredRuleError, NotRecordedError, OutcomeUnknownError):
        assert issubclass(error, LedgerError)
        assert not issubclass(error, InvalidInputError)
    for error in (NoSuchRuleError, StoredRuleError):
        assert issubclass(error, UnknownRuleError)
    assert not issubclass(OutcomeUnknownError, NotRecordedError)
    assert not issubclass(NotRecordedError, OutcomeUnknownError)


@pytest.mark.parametrize(
    ("error", "standard"),
    [
        (InvalidInputError, ValueError),
        (RemovedParameterError, TypeError),
        (NotFiniteError, ArithmeticError),
        (ModelNotFoundError, LookupError),
        (LedgerNotFoundError, FileNotFoundError),
        (LedgerPathError, OSError),
        (LedgerPermissionError, PermissionError),
        (LedgerBusyError, TimeoutError),
        (LedgerBusyError, NotRecordedError),
    ],
)
def test_programs_that_catch_the_standard_errors_go_on_working(error, standard):
    assert issubclass(error, standard)


def test_an_import_that_was_refused_names_the_file_and_the_line():
    error = ImportRefusedError("calls.csv", 3, "no model")
    assert (error.source, error.line, error.reason) == ("calls.csv", 3, "no model")
    assert str(error) == "calls.csv, line 3: no model"
    assert str(ImportRefusedError("calls.csv", None, "empty")) == "calls.csv: empty"


@pytest.mark.parametrize("error", [LedgerOutdatedError, LedgerTooNewError])
def test_a_wrong_revision_carries_both(error):
    found = made(error)
    assert (found.found, found.expected) == ("0001", "0002")
