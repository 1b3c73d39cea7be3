"""What cannot be connected to is a typed error, and no text ever shows a password."""

import gc
import logging
import os
import socket
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError, LedgerError, NotRecordedError
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.postgres.connections import make_engine
from support.postgres_server import PASSWORD
from support.programs import CALIB, ran
from support.steps import wait_until

SECRETS = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD))


def texts_of(error):
    """Everything that a program might print of an error, down to what it was raised in place of."""
    yield from traceback.format_exception(error)
    seen = [error]
    while seen:
        one = seen.pop()
        yield from (str(one), repr(one), repr(getattr(one, "args", "")))
        seen += [other for other in (one.__cause__, one.__context__) if other is not None]


def assert_secret(texts):
    for text in texts:
        for secret in SECRETS:
            assert secret not in text, text


@pytest.fixture(autouse=True)
def log(caplog):
    """No log record shows a password either."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert_secret([caplog.text])


@pytest.fixture
def role(postgres, run):
    name = postgres.role("writer")
    run(
        f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT UPDATE ON calibrations TO {name}",
    )
    return name


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def wrong(postgres, database, role):
    """URLs that lead nowhere, by what is wrong with them."""
    right = postgres.url(database, user=role)
    here = f"postgresql+psycopg://{role}:{quote(PASSWORD, safe='')}@"
    return {
        "password": right.replace(quote(PASSWORD, safe=""), "wrong"),
        "user": right.replace(role, "nobody_at_all"),
        "database": right.replace(f"/{database}", "/no_such_database"),
        "folder": f"{here}/{database}?host=/nowhere/at/all",
        "host": f"{here}no-such-host.invalid/{database}",
        "port": f"{here}127.0.0.1:{free_port()}/{database}",
        "option": f"{right}&no_such_option=1",
        "setting": f"{right}&options=-cno_such_setting%3D1",
    }


@pytest.mark.parametrize(
    "what", ["password", "user", "database", "folder", "host", "port", "option", "setting"]
)
def test_what_leads_nowhere_is_a_typed_error_without_the_password(wrong, what):
    started = time.monotonic()
    with pytest.raises(LedgerError, match=r"no connection to .*: check the URL.*\.$") as failed:
        AdaptiveCalibrator(wrong[what])
    assert time.monotonic() - started < 10.0, "it is not tried again and again"
    assert_secret(texts_of(failed.value))
    assert "\n" not in str(failed.value)


def test_a_server_that_does_not_answer_is_given_up(database):
    """It takes connections, and then says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(LedgerError, match="no connection"):
            AdaptiveCalibrator(f"postgresql://127.0.0.1:{port}/{database}", timeout_s=0.5)
        assert time.monotonic() - started < 8.0


@pytest.mark.parametrize("what", ["password", "port"])
def test_the_command_line_says_so_in_a_sentence(wrong, what):
    for arguments in (["stats"], ["db", "current"], ["audit"], ["doctor"]):
        done = ran(
            CALIB, "--ledger", wrong[what], *arguments, env=os.environ | {"PYTHONWARNINGS": "error"}
        )
        assert done.returncode == 1, done.stderr
        assert "no connection" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        assert_secret([done.stdout, done.stderr])


def test_a_connection_that_works_shows_no_password_either(postgres, database, role):
    url = postgres.url(database, user=role)
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert f"{role}:***@" in calibrator.ledger
        place = find_place(url)
        ledger = calibrator._ledger
        shown = [calibrator.ledger, repr(calibrator), repr(ledger.backend), repr(place)]
        shown += [repr(make_engine(url, 1.0)), repr(calibrator.__dict__), str(ledger.place)]
        assert_secret(shown)
        with pytest.raises(InvalidInputError) as refused:
            calibrator.backup("copy.db")
        assert_secret(texts_of(refused.value))
        assert calibrator.audit() == []


