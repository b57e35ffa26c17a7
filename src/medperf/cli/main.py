"""The entry point. ``--version`` and the root help are answered from this file alone; only the noun asked for is imported."""

from __future__ import annotations

import gc
import os
import sys

from medperf import __version__

TYPE_CHECKING = False  # typing itself costs as much as starting Python
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["COMMANDS", "Entry", "entry", "main", "root_help"]


class Entry:
    """One line of the root help. ``module`` of `medperf.cli` holds ``app``: the noun itself, or the command called ``name``."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        self.name = name
        self.module = module
        self.summary = summary


#: The tree, one level deep. A test checks it against the modules, so that the root help needs none of them.
COMMANDS: tuple[Entry, ...] = (
    Entry("login", "account", "Log in to the server of the active profile."),
    Entry("logout", "account", "Log out: end the token on the server and forget it here."),
    Entry("passwd", "account", "Change your password."),
    Entry("status", "status", "Show who you are, which server you use and what this machine remembers."),
    Entry("doctor", "status", "Check that this machine can run containers safely."),
    Entry("test", "test", "Run the compatibility test of a workflow, on this machine."),
    Entry("mlcube", "mlcube", "Make, package, submit and look up MLCubes (registered containers)."),
    Entry("benchmark", "benchmark", "Submit, look up and decide about benchmarks."),
    Entry("dataset", "dataset", "Prepare, check, register and withdraw data of this site."),
    Entry("association", "association", "Let datasets and models into benchmarks: invite, approve, revoke, rank."),
    Entry("inbox", "inbox", "Show what waits for you, each thing with the command that deals with it."),
    Entry("egress", "egress", "Look up everything that left this site, and who agreed."),
    Entry("model", "model", "Say which models may run at this site."),
    Entry("run", "run", "Run models of a benchmark on a dataset of this site."),
    Entry("result", "result", "Review, submit, withhold, retract and look up results."),
    Entry("storage", "storage", "Look at what this site keeps on disk, and clean up."),
    Entry("asset", "asset", "Upload, download and delete files that the server hosts."),
    Entry("organisation", "organisation", "Own MLCubes and benchmarks together with others."),
    Entry("user", "user", "Manage the accounts of the server (admins only)."),
    Entry("profile", "profile", "Choose between servers and their settings."),
    Entry("server", "server", "Set up and run a server on this machine."),
    Entry("tutorial", "tutorial", "Set up the files of a tutorial."),
)

#: Global options with a value, as they may stand before the command.
_VALUES = ("--profile", "--server", "--certificate", "--format")
_COMPLETION = ("--install-completion", "--show-completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1 (the person), 2 (the command line), 70 (us) or 130 (Ctrl-C)."""
    given = list(sys.argv[1:] if argv is None else argv)
    if "_MEDPERF_COMPLETE" in os.environ or given[:1] in ([_COMPLETION[0]], [_COMPLETION[1]]):
        from medperf.cli.completion import complete

        return complete(given)
    leading: dict[str, str] = {}
    problem = ""
    while given and given[0].startswith("-") and not problem:
        word = given.pop(0)
        option, equals, value = word.partition("=")
        if word == "--version":
            return _say(f"medperf {__version__}\n")
        if word in ("-h", "--help"):
            return _say(root_help())
        if word in ("-v", "--verbose"):
            leading["verbose"] = "yes"
        elif option in _VALUES and (equals or given):
            leading[option[2:]] = value if equals else given.pop(0)
        elif option in _VALUES:
            problem = f"The option {option} needs a value."
        elif word != "--":
            problem = f"No such option: {word}"
    if not given and not problem:
        return _say(root_help())
    # Imports make no garbage: a tenth of the start-up goes into looking for it. What runs long still collects.
    gc.set_threshold(50_000, 20, 20)
    # Nothing here is a pydantic plugin; looking for some would read the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from medperf.cli.runner import run

    return run(given, leading=leading, problem=problem)


def entry() -> NoReturn:
    """The program: `main`, then the end of the process at once.

    Taking the interpreter apart costs more than most commands do; everything is written and closed by now. Where a thread still
    lives, or a stream cannot be flushed, Python ends the process its own way.
    """
    code = main()
    threads = sys.modules.get("threading")
    if threads is None or threads.active_count() == 1:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):
            sys.exit(code)
        os._exit(code)
    sys.exit(code)


def root_help() -> str:
    """The text of ``medperf --help``."""
    width = max(len(entry.name) for entry in COMMANDS)
    lines = "\n".join(f"  {entry.name:<{width}}  {entry.summary}" for entry in COMMANDS)
    return f"""Usage: medperf [OPTIONS] COMMAND [ARGS]...

  Benchmark medical AI without moving patient data.

Commands:
{lines}

Options (before or after the command):
  --profile NAME       Use this profile instead of the active one. [env var: MEDPERF_PROFILE]
  --server URL         Talk to this server instead of the profile's.
  --certificate PATH   Trust this certificate of the server.
  --format text|json   How answers are printed. [env var: MEDPERF_FORMAT]
  -v, --verbose        Say more about what is done and what went wrong.
  --version            Show the version and exit.
  -h, --help           Show this text and exit; also after every command.

Example:
  medperf login
  medperf test run --help
  medperf mlcube ls --mine
"""


def _say(text: str) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; Python's own flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stderr.write(
            f"Error: The answer cannot be written: {error.strerror}.\nWhat to do: Write it somewhere else.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    entry()
