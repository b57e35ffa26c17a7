"""Fill a development server with the people and entries of a tutorial. Same as: medperf server seed."""

import argparse
import os
import sys
from pathlib import Path

API = "v1"

parser = argparse.ArgumentParser(description="Fill a development server with the people and entries of a tutorial.")
parser.add_argument("--server", help="the server's address (https://localhost:8000)")
parser.add_argument("--username", help="an admin's account (admin)")
parser.add_argument("--password", help="its password")
parser.add_argument("--cert", help="the server's certificate")
parser.add_argument("--demo", default="data", help="the tutorial: benchmark, model or data (data)")
parser.add_argument("--version", default=API, help="stop unless the server speaks this version (" + API + ")")
given = vars(parser.parse_args())
wanted = given.pop("version")
if wanted != API:
    sys.exit("This checkout speaks version " + API + ", not " + wanted + ".")
words = [word for name in sorted(given) if given[name] is not None for word in ("--" + name, given[name])]
program = Path(__file__).resolve().parents[1] / "scripts" / "medperf"
os.execv("/bin/sh", ["sh", str(program), "server", "seed", *words])  # noqa: S606 - our own script
