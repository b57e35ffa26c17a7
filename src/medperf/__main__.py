"""``python -m medperf``: the same command line."""

import sys

from medperf.cli.main import main

sys.exit(main())
