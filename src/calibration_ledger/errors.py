"""Every error that this project raises, under one root.

The sentence of each says what was wrong and what to do next. Three families matter to a caller:

- the *input* was refused, and nothing was written (`InvalidInputError` and its kin);
- the *ledger* cannot be used as it is (`LedgerError` and its kin), and nothing was written;
- a write failed: `NotRecordedError` means that it certainly left no trace, and
  `OutcomeUnknownError` that it may or may not be in the ledger. These two are never mixed up.

Where a standard exception says the same, the error is one of those too, so that
`except ValueError` or `except TimeoutError` in existing programs goes on working.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class CalibrationLedgerError(Exception):
    """The root of all errors of this project.

    What `str` gives is put together from the first three.

    Attributes:
        matter: what was wrong.
        stayed: what the ledger holds of the work now, such as "nothing was recorded"; empty where
            the matter says all.
        advice: what to do next; empty where the matter says that.
        recorded: of a `record_many` that stopped between two of its transactions, how many calls
            were recorded and stay: the first ones. 0 everywhere else.
        errors_ms: the errors of those calls, in ms.
    """

    stayed: str = ""
    advice: str = ""
    recorded: int = 0
    errors_ms: tuple[float, ...] = ()

    def __init__(
        self, matter: str = "", *, stayed: str | None = None, advice: str | None = None
    ) -> None:
        """Keep the parts; what is left out is as the class says."""
        super().__init__(matter)
        if stayed is not None:
            self.stayed = stayed
        if advice is not None:
            self.advice = advice

    @property
    def matter(self) -> str:
        """What was wrong."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        """All of it as sentences: `MATTER. STAYED: ADVICE.`."""
        if not self.stayed and not self.advice:
            return self.matter
        matter = self.matter.removesuffix(".")
        if not self.stayed:
            return f"{matter}: {self.advice}."
        stayed = f"{matter}. {self.stayed[:1].upper()}{self.stayed[1:]}"
        return f"{stayed}: {self.advice}." if self.advice else f"{stayed}."

    def keep(self, stayed: str, rest: str = "") -> None:
        """Tell what earlier transactions of the same work recorded, which stays.

        The error speaks of its own transaction alone. Who believes its "nothing was recorded", and
        sends all of it again, has the first ones twice.

        Args:
            stayed: what is recorded, such as "the first 1000 calls were recorded".
            rest: that the transaction that failed is not, such as "the others were not".
        """
        self.stayed = f"{stayed}, {rest}" if rest else stayed


# -- the input ------------------------------------------------------------------------------


class InvalidInputError(CalibrationLedgerError, ValueError):
    """An argument is not what it must be. Nothing was written."""


class RemovedParameterError(InvalidInputError, TypeError):
    """A parameter of the predecessor; the sentence says what takes its place."""


class UnknownRuleError(CalibrationLedgerError):
    """A rule, or a version of one, that this program does not know.

    Always one of two: a `NoSuchRuleError` or a `StoredRuleError`.
    """


class NoSuchRuleError(UnknownRuleError, InvalidInputError):
    """The rule was handed in. Nothing was written."""


class NotFiniteError(InvalidInputError, ArithmeticError):
    """A prediction, or the calibration after a call, would be infinite or NaN.

    Nothing of the refused transaction was written.
    """


class RequestConflictError(InvalidInputError):
    """Two calls of a model that count would have the same request id. Nothing was written.

    It is in the ledger with other tokens or milliseconds; or a voided call was to count again, and
    its id was given to another one since.
    """


class AliasRefusedError(InvalidInputError):
    """A name cannot stand for the model, or is no alias. Nothing was changed."""

    stayed = "nothing was changed"


class DoubtfulCallError(InvalidInputError):
    """A call looks wrong, and was to be recorded strictly. Nothing was recorded."""

    stayed = "nothing was recorded"
    advice = "mend it, or record it without strict"


class DoubtfulCallWarning(UserWarning):
    """A call was recorded that looks wrong: the sentence says why, and how to void it."""


class NotRecordedWarning(UserWarning):
    """Calls of the program are not recorded; the sentence says why. The program goes on."""


class SimilarNameWarning(UserWarning):
    """A model was opened whose name differs from that of another only in case.

    It was recorded as asked: they are two models. The sentence says how they become one.
    """


class ModelNotFoundError(CalibrationLedgerError, LookupError):
    """The ledger holds no entry of this model."""


class NoHistoryError(CalibrationLedgerError, LookupError):
    """None of the models has a call, so none can be said to be the soonest."""

    advice = "record calls of them, or let explore= try them"


class DeadlineError(CalibrationLedgerError):
    """No model is likely enough to be over in time."""

    advice = "give it more time, ask for a smaller chance, or take the first of rank()"


class NoSuchEntryError(InvalidInputError, LookupError):
    """The model has no such entry."""


class NotCopiableError(CalibrationLedgerError, TypeError):
    """A calibrator was to be copied or pickled. What it hands out can be."""


class CallIncompleteError(InvalidInputError):
    """A timed block ended without what a call needs. Nothing was recorded.

    Attributes:
        reason: what `skipped` counts it as: `unknown tokens` or `unknown model`.
    """

    reason: str = "unknown tokens"


class CompletionTokensMissingError(CallIncompleteError):
    """A timed block ended without its `completion_tokens`, and without an answer."""


class UnlearnableAnswerError(InvalidInputError):
    """An answer of a model cannot be learnt from. Nothing was recorded.

    Attributes:
        reason: why, in words that can be counted, such as `unknown tokens`; the page of the
            library lists them.
    """

    stayed = "nothing was recorded"
    reason: str = ""


class ImportRefusedError(InvalidInputError):
    """A file to import is not what it should be. Nothing of it was recorded.

    Attributes:
        source: the file as the user named it.
        line: the number of the line or record, from 1, where that is known.
        reason: what was wrong there.
        unit: what is counted: `line`, or `record` of a database or a list.
    """

    def __init__(self, source: str, line: int | None, reason: str, unit: str = "line") -> None:
        """Make the sentence `FILE, line N: reason`."""
        self.source = source
        self.line = line
        self.reason = reason
        self.unit = unit
        where = source if line is None else f"{source}, {unit} {line}"
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the parts: pools of processes hang on an error that does not come back."""
        return type(self), (self.source, self.line, self.reason, self.unit), self.__dict__


