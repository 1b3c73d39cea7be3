"""Who may import whom: pure code at the bottom, SQL and click in one folder each, and no circles.

The modules are read, not imported, so that an import inside a function counts like any other.
Only what stands under `if TYPE_CHECKING:` does not: it never runs.
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import calibration_ledger
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.main import COMMANDS
from support.programs import ran

PACKAGE = "calibration_ledger"
SOURCE = Path(calibration_ledger.__file__).parent
MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"


def _name_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name_of(path): path
    for path in sorted(SOURCE.rglob("*.py"))
    # In a wheel the migrations lie here; they are Alembic's, and have a test of their own. The hook
    # is PyInstaller's.
    if not {"migrations", "_pyinstaller"} & {*path.relative_to(SOURCE).parts}
}
"""Every module by its name inside the package; the package itself is ""."""

ROOMS = [
    {"_version"},
    {"errors"},
    {"rules"},
    {"core"},
    {"formats", "fast", "storage"},
    {"verbs"},
    {"calibrator"},
    {"live", "report"},
    {"cli"},
    {"__main__"},
]
"""The rooms of the house, from the ground up: each may import those below it and no others."""

FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

PURE = {"_version", "errors", "rules", "core", "formats", "fast"}
"""The folders and modules that know no database and no command line."""

DATABASE = {"sqlalchemy", "alembic", "sqlite3", "psycopg"}
FRAMEWORKS = {
    "live.litellm": "litellm",
    "live.langchain": "langchain_core",
    "live.opentelemetry": "opentelemetry",
    "live.prometheus": "prometheus_client",
    "cli.llm": "llm",
}
"""The modules that import what people and programs call models with; each is an extra."""

HISTORY = ("models", "calls", "call_details", "adjustments", "settings", "aliases")
"""Tables whose rows are never changed and never removed."""

TAKEN_OUT = HISTORY[1:4]
"""Those whose rows go to an archive."""


def is_in(module, names):
    """Whether a module is one of these, or lies in a package of theirs."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


@cache
def tree_of(module):
    return ast.parse(MODULES[module].read_text())


@cache
def running(tree):
    """All nodes below, without those that only a type checker sees."""
    found, todo = [], [tree]
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            found.append(child)
            todo.append(child)
    return found


@cache
def calls_in(tree):
    """All calls that run, each with the text of what it calls."""
    return [(node, ast.unparse(node.func)) for node in running(tree) if isinstance(node, ast.Call)]


def at_import(tree):
    """The statements of a module without its functions and classes."""
    later = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node for node in tree.body if not isinstance(node, later)]


def imported_by(tree):
    """Every name that is imported while this runs, in full."""
    found = set()
    for node in running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix(f"{PACKAGE}.") in MODULES
                found.add(full if is_module else node.module)
    return found


@cache
def outside(module):
    """The top-level packages of others that a module imports."""
    return {name.split(".")[0] for name in imported_by(tree_of(module))} - {PACKAGE}


@cache
def inside(module):
    """The modules of this package that a module imports; "" for the version's sake is free."""
    names = {name for name in imported_by(tree_of(module)) if name.split(".")[0] == PACKAGE}
    return {name.removeprefix(PACKAGE).removeprefix(".") for name in names} - {""}


def offenders(found):
    """The modules for which this gives something, with what it gives."""
    return {module: what for module in MODULES if (what := found(module))}


def test_every_module_lies_in_a_room():
    assert len(MODULES) > 40
    assert {room_of(module) for module in MODULES} - {""} == FLOORS.keys()


def test_the_pure_core_knows_no_database_and_no_command_line():
    pure = [module for module in MODULES if is_in(module, PURE)]
    heavy = DATABASE | {"click", "platformdirs"}
    assert {module: outside(module) & heavy for module in pure if outside(module) & heavy} == {}
    above = {m: {name for name in inside(m) if not is_in(name, PURE)} for m in pure}
    assert {module: names for module, names in above.items() if names} == {}


def test_databases_are_spoken_to_in_one_folder():
    assert offenders(lambda m: not is_in(m, {"storage"}) and outside(m) & DATABASE) == {}


