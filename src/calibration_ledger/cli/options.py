"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.session import Session
from calibration_ledger.errors import did_you_mean, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    Command = Callable[..., Any]

Form = Literal["table", "csv", "tsv", "markdown", "json", "jsonl"]
"""How a result is printed: the first is the default."""

FORMS: tuple[Form, ...] = get_args(Form)

FORM = f"{__name__}.form"
"""The name of the chosen one in a context's `meta`."""


_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")


class FilePath(click.Path):
    """A path. Only what can be no name at all is refused here; the library checks the rest."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """See `click.Path`."""
        if value == "-" and not self.allow_dash:
            # Elsewhere it means a stream: a file of that name could not be named again.
            self.fail("- is no file here: name one (./- is a file of that name).", param, ctx)
        try:
            return super().convert(value, param, ctx)
        except ValueError:  # NUL, or half a surrogate pair
            self.fail(f"{value!r} cannot be the name of a file.", param, ctx)


def time_with_zone(text: str) -> datetime:
    """Read a time in ISO 8601 with its zone, or say how to write it."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time: write it like 2026-11-24T08:30:00Z."
        ) from None
    if time.utcoffset() is None:
        from calibration_ledger.core.validation import without_zone

        is_date = _DATE.fullmatch(text) is not None
        lacks = "has no time of day and no time zone" if is_date else "has no time zone"
        raise click.BadParameter(f"{without_zone(text, time, lacks)}.")
    return time


