"""Enumerations and state machines of DESIGN section 4, as pure functions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from medperf.domain.errors import Conflict, InvalidInput


class Kind(StrEnum):
    """What an MLCube is for; follows from its tasks, is never chosen."""

    PREPARATOR = "preparator"
    MODEL = "model"
    EVALUATOR = "evaluator"

    @property
    def with_article(self) -> str:
        """For sentences: ``a model``, ``an evaluator``."""
        return f"an {self.value}" if self.value[0] in "aeiou" else f"a {self.value}"


class State(StrEnum):
    """DEVELOPMENT -> OPERATION, never back."""

    DEVELOPMENT = "DEVELOPMENT"
    OPERATION = "OPERATION"


class Approval(StrEnum):
    """PENDING -> APPROVED | REJECTED."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


#: What may still change once a thing is in OPERATION; everything else is frozen with what was tested.
OPERATION_EDITABLE: dict[str, frozenset[str]] = {
    "mlcube": frozenset({"is_valid", "user_metadata"}),
    "benchmark": frozenset(
        {"is_valid", "is_active", "user_metadata", "auto_models", "auto_datasets", "results_visibility"}
    ),
    "dataset": frozenset({"is_valid", "is_active", "site_label"}),
}


def check_state_change(current: State, wanted: State) -> None:
    """Raises:
    Conflict: back from OPERATION to DEVELOPMENT.
    """
    if current is State.OPERATION and wanted is State.DEVELOPMENT:
        raise Conflict(
            "state_is_final", "OPERATION is final: it cannot go back to DEVELOPMENT.", "Register a new version instead."
        )


def check_editable(noun: str, state: State, changes: dict[str, Any]) -> None:
    """Raises:
    Conflict: ``changes`` touches a field that OPERATION froze.
    """
    if state is not State.OPERATION:
        return
    frozen = sorted(set(changes) - OPERATION_EDITABLE[noun] - {"state"})
    if frozen:
        raise Conflict(
            "frozen_in_operation",
            f"In OPERATION these fields of a {noun} are frozen: {', '.join(frozen)}.",
            f"Only {', '.join(sorted(OPERATION_EDITABLE[noun]))} can change; register a new version for anything else.",
        )


def check_approval(current: Approval, wanted: Approval, *, state: State) -> None:
    """Can this benchmark be decided about, now? Whether the actor may is for `medperf.domain.permissions`.

    Raises:
        Conflict: already decided, or still in DEVELOPMENT.
        InvalidInput: PENDING is not a decision.
    """
    if wanted is Approval.PENDING:
        raise InvalidInput("bad_decision", "PENDING is not a decision.", "Approve or reject.")
    if state is not State.OPERATION:
        raise Conflict(
            "not_in_operation",
            "A benchmark in DEVELOPMENT cannot be approved or rejected.",
            "Its owner puts it in OPERATION first.",
        )
    if current is not Approval.PENDING:
        raise Conflict("already_decided", f"This benchmark is already {current.value}.", "Nothing is left to decide.")
