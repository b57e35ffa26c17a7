"""Results: what a cell shows, totals, tables, and a leaderboard that cannot be read wrongly."""

from __future__ import annotations

import inspect
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain import leaderboard as leaderboard_module
from medperf.domain import limits, results
from medperf.domain.errors import InvalidInput
from medperf.domain.executions import Attempt, AttemptState, Disclosure, FailureClass
from medperf.domain.leaderboard import Leaderboard, Standing, leaderboard
from medperf.domain.metrics import MetricRule, MetricsContract
from medperf.domain.results import Cell, CellState, cell_state, csv_value, table, totals

CONTRACT = MetricsContract(
    rules=(
        MetricRule("AUC", minimum=0, maximum=1, decimals=4, direction="higher"),
        MetricRule("loss", decimals=3, direction="lower"),
        MetricRule("cells", type="integer", decimals=0),
        MetricRule("grade", type="enum", values=("good", "poor")),
    ),
    primary="AUC",
    has_cases=True,
)
SITES = {1: "North", 2: "South", 3: "East"}
MODELS = {10: "densenet", 11: "resnet", 12: "vit"}


def cell(
    dataset: int,
    model: int,
    auc: Any = None,
    *,
    state: CellState = CellState.RELEASED,
    n: int | None = 100,
    **more: Any,
) -> Cell:
    metrics: dict[str, Any] = {"AUC": auc, **more}
    if n is not None:
        metrics |= {"cases.evaluated": n, "cases.failed": 2, "cases.total": n + 2}
    return Cell(
        dataset, SITES.get(dataset, f"site {dataset}"), model, MODELS.get(model, f"model {model}"), state, metrics
    )


def standing(board: Leaderboard, model: int) -> Standing:
    return next(one for one in board.standings if one.model == model)


def ranks(board: Leaderboard) -> dict[int, int | None]:
    return {one.model: one.rank for one in board.standings}


# ---------------------------------------------------------------------------------------------------------- leaderboard


def test_a_leaderboard() -> None:
    board = leaderboard(
        CONTRACT,
        [
            cell(1, 10, 0.8, n=300),
            cell(2, 10, 0.6),
            cell(1, 11, 0.9, n=300),
            cell(2, 11, 0.7),
            cell(1, 12, 0.9),
            cell(2, 12, 0.5),
        ],
    )
    assert (board.metric, board.direction, board.sites) == ("AUC", "higher", ((1, "North"), (2, "South")))
    assert ranks(board) == {11: 1, 10: 2, 12: 2}
    assert [one.model for one in board.standings] == [11, 10, 12]
    first = board.standings[0]
    assert (first.means.unweighted, first.means.n_weighted, first.means.sites) == (0.8, 0.85, 2)
    assert [(score.site, score.value, score.rank) for score in first.scores] == [("North", 0.9, 1), ("South", 0.7, 1)]
    assert [score.rank for score in standing(board, 12).scores] == [1, 3]
    assert (first.cases.evaluated, first.cases.failed, first.cases.total) == (400, 4, 404)


def test_lower_can_be_better() -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, loss=0.5), cell(1, 11, loss=0.25)], metric="loss")
    assert ranks(board) == {11: 1, 10: 2}


@pytest.mark.parametrize("state", [state for state in CellState if state is not CellState.RELEASED])
def test_whatever_is_not_a_complete_release_neither_counts_nor_ranks(state: CellState) -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, 0.5), cell(2, 10, 0.5), cell(1, 11, 0.9), cell(2, 11, 0.9, state=state)])
    other = standing(board, 11)
    assert ranks(board) == {10: 1, 11: None}  # it could have left out where it is bad
    assert (other.means.sites, other.means.unweighted) == (1, 0.9)
    assert (other.scores[1].state, other.scores[1].rank) == (state, None)
    assert (other.scores[1].value is not None) == (state is CellState.PARTIAL)  # shown, all the same
    assert (other.scores[1].cases.evaluated is not None) == state.has_values


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.9", True, [0.9], 10**400])
def test_undefined_values_are_shown_and_unranked(value: Any) -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, 0.5), cell(2, 10, 0.5), cell(1, 11, 0.9), cell(2, 11, value)])
    other = standing(board, 11)
    assert ranks(board) == {10: 1, 11: None}
    assert (other.scores[1].state, other.scores[1].rank) == (CellState.RELEASED, None)
    assert (other.means.unweighted, other.means.n_weighted, other.means.sites) == (0.9, 0.9, 1)