def key_and_value(text: str) -> tuple[str, int | float | bool | str]:
    """Read KEY=VALUE, the value being a number, true, false, or else a text."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE: write it like ttft_ms=80.5.")
    if value in {"true", "false"}:
        return key, value == "true"
    if _NUMBER.fullmatch(value):
        return key, float(value) if set(value) & set(".eE") else int(value)
    return key, value


def details_of(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, Any], ...]
) -> dict[str, Any] | None:
    """The details as a mapping; a key given twice is refused."""
    keys = [key for key, _ in pairs]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise click.BadParameter(f"{twice[0]!r} is given twice.", ctx, param)
    return dict(pairs) or None


def complete(what: str) -> Callable[..., Any]:
    """The function of this name in `completion`, which is imported when TAB is pressed."""

    def completed(*given: Any) -> Any:
        from calibration_ledger.cli import completion

        return getattr(completion, what)(*given)

    return completed


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def question(word: str, words: Iterable[str]) -> str:
    """The question which word was meant, behind the end of a sentence; empty for no idea."""
    meant = did_you_mean(word, words).rstrip()
    return f" {meant[0].upper()}{meant[1:]}" if meant else ""


class FormName(click.Choice[str]):
    """The name of a form of output; a wrong one is told with the one that was meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.Choice`."""
        if value not in FORMS:
            names = f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"
            meant = question(str(value), FORMS)
            self.fail(f"{value!r} is no format of output: give {names}.{meant}", param, ctx)
        return str(value)


def format_option(command: Command) -> Command:
    """`--format`, and `--json` for short; the command takes the chosen `form`."""
    return _form_options(command, "json", "Print JSON: short for --format json.")


def format_option_of_lines(command: Command) -> Command:
    """The same of a command that prints a long list: its `--json` are JSON lines."""
    return _form_options(command, "jsonl", "Print JSON lines: short for --format jsonl.")


def _form_options(command: Command, json: Form, help_of_json: str) -> Command:
    def chosen(ctx: click.Context, param: click.Parameter, value: Form | None) -> Form:
        short = ctx.meta.get(FORM)
        if short is not None and value not in {None, short}:
            text = f"--json is short for --format {short}: leave one of the two out."
            raise click.BadParameter(text, ctx, param)
        ctx.meta[FORM] = value or short or FORMS[0]
        return ctx.meta[FORM]  # type: ignore[no-any-return]  # it was set above

    def set_short(ctx: click.Context, _param: click.Parameter, is_given: bool) -> None:
        if is_given:
            ctx.meta[FORM] = json

    form = click.option(
        "--format",
        "form",
        type=FormName(FORMS),
        metavar="FORMAT",
        callback=chosen,
        help=f"Print as {', '.join(FORMS[:-1])} or {FORMS[-1]}.  [default: {FORMS[0]}]",
    )
    short = click.option(
        "--json",
        is_flag=True,
        is_eager=True,  # before --format, which looks whether it was given
        expose_value=False,
        callback=set_short,
        help=help_of_json,
    )
    return form(short(command))


def chart_option(command: Command) -> Command:
    """`--chart`."""
    return click.option("--chart", is_flag=True, help="Draw it, instead of a table.")(command)


def window_options(command: Command) -> Command:
    """`--since` and `--until`."""
    since = click.option(
        "--since",
        type=zone.since,
        metavar="TIME",
        help="Only what was then or later: 1h, 90m, 2d or 1w ago, today, yesterday, 2026-11-24, "
        "or '2026-11-24 08:30'.",
    )
    until = click.option(
        "--until", type=zone.time_of, metavar="TIME", help="Only what was before then."
    )
    return since(until(command))


def rule_options(command: Command) -> Command:
    """`--alpha` and `--rule`: any text, as if it were a `RuleName`; the library refuses others."""
    alpha = click.option(
        "--alpha", type=click.FLOAT, help="The speed of adaptation, above 0 and at most 1."
    )
    rule = click.option(
        "--rule",
        metavar="NAME",
        help="The learning rule, such as ema or kalman.",
        shell_complete=complete("rules"),
    )
    return alpha(rule(command))


def token_options(command: Command) -> Command:
    """`--prompt-tokens` and `--completion-tokens` of a call that was made."""
    prompt = click.option(
        "-p", "--prompt-tokens", type=click.INT, required=True, help="The tokens that went in."
    )
    completion = click.option(
        "-c",
        "--completion-tokens",
        type=click.INT,
        default=0,
        show_default=True,
        help="The tokens that came out.",
    )
    return prompt(completion(command))


def coming_options(command: Command) -> Command:
    """The tokens of a call to come: the prompt's or its text, and what is known of the answer's."""
    options = [
        click.option("-p", "--prompt-tokens", type=click.INT, help="The tokens that go in."),
        click.option(
            "--text",
            type=FilePath(readable=False, allow_dash=True),
            metavar="FILE|-",
            help="Count the tokens of this prompt instead; - is stdin.",
        ),
        click.option(
            "-c",
            "--completion-tokens",
            type=click.INT,
            help="The tokens that will come out. Default: as in the newest calls.",
        ),
        click.option("--max-tokens", type=click.INT, help="The most that may come out."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


LEDGER: dict[str, Any] = {
    "type": FilePath(readable=False),  # what cannot be read, the library says better
    "metavar": "PATH-OR-URL",
    "help": "Where the ledger lies. Default: $CALIBRATION_LEDGER, else the user's data folder.",
}
"""What `--ledger` is, wherever it is given."""


def _keep_ledger(ctx: click.Context, param: click.Parameter, ledger: str | None) -> None:
    session = ctx.ensure_object(Session)
    if ledger is None:
        return
    if session.ledger not in {None, ledger}:
        # Neither is repeated: there may be a password in it.
        raise click.BadParameter(
            "another one is named before the command: leave one out.", ctx, param
        )
    session.ledger = ledger


def _keep_zone(ctx: click.Context, _param: click.Parameter, in_utc: bool) -> None:
    ctx.ensure_object(Session).in_utc |= in_utc


COMMON = (
    click.Option(["--ledger"], callback=_keep_ledger, expose_value=False, is_eager=True, **LEDGER),
    click.Option(
        ["--utc"],
        is_flag=True,
        callback=_keep_zone,
        expose_value=False,
        is_eager=True,  # before the options whose times it is about
        help="Show and read times in UTC, not in your own zone.",
    ),
)
"""The options of every command, which may stand before it, too."""


def model_argument(*, required: bool = False) -> Callable[[Command], Command]:
    """MODEL or `-m`: one model; all of them if it is optional and left out."""

    def with_model(command: Command) -> Command:
        @wraps(command)
        def named(*given: Any, model: str | None, option: str | None, **others: Any) -> Any:
            return command(*given, model=_either(model, option, required=required), **others)

        argument = click.argument(
            "model",
            required=False,
            metavar="MODEL" if required else "[MODEL]",
            shell_complete=complete("models"),
        )
        return argument(model_option("The same as MODEL.", "option")(named))

    return with_model


def models_argument(command: Command) -> Command:
    """`[MODEL]...` or `-m`: some models, or all of them."""

    @wraps(command)
    def named(*given: Any, models: tuple[str, ...], option: tuple[str, ...], **others: Any) -> Any:
        return command(*given, models=(*models, *option), **others)

    option = model_option("The same as MODEL; may be given again.", "option", multiple=True)
    return click.argument(
        "models", nargs=-1, metavar="[MODEL]...", shell_complete=complete("models")
    )(option(named))


def model_option(
    help_text: str, name: str = "model", *, multiple: bool = False
) -> Callable[[Command], Command]:
    """`-m`; the command takes it by this name."""
    return click.option(
        "-m",
        "--model",
        name,
        metavar="MODEL",
        multiple=multiple,
        help=help_text,
        shell_complete=complete("models"),
    )


def _either(model: str | None, option: str | None, *, required: bool) -> str | None:
    """The one model that was named, in either way."""
    if model is not None and option is not None and model != option:
        raise click.UsageError(
            f"two models are named, {shown(model)} and {shown(option)}: leave one out.",
            click.get_current_context(),
        )
    if required and model is None and option is None:
        raise click.MissingParameter(
            ctx=click.get_current_context(), param_hint="'MODEL'", param_type="argument"
        )
    return option if model is None else model
