"""One site's memory of one server."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from medperf.workspace.acceptances import Acceptances
from medperf.workspace.database import Database
from medperf.workspace.datasets import Datasets
from medperf.workspace.egress import Egress
from medperf.workspace.files import explained, size_of
from medperf.workspace.pending import Pending
from medperf.workspace.preparing import Preparing
from medperf.workspace.reports import Reports
from medperf.workspace.runs import Runs
from medperf.workspace.steps import Steps
from medperf.workspace.store import Store


class Workspace:
    """A folder with facts, files and steps. Several processes may use it at once; any may be killed at any instant.

    Attributes:
        path: the folder. It is made by the first write; looking for something makes nothing.
        store: files by digest.
        steps: what was done, and what is being done.
        reports: compatibility tests.
        pending: what was sent without an answer.
        preparing: what is on its way to become a dataset.
        datasets: what was prepared.
        egress: every body about this site's data that left.
        runs: attempts to run a model on a dataset.
        acceptances: models that a person here accepted or refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, prepared=self._first_write)
        self.store = Store(path / "store", self._database)
        self.steps = Steps(path / "steps", self._database)
        self.reports = Reports(self._database)
        self.pending = Pending(self._database)
        self.egress = Egress(self._database)
        self.runs = Runs(self._database)
        self.acceptances = Acceptances(self._database)
        self.preparing = Preparing(path / "preparing", self._database)
        self.datasets = Datasets(path / "datasets", self._database, preparing=self.preparing.folder)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The workspace in ``path``, which need not exist. No disk is touched."""
        return cls(path)

    def usage(self) -> dict[str, int]:
        """Bytes per part: ``store``, ``downloads`` (unfinished ones), ``steps``, ``datasets``, ``preparing``, ``logs``, ``facts``."""
        found = {part: size_of(self.path / part) for part in ("store", "steps", "datasets", "preparing", "logs")}
        found["downloads"] = size_of(self.path / "store" / "partial")
        found["store"] = max(found["store"] - found["downloads"], 0)
        found["facts"] = sum(path.stat().st_size for path in self.path.glob("facts.*")) if self.path.is_dir() else 0
        return found

    def check(self) -> None:
        """Whether what was written down here can be read.

        Raises:
            MedPerfError: it cannot; the fix names the command that leads back.
        """
        self._database.check()

    def sweep(self) -> int:
        """Remove what dead processes left behind; the first write of each process does it by itself. Returns how many things."""
        if not self.path.is_dir():
            return 0
        with explained(self.path):
            return self.datasets.recover() + self.preparing.sweep() + self.store.sweep() + self.steps.sweep()

    def close(self) -> None:
        """Close the database; using the workspace again opens it again."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first_write(self) -> None:
        self.sweep()
