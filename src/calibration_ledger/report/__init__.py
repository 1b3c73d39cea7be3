"""What people look at: a page and pictures, made from the public API alone."""

from calibration_ledger.report.page import report
from calibration_ledger.report.pictures import plot

__all__ = ["plot", "report"]
