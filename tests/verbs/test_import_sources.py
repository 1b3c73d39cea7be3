"""Where rows are read from: paths, open files, compressed ones, and what cannot be read."""

import gzip
import io
import os
import subprocess
import sys

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError, InvalidInputError
from calibration_ledger.formats.source import LINE_MAX, open_source
from support.importing import HEADER, json_row

# On a file alone: what is read has nothing to do with the database.
pytestmark = pytest.mark.usefixtures("ledger_path")

ROWS = f"{HEADER}\nm,1,2,3.5\nmé,4,5,6\n"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_text(kind, take):
    text = ROWS if kind == "csv" else json_row()
    assert take(kind, b"\xef\xbb\xbf" + text.encode()).skipped == 0


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_both_line_ends_are_read_and_the_last_may_be_missing(end, take):
    assert take("csv", ROWS.encode().replace(b"\n", end).rstrip()).recorded == 2
    jsonl = (json_row() + json_row(model="n")).encode().replace(b"\n", end).rstrip()
    assert take("jsonl", jsonl).recorded == 2


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_bytes_that_are_no_utf8_are_a_bad_line_with_its_number(kind, refuse, take):
    good, bad = (ROWS, b"m\xe9,1,2,3\n") if kind == "csv" else (json_row(), b'{"model":"m\xe9"}\n')
    content = good.encode() + bad + (b"m,7,8,9\n" if kind == "csv" else json_row().encode())
    error = refuse(kind, content)
    assert error.line == (4 if kind == "csv" else 2)
    assert "not UTF-8 (byte 0xe9)" in error.reason
    report = take(kind, content, skip_bad=True)
    assert (report.recorded, report.skipped) == (3 if kind == "csv" else 2, 1)


def test_the_longest_line_is_read_and_one_byte_more_is_not(take):
    padding = LINE_MAX - len(json_row())
    assert take("jsonl", json_row().strip() + " " * padding + "\n").recorded == 1
    report = take("jsonl", json_row().strip() + " " * (padding + 1) + "\n", skip_bad=True)
    assert report.skipped == 1


def test_a_very_long_line_is_one_bad_line_also_at_the_end(take):
    report = take("jsonl", json_row() + "x" * (3 * LINE_MAX), skip_bad=True)
    assert (report.recorded, report.skipped) == (1, 1)


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv"])
def test_a_compressed_file_is_read_whatever_its_name(name, calibrator, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(ROWS.encode()))
    assert calibrator.import_calls("csv", path).recorded == 2


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_a_damaged_compressed_file_is_refused_whole(damage, skip_bad, refuse, ledger_path):
    content = bytearray(gzip.compress((json_row() * 3000).encode()))
    if damage == "cut":
        del content[-20:]
    elif damage == "flipped":
        content[-6] ^= 0xFF  # in the check sum of the text
    else:
        content[2:] = b"nonsense"
    error = refuse("jsonl", bytes(content), skip_bad=skip_bad)
    assert "cannot be read" in error.reason
    assert not ledger_path.exists()


def test_an_open_text_file_is_read_and_left_open(calibrator):
    stream = io.StringIO(ROWS)
    report = calibrator.import_calls("csv", stream)
    assert (report.recorded, report.source) == (2, "<stream>")
    assert not stream.closed