class ExportFailedError(CalibrationLedgerError, OSError):
    """The file of an export could not be written, because the disk is full, say.

    The unfinished file was removed, and the ledger was not changed.
    """


# -- the ledger -----------------------------------------------------------------------------


class LedgerError(CalibrationLedgerError):
    """The ledger cannot be used as it is."""


class LedgerNotFoundError(LedgerError, FileNotFoundError):
    """There is no ledger at this place, and reading does not make one."""


class LedgerPathError(LedgerError, OSError):
    """The path cannot hold a ledger: a folder, or something inside a folder that is missing."""


class LedgerPermissionError(LedgerError, PermissionError):
    """The ledger, or its folder, may not be read or written by this user."""


class NotALedgerError(LedgerError):
    """The file or database is something else. It was not touched."""


class HistoryArchivedError(LedgerError):
    """Entries were archived, or brought back, while they were read. Nothing was changed.

    What was read so far does not fit what comes next: start again.

    Attributes:
        is_passing: whether it was while they were read; else what was asked for is archived.
    """

    is_passing: bool = False


class StoredRuleError(UnknownRuleError, LedgerError):
    """A newer program wrote a model with this rule into the ledger. Nothing was written."""


class LedgerReplacedError(LedgerError):
    """The file was replaced or removed while in use, and the log of the old one is still there.

    Nothing was recorded: SQLite would take the old log for the new file's own.
    """


class LedgerCorruptError(LedgerError):
    """The database engine finds the file damaged. It was not touched."""


