"""A ledger's URL: what is connected to, and what may be shown to people."""

from __future__ import annotations

import re

import sqlalchemy as sa

from calibration_ledger.errors import InvalidInputError

_SHOWN = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname"),
        *("gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle"),
        *("keepalives_interval", "load_balance_hosts", "port", "require_auth", "sslcert"),
        *("sslcrl", "sslkey", "sslmode", "sslrootcert", "target_session_attrs"),
        *("tcp_user_timeout", "user"),
    }
)
"""Parameters behind the ? that hold no secret. Any other may, as `sslpassword` does, `options`, or
a password under a name that was mistyped."""

_SCHEMA = re.compile(r"-c ?search_path=[\w,]+")
"""The `options` that say where the ledger is, and nothing else."""


def read_url(text: str) -> tuple[sa.URL, str]:
    """A URL, and the text of it that may be shown: without a password.

    Nothing of a URL that cannot be read is repeated, for there may be a password in it.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None or (url.get_backend_name() != "sqlite" and _is_ambiguous(text, url)):
        raise InvalidInputError(
            "this ledger URL cannot be read: write it like sqlite:////home/me/calls.db, or "
            "postgresql+psycopg://user:password@host/database with the special characters of the "
            "password percent-encoded (an @ as %40)."
        )
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    kept = {name: value for name, value in url.query.items() if _is_harmless(name, value)}
    return url, url.set(query=kept).render_as_string(hide_password=True)


def _is_harmless(name: str, value: str | tuple[str, ...]) -> bool:
    is_schema = name == "options" and isinstance(value, str) and _SCHEMA.fullmatch(value)
    return name in _SHOWN or bool(is_schema)


def _is_ambiguous(text: str, url: sa.URL) -> bool:
    """Whether an @ inside a password made its end look like a part of the host, which is shown.

    Or whether the host was given as a parameter, with a password in it as before the name.
    """
    hosts = (url.query.get(name, ()) for name in ("host", "hostaddr", "port", "user"))
    return text.partition("?")[0].count("@") > 1 or any("@" in "".join(host) for host in hosts)
