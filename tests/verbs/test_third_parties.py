"""Formats of other packages: found by their entry points, and never a danger to others."""

import os
import sys

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError, InvalidInputError
from support.package import installed
from support.programs import CALIB, ran

CODE = """
from collections import UserDict
from datetime import UTC, datetime

from calibration_ledger import Call, Skip

COLUMNS = ("model", "prompt_tokens", "completion_tokens", "actual_ms")


def __getattr__(name):
    if name == "leaves":
        raise SystemExit(4)
    raise AttributeError(name)


class Unreadable(UserDict):
    def __iter__(self):
        raise RuntimeError("no keys")


def lines(path):
    with open(path) as file:
        next(file)
        for line in file:
            model, *numbers = line.split()
            if numbers == ["failed"]:
                yield Skip("failed")
            elif model == "call":
                yield Call(numbers[0], 10, 20, 300.5, called_at=datetime(2026, 1, 1, tzinfo=UTC))
            elif model == "absent":
                yield {"model": numbers[0], "prompt_tokens": 1, "actual_ms": 2.0}
            elif model == "odd":
                yield Skip("no such reason") if numbers == ["reason"] else 17
            elif model == "raises":
                raise OSError("the disk is gone")
            elif model == "exits":
                raise SystemExit(3)
            elif model == "unreadable":
                yield Unreadable()
            else:
                values = map(float, numbers)
                yield dict(zip(COLUMNS, (model, *values), strict=True))


lines.reads = "the lines of acme"
lines.looks_like = lambda beginning: beginning.head.startswith(b"acme 1\\n")


def jsonl(path):
    return []


def loud(path):
    return []


def raise_it(beginning):
    raise RuntimeError("never mind")


loud.looks_like = raise_it
nothing = 3
"""

FORMATS = {
    "acme": "lines",
    "jsonl": "jsonl",
    "loud": "loud",
    "nothing": "nothing",
    "gone": "no_such_name",
    "leaves": "leaves",
}
GOOD = "acme 1\nm 10 20 300\nm failed\ncall m\nabsent m\nm 11 21 310\n"


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("acme")
        yield installed("acme_formats", CODE, FORMATS, folder, patch)


