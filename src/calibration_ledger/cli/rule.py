"""`calib rule`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import complete, examples, format_option
from calibration_ledger.cli.output import note, print_data, print_table, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import Column
from calibration_ledger.core import text
from calibration_ledger.core.values import DefaultRule

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form
    from calibration_ledger.rules import RuleName

COLUMNS = (
    Column("setting"),
    Column("since", left=True, times=True),
    Column("rule", left=True),
    Column("alpha"),
)


@click.command(epilog=examples("calib rule", "calib rule kalman", "calib rule ema --alpha 0.05"))
@click.argument("rule", required=False, shell_complete=complete("rules"))
@click.option("--alpha", type=click.FLOAT, help="The speed of adaptation. Default: the rule's own.")
@format_option
@pass_session
def rule(session: Session, rule: RuleName | None, *, alpha: float | None, form: Form) -> None:
    """Show or set what new models learn by.

    RULE and --alpha are a setting of the ledger: every program on it opens models under them,
    unless it names a rule itself. Models with history keep theirs (see `calib recalibrate`). With
    --alpha alone, the rule stays. Without both, what is in force is shown, and all that ever was.
    """
    if rule is None and alpha is None:
        with session.existing() as calibrator:
            found = calibrator.default_rule()
        if print_data(form, found, lines="history", of=DefaultRule):
            return
        say(f"new models learn by {text.rule(found, zone.told)}")
        rows = [_row(found, at) for at in range(len(found.history))]
        print_table(zone.titled(COLUMNS, "since"), rows)
        return
    with session.writing() as calibrator:
        before = calibrator.default_rule()
        found = calibrator.set_default_rule(rule, alpha)
    if print_data(form, found, lines="history", of=DefaultRule):
        return
    say(f"new models learn by {text.rule(found, zone.told)}")
    if found == before:
        note("nothing was changed: it was set before.")
    else:
        settings = ("--rule", found.rule, "--alpha", repr(found.alpha))
        adopt = session.command("recalibrate", *settings)
        note(f"models with history keep their own rule: `{adopt}` adopts it for all.")


def _row(found: DefaultRule, at: int) -> list[str]:
    one = found.history[at]
    return [str(one.seq), zone.shown(one.recorded_at), one.rule, f"{one.alpha:g}"]