def test_a_failing_statement_shows_no_password(postgres, database, role, run):
    with AdaptiveCalibrator(postgres.url(database, user=role)) as calibrator:
        calibrator.record("m", 1, 2.0)
        run("ALTER TABLE calls RENAME TO calls_kept")
        for use in (
            lambda: calibrator.record("m", 1, 2.0),
            lambda: list(calibrator.calls()),
            calibrator.reset,
        ):
            with pytest.raises(LedgerError) as failed:
                use()
            assert_secret(texts_of(failed.value))
        run("ALTER TABLE calls_kept RENAME TO calls")
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:{0}@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgres://u:{0}@h/d", "postgresql+psycopg://u:***@h/d"),
        ("POSTGRES://u:{0}@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql://u:{0}@h:5/d?sslmode=require", "postgresql+psycopg://u:***@h:5/d?sslmode="),
        ("postgresql://h/d?user=u&password={0}", "postgresql+psycopg://h/d?user=u"),
        ("postgresql://u@h/d?sslpassword={0}&password={0}", "postgresql+psycopg://u@h/d"),
        ("postgresql://u@h/d?PASSWORD={0}&pasword={0}", "postgresql+psycopg://u@h/d"),
        ("postgresql://u@h/d?options=-csearch_path%3Dmine", "postgresql+psycopg://u@h/d?options="),
    ],
)
def test_a_password_is_not_shown_wherever_in_the_url_it_is(url, shown):
    place = find_place(url.format(quote(PASSWORD, safe="")))
    assert place.shown.startswith(shown)
    assert_secret([place.shown, repr(place)])


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PASSWORD}@h/d",  # its @ is not encoded
        "postgresql://u:s3cret/with:odd@signs%@h:port/d",
        "postgresql+psycopg://u:odd@signs%@h/d",
        "postgresql://u:signs%@h:5432x/d",
        "signs%://",
        "postgresql//u:signs%@h/d://",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url):
    with pytest.raises(InvalidInputError, match="percent-encoded") as refused:
        AdaptiveCalibrator(url)
    for text in texts_of(refused.value):
        assert "signs%" not in text or "AdaptiveCalibrator(url)" in text
        assert "odd" not in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://u:signs%@h/d", "postgresql+asyncpg://u:signs%@h/d"])
def test_another_kind_of_database_is_refused_without_the_password(url):
    with pytest.raises(InvalidInputError, match="is not supported") as refused:
        AdaptiveCalibrator(url)
    assert not any("signs%" in text for text in texts_of(refused.value))


def test_what_the_url_says_of_the_connection_is_kept(postgres, database):
    url = postgres.url(database, application_name="mine", connect_timeout="7")
    with AdaptiveCalibrator(url) as calibrator:
        rows = postgres.run(
            f"SELECT application_name FROM pg_stat_activity WHERE datname = '{database}'"
        )
        assert rows == [("mine",)]
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []


def test_without_psycopg_a_sentence_says_what_to_install(url):
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        f"AdaptiveCalibrator({url!r})"
    )
    done = ran(code)
    assert "pip install 'psycopg[binary]'" in done.stderr.splitlines()[-1]


def test_a_closed_calibrator_says_so_and_leaves_no_connection(postgres, database, url):
    calibrator = AdaptiveCalibrator(url)
    calibrator.record("m", 1, 2.0)
    assert calibrator.audit() == []
    calibrator.close()
    calibrator.close()
    with pytest.raises(LedgerError, match="closed"):
        calibrator.record("m", 1, 2.0)
    with pytest.raises(LedgerError, match="closed"):
        calibrator.predict("m", 1)
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    wait_until(lambda: postgres.run(count) == [(0,)])  # a server process takes a moment to end


def test_a_calibrator_that_nobody_closes_leaves_no_connection(postgres, database, url):
    """Nor a ResourceWarning of the driver's, which would be an error here."""
    AdaptiveCalibrator(url).record("m", 1, 2.0)
    with ThreadPoolExecutor(2) as pool:
        calibrator = AdaptiveCalibrator(url)
        list(pool.map(lambda i: calibrator.record("m", i, 2.0), range(8)))
        del calibrator
    gc.collect()
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    wait_until(lambda: postgres.run(left, database=database) == [(1,)])
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.calibration("m").sample_count == 9
        assert calibrator.audit() == []


def test_too_many_connections_are_a_typed_error(postgres, database, role, calibrator):
    calibrator.record("m", 1, 2.0)
    postgres.run(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    url = postgres.url(database, user=role)
    with AdaptiveCalibrator(url) as one:
        one.record("m", 1, 2.0)
        with pytest.raises(LedgerError, match="too many connections"):
            AdaptiveCalibrator(url)


def test_a_password_that_was_changed_is_a_typed_error(postgres, database, role, run):
    with AdaptiveCalibrator(postgres.url(database, user=role)) as calibrator:
        calibrator.record("m", 1, 2.0)
        run(
            f"ALTER ROLE {role} PASSWORD 'another'",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
        )
        with pytest.raises(NotRecordedError, match=r"no connection.*Nothing was recorded"):
            calibrator.record("m", 1, 2.0)
