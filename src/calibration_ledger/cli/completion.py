"""What the shells complete when TAB is pressed: names that the ledger, or the program, knows.

Nothing is made, changed or complained of: where nothing can be found out, nothing is offered.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from calibration_ledger.cli.session import Session
from calibration_ledger.core.command import quoted
from calibration_ledger.core.visible import is_visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

TIMEOUT_S = 1.0
"""Nobody waits longer for a TAB."""

BREAKS = ":="
"""Where bash parts words besides blanks: it replaces only what is behind the last of them."""


def models(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The models and aliases of the ledger that is named on the line, or of the user's own."""
    from calibration_ledger.calibrator import AdaptiveCalibrator

    session = ctx.find_object(Session) or Session()
    with suppress(Exception), AdaptiveCalibrator(session.ledger, timeout_s=TIMEOUT_S) as calibrator:
        names = [head.model for head in calibrator.heads() if head.is_of_model]
        return _beginning([*names, *(one.name for one in calibrator.aliases())], incomplete)
    return []


def models_and_charts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The kinds of charts, and as the first word the models, too."""
    from calibration_ledger.core.charts import ChartKind

    is_first = not ctx.params.get(param.name or "")
    names = models(ctx, param, incomplete) if is_first else []
    return [*names, *_beginning(get_args(ChartKind), incomplete)]


def rules(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The names of the rules, and each version of them."""
    from calibration_ledger.rules import KNOWN_RULES, RULES

    return _beginning([*(rule.name for rule in RULES), *KNOWN_RULES], incomplete)


def formats_and_files(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Files, and as the first word the formats that can be imported."""
    found = [CompletionItem(incomplete, type="file")]
    if not ctx.params.get(param.name or ""):
        from calibration_ledger.calibrator import AdaptiveCalibrator

        names = ["auto", *(one.name for one in AdaptiveCalibrator.formats())]
        found += map(CompletionItem, _beginning(names, incomplete))
    return found


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [
        name for name in dict.fromkeys(names) if name.startswith(incomplete) and is_visible(name)
    ]


class Bash(BashComplete):
    """Completion in bash of words with colons, which most models' names have, and with blanks."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    COMPREPLY=()
    for completion in $(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete $1)
    do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the beginning of the one that it stands in."""
        line = os.environ.get("COMP_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        self._typed = "" if line[-1:].isspace() else line.split()[-1]
        incomplete = words.pop() if self._typed and len(words) > 1 else ""
        return words[1:], incomplete

    _typed = ""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """A word as bash is to put it into the line."""
        value = item.value
        if item.type == "plain" and self._typed[:1] not in {"'", '"'}:
            done = max(map(self._typed.rfind, BREAKS)) + 1
            value = quoted(value)[done:]
        return f"{item.type},{value}"


add_completion_class(Bash)
