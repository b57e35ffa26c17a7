"""How the outcome of a compatibility test is shown, wherever one was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medperf.cli.output import Column, Output, human_seconds

if TYPE_CHECKING:
    from medperf.flows.compatibility import TestResult

_CASES = "cases."


def show_metrics(out: Output, metrics: Mapping[str, Any]) -> None:
    """The metrics as a table, then how many cases they rest on."""
    rows = [
        (key, "undefined" if value is None else value) for key, value in metrics.items() if not key.startswith(_CASES)
    ]
    out.table([Column("metric"), Column("value", right=True)], rows, empty="No metrics.")
    cases = [f"{value} {key.removeprefix(_CASES)}" for key, value in metrics.items() if key.startswith(_CASES)]
    if cases:
        out.line(f"Cases: {', '.join(cases)}")


def show_test(out: Output, test: TestResult) -> None:
    """What was measured, and whether anything had to run for it."""
    show_metrics(out, test.metrics)
    out.line(f"The compatibility test passed in {human_seconds(test.seconds)}. Report: {test.report_id.short}")
    if test.containers_started == 0:
        out.line("Nothing changed: no container was started.")
