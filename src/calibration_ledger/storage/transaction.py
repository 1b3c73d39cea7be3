"""What a transaction can do to a ledger. Nothing here commits: the backend does.

Rows of `calls`, `call_details`, `adjustments`, `settings`, `aliases` and `events` are only ever
inserted, but for what `archive` moves to a file and `import ledger` brings back.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.entries import (
    OUTCOMES,
    Adjustment,
    AliasEntry,
    Event,
    Setting,
    Snapshot,
    event_head,
    first_events_head,
    is_typed,
)
from calibration_ledger.core.events import Events, damaged_events
from calibration_ledger.core.history import covers, ranges_in_force, voids_ranges
from calibration_ledger.core.replay import Columns
from calibration_ledger.core.settings import Settings, check_setting, damaged_settings
from calibration_ledger.errors import COUNT_LIMIT, IMPOSSIBLE, damage_told, damaged, impossible
from calibration_ledger.storage.contents import contents_of, of_revision
from calibration_ledger.storage.schema import REVISION, TABLES
from calibration_ledger.storage.statements import REQUESTS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from calibration_ledger.core.history import Ranges
    from calibration_ledger.storage.backend import Cursor
    from calibration_ledger.storage.statements import Statements


class Stored(NamedTuple):
    """A model's live calibration as it is stored."""

    model_id: int
    model: str
    snapshot: Snapshot
    last_seq: int
    head: bytes
    alias_seq: int | None = None
    """The number of the alias that makes its name stand for another model; None: it is its own."""


class Known(NamedTuple):
    """A call that is there already, by its request id."""

    seq: int
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    predicted_ms: float
    outcome: str | None
    is_voided: bool = False
    """Then it has given its request id up: the id may come again, with any numbers."""


PAGE = 500
"""Calls to a page. Fewer rows than the collector's threshold of new objects (700): with pages of
10,000 it ran twenty times a page, and a replay took 1.7 times as long."""

_MANY = 4
"""So many request ids are looked up together."""


def known_calls(
    ask: Callable[[str, Sequence[Any]], list[Any]],
    sql: Statements,
    model_id: int,
    request_keys: Sequence[bytes],
    voided: Ranges | None = None,
) -> dict[bytes, list[Known]]:
    """The calls that the model has under these. Where there are some, a statement asks for twenty.

    Of each key the newest call that counts comes first, then the newest.

    Args:
        ask: runs a reading statement, and gives its rows.
        sql: the statements.
        model_id: the model's id.
        request_keys: what to look for.
        voided: the entries that are voided; None: as the ledger has it, which is only asked for
            where there are such calls.
    """
    if len(request_keys) < _MANY:
        rows = [row for key in request_keys for row in ask(sql.find_request, (model_id, key))]
    else:
        rows = []
        for start in range(0, len(request_keys), REQUESTS_AT_ONCE):
            keys = list(request_keys[start : start + REQUESTS_AT_ONCE])
            keys += keys[-1:] * (REQUESTS_AT_ONCE - len(keys))
            rows += ask(sql.find_requests, [value for key in keys for value in (model_id, key)])
    if not rows:
        return {}
    is_stored = voided is None
    if voided is None:
        # That a bit has flipped in these, or in a merge, is for the audit to find.
        stored = ask(sql.voided, (model_id,))
        voided = tuple((first, end) for first, end in stored if is_typed((first, end), (int, int)))
    found: dict[bytes, list[Known]] = {}
    for key, seq, p, c, y, predicted_ms, outcome in rows:
        known = Known(seq, p, c, y, predicted_ms, outcome, covers(voided, seq))
        found.setdefault(bytes(key), []).append(known)
    for calls in found.values():
        calls.sort(key=lambda one: (one.is_voided, -one.seq))
    if is_stored and any(one.is_voided for one, *_ in found.values()):
        with suppress(TypeError):
            _keep_merged(ask, sql, model_id, voided, found)
    return found


