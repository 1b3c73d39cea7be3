import json
import re

from calibration_ledger.storage.migrate import migration_connection, run_migrations

HEADER = "model,prompt_tokens,completion_tokens,actual_ms,request_id\n"
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"


def lines(result):
    return result.stdout.splitlines()[1:]


def test_what_happened_is_a_table_with_the_command_that_takes_each_back(calib, filled, tmp_path):
    file = tmp_path / "calls.csv"
    file.write_text(HEADER + "tiny,1,2,300,r1\nother,2,3,400,r2\n")
    calib("import", "csv", file)
    calib("rule", "kalman")
    calib("alias", "nick", "tiny")
    calib("reset", "other")
    calib("void", "other", "--seq", "2", "--note", "a test")
    brought, rule, alias, reset, voided = lines(calib("log"))
    assert re.match(rf"{TIME}  import +2 models +calls\.csv \(csv\): 2 calls  ", brought)
    assert re.search(r"calib --ledger \S+ void --import [0-9a-f]{12}$", brought)
    assert rule.rstrip().endswith("new models learn by kalman.2, alpha 0.01")
    assert "another name: nick" in alias
    assert re.search(r"calib --ledger \S+ alias --remove -- nick$", alias)
    assert re.search(r"calib --ledger \S+ void --seq 3 -- other$", reset)
    assert "entry 2: a test" in voided
    back = voided[voided.index("calib ") :].split()[3:]
    calib(*back)
    assert "voided (voided)" in lines(calib("log"))[-2]
    for newest in ("--last", "--limit", "-n"):
        assert len(lines(calib("log", newest, "2"))) == 2
    assert len(lines(calib("log", "--model", "other"))) == 4


def test_json_is_an_object_a_line_without_what_does_not_apply(calib, filled):
    calib("rule", "kalman")
    calib("reset", "tiny")
    rule, reset = map(json.loads, calib("log", "--json").stdout.splitlines())
    assert list(rule) == ["at", "kind", "seq", "rule", "alpha"]
    assert list(reset) == ["at", "kind", "seq", "model", "rule", "alpha"]


def test_a_ledger_to_which_nothing_happened_says_so(calib, filled):
    shown = calib("log")
    assert (shown.stdout, calib("log", "--json").stdout) == ("", "")
    history = f"calib --ledger {filled} history"
    assert f"nothing to show: of calls, `{history}` tells." in shown.stderr


def test_a_name_that_steers_the_terminal_is_shown_written_out(calib, filled, tmp_path):
    calib("void", "tiny", "--seq", "2", "--note", "\x1b[2Jgone")
    assert "\x1b" not in calib("log").stdout
    assert "\\x1b[2Jgone" in calib("log").stdout


def test_what_an_older_ledger_did_not_note_is_said(calib, filled):
    with migration_connection(str(filled)) as connection:
        run_migrations(connection, "0005")
    calib("db", "upgrade")
    shown = calib("log")
    (upgrade,) = lines(shown)
    assert re.match(rf"{TIME}  upgrade  -      revision 0005 to \d{{4}}, by \d", upgrade)
    assert re.search(rf"\(imports before {TIME} were not noted: ", shown.stderr)
    assert calib("audit").stdout.startswith("ok")


def test_a_corrected_file_takes_the_place_of_the_import_that_the_log_names(calib, filled, tmp_path):
    wrong, right = tmp_path / "wrong.csv", tmp_path / "right.csv"
    wrong.write_text(HEADER + "tiny,1,2,0.3,r1\n")
    right.write_text(HEADER + "tiny,1,2,300,r1\n")
    calib("import", "csv", wrong)
    (entry,) = map(json.loads, calib("log", "--json").stdout.splitlines())
    tried = calib("import", "csv", right, "--replace", entry["import_id"], "--dry-run")
    assert f"1 call of {entry['import_id']} would be voided" in tried.stderr
    done = calib("import", right, "--replace", entry["import_id"])
    assert "1 call recorded (1 in place of voided ones)" in done.stderr
    assert f"1 call of {entry['import_id']} voided: replaced by these." in done.stderr
    again = calib("import", right, "--replace", entry["import_id"], "--json")
    assert json.loads(again.stdout)["replaced"] == 0
    assert f"no call of {entry['import_id']} was left to void" in again.stderr
    both = calib("import", "csv", wrong, right, "--replace", entry["import_id"], exit_code=2)
    assert "--replace takes one FILE" in both.stderr
    unknown = calib("import", "csv", right, "--replace", "3f2a9c01d4e7", exit_code=2)
    assert "no call of the import '3f2a9c01d4e7'" in unknown.stderr
    assert calib("audit").stdout.startswith("ok")
