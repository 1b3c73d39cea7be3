"""Python programs that tests run in processes of their own."""

import subprocess
import sys

CALIB = "from calibration_ledger.cli.main import main; main(prog_name='calib')"


def ran(program, *arguments, flags=(), **options):
    """What this program gave, run to its end with these arguments."""
    return subprocess.run(
        [sys.executable, *flags, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def started(program, *arguments, **options):
    """This program at work, with pipes to and from it."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