def _keep_merged(
    ask: Callable[[str, Sequence[Any]], list[Any]],
    sql: Statements,
    model_id: int,
    voided: Ranges,
    found: dict[bytes, list[Known]],
) -> None:
    """Take calls for such that count whose copies in a merge have no request id.

    Before revision 0006, calls that a merge learnt anew kept their ids, though they were voided.
    """
    spans = [voids_ranges(text)[0] for (text,) in ask(sql.merges, (model_id,))]
    spans = [(first, last) for first, last in spans if not covers(voided, first)]
    if not spans:
        return
    voidings = {row[1]: row[3] for row in ask(sql.voidings, (model_id, model_id)) if row[0]}
    merges = {first: voids_ranges(voidings[first]) for first, _ in spans if first in voidings}
    others = ranges_in_force([one for one in voidings.items() if one[0] not in merges])
    for calls in found.values():
        newest = calls[0]
        for first, last in spans:
            is_moved = covers(merges.get(first, ()), newest.seq) and not covers(others, newest.seq)
            if is_moved and not any(first < one.seq <= last for one in calls):
                calls[0] = newest._replace(is_voided=False)


class Voidings(NamedTuple):
    """Which entries of a model are voided."""

    stored: Ranges
    in_force: Ranges
    """The same, as the model's adjustments say it."""


def voidings_of(rows: Sequence[Any]) -> Voidings:
    """Both in the rows of `Statements.voidings`.

    Raises:
        TypeError: a `voided` entry names no entries.
    """
    stored = tuple((first, last) for kind, first, last, _ in rows if not kind)
    return Voidings(stored, ranges_in_force([(row[1], row[3]) for row in rows if row[0]]))


def learnt_columns(model: str, rows: Sequence[Any]) -> Columns | None:
    """The calls of a page that a rule learns, column by column: all but time-outs; None for none.

    Raises:
        LedgerCorruptError: an outcome is none.
    """
    _, *columns, outcomes = zip(*rows, strict=True)
    if outcomes.count(None) < len(outcomes):
        for seq, *_, outcome in rows:
            if outcome not in OUTCOMES:
                raise damaged(model, f"entry {seq!r} ended as {outcome!r}")
        learnt = [outcome is None for outcome in outcomes]
        columns = [tuple(compress(column, learnt)) for column in columns]
    return Columns(*columns) if columns[0] else None


_RULE, _END = 0, 1
"""What begins the rows of `Statements.settings`; those of aliases begin with another number."""


def settings_of(rows: Sequence[Any]) -> Settings:
    """The settings in the rows of `Statements.settings`.

    Raises:
        LedgerCorruptError: they end in several places.
    """
    entries: tuple[Setting | AliasEntry, ...] = tuple(
        Setting(*row[1:5]) if row[0] == _RULE else AliasEntry(*row[1:4], *row[6:])
        for row in rows
        if row[0] != _END
    )
    ends = [(row[1], row[5]) for row in rows if row[0] == _END]
    if len(ends) > 1:
        raise damaged_settings(f"there are {len(ends)} ends")
    return Settings(entries, *ends[0]) if ends else Settings(entries)


def newest_of(rows: Sequence[Any]) -> Setting | None:
    """The setting in the rows of `Statements.newest_setting`; None for none.

    Raises:
        LedgerCorruptError: it is not what a program of ours wrote.
    """
    return check_setting(Setting(*rows[0])) if rows else None


def events_of(rows: Sequence[Any]) -> Events:
    """The events in the rows of `Statements.events`.

    Raises:
        LedgerCorruptError: they end in several places.
    """
    entries = tuple(Event(*row[:-1]) for row in rows if row[-1] is None)
    ends = [(row[0], row[-1]) for row in rows if row[-1] is not None]
    if len(ends) > 1:
        raise damaged_events(f"there are {len(ends)} ends")
    return Events(entries, *ends[0]) if ends else Events(entries)


ALIAS_SEQ = 13
"""The place of `alias_seq` in the rows of `find` and `load`."""

