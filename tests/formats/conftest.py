"""Fixtures that import texts from files."""

from support.importing import other, refuse, take

__all__ = ["other", "refuse", "take"]
