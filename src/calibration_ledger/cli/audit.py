"""`calib audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from calibration_ledger._version import __version__
from calibration_ledger.cli.main import EXIT_FINDINGS
from calibration_ledger.cli.options import FilePath, examples, format_option, model_argument
from calibration_ledger.cli.output import note, print_data, progress, say
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.core import text
from calibration_ledger.core.validation import iso_from_us
from calibration_ledger.core.values import Finding
from calibration_ledger.formats.heads import check_replaceable, read_heads, write_heads

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form


@click.command(
    epilog=examples(
        "calib audit",
        "calib audit --save-heads heads.jsonl",
        "calib audit --heads heads.jsonl --save-heads heads.jsonl",
    )
)
@model_argument()
@click.option(
    "--heads",
    "noted",
    type=FilePath(readable=False, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Compare with heads saved earlier, to find a history that was rewritten or cut.",
)
@click.option(
    "--save-heads",
    type=FilePath(readable=False, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Save today's heads, as JSON lines, if there are no findings. Keep them elsewhere.",
)
@format_option
@click.pass_context
@pass_session
def audit(
    session: Session,
    ctx: click.Context,
    model: str | None,
    *,
    noted: str | None,
    save_heads: Path | None,
    form: Form,
) -> None:
    """Check that the history explains the calibrations.

    Folds every entry again and compares: numbers without a gap, each stored prediction, each
    recalibration, the live calibrations, the ledger's settings and the running digests, all to the
    bit. Prints what it finds, one line each, and repairs nothing. A changed entry shows in the
    predictions after it, so look at the entry before the first that differs. Exit code 3: findings.

    With --json: a report to file, of the models, entries, time, heads and findings.
    """
    # Before the ledger is opened: if its own file is named by mistake, closing that again would
    # drop SQLite's locks on it.
    heads = None if noted is None else read_heads(noted)
    if save_heads is not None:
        check_replaceable(save_heads, session.path)
    from calibration_ledger.verbs.record import now_us

    began = iso_from_us(now_us())
    with session.existing() as calibrator:
        where = calibrator.ledger
        now = [head for head in calibrator.heads() if model in {None, head.model}]
        models = sum(head.is_of_model for head in now)
        total = entries(calibrator, model)
        with progress("auditing", total) as done:
            findings = calibrator.audit(model, heads=heads, progress=done)
    if save_heads is not None and not findings:
        write_heads(save_heads, now, session.path)
    elif save_heads is not None:
        note(f"no heads were saved to {save_heads}: they would vouch for what was found.")
    of_model = [head for head in heads or () if model in {None, head.model}]
    if heads is not None and not of_model:
        of = "" if model is None else f" of {text.escape(model)}"
        note(f"warning: there is no head{of} in {noted}, so there was nothing to compare.")
    unchecked = sum(finding.count for finding in findings if finding.check == "not checked")
    if unchecked:
        note(
            f"{text.count(unchecked, 'noted head')} of archived entries not checked: import the "
            f"archive into a ledger of its own, and audit that against them. Then save new heads."
        )
    report = {
        "ledger": where,
        "program": f"calibration-ledger {__version__}",
        "audited_at": began,
        "is_ok": not findings,
        "models": models,
        "entries": total,
        "noted_heads": None if heads is None else len(of_model),
        "heads": now,
        "findings": findings,
    }
    kinds = {**dict.fromkeys(report), "findings": list[Finding]}
    if not print_data(form, report, lines="findings", of=kinds):
        for finding in findings:
            say(str(finding))
        if not findings:
            say(f"ok: {text.count(models, 'model')}, {text.count(total, 'entry', 'entries')}")
    if findings:
        count = sum(finding.count for finding in findings)
        note(f"{text.count(count, 'finding')}: nothing was changed.")
        ctx.exit(EXIT_FINDINGS)
