"""A package of somebody else's, built and unpacked as an installer does."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from hatchling.build import build_wheel

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def installed(
    name: str, code: str, formats: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Build a package of one module and unpack its wheel; gives the folder to import it from.

    Args:
        name: what the package and its module are called.
        code: the module.
        formats: the callables in it that are formats, by their names.
        folder: where to work.
        monkeypatch: the build back end works in the current folder.
    """
    project, site = folder / f"{name}-project", folder / "site"
    project.mkdir()
    (project / f"{name}.py").write_text(code)
    points = "\n".join(f'"{key}" = "{name}:{target}"' for key, target in formats.items())
    (project / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.2"\n'
        f'[project.entry-points."calibration_ledger.formats"]\n{points}\n'
        f'[tool.hatch.build.targets.wheel]\ninclude = ["{name}.py"]\n'
    )
    with monkeypatch.context() as patch:
        patch.chdir(project)
        wheel = build_wheel(str(folder))
    with zipfile.ZipFile(folder / wheel) as built:
        built.extractall(site)
    return site