_NAMES_MAX = 8
"""An alias stands for a model. While others change it, another look may be needed, or two."""


def through_alias(
    model: str, row: Any, find: Callable[[str], Any], alias_of: Callable[[str], str | None]
) -> tuple[str, Any]:
    """The model that a name stands for, and its row; None where it has no history.

    Args:
        model: the name.
        row: what `find` gave for it.
        find: gives the row of the model that is called so itself, or None.
        alias_of: gives what a name stands for, or None.

    Raises:
        LedgerCorruptError: the names lead in a circle.
    """
    name = model
    for _ in range(_NAMES_MAX):
        if row is not None and row[ALIAS_SEQ] is None:
            return name, row
        other = alias_of(name)
        if other is None:
            return name, row
        name, row = other, find(other)
    raise damaged_settings(f"what the alias {model!r} stands for is an alias itself")


class Transaction:
    """The writing statements of one open transaction."""

    __slots__ = ("_cursor", "_execute", "_ledger", "_sql")

    def __init__(self, cursor: Cursor, sql: Statements, ledger: str) -> None:
        """Wrap a cursor; `ledger` is the place as it may be shown."""
        self._cursor = cursor
        self._execute = cursor.execute
        self._sql = sql
        self._ledger = ledger

    def load(self, model: str) -> Any:
        """The row of the model that a name stands for, locked until the end, or None.

        It is `(model_id, *snapshot, last_seq, head, alias_seq, revision)`, to be unpacked at once:
        `record()` has no time for more. `stored` gives the same by names.

        Raises:
            LedgerRevisionError: the ledger was upgraded since it was opened.
            LedgerCorruptError: the row cannot be what a program of ours wrote.
        """
        row = self._lock(model)
        if row is None or row[ALIAS_SEQ] is not None:
            model, row = through_alias(model, row, self._lock, self.alias_of)
        return self._checked(model, row)

    def _checked(self, model: str, row: Any) -> Any:
        """The row of a model, or None, once it is certain that it may be written to."""
        try:
            if row is None:
                self.check_revision()
            else:
                _, _, _, _, _, _, _, _, count, rule_state, _, last_seq, _, _, revision = row
                if revision != REVISION:
                    raise of_revision(revision).error(self._ledger)
                if not (0 <= count < COUNT_LIMIT and 0 < last_seq < COUNT_LIMIT):
                    raise damaged(model, "the calibration holds an impossible count or seq")
                if rule_state is not None and len(rule_state) % 8:
                    raise damaged(model, "the calibration holds an impossible rule state")
        except IMPOSSIBLE as error:
            raise impossible(model, error) from error
        return row

    def stored(self, model: str) -> Stored | None:
        """The calibration of the model that a name stands for, locked; raises as `load` does.

        None where it has no history.
        """
        row = self._lock(model)
        return self._stored(*through_alias(model, row, self._lock, self.alias_of))

    def own(self, model: str) -> Stored | None:
        """The same of the model that is called so itself, whatever the name stands for."""
        return self._stored(model, self._lock(model))

    def _stored(self, model: str, row: Any) -> Stored | None:
        if self._checked(model, row) is None:
            return None
        model_id, *snapshot, last_seq, head, alias_seq, _ = row
        return Stored(model_id, model, Snapshot(*snapshot), last_seq, head, alias_seq)

    def alias_of(self, name: str) -> str | None:
        """The model that a name stands for; None where it is no alias."""
        rows = self.ask(self._sql.alias, (name,))
        return rows[0][0] if rows else None

    def mark_if_alias(self, model: str, model_id: int) -> None:
        """Mark the calibration of a model that was just added, if its name is an alias."""
        for other, seq in self.ask(self._sql.alias, (model,)):
            self.mark(model_id, None if other is None else seq)

    def name_of(self, name: str) -> str:
        """The model that a name stands for: itself where it is no alias."""
        return self.alias_of(name) or name

    def keep_out_new(self) -> None:
        """Let no other transaction open a model before this one ends.

        Which name is an alias, and which one a model's, must not be settled by two at once. Here
        one transaction runs at a time.
        """

    def begin_model(self, model: str) -> None:
        """Make sure that a model that has no history may be opened under this name.

        Raises:
            Raced: the name became an alias in the same moment.
        """

    def _lock(self, model: str) -> Any:
        """The row of a model that is called so itself, as it is stored, locked; or None."""
        return self._execute(self._sql.load, (model,)).fetchone()

    def check_revision(self) -> None:
        """Refuse to write into a ledger of another revision."""
        rows = self._execute(self._sql.revision).fetchall()
        contents_of(TABLES, [row[0] for row in rows]).check(self._ledger)

    def models(self) -> list[str]:
        """The names of all models, sorted; without those that stand for others."""
        rows = self._execute(self._sql.list_calibrations).fetchall()
        return [model for *_, alias_seq, model in rows if alias_seq is None]

    def add_model(self, model: str) -> int:
        """Add the name of a model that `load` did not find; gives its id.

        Raises:
            Raced: another transaction added it in the same moment; load it again.
            LedgerCorruptError: it is there, without a calibration.
        """
        if self._execute(self._sql.find_id, (model,)).fetchone() is not None:
            raise damaged(model, "the calibration is missing")
        return self._insert_model(model)

    def _insert_model(self, model: str) -> int:
        return int(self._execute(self._sql.add_model, (model,)).fetchone()[0])

    def add_call(self, row: tuple[Any, ...]) -> None:
        """Append a call: `(model_id, seq, called_at, prompt, completion, actual, predicted)`."""
        self._execute(self._sql.add_call, row)

    def add_calls(
        self, rows: Sequence[tuple[Any, ...]], timeouts: Sequence[tuple[Any, ...]] = ()
    ) -> None:
        """Append calls, and time-outs among them; see `add_call`."""
        for text, some in ((self._sql.add_call, rows), (self._sql.add_timeout, timeouts)):
            if some:
                self._add(text, some)

    def _add(self, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._cursor.executemany(text, rows)

    def add_details(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Append details: `(model_id, seq, request_key, request_id, details)`."""
        if rows:
            self._add(self._sql.add_detail, rows)

    def add_adjustment(self, model_id: int, entry: Adjustment) -> None:
        """Append an adjustment."""
        self._execute(self._sql.add_adjustment, (model_id, *entry))

    def add_calibration(self, row: tuple[Any, ...]) -> None:
        """Add a new model's calibration: `(model_id, *CALIBRATION_NAMES)`."""
        self._execute(self._sql.add_calibration, row)

    def save(self, row: tuple[Any, ...]) -> None:
        """Replace a model's calibration: `(*CALIBRATION_NAMES, model_id)`."""
        self._execute(self._sql.save, row)

    def settings(self) -> Settings:
        """The settings of the ledger, with none missing.

        Raises:
            LedgerRevisionError: the ledger was upgraded since it was opened.
            LedgerCorruptError: they were damaged.
        """
        self.check_revision()
        settings = settings_of(self.ask(self._sql.settings, ()))
        settings.check()
        return settings

    def newest_setting(self) -> Setting | None:
        """The newest setting, which holds; None for none.

        Raises:
            LedgerCorruptError: it is not what a program of ours wrote.
        """
        return newest_of(self.ask(self._sql.newest_setting, ()))

    def add_settings(self, entries: Sequence[Setting | AliasEntry], head: bytes) -> None:
        """Append settings behind those that `settings` gave; `head` is the digest over all.

        The calibration of a model whose name stands for another from then on is marked.

        Raises:
            Raced: another transaction added some in the same moment.
        """
        for entry in entries:
            if isinstance(entry, AliasEntry):
                self._execute(self._sql.add_alias, entry)
                named = self.own(entry.name)
                if named is not None:
                    self.mark(named.model_id, None if entry.model is None else entry.seq)
            else:
                self._execute(self._sql.add_setting, entry)
        before, end = entries[0].seq - 1, (entries[-1].seq, head)
        if before:
            self._execute(self._sql.save_settings_head, (*end, before))
        else:
            self._execute(self._sql.add_settings_head, end)

    def mark(self, model_id: int, alias_seq: int | None) -> None:
        """Mark a calibration whose model's name stands for another one, or is its own again."""
        self._execute(self._sql.mark_alias, (alias_seq, model_id))

    def events(self) -> Events:
        """The events of the ledger.

        Raises:
            LedgerCorruptError: they end in several places.
        """
        return events_of(self.ask(self._sql.events, ()))

    def add_event(self, event: Event) -> None:
        """Append an event behind the newest, whose number it gets.

        On PostgreSQL others that append wait from here on until the end, so this comes last.

        Raises:
            Raced: another transaction added the very first in the same moment.
            LedgerCorruptError: where the events end is not what a program of ours wrote.
        """
        rows = self.ask(self._sql.events_end, ())
        seq, head = rows[0] if rows else (0, first_events_head())
        if len(rows) > 1 or not isinstance(seq, int) or not isinstance(head, bytes):
            raise damaged_events(f"the end is {rows!r}")
        entry = event._replace(seq=seq + 1)
        self._execute(self._sql.add_event, entry)
        end = (entry.seq, event_head(head, entry))
        if rows:
            self._execute(self._sql.save_events_head, (*end, seq))
        else:
            self._execute(self._sql.add_events_head, end)

    def calls_of(self, model_id: int, request_keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Which of these the model has in calls that count."""
        found = known_calls(self.ask, self._sql, model_id, request_keys)
        return {key: one for key, (one, *_) in found.items() if not one.is_voided}

    def settle_voided(self, model: str, model_id: int) -> None:
        """Store which entries of a model are voided, as its adjustments say it by now.

        Raises:
            LedgerCorruptError: one of them cannot be read.
        """
        with damage_told(model):
            stored, in_force = voidings_of(self.ask(self._sql.voidings, (model_id, model_id)))
        before, after = {*stored}, {*in_force}
        for first, _ in before - after:
            self._execute(self._sql.remove_voided, (model_id, first))
        if after - before:
            self._add(self._sql.add_voided, [(model_id, *pair) for pair in after - before])

    def ask(self, text: str, parameters: Sequence[Any]) -> list[Any]:
        """The rows of a reading statement."""
        rows: list[Any] = self._execute(text, parameters).fetchall()
        return rows

    def last_adjustment(self, model_id: int) -> int:
        """The seq of a model's newest adjustment."""
        row = self._execute(self._sql.last_adjustment, (model_id,)).fetchone()
        return int(row[0])

    def first_adjustment(self, model_id: int) -> Adjustment | None:
        """A model's oldest adjustment, which begins its history."""
        row = self._execute(self._sql.first_adjustment, (model_id,)).fetchone()
        return None if row is None else Adjustment(*row)

    def _be_patient(self) -> None:
        """Wait for what comes as long as it takes, where there is a limit."""

    def remove_through(self, model_id: int, seq: int) -> None:
        """Remove a model's entries up to one; see `statements` for when."""
        self._be_patient()
        sql = self._sql
        for text in (sql.remove_details, sql.remove_calls, sql.remove_adjustments):
            self._execute(text, (model_id, seq))

    def columns(self, model: str, model_id: int, after: int, through: int) -> Iterator[Columns]:
        """Pages of the calls with after < seq <= through, of which none may be missing.

        Without the time-outs: no rule learns them.

        Raises:
            LedgerCorruptError: one is.
        """
        while after < through:
            page = (model_id, after, min(through, after + PAGE), PAGE)
            rows = self._execute(self._sql.page_columns, page).fetchall()
            if not rows:
                raise damaged(model, f"entry {after + 1} is missing")
            columns = learnt_columns(model, rows)
            if columns is not None:
                yield columns
            after = rows[-1][0]
