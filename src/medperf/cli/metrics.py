"""How metrics, their contract and the outcome of a compatibility test are shown, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medperf.cli.output import Column, Output, human_seconds

if TYPE_CHECKING:
    from medperf.domain.metrics import MetricRule, MetricsContract
    from medperf.flows.compatibility import TestResult

_CASES = "cases."


def show_metrics(out: Output, metrics: Mapping[str, Any]) -> None:
    """The metrics as a table, then how many cases they rest on. ``metrics`` is flat."""
    rows = [(key, _value(value)) for key, value in metrics.items() if not key.startswith(_CASES)]
    out.table([Column("metric"), Column("value", right=True)], rows, empty="No metrics.")
    cases = [f"{value} {key.removeprefix(_CASES)}" for key, value in metrics.items() if key.startswith(_CASES)]
    if cases:
        out.line(f"Cases: {', '.join(cases)}")


def first_metric(metrics: Mapping[str, Any]) -> str:
    """The metric that a listing shows, with its value: ``AUC.Edema 0.91``."""
    return next((f"{key} {_value(value)}" for key, value in metrics.items() if not key.startswith(_CASES)), "-")


def show_contract(out: Output, contract: MetricsContract) -> None:
    """What every result of the benchmark must keep to, as a table; the primary metric is marked."""
    rows = [
        (
            rule.key,
            "words" if rule.type == "enum" else rule.type,
            _range(rule),
            rule.decimals if rule.type == "number" else "-",
            rule.direction if rule.direction != "none" else "-",
            "primary" if rule.key == contract.primary else "",
        )
        for rule in contract.rules
    ]
    columns = [
        Column("metric"),
        Column("type"),
        Column("range"),
        Column("decimals", right=True, extra=True),
        Column("better"),
        Column("rank"),
    ]
    out.table(columns, rows, empty="No metrics.")


def show_test(out: Output, test: TestResult) -> None:
    """What was measured, and whether anything had to run for it."""
    show_metrics(out, test.metrics)
    out.line(f"The compatibility test passed in {human_seconds(test.seconds)}. Report: {test.report_id.short}")
    if test.containers_started == 0:
        out.line("Nothing changed: no container was started.")


def _value(value: Any) -> Any:
    return "undefined" if value is None else value


def _range(rule: MetricRule) -> str:
    if rule.type == "enum":
        return ", ".join(rule.values)
    if rule.minimum is None and rule.maximum is None:
        return "any"
    if rule.maximum is None:
        return f"{rule.minimum:g} or more"
    if rule.minimum is None:
        return f"{rule.maximum:g} or less"
    return f"{rule.minimum:g} to {rule.maximum:g}"
