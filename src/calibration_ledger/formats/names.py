"""The names that other files use for the columns of a call, where no map says them.

Our own names are exact. Others are understood where they leave no doubt: their unit is in the
name, and no two of them could be the same column. The import says how it read them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.formats.mapping import CallMap, parse_source
from calibration_ledger.formats.records import Reader
from calibration_ledger.formats.row import IGNORED, OPTIONAL, REQUIRED, check_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from calibration_ledger.formats.base import Input

_OWN = frozenset(REQUIRED + OPTIONAL + IGNORED)

_BY_COLUMN = {
    "model": "model_name model_id llm_model",
    "prompt_tokens": (
        "input_tokens prompt_eval_count tokens_in tokens_input tokens_prompt prompt_token_count "
        "input_token_count num_input_tokens num_prompt_tokens number_input_tokens n_input_tokens "
        "n_prompt_tokens input_length prompt_length_tokens"
    ),
    "completion_tokens": (
        "output_tokens eval_count tokens_out tokens_output tokens_completion generated_tokens "
        "completion_token_count output_token_count num_output_tokens num_completion_tokens "
        "number_output_tokens n_output_tokens n_completion_tokens"
    ),
    "called_at": (
        "timestamp created_at ts datetime started_at start_time requested_at request_time "
        "created date_time time_utc"
    ),
    "request_id": "id call_id request request_uuid uuid generation_id completion_id response_id",
    "details.ttft_ms": "ttft_ms time_to_first_token_ms first_token_ms",
    "details.cached_tokens": "cached_tokens cache_read_tokens cached_input_tokens",
    "details.reasoning_tokens": "reasoning_tokens thoughts_tokens",
    "details.streamed": "streamed stream is_stream",
}
_ENDS = "ended_at end_time finished_at completed_at end_timestamp"
_DURATIONS = (
    "latency duration elapsed elapsed_time took total_time time_taken response_time "
    "request_latency e2e_latency end_to_end_latency total_latency wall_time total_duration "
    "request_duration call_duration generation_time run_time runtime"
)
_UNITS = {
    "ms": "ms msec millis milliseconds", "s": "s sec secs seconds",
    "us": "us usec micros microseconds", "ns": "ns nsec nanos nanoseconds",
}  # fmt: skip

COMMON = {
    **{name: name for name in (*REQUIRED, "called_at", "request_id")},
    **{name: column for column, names in _BY_COLUMN.items() for name in names.split()},
    **{f"{name}_{unit}": f"actual_ms:{short}" for name in (*_DURATIONS.split(), "total", "time")
       for short, units in _UNITS.items() for unit in units.split()},
    **{f"ttft_{unit}": "details.ttft_ms:s" for unit in _UNITS["s"].split()},
    **{f"time_to_first_token_{unit}": "details.ttft_ms:s" for unit in _UNITS["s"].split()},
    **dict.fromkeys(_ENDS.split(), "called_at:end"),
}  # fmt: skip
"""The column that a name stands for, with its unit, by the name in small letters."""

WITHOUT_UNIT = frozenset(_DURATIONS.split())
"""Durations of which nobody can tell the unit."""

SUMS = frozenset({"total_tokens", "tokens_total", "total_token_count"})
"""What the tokens already say: left out."""


def normal(name: str) -> str:
    """A name in small letters, its words joined by underscores: `latencyMs`, `Latency (ms)`."""
    if name != name.strip():
        return name  # a blank beside a name is a slip of whoever wrote the file
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[^0-9a-zA-Zµ]+", "_", words).strip("_").lower()


def columns_of(
    names: Collection[str], *, keep_rest: bool, noun: str
) -> tuple[dict[str, str], list[str]] | None:
    """Which name is which column (`actual_ms=duration_s:s`); None if all are our own.

    Gives the items of a map, and what to say of those that are not our own.

    Raises:
        InvalidInputError: a name is unknown, or nobody can tell what it means.
    """
    own = [name for name in names if name in _OWN]
    rest = [name for name in names if name not in _OWN]
    if not rest:
        return None
    found: dict[str, list[tuple[str, str]]] = {}
    for name in rest:
        column, _, flags = COMMON.get(normal(name), "").partition(":")
        if column and column not in own:
            found.setdefault(column, []).append((name, flags))
    for column, several in found.items():
        if len(several) > 1:
            listed = " and ".join(shown(name) for name, _ in several)
            raise InvalidInputError(
                f"the {noun}s {listed} may both be {column}: say which with a map, such as "
                f"--map {column}={_item(*several[0])} (and the other columns)"
            )
    unclear = next((name for name in rest if normal(name) in WITHOUT_UNIT), None)
    if unclear is not None and "actual_ms" not in (*own, *found):
        path = _item(unclear, "")
        raise InvalidInputError(
            f"the {noun} {shown(unclear)} has no unit: say it with a map, "
            f"--map actual_ms={path}:s or --map actual_ms={path}:ms (and the other columns)"
        )
    taken = {name for several in found.values() for name, _ in several}
    unknown = [name for name in rest if name not in taken and normal(name) not in SUMS]
    if not found and not keep_rest:
        unknown = rest
    if unknown and not keep_rest:
        _refuse(unknown, {*own, *found} & set(REQUIRED), noun)
    items = {name: _item(name, "") for name in own if name not in IGNORED}
    items |= {column: _item(*several[0]) for column, several in found.items()}
    said = [
        f"{column} from {name}{f' ({flags})' if flags else ''}"
        for column, ((name, flags), *_) in found.items()
    ]
    return items, said


def _refuse(unknown: list[str], required: set[str], noun: str) -> NoReturn:
    """Refuse names that are unknown, where these of the required columns are known.

    Raises:
        InvalidInputError: always.
    """
    if not required:
        listed = ", ".join(shown(name) for name in sorted(unknown)[:5])
        raise InvalidInputError(
            f"the {noun}s {listed} are unknown, and none is one of a call: say with a map which is "
            f"which, such as --map model=NAME prompt_tokens=NAME completion_tokens=NAME "
            f"actual_ms=NAME:s"
        )
    matter = ""
    try:
        check_names([*required, *unknown], noun)
    except InvalidInputError as error:
        matter = str(error)
    raise InvalidInputError(
        f"{matter}; or keep what is unknown in the details (keep_rest, --keep-rest)"
    )


def are_calls(names: Collection[str]) -> bool:
    """Whether these are the names of calls, ours or others'; the model may come from outside."""
    if set(REQUIRED[1:]) <= set(names):
        return True
    try:
        found = columns_of(names, keep_rest=False, noun="name")
    except InvalidInputError:
        return False
    return found is not None and set(REQUIRED[1:]) <= found[0].keys()


