"""Runs of this site: one row for each attempt to run a model on a dataset, with what the server and the person need to know of it later."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

from medperf.domain.digests import canonical_json
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.executions import AttemptState, Disclosure, FailureClass
from medperf.workspace.database import Database
from medperf.workspace.processes import Process

_FIX = "List them with: medperf result ls --local"


@dataclass(frozen=True)
class LocalRun:
    """One attempt, as this site knows it.

    Attributes:
        uuid: of the attempt; the server knows it by this too.
        instance_id: of the server that it is registered with.
        dataset: its id here; ``dataset_id``: at the server.
        execution, attempt: at the server; None: it has not answered yet.
        message: how it ended, for people here; never sent.
        log: path of the log of the task that failed, or empty.
        metrics: the evaluator's document, nested, undefined as None; it kept the contract. None: there is none, or it was removed.
        contract: digest of the benchmark's metrics contract.
        steps: task -> step key; the sealed ``infer`` step holds the predictions.
        disclosure: what was decided about the metrics; None: the run has none.
        holder: the process that runs it (or ran it), as `medperf.workspace.processes.Process.token`.
        created_at, modified_at: ISO 8601, UTC.
    """

    uuid: str
    instance_id: str
    benchmark: int
    dataset: str
    dataset_id: int
    model: int
    model_name: str
    execution: int | None = None
    attempt: int | None = None
    state: AttemptState = AttemptState.REGISTERED
    failure: FailureClass | None = None
    message: str = ""
    log: str = ""
    metrics: Mapping[str, Any] | None = None
    contract: str = ""
    steps: Mapping[str, str] = field(default_factory=dict)
    disclosure: Disclosure | None = None
    holder: str = ""
    created_at: str = ""
    modified_at: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended and the process that runs it lives. An open run that is not can be resumed."""
        holder = Process.parse(self.holder)
        return self.state.is_open and holder is not None and holder.alive


class RunChanges(TypedDict, total=False):
    """What may change of a run; names and meaning as in `LocalRun`."""

    execution: int | None
    attempt: int | None
    state: AttemptState
    failure: FailureClass | None
    message: str
    log: str
    metrics: Mapping[str, Any] | None
    contract: str
    steps: Mapping[str, str]
    disclosure: Disclosure | None


