import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import calibration_ledger
from calibration_ledger.core.command import calib, quoted, shell
from calibration_ledger.core.visible import is_visible

NAMES = (
    *("--yes", "-x", "--", "a b", "it's", 'a "b"', "$HOME", "`id`", "a;b", "a\nb", "a\tb", "a\\nb"),
    *("m\x1b]0;pwned\x07", "\x7f", "gpt\u034f4", "gpt4\ufe0f", "\u3164", "\u2800", "\u202e", "é"),
    *("it's\x1b", "back\\slash\n", "7\x017", "日本", "*", "~", "!x", "", "\udcff"),
)


@pytest.mark.parametrize("program", ["bash", "zsh", "ksh"])
def test_a_shell_reads_each_word_as_it_is(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    command = shell("printf", "%s\\0", *NAMES)
    out = subprocess.run([program, "-c", command], capture_output=True, check=True).stdout
    assert out.decode(errors="surrogateescape").split("\0")[:-1] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_command_is_seen(name):
    assert is_visible(quoted(name))


def test_names_stand_behind_two_dashes():
    assert calib("stats") == "calib stats"
    assert calib("void", "--seq", "3", names=["--yes"]) == "calib void --seq 3 -- --yes"
    assert calib("stats", names=["m"], ledger="a b.db") == "calib --ledger 'a b.db' stats -- m"
    url = "postgresql+psycopg://me:***@host/db"
    assert calib("stats", ledger=url) == f"calib --ledger {url.replace('***', 'PASSWORD')} stats"
    assert calib("stats", program="/a b/calib") == "'/a b/calib' stats"


TOLD = {
    "calib import": "it said the id of each import, whatever the ledger was",
    "calib history --last N": "a help text, which knows no ledger",
    "calib formats": "it lists what the program reads, whatever the ledger is",
    "calib --ledger FILE export jsonl": "it names the one that is to be exported",
    "calib sweep": "a help text, which knows no ledger",
    "calib export jsonl": "it wrote the file that is read",
    "calib audit": "a help text of a metric, which must be the same in every scrape",
    "calib audit --save-heads FILE": "it wrote the file that is read",
    "calib db backup": "it made the file that is looked at",
    "calib import state FILE": "no ledger was named, but the file of the older calibrator",
}
"""Commands that a sentence names without a ledger, and why it may."""


def test_a_sentence_that_suggests_a_command_names_the_ledger():
    """Pasted without it, the command would look at another ledger, or make one."""
    found = set()
    for path in Path(calibration_ledger.__file__).parent.rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and node not in docstrings:
                found |= {*re.findall(r"`(calib [^`]*)", str(node.value))}
    assert found == TOLD.keys()


@pytest.mark.parametrize(
    "char",
    # One of each range of Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode,
    # then what is blank without being ignorable.
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u200b\u200f\u202a\u2060\u2065\u206f"
    "\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\U0001bca0\U0001d173\U000e0000\U000e0020\U000e0100"
    "\U000e01ef\U000e0fff\u2800\U00016fe4\U0001d159\xa0\u2003\u2028",
)
def test_what_shows_nothing_is_not_visible(char):
    assert not is_visible(f"a{char}b")


def test_letters_of_all_scripts_are_visible():
    for text in ("gpt4", "modèle", "e\u0301", "модель", "模型", "모델", "النموذج", "🦙", "⠁", " "):
        assert is_visible(text)
