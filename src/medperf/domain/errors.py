"""Errors, by who must act.

Every error carries a stable ``code`` (for programs), ``what`` happened and ``fix``: what to do next (both for people).

======================  =========  ====================================================
class                   exit code  who must act
======================  =========  ====================================================
`MedPerfError`          1          the person: their files, rights, server or container
`UsageError`            2          the caller of the command line
`InternalError`         70         us: a traceback goes to the log
`Interrupted`           130        nobody: Ctrl-C, the workspace can be continued
======================  =========  ====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MedPerfError(Exception):
    """Something the person at the keyboard can mend.

    Args:
        code: stable snake_case identifier, e.g. ``"name_taken"``.
        what: one or two sentences: what happened, with got and expected.
        fix: what to do next, naming the command where there is one.
        details: machine-readable extras (JSON types only), shown by ``--format json``.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, fix: str = "", *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.fix = fix
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.what} {self.fix}".strip()


class UsageError(MedPerfError):
    """The command line itself is wrong: options that contradict each other or are missing."""

    exit_code = 2


class InvalidInput(MedPerfError):
    """A file, archive, document or field that a person or program gave breaks a rule."""


class NotFound(MedPerfError):
    """The thing does not exist, or the actor may not know that it does."""


class Forbidden(MedPerfError):
    """The actor is known and may see the thing, but may not do this."""


class Unauthenticated(MedPerfError):
    """No account, a wrong password or an expired token."""


class Conflict(MedPerfError):
    """The request contradicts what is already there (name taken, edited meanwhile, wrong state)."""


class ServerUnavailable(MedPerfError):
    """The server cannot be reached, does not answer in time or answers with a fault of its own."""


class TaskFailed(MedPerfError):
    """A container task did not succeed. ``details`` holds task, reason, exit_code, log and last_lines."""


class InternalError(MedPerfError):
    """A fault of ours."""

    exit_code = 70


class Interrupted(MedPerfError):
    """Ctrl-C: containers were stopped, finished steps are kept."""

    exit_code = 130

    def __init__(self, what: str = "Interrupted.", fix: str = "Run the same command again to continue.") -> None:
        super().__init__("interrupted", what, fix)