def why_no_calls(names: Collection[str], noun: str) -> str | None:
    """What keeps names with both counts of a call from being understood; None without these."""
    columns = {COMMON.get(normal(name)) for name in names}
    if not {"prompt_tokens", "completion_tokens"} <= columns:
        return None
    try:
        found = columns_of(names, keep_rest=False, noun=noun)
        _check_required(found[0] if found else names, REQUIRED[1:], noun)
    except InvalidInputError as error:
        return str(error)
    return None


def _check_required(columns: Collection[str], required: Collection[str], noun: str) -> None:
    """Refuse a first record that lacks what a call must have.

    Raises:
        InvalidInputError: one of the required columns has no name.
    """
    missing = [name for name in required if name not in columns]
    if missing:
        raise InvalidInputError(
            f"there is no {noun} for {' nor '.join(missing)}: name it with a map, such "
            f"as --map {missing[0]}=NAME (and the other columns)"
        )


def _item(name: str, flags: str) -> str:
    plain = re.fullmatch(r"[\w-]+(?: [\w-]+)*", name)
    path = name if plain else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{path}:{flags}" if flags else path


class Names:
    """The readers of a file without a map, one for each set of names that its records have."""

    def __init__(self, file: Input, *, keep_rest: bool, noun: str, are_texts: bool) -> None:
        """Begin without a record."""
        self._file = file
        self._keep_rest = keep_rest
        self._noun = noun
        self._are_texts = are_texts
        self._readers: dict[tuple[str, ...], Reader | None] = {}
        self._said: list[str] = []

    def reader(self, names: Collection[str]) -> Reader | None:
        """What reads records of these names; None where they are our own.

        Raises:
            InvalidInputError: see `columns_of`; or the first record lacks what a call must have.
        """
        key = tuple(names)
        if key in self._readers:
            return self._readers[key]
        found = columns_of(names, keep_rest=self._keep_rest, noun=self._noun)
        if found is None:
            self._readers[key] = None
            return None
        items, said = found
        if not self._readers:
            has_model = self._file.model is not None
            _check_required(items, REQUIRED[1:] if has_model else REQUIRED, self._noun)
        columns = {column: parse_source(source, column) for column, source in items.items()}
        call_map = CallMap(columns, keep_rest=self._keep_rest, is_strict=False)
        self._said += [one for one in said if one not in self._said]
        self._readers[key] = Reader(call_map, self._file, are_texts=self._are_texts)
        return self._readers[key]

    def tell(self) -> None:
        """Say how the file was read."""
        if self._said:
            self._file.say(f"read as: {', '.join(self._said)}")
        for reader in self._readers.values():
            if reader is not None:
                reader.tell()