_COLUMNS = (
    *("uuid", "instance_id", "benchmark", "dataset", "dataset_id", "model", "model_name", "execution", "attempt"),
    *("state", "failure", "message", "log", "metrics", "contract", "steps", "disclosure", "holder"),
    *("created_at", "modified_at"),
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM runs "  # noqa: S608 - names of ours
_JSON = ("metrics", "steps")


class Runs:
    """All runs of a workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: LocalRun) -> LocalRun:
        """Write down a run before anything of it is sent or done. This process holds it; the times are those of now.

        Raises:
            Conflict: ``run_running``: a living process of this site has the same model on the same dataset for the same benchmark.
        """
        now = _now()
        values = {name: getattr(run, name) for name in _COLUMNS}
        values |= {"holder": Process.current().token, "created_at": now, "modified_at": now}
        marks = ", ".join("?" for _ in _COLUMNS)
        with self._database.writing() as connection:
            self._refuse_running(connection, run.instance_id, run.benchmark, run.dataset, run.model)
            connection.execute(
                f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - names of ours
                [_stored(name, values[name]) for name in _COLUMNS],
            )
        return self.get(run.uuid)

    def take(self, uuid: str) -> LocalRun:
        """Go on with an open run whose process died.

        Raises:
            Conflict: ``run_running``: its process lives; ``run_ended``: another process went on with it, to its end.
        """
        with self._database.writing() as connection:
            run = self._one(connection, uuid)
            if not run.state.is_open:
                raise Conflict(
                    "run_ended",
                    f"Another process of this site went on with this run meanwhile, and it is {run.state.value}.",
                    f"Look at it with: medperf result view {run.uuid[:8]}",
                    details={"run": run.uuid},
                )
            self._refuse_running(connection, run.instance_id, run.benchmark, run.dataset, run.model)
            connection.execute(
                "UPDATE runs SET holder = ?, modified_at = ? WHERE uuid = ?", (Process.current().token, _now(), uuid)
            )
        return self.get(uuid)

    def let_go(self, uuid: str) -> None:
        """This process does nothing more with it, however it stands: whoever wants may `take` it."""
        with self._database.writing() as connection:
            connection.execute("UPDATE runs SET holder = '' WHERE uuid = ?", (uuid,))

    def change(self, uuid: str, **changes: Unpack[RunChanges]) -> LocalRun:
        """Change what is known of a run; what is not named stays.

        Raises:
            NotFound: there is no such run.
        """
        assignments = ", ".join(f"{name} = ?" for name in changes)
        values = [_stored(name, value) for name, value in changes.items()]
        with self._database.writing() as connection:
            if changes:
                connection.execute(
                    f"UPDATE runs SET {assignments}, modified_at = ? WHERE uuid = ?",  # noqa: S608 - names of ours
                    (*values, _now(), uuid),
                )
            return self._one(connection, uuid)

    def get(self, uuid_or_prefix: str) -> LocalRun:
        """One run by its id or the beginning of it (4 characters or more).

        Raises:
            NotFound: there is none.
            InvalidInput: several begin like this.
        """
        wanted = uuid_or_prefix.strip().lower()
        if not re.fullmatch(r"[0-9a-f-]{4,36}", wanted):
            raise _unknown(wanted)
        found = self._read("WHERE substr(uuid, 1, ?) = ? LIMIT 2", (len(wanted), wanted))
        if len(found) > 1:
            raise InvalidInput(
                "ambiguous_run", f"More than one run of this site begins with {wanted!r}.", f"Give more of it. {_FIX}"
            )
        if not found:
            raise _unknown(wanted)
        return found[0]

    def find(self, instance_id: str, execution: int, attempt: int) -> LocalRun | None:
        """The run that a server knows as this attempt; None: it ran elsewhere."""
        found = self._read("WHERE instance_id = ? AND execution = ? AND attempt = ?", (instance_id, execution, attempt))
        return found[0] if found else None

    def ls(
        self,
        instance_id: str | None,
        *,
        benchmark: int | None = None,
        dataset: str | None = None,
        model: int | None = None,
    ) -> list[LocalRun]:
        """Runs, newest first.

        Args:
            instance_id: of a server; None: of all.
            dataset: its id here.
        """
        filters = {"instance_id": instance_id, "benchmark": benchmark, "dataset": dataset, "model": model}
        given = {name: value for name, value in filters.items() if value is not None}
        where = f"WHERE {' AND '.join(f'{name} = ?' for name in given)} " if given else ""
        return self._read(f"{where}ORDER BY number DESC", tuple(given.values()))

    # -- within ------------------------------------------------------------------------------------------------------

    def _read(self, clause: str, values: tuple[Any, ...]) -> list[LocalRun]:
        with self._database.reading() as connection:
            return [_run(row) for row in connection.execute(_SELECT + clause, values)] if connection else []

    def _one(self, connection: sqlite3.Connection, uuid: str) -> LocalRun:
        row = connection.execute(f"{_SELECT} WHERE uuid = ?", (uuid,)).fetchone()
        if row is None:
            raise _unknown(uuid)
        return _run(row)

    def _refuse_running(
        self, connection: sqlite3.Connection, instance_id: str, benchmark: int, dataset: str, model: int
    ) -> None:
        rows = connection.execute(
            f"{_SELECT} WHERE instance_id = ? AND benchmark = ? AND dataset = ? AND model = ?",
            (instance_id, benchmark, dataset, model),
        )
        for run in map(_run, rows):
            holder = Process.parse(run.holder)
            if run.is_running and holder is not None:
                raise Conflict(
                    "run_running",
                    f"Process {holder.pid} runs this model on this dataset since {run.created_at}.",
                    f"Wait until it ends, then run the same command again (or end it: kill {holder.pid}).",
                    details={"pid": holder.pid, "run": run.uuid},
                )


def _stored(name: str, value: Any) -> Any:
    if name in _JSON:
        return None if value is None else canonical_json(dict(value)).decode()
    return value


def _run(row: tuple[Any, ...]) -> LocalRun:
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {name: json.loads(values[name]) if values[name] is not None else None for name in _JSON}
    values["state"] = AttemptState(values["state"])
    values["failure"] = FailureClass(values["failure"]) if values["failure"] is not None else None
    values["disclosure"] = Disclosure(values["disclosure"]) if values["disclosure"] is not None else None
    return LocalRun(**values)


def _unknown(wanted: str) -> NotFound:
    return NotFound("unknown_run", f"This site has no run {wanted[:100]!r}.", _FIX)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