class LedgerRevisionError(LedgerError):
    """The ledger's revision is not the one that this program reads and writes.

    Attributes:
        found: the ledger's revision.
        expected: this program's revision.
    """

    def __init__(self, message: str, *, found: str, expected: str) -> None:
        """Keep both revisions beside the sentence."""
        self.found = found
        self.expected = expected
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the parts; see `ImportRefusedError`."""
        make = partial(type(self), found=self.found, expected=self.expected)
        return make, self.args, self.__dict__


class LedgerOutdatedError(LedgerRevisionError):
    """The ledger is of an older revision: `calib db upgrade` mends that."""


class LedgerTooNewError(LedgerRevisionError):
    """The ledger was upgraded by a newer program: upgrade this one."""


class MigrationsNotFoundError(LedgerError):
    """The installation lacks its migrations."""


class LedgerClosedError(LedgerError):
    """The calibrator was closed."""


class ReentrantCallError(LedgerError, RuntimeError):
    """The call interrupted another one of the same thread, and did nothing.

    Signal handlers make such calls. The interrupted call goes on undisturbed.
    """

    stayed = "it did nothing"
    advice = "let the handler set a flag, and make the call later"

    @property
    def matter(self) -> str:
        """It is always the same."""
        return super().matter or (
            "this call interrupted another call of the same thread, as a signal handler may do"
        )


# -- a write that failed --------------------------------------------------------------------


class NotRecordedError(LedgerError):
    """The write failed and certainly left no trace in the ledger."""

    stayed = "nothing was recorded"


class LedgerBusyError(NotRecordedError, TimeoutError):
    """Others held the ledger until the deadline. Nothing was written."""


class CallsDroppedError(NotRecordedError):
    """A recorder lost calls: its queue was full, or it was closed before it could record them.

    Its `__cause__` is what kept it from that, where something did.
    """

    stayed = "nothing of them was recorded"
    advice = "see that the ledger can be written, or give the recorder a larger size"


class OutcomeUnknownError(LedgerError):
    """The commit failed, and nobody can know whether the write is in the ledger.

    Calls with a `request_id` can simply be recorded again: none is added twice.
    """

    stayed = "whether it was recorded cannot be known"

    def keep(self, stayed: str, rest: str = "") -> None:  # noqa: ARG002 - nobody knows of the rest
        """See `CalibrationLedgerError.keep`."""
        self.stayed = f"{stayed}; whether more was recorded cannot be known"


# -- sentences that several places tell -----------------------------------------------------

SHOWN_LENGTH_MAX = 100
NAMED_MAX = 10


def shown(value: object) -> str:
    """A value of the caller's for a sentence, cut to a bearable length."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of 4,300 digits has none, and a caller's may fail
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[: SHOWN_LENGTH_MAX - 3]}..."


def named(names: Sequence[str], most: int = NAMED_MAX) -> str:
    """The first of several names, and how many more there are: `'a', 'b' and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The question whether another name was meant, with a blank behind it; empty for no idea.

    Asked for is the shortest name that holds what was typed, else one that is spelt nearly so.
    """
    from difflib import get_close_matches  # only where something was mistyped

    typed, by_spelling = name.casefold(), {one.casefold(): one for one in names}
    holding = [one for one in by_spelling if typed in one]
    close = [min(holding, key=lambda one: (len(one), one))] if holding else []
    close = close or get_close_matches(typed, by_spelling, n=1)
    return f"did you mean {by_spelling[close[0]]!r}? " if close else ""


@contextmanager
def needing(whose: str, package: str, install: str | None = None) -> Iterator[None]:
    """Import inside what an extra brings; where it is not there, say how to get it.

    Args:
        whose: the beginning of the sentence: "an export to parquet needs".
        package: what is needed.
        install: what pip is told, if that is not the package's name alone.

    Raises:
        InvalidInputError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"{whose} {package}, which is not installed ({error}): "
            f"pip install {install or package}."
        ) from None


# -- damage: rows that this program cannot have written -------------------------------------
# The audit reports them as findings; everything else that meets them raises a typed error.

COUNT_LIMIT = 2**60
"""Counts and seqs are smaller: no ledger gets there, and sums still fit in 64 bits."""


def damaged(model: str, what: str) -> LedgerCorruptError:
    """The error of a model whose rows this program cannot have written."""
    return LedgerCorruptError(
        f"the ledger was damaged or edited by hand: of the model {model!r}, {what}",
        stayed="nothing was changed",
        advice="an audit finds all that is wrong; restore a backup",
    )


IMPOSSIBLE = (struct.error, OverflowError, TypeError, AttributeError)
"""What arithmetic raises over values that are absurd, or of another type than their column's."""


def impossible(model: str, error: Exception) -> LedgerCorruptError:
    """`damaged`, of one of `IMPOSSIBLE`."""
    return damaged(model, f"an entry holds an impossible value ({error})")


@contextmanager
def damage_told(model: str) -> Iterator[None]:
    """Turn what impossible values raise inside into `damaged`; run no user's code in here."""
    try:
        yield
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
