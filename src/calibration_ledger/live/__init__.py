"""What runs inside other programs.

`watch` records every model call that a program makes over HTTP; `LedgerTransport` and
`AsyncLedgerTransport` those of one client. What else there is has a module of its framework's
name, behind an extra of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration_ledger.live.http import AsyncLedgerTransport, LedgerTransport, Watch, watch

__all__ = ["AsyncLedgerTransport", "LedgerTransport", "Watch", "watch"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: the modules of frameworks need none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from calibration_ledger.live import http

    return getattr(http, name)
