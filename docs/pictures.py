"""Make the pictures of the pages from the packaged sample: `python docs/pictures.py [FOLDER]`.

Run it again when what they show has changed, look at each, and commit them. Without a FOLDER they
go where the pages look for them. The extras `report` and `terminal` are all that they need.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.resources import as_file, files
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.report import plot

SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
MODEL = "random-llama:42m-f32"

CALIB = (sys.executable, "-c", "from calibration_ledger.cli.main import main; main()")

PLOTS = {
    "plot-models.svg": (None, "models"),
    "plot-sweep.svg": (MODEL, "sweep"),
    "plot-tokens.svg": (MODEL, "tokens"),
}

SCREENS = {
    "terminal-history.svg": (84, ("history", MODEL, "--last", "40", "--chart")),
    "terminal-sweep.svg": (84, ("sweep", MODEL, "--chart")),
    "terminal-stats.svg": (100, ("stats",)),
    "terminal-top.svg": (100, ("top", "--once", "--utc")),
}


def main() -> None:
    """Make all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    home = Path(__file__).parent / "_static"
    parser.add_argument("folder", nargs="?", type=Path, default=home)
    parser.add_argument("--only", metavar="NAME", action="append", help="Make this one alone.")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        make(wishes.folder, Path(place) / "sample.db", wishes.only or [*PLOTS, *SCREENS])


def make(folder: Path, ledger: Path, names: list[str]) -> None:
    """Make some of the pictures, of the sample in a new ledger."""
    # Learnt by kalman from the beginning: a recalibration would have the time of today.
    with AdaptiveCalibrator(ledger, rule="kalman") as calibrator, as_file(SAMPLE) as sample:
        calibrator.import_calls("csv", sample)
        for name in PLOTS.keys() & names:
            model, kind = PLOTS[name]
            plot(calibrator, model, kind, output=folder / name, width=680, utc=True)
    for name in SCREENS.keys() & names:
        columns, words = SCREENS[name]
        shown = in_terminal(ledger, columns, words).replace(str(ledger.parent), "~")
        (folder / name).write_text(screen(shown, columns, words), encoding="utf-8")


def in_terminal(ledger: Path, columns: int, words: tuple[str, ...]) -> str:
    """What the command prints in a terminal so wide."""
    ours, its = os.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [*CALIB, "--ledger", str(ledger), *words],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,  # advice is not the picture
        env=env | {"TERM": "xterm-256color", "COLUMNS": str(columns), "TZ": "UTC"},
    ):
        os.close(its)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # on Linux: the other end is closed
            pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").strip("\n")


def screen(shown: str, columns: int, words: tuple[str, ...]) -> str:
    """A picture of a terminal, with the command above what it printed."""
    console = Console(record=True, width=columns, file=StringIO(), color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), ("calib " + " ".join(words), "bold")))
    console.print(Text.from_ansi(shown), overflow="fold")
    drawn = console.export_svg(title="calib", unique_id="calib-" + words[0])
    # It would fetch fonts from the network: the reader's own will do.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


if __name__ == "__main__":
    main()
