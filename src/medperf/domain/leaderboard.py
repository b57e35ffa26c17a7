"""The leaderboard: models by one metric, site by site, and two means over sites. Pure data.

Sites differ, so values are compared at each of them. The means have names: ``unweighted`` counts every site the same, ``n_weighted`` by the
cases that were evaluated there. Neither is what one would measure on all records together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import Direction, MetricsContract
from medperf.domain.results import (
    Cases,
    Cell,
    CellState,
    Grid,
    Totals,
    count_states,
    grid_of,
    models_of,
    shown_value,
    sites_of,
)
from medperf.domain.values import is_number

_Counted = Mapping[tuple[int, int], int]
_Pairs = Sequence[tuple[int, int | None]]  # value and cases evaluated, by site


@dataclass(frozen=True, slots=True)
class Score:
    """A model at one site.

    Attributes:
        value: the metric as reported; None: undefined, or there is none in this state.
        rank: among the models at this site; None: it does not rank.
    """

    dataset: int
    site: str
    state: CellState
    value: float | str | None
    cases: Cases
    revoked: bool
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """Means over sites. ``sites``: how many count. ``n_weighted`` is None if one of them does not say how many cases it evaluated."""

    unweighted: float | None
    n_weighted: float | None
    sites: int


@dataclass(frozen=True, slots=True)
class Standing:
    """One model of a leaderboard.

    Attributes:
        rank: by the unweighted mean; None for a model that lacks a site where another one has a value.
        scores: one for each site, in the leaderboard's order.
        cases: sums over the sites that show values; None as soon as one does not say.
    """

    model: int
    model_name: str
    rank: int | None
    means: Means
    scores: tuple[Score, ...]
    cases: Cases


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models, the best first. ``metric`` None: the contract has none that ranks, so there are no values either."""

    metric: str | None
    direction: Direction
    sites: tuple[tuple[int, str], ...]
    standings: tuple[Standing, ...]
    totals: Totals


def leaderboard(contract: MetricsContract, cells: Iterable[Cell], *, metric: str | None = None) -> Leaderboard:
    """Models by one metric, at each site and over all.

    Complete releases with a defined number count. Partial ones are shown, as are undefined values and words; they neither rank nor enter
    a mean, because the cases that are left out need not be like the others. Equal values, as they are shown, share a rank.
    A mean is given with the digits of the metric and two more.

    Args:
        metric: a key of the contract; None: the primary one.

    Raises:
        InvalidInput: the contract has no such metric; two cells for one dataset and model.
    """
    grid = grid_of(cells)
    key = metric if metric is not None else contract.primary
    rule = next((rule for rule in contract.rules if rule.key == key), None)
    if key is not None and rule is None:
        raise InvalidInput(
            "unknown_metric",
            f"{key[:60]!r} is not a metric of this benchmark.",
            f"Its metrics are {', '.join(entry.key for entry in contract.rules[:20])}.",
        )
    direction: Direction = rule.direction if rule is not None else "none"
    digits = (rule.decimals if rule is not None else 0) + 2
    written = {
        place: value
        for place, cell in grid.items()
        if key is not None and cell.state is CellState.RELEASED and (value := _exact(cell.metrics.get(key))) is not None
    }
    scale, counted = _whole(written)
    sites, models = sites_of(grid), models_of(grid)
    ranks = {dataset: _site_ranks(counted, dataset, models, direction) for dataset, _ in sites}
    needed = {dataset for dataset, _ in counted}
    mean = partial(_means, scale=scale, digits=digits)
    found = [_standing(model, name, sites, grid, counted, key=key, mean=mean, ranks=ranks) for model, name in models]
    complete = {one.model: one.means.unweighted for one in found if one.means.sites == len(needed)}
    places = _ranks({model: value for model, value in complete.items() if value is not None}, direction)
    standings = [replace(one, rank=places.get(one.model)) for one in found]
    standings.sort(key=lambda one: _order(one, direction))
    return Leaderboard(key, direction, sites, tuple(standings), count_states(grid))