def test_verbs_speak_to_the_ledger_and_never_to_its_database():
    spoken = re.compile(r"\bbackend\b|\.sql\b", re.IGNORECASE)
    above = {"verbs", "calibrator", "live", "report", "cli"}
    assert offenders(lambda m: is_in(m, above) and spoken.findall(MODULES[m].read_text())) == {}


def test_verbs_need_of_the_storage_only_what_no_open_ledger_has():
    """A ledger comes as an argument, so that its type is enough.

    What is left: a file's rows lie in a temporary database while they are checked, salvage and the
    doctor look at ledgers that cannot be opened, and a recorder has a queue for each process.
    """
    needed = offenders(lambda m: is_in(m, {"verbs"}) and {n for n in inside(m) if is_storage(n)})
    assert needed == {
        "verbs.archive": {"storage.stage"},
        "verbs.doctor": {"storage.engines", "storage.place", "storage.system"},
        "verbs.export": {"storage.sqlite.salvage"},
        "verbs.import_calls": {"storage.foreign", "storage.stage"},
        "verbs.import_file": {"storage.foreign"},
        "verbs.import_ledger": {"storage.stage"},
        "verbs.recorder": {"storage.sqlite.forks"},
    }
    assert {name for name in inside("calibrator") if is_storage(name)} == {
        "storage.engines",
        "storage.place",
    }


def is_storage(module):
    return is_in(module, {"storage"})


def test_click_is_in_one_folder():
    assert offenders(lambda m: not is_in(m, {"cli"}) and outside(m) & {"click"}) == {}


def test_what_compiles_is_imported_in_one_folder_and_only_when_it_is_used():
    compilers = {"numba", "numpy"}
    assert offenders(lambda m: not is_in(m, {"fast"}) and outside(m) & compilers) == {}
    at_once = {m: imported_by(ast.Module(at_import(tree_of(m)), [])) for m in MODULES}
    early = {m for m in MODULES if {name.split(".")[0] for name in at_once[m]} & compilers}
    assert early == set()


def test_what_makes_data_frames_is_imported_in_one_module_and_only_when_it_is_used():
    frames = {"pandas", "polars"}
    found = offenders(lambda m: outside(m) & frames)
    assert found == {"formats.frame": frames}
    early = imported_by(ast.Module(at_import(tree_of("formats.frame")), []))
    assert not {name.split(".")[0] for name in early} & frames


def test_what_counts_tokens_is_imported_in_one_module_and_only_when_it_is_used():
    assert offenders(lambda m: m != "core.tokens" and outside(m) & {"tiktoken"}) == {}
    early = imported_by(ast.Module(at_import(tree_of("core.tokens")), []))
    assert "tiktoken" not in {name.split(".")[0] for name in early}


def test_a_framework_is_imported_in_the_module_of_its_name_alone():
    homes = {module: {framework} for module, framework in FRAMEWORKS.items()}
    assert offenders(lambda m: outside(m) & {*FRAMEWORKS.values()}) == homes


def test_what_draws_is_imported_in_few_modules_and_only_when_it_is_used():
    homes = {
        "rich": {"cli.top", "verbs.progress"},
        "plotille": {"cli.chart"},
        "vl_convert": {"report.drawing"},
    }
    for library, modules in homes.items():
        assert offenders(lambda m, library=library: outside(m) & {library}).keys() == modules
        for module in modules:
            early = imported_by(ast.Module(at_import(tree_of(module)), []))
            assert library not in {name.split(".")[0] for name in early}


def room_of(module):
    return module.split(".")[0]


def test_each_room_imports_only_rooms_below_it():
    above = {
        module: {name for name in inside(module) if not FLOORS[room_of(name)] < FLOORS[room]}
        for module in MODULES
        if (room := room_of(module))
    }
    upward = {m: {n for n in names if room_of(n) != room_of(m)} for m, names in above.items()}
    assert {module: names for module, names in upward.items() if names} == {}


def test_no_command_imports_another_command():
    """What two of them need stands beside them, in a module of its own."""
    commands = {f"cli.{home.partition(':')[0]}" for home, _ in COMMANDS.values()}
    assert commands <= MODULES.keys()
    found = offenders(lambda m: m in commands and inside(m) & (commands - {m}))
    assert found == {}