def test_an_open_file_is_read_on_from_where_it_stands(calibrator, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a line of remarks\n" + ROWS, encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        file.readline()
        assert calibrator.import_calls("csv", file).recorded == 2


def test_a_text_file_in_another_encoding_is_read_as_it_was_opened(calibrator, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="latin-1")
    with path.open(encoding="latin-1") as file:
        report = calibrator.import_calls("csv", file)
    assert (report.recorded, report.source) == (2, str(path))
    assert [call.model for call in calibrator.calls()] == ["m", "mé"]


def test_what_a_text_file_cannot_decode_refuses_it_with_a_line(calibrator, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(ROWS.encode())
    with path.open(encoding="ascii") as file, pytest.raises(ImportRefusedError) as caught:
        calibrator.import_calls("csv", file, skip_bad=True)
    assert "not UTF-8" in caught.value.reason
    assert caught.value.line is not None


def test_an_open_binary_file_is_read(calibrator):
    assert calibrator.import_calls("csv", io.BytesIO(ROWS.encode())).recorded == 2


def test_standard_input_is_utf8_in_an_ascii_locale_too(ledger_path):
    program = (
        "import sys; from calibration_ledger import AdaptiveCalibrator;"
        f"c = AdaptiveCalibrator({str(ledger_path)!r});"
        "r = c.import_calls('csv', sys.stdin, skip_bad=True);"
        "print(r.source, r.recorded, r.skipped_lines, ascii([x.model for x in c.calls()]));"
        "assert c.audit() == []"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=ROWS.encode() + b"\xff,1,2,3\n",
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert done.stdout.decode().startswith("<stdin> 2 (SkippedLine(line=4, reason='the text is")
    assert "['m', 'm\\xe9']" in done.stdout.decode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_once(calibrator, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; open(sys.argv[1], 'wb').write(sys.argv[2].encode())",
         pipe, ROWS]
    ):  # fmt: skip
        assert calibrator.import_calls("csv", pipe).recorded == 2


def test_a_file_that_is_not_there_is_refused(calibrator):
    for kind in ("jsonl", "csv", "ledger", "state"):
        with pytest.raises(
            ImportRefusedError, match=r"nowhere: the file cannot be opened: No such"
        ):
            calibrator.import_calls(kind, "nowhere")
    assert calibrator.heads() == []


def test_a_folder_is_no_file(calibrator, tmp_path):
    with pytest.raises(ImportRefusedError, match="cannot be opened: Is a directory"):
        calibrator.import_calls("csv", tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(calibrator, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    path.chmod(0)
    with pytest.raises(ImportRefusedError, match="Permission denied"):
        calibrator.import_calls("csv", path)


@pytest.mark.parametrize("source", [None, "", 5, b"x" * 5])
def test_nothing_to_read_from_is_an_error_of_its_own(source, calibrator):
    with pytest.raises(InvalidInputError):
        calibrator.import_calls("csv", source)


def test_a_name_with_a_nul_is_refused(calibrator):
    with pytest.raises(ImportRefusedError, match="null"):
        calibrator.import_calls("csv", "a\0b")


def test_a_closed_file_is_refused(calibrator, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        pass
    with pytest.raises(ImportRefusedError, match="cannot be read"):
        calibrator.import_calls("csv", file)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_the_ledger_itself_is_refused_without_being_opened(
    suffix, calibrator, ledger_path, tmp_path
):
    """Opening and closing it would drop SQLite's locks on it, of this whole process."""
    calibrator.record("m", 1, 2.0)
    link = tmp_path / "link"
    link.symlink_to(f"{ledger_path}{suffix}")
    for kind in ("jsonl", "state"):
        with pytest.raises(ImportRefusedError, match="the ledger itself"):
            calibrator.import_calls(kind, link)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("json", "there is no format 'json'.* did you mean 'jsonl'.*`calib formats`"),
        ("CSV", "did you mean 'csv'"),
        ("", "there is no format ''"),
        (None, "kind must be the name of a format, not None"),
        (["csv"], r"kind must be the name of a format, not \['csv'\]"),
    ],
)
def test_a_kind_that_there_is_not_is_an_error(kind, sentence, calibrator):
    with pytest.raises(InvalidInputError, match=sentence):
        calibrator.import_calls(kind, "x")


def test_files_of_others_are_neither_changed_nor_kept_open(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    path.chmod(0o444)
    before = path.stat()
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        calibrator.import_calls("csv", path)
        assert calibrator.audit() == []
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        before.st_mtime_ns, before.st_size, before.st_ino,
    )  # fmt: skip
    assert path.read_text(encoding="utf-8") == ROWS


def test_a_name_that_is_no_text_is_shown_all_the_same(tmp_path):
    name = os.fsdecode(b"rows-\xff.csv")
    with pytest.raises(ImportRefusedError) as caught, open_source(os.fspath(tmp_path / name), None):
        pass
    str(caught.value).encode()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no such device here")  # noqa: PTH110 - a name
@pytest.mark.parametrize("kind", ["jsonl", "csv", "ledger"])
def test_a_device_without_an_end_is_refused(kind, calibrator):
    with pytest.raises(ImportRefusedError, match=r"/dev/zero, line 1: .*more than"):
        calibrator.import_calls(kind, "/dev/zero")
