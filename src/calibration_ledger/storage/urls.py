"""A ledger's URL: what is connected to, and what may be shown to people."""

from __future__ import annotations

import sqlalchemy as sa

from calibration_ledger.errors import InvalidInputError


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
    if url is None or (url.get_backend_name() != "sqlite" and _is_ambiguous(text)):
        raise InvalidInputError(
            "this ledger URL cannot be read: write it like sqlite:////home/me/calls.db, or "
            "postgresql+psycopg://user:password@host/database with the special characters of the "
            "password percent-encoded (an @ as %40)."
        )
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    kept = {name: value for name, value in url.query.items() if not _is_secret(name)}
    return url, url.set(query=kept).render_as_string(hide_password=True)


def _is_ambiguous(text: str) -> bool:
    """Whether an @ inside a password made its end look like a part of the host, which is shown."""
    return text.partition("?")[0].count("@") > 1


def _is_secret(parameter: str) -> bool:
    """Whether a parameter behind the ? may hold a secret, as password and sslpassword do."""
    return "password" in parameter or "secret" in parameter
