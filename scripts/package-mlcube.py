"""Collect the files of an MLCube that have to be hosted, in its folder ``deploy``. Same as: medperf mlcube package."""

import os
import sys
from pathlib import Path

program = Path(__file__).resolve().with_name("medperf")
os.execv("/bin/sh", ["sh", str(program), "mlcube", "package", *sys.argv[1:]])  # noqa: S606 - our own script