def test_no_error_is_rewritten_after_it_was_made():
    """What an error says is put together from its parts when it is shown."""
    rewritten = offenders(
        lambda m: [
            ast.unparse(node)
            for node in ast.walk(tree_of(m))
            if isinstance(node, ast.Assign)
            and any(ast.unparse(target).endswith(".args") for target in node.targets)
        ]
    )
    assert rewritten == {}


def test_imports_run_one_way():
    graph = {module: inside(module) - {module} for module in MODULES}
    try:
        order = tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
    assert set(order) == set(MODULES)


def test_functions_stay_small():
    def long(tree):
        return [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno - node.lineno + 1 > 70
        ]

    assert offenders(lambda m: long(tree_of(m))) == {}
    migrations = [MIGRATIONS.parent / "env.py", *MIGRATIONS.glob("*.py")]
    assert [path.name for path in migrations if long(ast.parse(path.read_text()))] == []


def test_no_text_of_sql_changes_or_removes_history():
    """Only calibrations are ever updated, and nothing is ever deleted, with one exception.

    `archive` moves entries to a file and `import ledger` brings them back: the three statements
    for it stand together, and one method of a transaction runs them. The private temporary
    database of an import is no ledger, and may do as it likes.
    """
    changes = re.compile(
        rf"\b(?:DELETE\s+FROM|UPDATE|DROP\s+TABLE|REPLACE\s+INTO)\s+(?:{'|'.join(HISTORY)})\b",
        re.IGNORECASE,
    )
    found = offenders(
        lambda m: [
            node.value
            for node in running(tree_of(m))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and changes.search(node.value)
            and m != "storage.stage"
        ]
    )
    assert [*found] == ["storage.statements"]
    assert sorted(text.split()[2] for text in found["storage.statements"]) == sorted(TAKEN_OUT)
    assert offenders(lambda m: "remove_calls" in MODULES[m].read_text()).keys() == {
        "storage.statements",
        "storage.transaction",
    }
    assert offenders(lambda m: "remove_through" in MODULES[m].read_text()).keys() == {
        "storage.transaction",
        "verbs.archive",
        "verbs.import_ledger",
    }


def test_no_statement_of_sqlalchemy_changes_or_removes_history():
    def changes(call, called):
        first = ast.unparse(call.args[0]) if call.args else ""
        return (
            (called in {"sa.update", "update"} and first != "calibrations")
            or called in {"sa.delete", "delete"}
            or re.fullmatch(rf"(?:{'|'.join(HISTORY)})\.(?:update|delete)", called)
        )

    found = offenders(
        lambda m: [
            ast.unparse(node) for node, called in calls_in(tree_of(m)) if changes(node, called)
        ]
    )
    assert found == {}


def test_storage_never_opens_a_file_itself():
    """Closing such a descriptor would drop the locks that SQLite holds on the database."""
    opening = re.compile(r"open|.*\.open|.*\.(?:read|write)_(?:bytes|text)|.*fdopen")
    opened = {
        # the migrations, out of the zip that the program runs from
        "storage.migrate": {"(home / one.name).write_bytes(one.read_bytes())", "one.read_bytes()"},
        # a database of another tool, which nobody writes to now
        "storage.foreign": {"self._path.open('rb')"},
        # a copy, which nobody has open yet
        "storage.sqlite.copies": {"os.open(path, os.O_RDONLY)"},
        "storage.sqlite.permissions": {
            # the lock file, never the database beside it
            "os.open(path, os.O_RDWR | os.O_CREAT, _OWNERS | theirs & _WRITES)",
            "os.open(path, os.O_RDONLY)",
            # a database that was not there, so that nobody has it open
            "os.open(ledger, os.O_RDWR | os.O_CREAT | os.O_EXCL, 438)",
        },
    }
    calls = offenders(
        lambda m: {
            ast.unparse(node)
            for node, called in calls_in(tree_of(m))
            if is_in(m, {"storage"})
            and opening.fullmatch(called)
            # What the kernel tells in /proc is no file of ours.
            and not called.startswith("(PROC / ")
        }
    )
    assert calls == opened