def test_nothing_but_undefined() -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, None), cell(1, 11, None)])
    assert ranks(board) == {10: None, 11: None}
    assert board.standings[0].means.unweighted is None
    assert leaderboard(CONTRACT, []).standings == ()


def test_a_site_where_nobody_has_a_value_keeps_nobody_from_a_rank() -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, 0.5), cell(1, 11, 0.6), cell(2, 10, state=CellState.FAILED)])
    assert ranks(board) == {11: 1, 10: 2}
    assert standing(board, 11).scores[1].state is CellState.MISSING


def test_ties_share_a_rank_and_the_next_is_left_out() -> None:
    values = {10: 0.7, 11: 0.7, 12: 0.9, 13: 0.1}
    board = leaderboard(CONTRACT, [cell(1, model, value) for model, value in values.items()])
    assert ranks(board) == {12: 1, 10: 2, 11: 2, 13: 4}
    # Equal on paper, and not in binary: (0.1 + 0.2) / 2 and 0.15.
    board = leaderboard(CONTRACT, [cell(1, 10, 0.1), cell(2, 10, 0.2), cell(1, 11, 0.15), cell(2, 11, 0.15)])
    assert ranks(board) == {10: 1, 11: 1}
    # The mean of both is 0.5534125, half way between two that can be shown.
    uneven = [0.7809, 0.5867, 0.9559, 0.3579, 0.8269, 0.2282, 0.4618, 0.229]
    even = [0.5535, *[0.5534] * 7]
    pairs = enumerate(zip(uneven, even, strict=True))
    board = leaderboard(CONTRACT, [cell(site, 10 + side, pair[side]) for site, pair in pairs for side in (0, 1)])
    assert ranks(board) == {10: 1, 11: 1}


def test_an_unknown_number_of_cases_leaves_no_weighted_mean() -> None:
    board = leaderboard(CONTRACT, [cell(1, 10, 0.5), cell(2, 10, 0.7, n=None)])
    (only,) = board.standings
    assert (only.means.unweighted, only.means.n_weighted) == (0.6, None)
    assert only.cases.evaluated is None
    assert only.scores[1].cases.shown() == ("unknown", "unknown", "unknown")
    assert leaderboard(CONTRACT, [cell(1, 10, 0.5, n=0)]).standings[0].means.n_weighted is None
    for odd in (-1, True, 1.0, "100"):
        (only,) = leaderboard(CONTRACT, [cell(1, 10, 0.5, **{"cases.evaluated": odd}, n=None)]).standings
        assert only.means.n_weighted is None


def test_metrics_that_do_not_rank() -> None:
    cells = [cell(1, 10, cells=3, grade="good"), cell(2, 10, cells=4, grade="poor"), cell(1, 11, cells=9, grade="good")]
    board = leaderboard(CONTRACT, cells, metric="cells")
    assert ranks(board) == {10: None, 11: None}
    assert standing(board, 10).means.unweighted == 3.5
    board = leaderboard(CONTRACT, cells, metric="grade")
    assert [score.value for score in standing(board, 10).scores] == ["good", "poor"]
    assert standing(board, 10).means == leaderboard_module.Means(None, None, 0)
    nothing = leaderboard(MetricsContract(CONTRACT.rules, None, True), cells)
    assert (nothing.metric, nothing.direction) == (None, "none")
    assert all(score.value is None for one in nothing.standings for score in one.scores)


def test_unknown_metrics_and_repeated_cells_are_refused() -> None:
    with pytest.raises(InvalidInput, match="Its metrics are AUC, loss"):
        leaderboard(CONTRACT, [], metric="F1")
    with pytest.raises(InvalidInput, match="two results for dataset 1 and model 10"):
        totals([cell(1, 10, 0.5), cell(1, 10, 0.6)])


def test_a_sparse_answer_cannot_fill_the_memory() -> None:
    diagonal = [cell(number, number, 0.5) for number in range(1, 1002)]
    with pytest.raises(InvalidInput) as caught:
        leaderboard(CONTRACT, diagonal)
    assert caught.value.code == "too_many_results"
    assert len(diagonal) ** 2 > limits.RESULT_CELLS


