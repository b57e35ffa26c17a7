"""Results of a benchmark: a cell for each dataset and model, how many are in which state, and rows for tables. Pure data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.domain.executions import Attempt, AttemptState, Disclosure, ShownState
from medperf.domain.metrics import CASES, MetricsContract
from medperf.domain.values import is_number

UNKNOWN = "unknown"
UNDEFINED = "undefined"
_FORMULA = tuple("=+-@|%\uff1d\uff0b\uff0d\uff20")
_EVALUATED, _FAILED, _TOTAL = (f"{CASES}.{name}" for name in ("evaluated", "failed", "total"))
_CONTROLS = tuple("\t\r\n")


class CellState(StrEnum):
    """What there is of one model on one dataset."""

    RELEASED = "released"
    PARTIAL = "partial"  # released, of a run that did not get through all
    UNDER_REVIEW = "under review"
    WITHHELD = "withheld"
    RETRACTED = "retracted"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    RUNNING = "running"
    MISSING = "missing"

    @property
    def has_values(self) -> bool:
        """Whether metrics are shown."""
        return self in (CellState.RELEASED, CellState.PARTIAL)


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one dataset.

    Attributes:
        site: the label that the dataset's owner chose.
        metrics: flat, undefined as None; empty unless the state has values.
        revoked: the association of the dataset or the model ended since. What was released stays and counts; it is marked.
    """

    dataset: int
    site: str
    model: int
    model_name: str
    state: CellState
    metrics: Mapping[str, Any] = field(default_factory=dict)
    revoked: bool = False

    @property
    def cases(self) -> Cases:
        """How many cases were evaluated, if the metrics say so."""
        if not self.state.has_values:
            return Cases()
        given = self.metrics.get
        return Cases(_count(given(_EVALUATED)), _count(given(_FAILED)), _count(given(_TOTAL)))


@dataclass(frozen=True, slots=True)
class Cases:
    """Numbers of cases; None is unknown."""

    evaluated: int | None = None
    failed: int | None = None
    total: int | None = None

    def shown(self) -> tuple[int | str, int | str, int | str]:
        """For tables: ``unknown`` is said."""
        return _shown(self.evaluated), _shown(self.failed), _shown(self.total)


def _shown(number: int | None) -> int | str:
    return UNKNOWN if number is None else number


@dataclass(frozen=True, slots=True)
class Totals:
    """How many cells there are, in all and in each state (all states, in the order of `CellState`)."""

    cells: int
    datasets: int
    models: int
    states: Mapping[CellState, int]


def cell_state(attempts: Sequence[Attempt], *, now: datetime) -> tuple[CellState, int | None]:
    """What the attempts of one execution make of its cell, and the number of the one that speaks.

    A live release speaks. Else the latest attempt does, but none that is only registered or was cancelled: so an older one is not
    hidden by asking for a new one.
    """
    live = next((one for one in attempts if one.disclosure is Disclosure.RELEASED), None)
    if live is not None:
        return (CellState.PARTIAL if live.state is AttemptState.PARTIAL else CellState.RELEASED), live.number
    for one in sorted(attempts, key=lambda one: one.number, reverse=True):
        found = _DISCLOSED[one.disclosure] if one.disclosure is not None else _SHOWN.get(one.shown(now))
        if found is not None:
            return found, one.number
    return CellState.MISSING, None


def totals(cells: Iterable[Cell]) -> Totals:
    """How many cells are in each state; those that were never heard of are missing."""
    return count_states(grid_of(cells))


def table(contract: MetricsContract, cells: Iterable[Cell]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Header and rows, one for each cell, by site and model. Numbers stay numbers, so that whoever writes them chooses how.

    Of a cell that shows values, a metric without one is ``undefined`` and a number of cases without one ``unknown``; of all others they
    are None.
    """
    keys = [rule.key for rule in contract.rules]
    header = ("dataset", "site", "model", "model_name", "state", "revoked", "evaluated", "failed", "total", *keys)
    rows = []
    for cell in sorted(grid_of(cells).values(), key=lambda cell: (cell.dataset, cell.model)):
        known = cell.state.has_values
        values = [_or_undefined(cell.metrics.get(key)) for key in keys] if known else [None] * len(keys)
        cases = cell.cases.shown() if known else (None, None, None)
        rows.append(
            (cell.dataset, cell.site, cell.model, cell.model_name, cell.state.value, cell.revoked, *cases, *values)
        )
    return header, rows


def csv_value(value: Any) -> str:
    """One value of `table` for a CSV file. Labels come from others: a text that a spreadsheet would take for a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and (value[:1] in _CONTROLS or value.lstrip()[:1] in _FORMULA):
        return f"'{value}"
    return str(value)


# -------------------------------------------------------------------------------------------------------------- helpers

_DISCLOSED = {
    Disclosure.UNDER_REVIEW: CellState.UNDER_REVIEW,
    Disclosure.WITHHELD: CellState.WITHHELD,
    Disclosure.RETRACTED: CellState.RETRACTED,
    Disclosure.RELEASED: CellState.RELEASED,
}
_SHOWN = {
    ShownState.RUNNING: CellState.RUNNING,
    ShownState.LOST: CellState.LOST,
    ShownState.FAILED: CellState.FAILED,
    ShownState.INTERRUPTED: CellState.INTERRUPTED,
}

Grid = dict[tuple[int, int], Cell]


def grid_of(cells: Iterable[Cell]) -> Grid:
    """A cell for every dataset with every model, by their ids; those that were never heard of are missing.

    Raises:
        InvalidInput: two cells for one dataset and model, or too many of them once the gaps are filled.
    """
    given: Grid = {}
    sites: dict[int, str] = {}
    models: dict[int, str] = {}
    for cell in cells:
        place = cell.dataset, cell.model
        if place in given:
            raise InvalidInput(
                "duplicate_cell",
                f"There are two results for dataset {cell.dataset} and model {cell.model}.",
                "Ask for them again; if it stays so, tell the server's admin.",
            )
        given[place] = cell
        sites[cell.dataset], models[cell.model] = cell.site, cell.model_name
    if len(sites) * len(models) > limits.RESULT_CELLS:
        raise InvalidInput(
            "too_many_results",
            f"{len(sites):,} datasets with {len(models):,} models make more than {limits.RESULT_CELLS:,} results.",
            "Ask for one dataset or one model.",
        )
    return {
        (dataset, model): given.get((dataset, model))
        or Cell(dataset, sites[dataset], model, models[model], CellState.MISSING)
        for dataset in sorted(sites)
        for model in sorted(models)
    }


def sites_of(grid: Grid) -> tuple[tuple[int, str], ...]:
    """Datasets with their labels."""
    return tuple({dataset: (dataset, cell.site) for (dataset, _), cell in grid.items()}.values())


def models_of(grid: Grid) -> tuple[tuple[int, str], ...]:
    """Models with their names."""
    return tuple({model: (model, cell.model_name) for (_, model), cell in grid.items()}.values())


def count_states(grid: Grid) -> Totals:
    """`totals` of what `grid_of` made."""
    counts = Counter(cell.state for cell in grid.values())
    return Totals(len(grid), len(sites_of(grid)), len(models_of(grid)), {state: counts[state] for state in CellState})


def shown_value(value: Any) -> float | str | None:
    """A number or a word; anything else is undefined."""
    return value if is_number(value) or isinstance(value, str) else None


def _or_undefined(value: Any) -> float | str:
    shown = shown_value(value)
    return UNDEFINED if shown is None else shown


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
