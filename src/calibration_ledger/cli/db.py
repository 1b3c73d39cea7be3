"""`calib db`: looking after the ledger's database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.main import EXIT_FAILED
from calibration_ledger.cli.options import FilePath, examples, format_option
from calibration_ledger.cli.output import note, print_data, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.core import text
from calibration_ledger.core.command import calib
from calibration_ledger.core.files import full_path
from calibration_ledger.core.values import Distribution
from calibration_ledger.errors import InvalidInputError, LedgerNotFoundError

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form
    from calibration_ledger.storage.place import File, Server

TIMEOUT_S = 30.0
"""How long to wait for other programs, as everywhere else in the library."""


@click.group(no_args_is_help=True)
def db() -> None:
    """Look after the ledger's database."""


def _place(session: Session) -> File | Server:
    from calibration_ledger.storage.place import Memory, find_place

    place = find_place(session.ledger)
    if isinstance(place, Memory):
        raise InvalidInputError("a ledger in memory is always new: name one with --ledger.")
    return place


def _current(place: File | Server) -> str:
    """The ledger's revision.

    Raises:
        LedgerNotFoundError: there is no ledger.
    """
    from calibration_ledger.storage.migrate import current_revision

    found = current_revision(place, TIMEOUT_S)
    if found is None:
        raise LedgerNotFoundError(
            f"there is no ledger at {place.shown}: the first call recorded makes it, as does "
            f"`{calib('db', 'upgrade', ledger=place.shown)}`."
        )
    return found


@db.command(epilog=examples("calib db upgrade", "calib --ledger calls.db db upgrade"))
@format_option
@pass_session
def upgrade(session: Session, *, form: Form) -> None:
    """Bring the ledger up to date, or make it.

    A ledger of an older revision is upgraded in one transaction, a file backed up beside itself
    first; one that is up to date is left alone.
    """
    from calibration_ledger.storage.migrate import upgrade

    done = upgrade(_place(session), TIMEOUT_S)
    if print_data(form, done):
        return
    if done.before is None:
        say(f"made {done.ledger}, revision {done.after}")
    elif done.before == done.after:
        say(f"{done.ledger} is up to date: revision {done.after}")
    else:
        say(f"upgraded {done.ledger} from revision {done.before} to {done.after}")
        if done.backup is not None:
            say(f"as it was before: {done.backup}")


@db.command(epilog=examples("calib db current", "calib db current --json"))
@format_option
@pass_session
def current(session: Session, *, form: Form) -> None:
    """Show the ledger's revision."""
    from calibration_ledger.storage.schema import REVISION

    place = _place(session)
    found = _current(place)
    if not print_data(form, {"ledger": place.shown, "revision": found, "expected": REVISION}):
        expected = "up to date" if found == REVISION else f"this program's is {REVISION}"
        say(f"{found} ({expected}): {place.shown}")


@db.command(epilog=examples("calib db check"))
@format_option
@click.pass_context
@pass_session
def check(session: Session, ctx: click.Context, *, form: Form) -> None:
    """Check that the ledger is up to date and its tables are as expected.

    Exit code 1 if not. `calib audit` checks what is in them.
    """
    from calibration_ledger.storage.migrate import distribution_of, schema_differences

    place = _place(session)
    found = _current(place)
    differences = schema_differences(place, TIMEOUT_S)
    where = distribution_of(place, TIMEOUT_S)
    report = {
        "ledger": place.shown,
        "revision": found,
        "differences": differences,
        "distribution": where,
    }
    is_printed = print_data(
        form,
        report,
        lines="differences",
        of={**dict.fromkeys(report), "differences": list[str], "distribution": Distribution | None},
    )
    if not is_printed and differences:
        for difference in differences:
            say(difference)
    elif not is_printed:
        say(f"ok: revision {found}, tables as expected")
        if where is not None:
            say(f"distributed over {_machines(where)}")
    if differences:
        note("the tables are not as this program made them: restore a backup, or export the rest.")
        ctx.exit(EXIT_FAILED)


@db.command(epilog=examples("calib --ledger postgresql+psycopg://host/database db distribute"))
@format_option
@pass_session
def distribute(session: Session, *, form: Form) -> None:
    """Distribute the ledger over the machines of a Citus.

    The models are divided among the machines, each with all that is of it. Checks first whether
    that can be; then it is one transaction, which lets nobody else in. A ledger that is not there
    yet is made; what is distributed already stays as it is.
    """
    with session.writing() as calibrator:
        done = calibrator.distribute()
    if print_data(form, done):
        return
    if done.done:
        say(f"distributed {done.ledger}: {', '.join(done.done)}")
    else:
        say(f"{done.ledger} is distributed already: nothing was changed")
    say(f"over {_machines(done)}")


def _machines(found: Distribution) -> str:
    names = ", ".join(found.machines)
    shards = text.count(found.shards, "shard")
    return f"{text.count(len(found.machines), 'machine')} ({names}), in {shards}"


@db.command(epilog=examples("calib db backup ledger-2026-11-24.db"))
@click.argument("dest", type=FilePath(readable=False, path_type=Path))
@format_option
@pass_session
def backup(session: Session, dest: Path, *, form: Form) -> None:
    """Write a consistent copy to DEST while others go on writing.

    DEST must not exist. Works for a ledger of an older revision too; a server's database is
    backed up with its own tools.
    """
    from calibration_ledger.storage.sqlite.copies import backup_file

    place = _place(session)
    copy = full_path(dest)
    if place.path is None:
        with session.existing() as calibrator:
            calibrator.backup(copy)  # refuses, and says how a server's database is backed up
        return
    found = _current(place)  # refuses what is no ledger
    backup_file(place, copy, TIMEOUT_S)
    if not print_data(form, {"ledger": place.shown, "revision": found, "backup": str(copy)}):
        say(f"copied {place.shown} to {copy}")
