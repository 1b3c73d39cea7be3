"""`python -m calibration_ledger`: the same as `calib`."""

from calibration_ledger.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m calibration_ledger")
