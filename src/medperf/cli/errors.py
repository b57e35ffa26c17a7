"""The one handler: whatever a command raises becomes two lines for the person who must act, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medperf import __version__
from medperf.cli.output import OutputClosed, clean, document
from medperf.domain.errors import InternalError, Interrupted, MedPerfError, TaskFailed, UsageError

#: What the parser raises. Typer brings a click of its own, older ones used the library; this module is the right one of both.
words: Any = importlib.import_module(typer.BadParameter.__module__)

if TYPE_CHECKING:
    from medperf.cli.session import Session

#: Faults of the machine that a person can mend, and how.
_MENDABLE = {
    errno.ENOSPC: "Make room on that disk, or move MedPerf's files with MEDPERF_HOME.",
    errno.EDQUOT: "Make room in your quota, or move MedPerf's files with MEDPERF_HOME.",
    errno.EROFS: "Move MedPerf's files to a disk that can be written with MEDPERF_HOME.",
    errno.EACCES: "Check who owns that file and who may use it.",
    errno.EPERM: "Check who owns that file and who may use it.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.EIO: "Look at that disk: it cannot be read or written.",
}
#: Faults of a path. They are a person's to mend only where the error names one.
_PATHS = {
    errno.ENOENT: "Make the folder first, or give another path.",
    errno.ENOTDIR: "Give a path whose parents are folders.",
    errno.EISDIR: "Give the path of a file.",
    errno.EEXIST: "Remove it, or give another path.",
    errno.ENOTEMPTY: "Empty it, or give another path.",
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.ELOOP: "Remove the links that lead in a circle.",
    errno.EBUSY: "Wait until nothing uses it, and try again.",
    errno.EXDEV: "Give a path on one disk.",
}


def guard(session: Session, work: Callable[[], None]) -> int:
    """Run ``work`` and return the exit code: 0, 1, 2, 70 or 130."""
    try:
        work()
    except OutputClosed:
        _drop_stdout(session)
    except typer.Exit as ended:
        return ended.exit_code
    except words.NoArgsIsHelpError as asked:
        text = f"{asked.ctx.get_help()}\n"
        return guard(session, lambda: session.out.write(text))
    except words.UsageError as error:
        return show(session, _usage(error))
    except MedPerfError as error:
        return _crash(session, error) if isinstance(error, InternalError) else show(session, error)
    except (KeyboardInterrupt, typer.Abort):
        return show(session, Interrupted())
    except OSError as error:
        mended = _machine(error)
        return show(session, mended) if mended is not None else _crash(session, error)
    except Exception as error:  # noqa: BLE001 - the door
        return _crash(session, error)
    return 0


def _machine(error: OSError) -> MedPerfError | None:
    """What a person can do about it; None: nothing, it is ours."""
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    fix = _MENDABLE.get(error.errno or 0) or (_PATHS.get(error.errno or 0) if named else None)
    if fix is None:
        return None
    place = f": {named[-1][:300]}" if named else ""
    return MedPerfError("machine", f"{error.strerror}{place}.", fix).with_traceback(error.__traceback__)


def show(session: Session, error: MedPerfError) -> int:
    """Print an error on stderr and return its exit code."""
    if error.code == "output_failed":
        _drop_stdout(session)
    if session.format == "json":
        body = {
            "code": error.code,
            "what": error.what,
            "fix": session.pointed(error.fix),
            "details": document(error.details),
        }
        _write(session, json.dumps({"error": body}) + "\n")
        return error.exit_code
    lines = [f"Error: {clean(error.what)}"]
    if isinstance(error, TaskFailed):
        lines += _task_lines(error.what, error.details)
    if error.fix:
        lines.append(f"What to do: {clean(session.pointed(error.fix))}")
    if session.verbose and error.__traceback__ is not None:
        import traceback

        lines.append("".join(traceback.format_exception(error)).rstrip())
    _write(session, "\n".join(lines) + "\n")
    return error.exit_code


def _task_lines(what: str, details: dict[str, Any]) -> list[str]:
    """What ``what`` does not say yet of the task and its exit code, what the task said last, and where all of it is."""
    lines = []
    named = set(re.findall(r"\w+", what))
    facts = {
        "Task": details.get("task"),
        "Exit code": details.get("exit_code") if details.get("reason") == "exit" else None,
    }
    lines += [
        f"{name}: {clean(str(value))}" for name, value in facts.items() if value is not None and str(value) not in named
    ]
    said = details.get("last_lines")
    said = said.splitlines() if isinstance(said, str) else said
    if said:
        lines.append("The last lines of the task's own output:")
        lines += [f"  | {clean(str(line))}" for line in said]
    elif said is not None:
        lines.append("It printed nothing.")
    if details.get("log"):
        lines.append(f"Log: {clean(str(details['log']))}")
    return lines


#: Where the ids that a command takes are listed.
_LISTS = {
    "benchmark": "medperf benchmark ls",
    "test": "medperf benchmark ls",
    "mlcube": "medperf mlcube ls",
    "asset": "medperf asset ls",
    "organisation": "medperf organisation invitations",  # the only numbers that its commands ask for
}


def _usage(error: Any) -> UsageError:
    path = error.ctx.command_path if error.ctx is not None else "medperf"
    fix = f"See: {path} --help"
    if isinstance(error, words.BadParameter):
        told, where = _value_fault(error, path)
        error.message = told or error.message
        fix = where + fix
    what = str(error.format_message()).replace("\n\t", " ").replace(": Value error, ", ": ").rstrip()
    if isinstance(error, words.NoSuchOption) and error.possibilities:
        what = error.message
        fix = f"Did you mean {' or '.join(sorted(error.possibilities))}? {fix}"
    return UsageError("usage", what if what.endswith((".", "?")) else f"{what}.", fix)


def _value_fault(error: Any, path: str) -> tuple[str, str]:
    """What is wrong with a value, empty where the parser's own words do; and where ids are listed, if one was wanted."""
    faults = getattr(error.__context__, "errors", None)
    fault = faults()[0] if callable(faults) else {}
    value, bounds = repr(str(fault.get("input"))[:100]), fault.get("ctx") or {}
    kind = str(fault.get("type"))
    if kind.startswith("int_"):
        identity = getattr(error.param, "metavar", "") or ""
        noun = "mlcube" if "mlcube" in str(getattr(error.param, "name", "")) else path.split()[1]
        asked = "ID" in identity.split("|") and noun in _LISTS
        if asked:
            return f"{value} is not a whole number; ids are numbers", f"List them with: {_LISTS[noun]} ; "
        return f"{value} is not a whole number", ""
    if kind == "greater_than_equal":
        return f"{value} is too small; the least is {bounds.get('ge')}", ""
    if kind == "less_than_equal":
        return f"{value} is too large; the most is {bounds.get('le')}", ""
    return "", ""


