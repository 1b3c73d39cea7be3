"""Where PyInstaller finds the hook of this package, by its entry point `pyinstaller40`.

See pyinstaller.org/en/stable/hooks.html#provide-hooks-with-package.
"""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folder of the hook."""
    return [str(Path(__file__).parent)]