def test_every_sqlite_connection_passes_the_gate_of_forks():
    """Whatever else opened one would carry it into children: see `storage.sqlite.forks`."""
    opening = re.compile(r".*\bsqlite3\.(?:connect|Connection)|(?:.*\.)?create_engine")
    opened = offenders(
        lambda m: {
            ast.unparse(node) for node, called in calls_in(tree_of(m)) if opening.fullmatch(called)
        }
    )
    assert opened.keys() == {
        "storage.postgres.connections",
        "storage.sqlite.forks",
        "storage.sqlite.migrate",
    }
    assert opened["storage.sqlite.forks"] == {
        (
            "sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False, "
            "factory=Private)"
        )
    }
    assert opened["storage.sqlite.migrate"] == {
        "sa.create_engine('sqlite://', creator=lambda: raw, poolclass=sa.StaticPool)"
    }
    private = {
        ast.unparse(node)
        for module in MODULES
        for node, called in calls_in(tree_of(module))
        if called == "private"
    }
    assert private == {"private()", "private(':memory:')"}, "a file is no private database"


def test_migrations_import_nothing_of_today():
    """History never imports the present: a revision must run as it did when it was released."""
    revisions = sorted(MIGRATIONS.glob("*.py"))
    assert revisions
    for path in revisions:
        names = {name.split(".")[0] for name in imported_by(ast.parse(path.read_text()))}
        assert names <= {"alembic", "sqlalchemy", "__future__"}, path.name


# -- in a fresh interpreter -----------------------------------------------------------------

HEAVY = {"sqlalchemy", "alembic", "click", "sqlite3", "platformdirs", "psycopg", "numpy", "numba"}


def run(code):
    """What a fresh interpreter prints."""
    done = ran(code, flags=["-W", "error"])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(code, names):
    """Which of these a fresh interpreter has loaded after running the code."""
    return run(f"{code}\nimport sys; print(*sorted({names!r} & sys.modules.keys()))").split()


@pytest.mark.parametrize(
    "code",
    [
        "import calibration_ledger",
        "from calibration_ledger import DEFAULT_ALPHA, Call, ModelCalibration, default_prior",
        "from calibration_ledger import CalibrationLedgerError, CostPrediction, Head, Replay",
    ],
)
def test_importing_the_package_imports_nothing_heavy(code):
    assert loaded_by(code, HEAVY) == []


def test_the_library_needs_neither_alembic_nor_click_nor_sqlalchemy():
    code = "from calibration_ledger import AdaptiveCalibrator"
    heavy = {"alembic", "click", "psycopg", "platformdirs", "sqlalchemy"}
    assert loaded_by(code, heavy) == []


def test_importing_the_library_imports_nothing_that_only_a_server_or_the_doctor_needs():
    code = "from calibration_ledger import AdaptiveCalibrator"
    spared = {
        "calibration_ledger.core.facts",
        "calibration_ledger.storage.postgres",
        "calibration_ledger.storage.sqlite.examine",
        "calibration_ledger.storage.sqlite.salvage",
    }
    assert loaded_by(code, spared) == []


def test_importing_the_library_touches_nothing(tmp_path):
    code = (
        f"import os; os.chdir({str(tmp_path)!r})\n"
        "import logging, calibration_ledger.calibrator\n"
        "print(os.listdir(), logging.getLogger().handlers)"
    )
    assert run(code) == "[] []"


def test_recording_into_a_ledger_that_is_there_needs_no_sqlalchemy(tmp_path):
    path = str(tmp_path / "calls.db")
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 2.0)
    code = (
        "from calibration_ledger import AdaptiveCalibrator\n"
        f"with AdaptiveCalibrator({path!r}) as calibrator:\n"
        "    calibrator.record('m', 1, 2.0)\n"
        "    calibrator.record('new', 1, 2.0)\n"
        "    calibrator.predict('m', 1), calibrator.replay(model='m'), calibrator.get_stats('m')"
    )
    assert loaded_by(code, {"sqlalchemy", "alembic"}) == []
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []


def test_only_making_a_ledger_needs_alembic(tmp_path):
    code = (
        "from calibration_ledger import AdaptiveCalibrator\n"
        f"with AdaptiveCalibrator({str(tmp_path / 'calls.db')!r}) as calibrator:\n"
        "    calibrator.record('m', 1, 2.0)\n    assert calibrator.audit() == []"
    )
    assert loaded_by(code, {"alembic"}) == ["alembic"]
    assert loaded_by(code, {"alembic"}) == []