@pytest.fixture(autouse=True)
def _package(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("acme_formats", None)


@pytest.fixture(name="file")
def _file(tmp_path):
    path = tmp_path / "calls.acme"
    path.write_text(GOOD)
    return path


def test_a_format_of_another_package_gives_calls_mappings_and_skips(calibrator, file):
    report = calibrator.import_calls("acme", file)
    assert (report.format, report.recorded) == ("acme", 3)
    assert dict(report.left_out) == {"failed": 1, "unknown tokens": 1}
    assert sorted(call.actual_ms for call in calibrator.calls()) == [300.0, 300.5, 310.0]
    file.write_text(GOOD + "m 12 22 320\n")
    again = calibrator.import_calls("acme", file)
    assert (again.recorded, again.already) == (1, 3)
    assert calibrator.audit() == []


def test_it_takes_part_in_the_recognition_of_files(calibrator, file):
    report = calibrator.import_calls("auto", file)
    assert (report.kind, report.format, report.recorded) == ("auto", "acme", 3)


@pytest.mark.parametrize(
    ("format_", "content", "line", "sentence"),
    [
        ("acme", "acme 1\nm 1 2 3\nraises\n", None, r"failed \(OSError: the disk is gone\)"),
        ("acme", "acme 1\nm 1 2 3\nexits\n", None, r"failed \(SystemExit: 3\)"),
        ("acme", "acme 1\nunreadable\n", None, r"failed \(RuntimeError: no keys\)"),
        ("acme", "acme 1\nm 1 2 3\nodd\n", 2, "gave 17, which is no call and no Skip"),
        ("acme", "acme 1\nodd reason\n", 1, "gave the unknown reason 'no such reason'"),
        ("gone", "x", None, "cannot be imported"),
        ("nothing", "x", None, "gives 3, which cannot be called"),
    ],
)
def test_a_package_that_fails_is_named_and_records_nothing(
    calibrator, ledger_path, tmp_path, format_, content, line, sentence
):
    path = tmp_path / "calls"
    path.write_text(content)
    with pytest.raises(ImportRefusedError, match=sentence) as caught:
        calibrator.import_calls(format_, path)
    assert caught.value.line == line
    assert "acme_formats 1.2" in str(caught.value)
    assert "Nothing was recorded" in str(caught.value)
    assert not ledger_path.exists()


def test_a_format_of_another_package_reads_files_and_no_streams(calibrator, tmp_path, file):
    with (
        file.open() as stream,
        pytest.raises(ImportRefusedError, match="acme cannot read a stream"),
    ):
        calibrator.import_calls("acme", stream)
    with pytest.raises(ImportRefusedError, match="there is no such file"):
        calibrator.import_calls("acme", tmp_path / "none")


def test_a_format_of_another_package_never_gets_the_ledger_itself(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    with pytest.raises(ImportRefusedError, match="the ledger itself"):
        calibrator.import_calls("acme", ledger_path)


def test_a_name_of_ours_stays_ours(calibrator, tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text('{"model":"m","prompt_tokens":1,"completion_tokens":2,"actual_ms":3.0}\n')
    assert calibrator.import_calls("jsonl", path).recorded == 1
    found = [one for one in calibrator.formats() if one.name == "jsonl"]
    assert [one.kind for one in found] == ["own", "third party"]
    assert "one of ours, and what acme_formats 1.2 gives" in found[1].trouble


def test_the_list_of_formats_says_what_each_reads_and_which_cannot_be_used():
    found = {one.name: one for one in AdaptiveCalibrator.formats() if one.kind == "third party"}
    assert found["acme"].reads == "the lines of acme (acme_formats 1.2)"
    assert found["loud"].reads == "what acme_formats 1.2 reads"
    assert found["acme"].trouble == found["loud"].trouble == ""
    assert "cannot be imported (AttributeError" in found["gone"].trouble
    assert "gives 3, which cannot be called" in found["nothing"].trouble


def test_a_misspelt_name_meets_those_of_other_packages_too(calibrator):
    with pytest.raises(InvalidInputError, match="did you mean 'acme'"):
        calibrator.import_calls("acmee", "x")


def test_nobody_looks_for_packages_before_a_format_is_asked_for(site, tmp_path):
    (tmp_path / "calls.csv").write_text(
        "model,prompt_tokens,completion_tokens,actual_ms\nm,1,2,3.5\n"
    )
    program = (
        "import sys\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        "from calibration_ledger.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "with AdaptiveCalibrator(sys.argv[1]) as calibrator:\n"
        "    calibrator.record('m', 1, 2.0)\n"
        "    print({'calibration_ledger.formats.third_party', 'acme_formats'} & {*sys.modules})\n"
        "    calibrator.import_calls('csv', sys.argv[2])\n"
        "    print('acme_formats' in sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = ran(program, tmp_path / "calls.db", tmp_path / "calls.csv", env=env)
    assert done.stdout.splitlines()[-2:] == ["set()", "False"], done.stderr


def test_the_command_finds_them_and_tells_of_trouble(site, file, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(site)}
    listed = ran(CALIB, "formats", env=env)
    assert listed.returncode == 0, listed.stderr
    assert "the lines of acme (acme_formats 1.2)" in listed.stdout
    assert "warning: the third-party format jsonl cannot be used" in listed.stderr
    done = ran(CALIB, "--ledger", tmp_path / "calls.db", "import", file, env=env)
    assert done.returncode == 0, done.stderr
    assert "calls.acme, read as acme: 3 calls recorded; 1 model (1 new)" in done.stderr
    assert "left out: 1 failed, 1 unknown tokens" in done.stderr
