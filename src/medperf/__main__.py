"""``python -m medperf``: the same command line."""

from medperf.cli.main import entry

entry()
