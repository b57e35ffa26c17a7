"""``/executions``, ``/results`` and the results of a benchmark."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from medperf.client.base import Part
from medperf.client.faults import not_medperf
from medperf.client.http import Answer, Transport
from medperf.domain import limits
from medperf.domain.results import Cell
from medperf.wire.executions import (
    AttemptCreate,
    AttemptReport,
    AttemptView,
    ExecutionCreate,
    ExecutionView,
    ProgressReport,
    ReleaseCreate,
    ResultsTable,
    ResultView,
    RetractionCreate,
    WithholdingCreate,
    cells_of,
)


class ExecutionsPart(Part[ExecutionView]):
    """``/executions``. Every change can be sent again: what is so already is answered as it is."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/executions", ExecutionView)

    def list(
        self,
        *,
        owner: str | None = None,
        benchmark: int | None = None,
        dataset: int | None = None,
        model: int | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ExecutionView]:
        """Executions one may see, without their attempts. ``owner``: ``"me"`` or None."""
        filters = {"benchmark": benchmark, "dataset": dataset, "model": model, "sort": sort}
        return self._pages(limit=limit, owner=owner, **filters)

    def get(self, execution_id: int) -> ExecutionView:
        """One execution with all its attempts."""
        return self._get(f"/{execution_id}")

    def find(self, *, benchmark: int, dataset: int, model: int) -> ExecutionView | None:
        """The one of these three with all its attempts, if it was registered."""
        found = next(self.list(benchmark=benchmark, dataset=dataset, model=model, limit=1), None)
        return None if found is None else self.get(found.id)

    def create(self, body: ExecutionCreate, *, idempotency_key: str | None = None) -> ExecutionView:
        """Register an execution, or get the one that is registered.

        Raises:
            Conflict: it may not run now; ``details["errors"]`` has every reason.
        """
        return self._parsed(ExecutionView, self._send("POST", "", body, idempotency_key=idempotency_key or _key()))

    def add_attempt(
        self, execution_id: int, body: AttemptCreate, *, idempotency_key: str | None = None
    ) -> ExecutionView:
        """Register an attempt, before anything of it runs. The same UUID again gets the same attempt: `ExecutionView.attempt_of`.

        Raises:
            Conflict: it may not run now (``details["errors"]`` has every reason), another one is open, or a reason is needed.
        """
        path = f"/{execution_id}/attempts"
        return self._parsed(ExecutionView, self._send("POST", path, body, idempotency_key=idempotency_key or _key()))

    def register(self, body: AttemptCreate, *, idempotency_key: str | None = None) -> ExecutionView:
        """`create` and `add_attempt`."""
        return self.add_attempt(self.create(body.execution()).id, body, idempotency_key=idempotency_key)

    def report(self, body: AttemptReport, *, idempotency_key: str | None = None) -> AttemptView:
        """How far an attempt came.

        Raises:
            Conflict: it ended otherwise.
        """
        path = f"/{body.execution}/attempts/{body.attempt}"
        return self._parsed(AttemptView, self._send("PATCH", path, body, idempotency_key=idempotency_key or _key()))

    def progress(self, body: ProgressReport, *, idempotency_key: str | None = None) -> AttemptView:
        """A sign of life of an open attempt: every `limits.HEARTBEAT_SECONDS`.

        Raises:
            Conflict: ``attempt_ended``: stop.
        """
        path = f"/{body.execution}/attempts/{body.attempt}/progress"
        return self._parsed(AttemptView, self._send("PUT", path, body, idempotency_key=idempotency_key or _key()))

    def release(self, body: ReleaseCreate, *, idempotency_key: str | None = None) -> ResultView:
        """Release the metrics of an attempt.

        Raises:
            InvalidInput: they break the benchmark's contract.
            Conflict: nothing to release, another release is live, or the association ended.
        """
        return self._parsed(ResultView, self._disclose("release", body, idempotency_key))

    def withhold(self, body: WithholdingCreate, *, idempotency_key: str | None = None) -> ExecutionView:
        """Say that the metrics of an attempt stay at the site, for good."""
        return self._parsed(ExecutionView, self._disclose("withholding", body, idempotency_key))

    def retract(self, body: RetractionCreate, *, idempotency_key: str | None = None) -> ResultView:
        """Say that released metrics count no more."""
        return self._parsed(ResultView, self._disclose("retraction", body, idempotency_key))

    def _disclose(
        self, what: str, body: ReleaseCreate | WithholdingCreate | RetractionCreate, idempotency_key: str | None
    ) -> Answer:
        return self._send("POST", f"/{body.execution}/{what}", body, idempotency_key=idempotency_key or _key())


def _key() -> str:
    """Everything here can be sent again as it is; the key is for what the network repeats of one call."""
    return str(uuid.uuid4())


class ResultsPart(Part[ResultView]):
    """``/results``, and the results of one benchmark."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/results", ResultView)

    def list(
        self,
        *,
        owner: str | None = None,
        benchmark: int | None = None,
        dataset: int | None = None,
        model: int | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ResultView]:
        """Results one may see, retracted ones among them (without metrics). ``owner``: ``"me"`` or None."""
        filters = {"benchmark": benchmark, "dataset": dataset, "model": model, "sort": sort}
        return self._pages(limit=limit, owner=owner, **filters)

    def get(self, result_id: int) -> ResultView:
        """One result."""
        return self._get(f"/{result_id}")

    def tables(self, benchmark_id: int) -> Iterator[ResultsTable]:
        """The results of a benchmark, as far as one may see them; one page holds some ten thousand."""
        after: str | None = None
        while True:
            params = {"after": after, "limit": limits.RESULTS_PAGE}
            answer = self._transport.request("GET", f"/benchmarks/{benchmark_id}/results", params=params)
            table = self._parsed(ResultsTable, answer)
            yield table
            if table.next is None:
                return
            if table.next == after:
                raise not_medperf(self._transport.base_url, "its pages have no end")
            after = table.next

    def cells(self, benchmark_id: int) -> Sequence[Cell]:
        """All of them as cells: for `medperf.domain.results.table` and `medperf.domain.leaderboard.leaderboard`."""
        return cells_of(self.tables(benchmark_id))