def test_every_module_can_be_imported_first():
    """No module counts on another one of the package having been imported before it."""
    extras = ("postgres", *FRAMEWORKS)
    names = [
        f"{PACKAGE}.{m}"
        for m in MODULES
        if m not in {"", "__main__"} and not any(extra in m for extra in extras)
    ]
    run(
        "import sys, importlib\n"
        f"for name in {names!r}:\n"
        f"    for loaded in [m for m in sys.modules if m.split('.')[0] == {PACKAGE!r}]:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )


# -- the public names -----------------------------------------------------------------------


def test_every_public_name_is_there():
    for name in calibration_ledger.__all__:
        assert getattr(calibration_ledger, name) is not None
    assert sorted(calibration_ledger.__all__) == sorted(set(calibration_ledger.__all__))
    assert {"AdaptiveCalibrator", "DEFAULT_ALPHA", "ModelCalibration", "CostPrediction"} <= set(
        calibration_ledger.__all__
    )


def test_type_checkers_see_each_public_name_where_it_is_imported_from():
    """They read the imports and `__all__`; a running program goes by `__getattr__`."""
    (block,) = [
        node
        for node in tree_of("").body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    homes = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted([*homes, "__version__"]) == sorted(calibration_ledger.__all__)
    for name, home in homes.items():
        assert getattr(calibration_ledger, name) is getattr(import_module(home), name)


def test_dir_and_tab_list_the_public_names_before_any_was_asked_for():
    code = (
        "import calibration_ledger, rlcompleter\n"
        "assert sorted(calibration_ledger.__all__) == dir(calibration_ledger)\n"
        "complete = rlcompleter.Completer(vars()).complete\n"
        "print(complete('calibration_ledger.TimedC', 0), complete('calibration_ledger.Cal', 0))"
    )
    found = run(code)
    assert found.startswith("calibration_ledger.TimedCall")
    assert "calibration_ledger.Call" in found or "CalibrationLedgerError" in found


def test_what_a_public_verb_gives_can_be_had_from_the_package():
    (front_door,) = [
        node
        for node in tree_of("calibrator").body
        if isinstance(node, ast.ClassDef) and node.name == "AdaptiveCalibrator"
    ]
    verbs = [
        node
        for node in front_door.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    given = {
        name.id
        for verb in verbs
        for name in ast.walk(verb.returns or verb)
        if isinstance(name, ast.Name)
    }
    others = {"Any", "Iterator", "Mapping", "Path", "bool", "float", "int", "list", "str", "tuple"}
    assert {"ModelStats", "Diagnosis", "ArchiveReport", "Timed", "Replay"} <= given
    assert given - others <= set(calibration_ledger.__all__)


def test_mypy_sees_the_public_names_and_refuses_a_misspelt_one(tmp_path):
    """The whole front door, as typed programs use it, is in `typed_use.py`, which `mypy` reads."""
    program, settings = tmp_path / "program.py", tmp_path / "mypy.ini"
    program.write_text(
        "from calibration_ledger import AdaptiveCalibrator, ImportReport\n"
        "from calibration_ledger import AdaptiveCalibratr\n"
        "import calibration_ledger\n"
        "calibration_ledger.default_pior\n"
    )
    # The modules behind the package are not read: that takes long.
    settings.write_text(
        "[mypy]\nstrict = true\n"
        "[mypy-calibration_ledger.*]\nfollow_imports = skip\n"
        "[mypy-calibration_ledger]\nfollow_imports = normal\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, program],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(SOURCE.parent)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 2, done.stdout + done.stderr
    assert 'has no attribute "AdaptiveCalibratr"' in errors[0]
    assert 'has no attribute "default_pior"' in errors[1]


def test_every_error_can_be_had_from_the_package():
    from calibration_ledger import errors

    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    classes = {name for name in classes if getattr(errors, name).__module__ == errors.__name__}
    assert classes <= set(calibration_ledger.__all__)
    assert all(getattr(calibration_ledger, name) is getattr(errors, name) for name in classes)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweeper'"):
        _ = calibration_ledger.sweeper