def test_what_was_revoked_since_still_counts_and_is_marked() -> None:
    old = Cell(2, "South", 10, "densenet", CellState.RELEASED, {"AUC": 0.7}, revoked=True)
    (only,) = leaderboard(CONTRACT, [cell(1, 10, 0.5), old]).standings
    assert (only.means.unweighted, [score.revoked for score in only.scores]) == (0.6, [False, True])


def test_the_word_of_exact_methods_is_not_used() -> None:
    assert not any("pooled" in inspect.getsource(module).lower() for module in (results, leaderboard_module))


# ----------------------------------------------------------------------------------------------------------- properties

values = st.none() | st.integers(0, 10**4).map(lambda number: number / 10**4)
grids = st.lists(
    st.tuples(
        st.integers(1, 5), st.integers(1, 5), values, st.sampled_from(CellState), st.none() | st.integers(0, 10**6)
    ),
    max_size=25,
    unique_by=lambda one: one[:2],
).map(lambda found: [cell(dataset, model, value, state=state, n=n) for dataset, model, value, state, n in found])


@given(grids, st.randoms())
def test_the_order_of_cells_does_not_matter(cells: list[Cell], order: random.Random) -> None:
    shuffled = list(cells)
    order.shuffle(shuffled)
    assert leaderboard(CONTRACT, shuffled) == leaderboard(CONTRACT, cells)
    assert table(CONTRACT, shuffled) == table(CONTRACT, cells)


@given(grids)
def test_means_lie_between_what_they_are_means_of(cells: list[Cell]) -> None:
    for one in leaderboard(CONTRACT, cells).standings:
        counted = [
            score.value
            for score in one.scores
            if score.state is CellState.RELEASED and isinstance(score.value, int | float)
        ]
        assert one.means.sites == len(counted)
        for mean in (one.means.unweighted, one.means.n_weighted):
            assert mean is None or min(counted) <= mean <= max(counted)
        assert (one.means.unweighted is None) == (not counted)


@given(grids, st.integers(1, 10**6))
def test_equal_numbers_of_cases_make_the_means_equal(cells: list[Cell], n: int) -> None:
    same = [
        Cell(one.dataset, one.site, one.model, one.model_name, one.state, {**one.metrics, "cases.evaluated": n})
        for one in cells
    ]
    for one in leaderboard(CONTRACT, same).standings:
        assert one.means.n_weighted == one.means.unweighted


@given(grids)
def test_ranks_follow_the_means(cells: list[Cell]) -> None:
    board = leaderboard(CONTRACT, cells)
    ranked = [one for one in board.standings if one.rank is not None]
    needed = {one.dataset for one in cells if one.state is CellState.RELEASED and one.metrics.get("AUC") is not None}
    assert board.standings[: len(ranked)] == tuple(ranked)
    for one in ranked:
        assert one.means.sites == len(needed)
        better = [other for other in ranked if other.means.unweighted > one.means.unweighted]  # type: ignore[operator]
        assert one.rank == len(better) + 1
    for one in board.standings:
        assert all(
            score.rank is None or (score.value is not None and score.state is CellState.RELEASED)
            for score in one.scores
        )


@given(grids)
def test_totals_count_every_cell_once(cells: list[Cell]) -> None:
    found = totals(cells)
    assert list(found.states) == list(CellState)
    assert sum(found.states.values()) == found.cells == found.datasets * found.models
    assert found.states[CellState.RELEASED] == sum(one.state is CellState.RELEASED for one in cells)
    assert found.cells - len(cells) <= found.states[CellState.MISSING]
    assert leaderboard(CONTRACT, cells).totals == found


# --------------------------------------------------------------------------------------------------------------- tables


