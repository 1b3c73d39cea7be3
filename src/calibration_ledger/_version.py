"""The version, in one place: the build, `calib --version` and `__version__` read it here."""

__version__ = "0.1.0"