def _crash(session: Session, error: Exception) -> int:
    import traceback

    trace = "".join(traceback.format_exception(error))
    log = _write_log(session, trace)
    what = (
        error.what
        if isinstance(error, MedPerfError)
        else f"MedPerf itself failed ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})."
    )
    where = (
        f"The details are in {log}"
        if log
        else "No log could be written; run it again with --verbose to see the details"
    )
    details: dict[str, Any] = {"log": str(log) if log else None}
    code = error.code if isinstance(error, MedPerfError) else "internal"
    return show(
        session,
        _with_trace(
            InternalError(
                code, what, f"This is a fault of ours. {where}; please report it with that text.", details=details
            ),
            error,
        ),
    )


def _with_trace(shown: InternalError, cause: Exception) -> InternalError:
    shown.__traceback__ = cause.__traceback__
    shown.__cause__ = cause
    return shown


def _write_log(session: Session, trace: str) -> Path | None:
    """The traceback in a new file only its owner can read. The command line is left out: it may hold a password."""
    import platform

    head = f"medperf {__version__}, Python {platform.python_version()}, {platform.platform()}\n{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n\n"
    for folder in _log_folders(session):
        try:
            for part in (folder.parent, folder):  # with parents=True the home itself would be open to others
                part.mkdir(mode=0o700, exist_ok=True)
            path = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.log"
            with os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                "w",
                encoding="utf-8",
                errors="backslashreplace",
            ) as stream:
                stream.write(head + trace)
        except OSError:
            continue
        return path
    return None


def _log_folders(session: Session) -> list[Path]:
    given = session.environ.get("MEDPERF_HOME")
    folders = []
    with contextlib.suppress(RuntimeError, OSError):
        folders.append((Path(given).expanduser() if given else Path.home() / ".medperf") / "logs")
    import tempfile

    with contextlib.suppress(OSError):
        folders.append(Path(tempfile.gettempdir()) / f"medperf-logs-{os.getuid()}")
    return folders


def _write(session: Session, text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody hears: the exit code still says it
        session.stderr.write(text)
        session.stderr.flush()


def _drop_stdout(session: Session) -> None:
    """Python flushes stdout at exit; what is left in it has no reader, or no room."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), session.stdout.fileno())
