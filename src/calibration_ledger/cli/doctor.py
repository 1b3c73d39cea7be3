"""`calib doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.main import EXIT_FAILED
from calibration_ledger.cli.options import examples, format_option
from calibration_ledger.cli.output import (
    blank_line,
    heading,
    print_data,
    print_facts,
    print_item,
    say,
)
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.core import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.facts import Advice, Diagnosis, Facts, FileFacts, ServerFacts

OTHER_PROGRAMS = (
    "may read it (sqlite3 -readonly; Datasette with --immutable where nothing records, else on a "
    "backup), and must not write to it or checkpoint it"
)
"""With `--immutable`, SQLite takes no locks and does not look into the log: what is recorded
meanwhile would be seen in part."""

WIDTH = 80
"""The width at which sentences are wrapped; commands and names are not."""


@click.command(epilog=examples("calib doctor", "calib --ledger calls.db doctor --json"))
@format_option
@click.pass_context
@pass_session
def doctor(session: Session, ctx: click.Context, *, form: Form) -> None:
    """Check the ledger's health and say what needs action.

    Looks at the file or database, its disk, its locks and its contents, and changes nothing. Of a
    damaged ledger it says what can still be read; `calib audit` checks that the history explains
    the calibrations. Exit code 1: something needs action.
    """
    from calibration_ledger.verbs.doctor import doctor_of

    diagnosis = doctor_of(session.ledger)
    if not print_data(form, diagnosis):
        _show(diagnosis)
    if diagnosis.needs_action:
        ctx.exit(EXIT_FAILED)


def _show(diagnosis: Diagnosis) -> None:
    print_facts((name, value) for name, value in _lines(diagnosis.facts) if value)
    urgent = [advice for advice in diagnosis.advice if advice.needs_action]
    if urgent:
        heading("Needs action")
        _show_advice(urgent)
    others = [advice for advice in diagnosis.advice if not advice.needs_action]
    if others:
        heading("Good to know")
        _show_advice(others)
    if not urgent:
        cannot = "; but this user cannot record here" if diagnosis.facts.is_read_only else ""
        blank_line()
        say(f"ok: nothing needs action{cannot}.")


def _show_advice(some: Iterable[Advice]) -> None:
    for advice in some:
        print_item(advice.text, advice.commands, WIDTH)


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """The facts as lines of a name and a value; an empty value is left out."""
    from calibration_ledger.core.facts import STATES

    yield "ledger", facts.ledger
    yield "found", STATES[facts.state] + _revision(facts)
    if facts.file is not None:
        yield from _file_lines(facts, facts.file)
    if facts.server is not None:
        yield from _server_lines(facts, facts.server)
    yield "engine", _engine(facts)
    if facts.state in {"current", "older", "newer", "damaged"}:
        yield "engine's check", "; ".join(facts.damage[:2]) or _sound(facts)
        yield "rows", ", ".join(_count(n, table) for table, n in facts.rows)
    yield "aliases", "; ".join(f"{one.name} stands for {one.model}" for one in facts.aliases)
    if facts.last_entry is not None:
        last = facts.last_entry
        yield "last entry", f"{zone.told(last.at)}  {last.model} #{last.seq}"
    if facts.readable is not None:
        left = facts.readable
        models = text.count(left.models, "model")
        lost = text.count(len(left.lost), "range") if left.lost else "nothing"
        yield "can be read", f"{text.count(left.calls, 'call')} of {models}; lost: {lost}"


def _revision(facts: Facts) -> str:
    if facts.revision is None:
        return ""
    if facts.revision == facts.expected_revision:
        return f", revision {facts.revision} (up to date)"
    return f", revision {facts.revision} (this program's is {facts.expected_revision})"


def _engine(facts: Facts) -> str:
    return "" if facts.engine_version is None else f"{facts.engine} {facts.engine_version}"


def _sound(facts: Facts) -> str:
    return "ok" if facts.engine == "SQLite" else ""


def _count(rows: int | None, table: str) -> str:
    noun = "voided ranges" if table == "voided" else table.replace("_", " ")
    one = "alias" if noun == "aliases" else noun.removesuffix("s")
    return f"? {noun}" if rows is None else text.count(rows, one, noun)


def _file_lines(facts: Facts, file: FileFacts) -> Iterator[tuple[str, str]]:
    from calibration_ledger.core.facts import shown_bytes

    if file.size_bytes is not None:
        yield "size", f"{shown_bytes(file.size_bytes)}; WAL {shown_bytes(file.wal_bytes)}"
    network = " (network)" if file.is_network else ""
    free = "" if file.free_bytes is None else f"; {shown_bytes(file.free_bytes)} free"
    if file.file_system or free:
        yield "file system", f"{file.file_system or 'unknown'}{network}{free}"
    if facts.journal_mode is not None:
        yield "journal mode", f"{facts.journal_mode}; synchronous {facts.synchronous}"
        yield "other programs", OTHER_PROGRAMS
    if file.activity is not None:
        who = file.activity
        holder = ", ".join(map(str, who.in_turn)) or "nobody"
        yield "writers' lock", f"held by {holder}; {who.waiting} waiting" if who.in_turn else "free"
        yield "writes outside", ", ".join(map(str, who.outside))
        yield "open in", ", ".join(map(str, who.users))


def _server_lines(facts: Facts, server: ServerFacts) -> Iterator[tuple[str, str]]:
    from calibration_ledger.core.facts import shown_bytes

    if server.ledger_bytes is not None and server.database_bytes is not None:
        whole = shown_bytes(server.database_bytes)
        yield "size", f"{shown_bytes(server.ledger_bytes)} of the database's {whole}"
    if server.distribution is not None:
        found = server.distribution
        machines = text.count(len(found.machines), "machine")
        yield "distributed over", f"{machines} ({', '.join(found.machines)})"
    yield "isolation", f"{server.isolation} by default; the ledger asks for its own"
    if facts.synchronous is not None:
        ours = "on" if facts.synchronous == "full" else "off"
        default = f"{server.synchronous_commit} by default"
        yield "synchronous commit", f"{ours}, set by each writer; {default}"
    longest = f", for {server.blocked[0].for_s:.0f} s" if server.blocked else ""
    yield "waiting for locks", text.count(len(server.blocked), "session") + longest
