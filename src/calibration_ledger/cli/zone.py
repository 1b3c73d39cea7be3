"""Times as people read and write them: in their own zone, or in UTC with `--utc`.

What programs read is always in UTC, and never comes here. The local zone is that of TZ or of the
system, with its changes to and from summer time.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.session import Session
from calibration_ledger.core.text import moment_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from calibration_ledger.cli.table import Column

FORMS = (
    "1h (or 90m, 30s, 2d, 1w) for so long ago, today, yesterday, a date such as 2026-11-24, or a "
    "time such as '2026-11-24 08:30' or 2026-11-24T08:30:00Z"
)
"""What may be written, for help texts and errors."""

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS_AGO = {"today": 0, "yesterday": 1}


def zone() -> tzinfo | None:
    """Where people are: UTC, or None for the local zone. It is decided here alone."""
    context = click.get_current_context(silent=True)
    session = None if context is None else context.find_object(Session)
    # A machine that is in UTC, too, says so in the same way.
    is_utc = (session is not None and session.in_utc) or set(time.tzname) == {"UTC"}
    return UTC if is_utc else None


# -- shown --------------------------------------------------------------------------------------


def shown(at: datetime) -> str:
    """A time in a table: `2026-11-29 11:42:07`, whose zone the title names; or with a Z, in UTC.

    `--since` reads it as it is, and so a time that comes twice, for the clocks were set back, has
    its offset beside it.
    """
    local = here(at)
    if local.tzinfo is UTC:
        return f"{local:%Y-%m-%d %H:%M:%S}Z"
    hour = local.replace(minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    return told(at) if _comes_twice(hour, os.environ.get("TZ")) else f"{local:%Y-%m-%d %H:%M:%S}"


def shown_s(seconds: float | None) -> str:
    """The same of seconds since the epoch; `-` where there is none."""
    return "-" if seconds is None else shown(moment_of(seconds))


def told(at: datetime) -> str:
    """A time in a sentence, with its offset from UTC: `2026-11-29 11:42:07-05:00`."""
    return here(at).isoformat(" ", "seconds").replace("+00:00", "Z")


def titled(columns: Sequence[Column], *titles: str) -> tuple[Column, ...]:
    """The columns; the titles of those that hold times name the zone: `when (EST/EDT)`."""
    if zone() is UTC:
        return tuple(columns)
    year = datetime.now(UTC).year
    seasons = (here(datetime(year, month, 1, tzinfo=UTC)) for month in (1, 7))
    names = "/".join(dict.fromkeys(one.tzname() or f"{one:%z}" for one in seasons))
    return tuple(
        column._replace(title=f"{column.title} ({names})") if column.title in titles else column
        for column in columns
    )


def here(at: datetime) -> datetime:
    """A time in the zone where people are."""
    try:
        return at.astimezone(zone())
    except (OverflowError, ValueError, OSError):  # the last hours of the year 9999, in the east
        return at.astimezone(UTC)


@lru_cache(maxsize=1024)
def _comes_twice(hour: datetime, _zone: str | None) -> bool:
    """Whether a part of an hour of local time comes twice; the zone is there for the cache."""
    with suppress(ValueError, OverflowError, OSError):  # the last hours of 9999
        for minute in (0, 15, 30, 45):
            first, second = (hour.replace(minute=minute, fold=fold).astimezone() for fold in (0, 1))
            # Of an hour that never came, they are other times than what was asked for.
            if first != second and first.replace(tzinfo=None) == second.replace(tzinfo=None):
                return True
    return False


# -- read ---------------------------------------------------------------------------------------


def time_of(text: str) -> datetime:
    """Read a time that a person wrote; see `FORMS`. A date or a day is its first moment.

    Raises:
        click.BadParameter: it is none.
    """
    written = text.strip().lower()
    try:
        if ago := _AGO.fullmatch(written):
            return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        if written in _DAYS_AGO:
            today = datetime.now(zone()).replace(tzinfo=None)
            day = today - timedelta(days=_DAYS_AGO[written])
            return _placed(day.replace(hour=0, minute=0, second=0, microsecond=0))
        at = datetime.fromisoformat(text.strip())
        return _placed(at) if at.utcoffset() is None else at
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is no time: write {FORMS}.") from None


def _placed(at: datetime) -> datetime:
    """A time without a zone, in the zone where people are; of one that comes twice, the first."""
    if zone() is UTC:
        return at.replace(tzinfo=UTC)
    found, other = at.astimezone(), at.replace(fold=1).astimezone()
    # One that never came, for the clocks were set forward, is as much later as they were set. Which
    # of the two that is differs between versions of Python.
    return found if found.replace(tzinfo=None) == at else max(found, other)


def since(text: str) -> datetime:
    """Read the start of a window; one that is still to come is said."""
    at = time_of(text)
    context = click.get_current_context(silent=True)
    if at > datetime.now(UTC) and not (context and context.resilient_parsing):
        with suppress(OSError):
            click.echo(f"note: --since is still to come ({told(at)}).", err=True)
    return at