def test_a_table() -> None:
    header, rows = table(
        CONTRACT,
        [
            cell(2, 10, 0.5, state=CellState.WITHHELD),
            cell(1, 11, 0.75, loss=None, cells=3, grade="good", n=None),
            cell(1, 10, 0.5, loss=0.125, cells=3, grade="good"),
        ],
    )
    assert header == (
        *("dataset", "site", "model", "model_name", "state", "revoked", "evaluated", "failed", "total"),
        *("AUC", "loss", "cells", "grade"),
    )
    nothing = (None,) * 7
    assert rows == [
        (1, "North", 10, "densenet", "released", False, 100, 2, 102, 0.5, 0.125, 3, "good"),
        (1, "North", 11, "resnet", "released", False, "unknown", "unknown", "unknown", 0.75, "undefined", 3, "good"),
        (2, "South", 10, "densenet", "withheld", False, *nothing),
        (2, "South", 11, "resnet", "missing", False, *nothing),
    ]


@given(grids)
def test_every_row_has_every_column(cells: list[Cell]) -> None:
    header, rows = table(CONTRACT, cells)
    assert all(len(row) == len(header) for row in rows)
    assert len(rows) == totals(cells).cells


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, ""),
        (True, "yes"),
        (False, "no"),
        (-0.5, "-0.5"),
        (3, "3"),
        ("North", "North"),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("  =1+1", "'  =1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("\tplain", "'\tplain"),
        ("\rplain", "'\rplain"),
        ("\uff1d1", "'\uff1d1"),
        ("", ""),
    ],
)
def test_no_label_becomes_a_formula(value: Any, written: str) -> None:
    assert csv_value(value) == written


# ---------------------------------------------------------------------------------------------------------------- cells

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=limits.LOST_AFTER_SECONDS + 1)
A, D = AttemptState, Disclosure


def attempt(
    number: int, state: AttemptState, disclosure: Disclosure | None = None, heartbeat: datetime = NOW
) -> Attempt:
    failure = FailureClass.EXIT if state is A.FAILED else None
    return Attempt(number, state, heartbeat, failure, disclosure)


@pytest.mark.parametrize(
    ("attempts", "state", "number"),
    [
        ([], CellState.MISSING, None),
        ([attempt(1, A.REGISTERED)], CellState.MISSING, None),
        ([attempt(1, A.CANCELLED)], CellState.MISSING, None),
        ([attempt(1, A.RUNNING)], CellState.RUNNING, 1),
        ([attempt(1, A.RUNNING, heartbeat=LONG_AGO)], CellState.LOST, 1),
        ([attempt(1, A.REGISTERED, heartbeat=LONG_AGO)], CellState.LOST, 1),
        ([attempt(1, A.FAILED)], CellState.FAILED, 1),
        ([attempt(1, A.INTERRUPTED)], CellState.INTERRUPTED, 1),
        ([attempt(1, A.COMPLETED, D.UNDER_REVIEW)], CellState.UNDER_REVIEW, 1),
        ([attempt(1, A.PARTIAL, D.UNDER_REVIEW)], CellState.UNDER_REVIEW, 1),
        ([attempt(1, A.COMPLETED, D.WITHHELD)], CellState.WITHHELD, 1),
        ([attempt(1, A.COMPLETED, D.RETRACTED)], CellState.RETRACTED, 1),
        ([attempt(1, A.COMPLETED, D.RELEASED)], CellState.RELEASED, 1),
        ([attempt(1, A.PARTIAL, D.RELEASED)], CellState.PARTIAL, 1),
        ([attempt(1, A.FAILED), attempt(2, A.RUNNING)], CellState.RUNNING, 2),
        ([attempt(2, A.RUNNING), attempt(1, A.FAILED)], CellState.RUNNING, 2),
        # A live release speaks, whatever came after; what was withheld is not hidden by asking again.
        ([attempt(1, A.COMPLETED, D.RELEASED), attempt(2, A.RUNNING)], CellState.RELEASED, 1),
        ([attempt(1, A.COMPLETED, D.WITHHELD), attempt(2, A.CANCELLED)], CellState.WITHHELD, 1),
        ([attempt(1, A.COMPLETED, D.RETRACTED), attempt(2, A.REGISTERED)], CellState.RETRACTED, 1),
        ([attempt(1, A.COMPLETED, D.RETRACTED), attempt(2, A.COMPLETED, D.RELEASED)], CellState.RELEASED, 2),
    ],
)
def test_what_attempts_make_of_a_cell(attempts: list[Attempt], state: CellState, number: int | None) -> None:
    assert cell_state(attempts, now=NOW) == (state, number)