def _site_ranks(
    counted: _Counted, dataset: int, models: Iterable[tuple[int, str]], direction: Direction
) -> dict[int, int]:
    return _ranks({model: counted[dataset, model] for model, _ in models if (dataset, model) in counted}, direction)


def _ranks(values: Mapping[int, Any], direction: Direction) -> dict[int, int]:
    """Ranks as in sports: two firsts, then a third."""
    if direction == "none":
        return {}
    ordered = sorted(values, key=lambda model: values[model], reverse=direction == "higher")
    ranks: dict[int, int] = {}
    for _, equal in groupby(ordered, key=lambda model: values[model]):
        rank = len(ranks) + 1
        ranks |= dict.fromkeys(equal, rank)
    return ranks


def _standing(
    model: int,
    name: str,
    sites: Iterable[tuple[int, str]],
    grid: Grid,
    counted: _Counted,
    *,
    key: str | None,
    mean: Callable[[_Pairs], Means],
    ranks: Mapping[int, Mapping[int, int]],
) -> Standing:
    scores, pairs, known = [], [], []
    for dataset, site in sites:
        cell = grid[dataset, model]
        cases, value = cell.cases, None
        if cell.state.has_values:
            known.append(cases)
            value = shown_value(cell.metrics.get(key)) if key is not None else None
        scores.append(Score(dataset, site, cell.state, value, cases, cell.revoked, ranks[dataset].get(model)))
        if (dataset, model) in counted:
            pairs.append((counted[dataset, model], cases.evaluated))
    return Standing(model, name, None, mean(pairs), tuple(scores), _sum(known))


def _means(pairs: _Pairs, *, scale: int, digits: int) -> Means:
    """Exact until the last step, so that neither order nor many small roundings show."""
    if not pairs:
        return Means(None, None, 0)
    values = [value for value, _ in pairs]
    bounds = min(values), max(values)

    def rounded(total: int, weight: int) -> float:
        """Never outside of what it is a mean of, even if those have more digits than the contract allows."""
        low, high = (Fraction(bound, scale) for bound in bounds)
        return float(min(max(round(Fraction(total, weight * scale), digits), low), high))

    unweighted = rounded(sum(values), len(values))
    weights = [evaluated for _, evaluated in pairs if evaluated is not None]
    if len(weights) < len(pairs) or not sum(weights):
        return Means(unweighted, None, len(pairs))
    products = sum(value * weight for value, weight in zip(values, weights, strict=True))
    return Means(unweighted, rounded(products, sum(weights)), len(pairs))


def _sum(cases: Sequence[Cases]) -> Cases:
    def add(values: Iterable[int | None]) -> int | None:
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(cases) else None

    return Cases(add(one.evaluated for one in cases), add(one.failed for one in cases), add(one.total for one in cases))


def _order(one: Standing, direction: Direction) -> tuple[Any, ...]:
    """Ranked ones, then those with more sites, then by mean; the id at last, so that the order is always the same."""
    mean = one.means.unweighted
    best = 0.0 if mean is None or direction == "none" else (-mean if direction == "higher" else mean)
    return (one.rank is None, one.rank or 0, -one.means.sites, best, one.model)


def _exact(value: Any) -> Decimal | None:
    """The number as it is written, e.g. 0.1 and not the nearest binary fraction; None for what no contract lets through."""
    if not is_number(value) or (isinstance(value, int) and abs(value) >= 10**limits.DOCUMENT_INT_DIGITS):
        return None
    return Decimal(repr(value))


def _whole(written: Mapping[tuple[int, int], Decimal]) -> tuple[int, dict[tuple[int, int], int]]:
    """All numbers times one power of ten, which comes first: whole numbers are exact and fast."""
    places = max((-int(value.as_tuple().exponent) for value in written.values()), default=0)
    places = max(places, 0)
    return 10**places, {place: int(value.scaleb(places)) for place, value in written.items()}
