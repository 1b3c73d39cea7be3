"""What is built and shipped: the wheel works without a checkout, and holds what it must."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory):
    """The sdist, and the wheel built from it, by the build back end installed here."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture(scope="module", name="installed")
def _installed(built, tmp_path_factory):
    """A clean environment with the wheel; its dependencies are borrowed from here."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)
    (wheel,) = built.glob("*.whl")
    site = Path(
        sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    )
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", site, wheel], check=True, timeout=120)
    borrowed = sysconfig.get_path("purelib")
    # Behind the environment's own packages, and without the .pth of the editable install.
    (site / "borrowed.pth").write_text(borrowed + "\n")
    return folder / "bin" / "python"


def run(python, code, cwd):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [python, "-c", code],
        cwd=cwd,
        env=kept,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_migrations_the_sample_and_the_types(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "migrations/env.py",
        "migrations/script.py.mako",
        "migrations/versions/0001_create_the_ledger.py",
        "migrations/versions/0002_add_voided_entries.py",
        "migrations/versions/0003_add_timeouts.py",
        "data/sample_calls.csv",
        "data/README.md",
        "py.typed",
    ):
        assert f"calibration_ledger/{name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"calibration_ledger"}
    assert [name for name in names if "cache" in name or name.endswith((".pyc", ".db"))] == []


def test_the_sdist_holds_what_builds_and_tests_it(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for name in (
        "alembic.ini",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Makefile",
        ".ci/run",
        "docs/index.md",
        "docs/conf.py",
        "LICENSE",
        "tests/conftest.py",
        "migrations/env.py",
    ):
        assert name in names
    assert [name for name in names if "shared" in name.split("/")] == []


def test_the_installed_wheel_finds_its_own_migrations_and_records(installed, tmp_path):
    code = (
        "from calibration_ledger import AdaptiveCalibrator\n"
        "from calibration_ledger.storage.migrate import migrations_dir\n"
        "with AdaptiveCalibrator('calls.db') as calibrator:\n"
        "    calibrator.record('m', 1, 1.0)\n"
        "    assert calibrator.audit() == []\n"
        "print(migrations_dir())\n"
    )
    found = Path(run(installed, code, tmp_path).strip())
    assert found.name == "migrations"
    assert ROOT not in found.parents
    assert found.is_relative_to(installed.parents[1])


def test_the_installed_command_upgrades_a_fresh_file_and_runs_the_demo(installed, tmp_path):
    for arguments in (["--ledger", "fresh.db", "db", "upgrade"], ["demo", "--at", "demo.db"]):
        code = f"from calibration_ledger.cli.main import main; main({arguments!r})"
        run(installed, code, tmp_path)
    assert {"fresh.db", "demo.db"} <= {file.name for file in tmp_path.iterdir()}


# -- programs that were packed ----------------------------------------------------------------


def test_a_program_that_runs_from_a_zip_makes_and_upgrades_ledgers(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "import os, tempfile, calibration_ledger\n"
        f"assert calibration_ledger.__file__.startswith({str(wheel)!r})\n"
        "tempfile.tempdir = 'unpacked'\n"
        "os.mkdir('unpacked')\n"
        "with calibration_ledger.AdaptiveCalibrator('calls.db') as calibrator:\n"
        "    calibrator.record('m', 1, 1.0)\n"
        "    assert calibrator.audit() == []\n"
        "from calibration_ledger.cli.main import main\n"
        "main(['demo', '--at', 'demo.db'], standalone_mode=False)\n"
        "assert os.listdir('unpacked') == []\n"
    )
    run(sys.executable, code, tmp_path)


def test_pyinstaller_finds_a_hook_that_collects_the_migrations(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (points,) = [name for name in opened.namelist() if name.endswith("/entry_points.txt")]
        assert "[pyinstaller40]" in opened.read(points).decode()
        hook = opened.read("calibration_ledger/_pyinstaller/hook-calibration_ledger.py").decode()
    assert 'subdir="migrations"' in hook
    from calibration_ledger._pyinstaller import hook_dirs

    (folder,) = hook_dirs()
    assert (Path(folder) / "hook-calibration_ledger.py").is_file()


def test_a_frozen_program_without_migrations_says_what_to_collect(monkeypatch, tmp_path):
    from calibration_ledger import MigrationsNotFoundError
    from calibration_ledger.storage import migrate

    monkeypatch.setattr(migrate, "files", lambda _: tmp_path / "a" / "b")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(MigrationsNotFoundError, match="--collect-all calibration_ledger"):
        migrate.migrations_dir()
