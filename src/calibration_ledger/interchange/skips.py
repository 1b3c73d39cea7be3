"""What happens to a bad line: it refuses the whole file, or is left out and counted."""

from __future__ import annotations

import re
from collections import Counter

from calibration_ledger.errors import ImportRefusedError
from calibration_ledger.interchange.reports import SkippedLine

LINES_MAX = 20
"""Skipped lines that are listed; the others are counted."""

REASONS_MAX = 50
"""Kinds of reasons that are told apart; the others are counted together."""

_REASON_LENGTH_MAX = 300
_ADVICE = " Nothing was recorded: mend the line, or leave bad lines out (skip_bad, --skip-bad)."
_OTHERS = "other reasons"

# What differs from line to line in one and the same reason: quoted values, then numbers.
_VALUES = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<![\w*])-?[0-9][\w.+-]*""")


class Skips:
    """The bad lines of one file."""

    def __init__(self, source: str, *, skip_bad: bool) -> None:
        """Begin with none; without `skip_bad` the first one is raised."""
        self._source = source
        self._skip_bad = skip_bad
        self._reasons: Counter[str] = Counter()
        self._lines: list[SkippedLine] = []
        self.count = 0

    def add(self, line: int, reason: str) -> None:
        """A bad line.

        Raises:
            ImportRefusedError: bad lines are not to be skipped.
        """
        reason = reason.rstrip(".")
        if len(reason) > _REASON_LENGTH_MAX:
            reason = reason[:_REASON_LENGTH_MAX] + " ..."
        if not self._skip_bad:
            raise ImportRefusedError(self._source, line, f"{reason}.{_ADVICE}")
        self.count += 1
        kind = _VALUES.sub("...", reason)
        if kind not in self._reasons and len(self._reasons) >= REASONS_MAX:
            kind = _OTHERS
        self._reasons[kind] += 1
        if len(self._lines) < LINES_MAX:
            self._lines.append(SkippedLine(line, reason))

    @property
    def reasons(self) -> tuple[tuple[str, int], ...]:
        """Why, most frequent first: (reason without its values, lines)."""
        return tuple(self._reasons.most_common())

    @property
    def lines(self) -> tuple[SkippedLine, ...]:
        """The first of them, by line number."""
        return tuple(sorted(self._lines))
