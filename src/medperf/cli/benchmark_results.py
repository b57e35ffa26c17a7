"""``medperf benchmark results`` and ``medperf benchmark leaderboard``: what sites released, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medperf.cli.base import Session, example, session_of
from medperf.cli.output import Column, Output, clean, document
from medperf.domain.errors import MedPerfError

if TYPE_CHECKING:
    from medperf.domain.leaderboard import Leaderboard, Score, Standing
    from medperf.domain.results import Cases, Totals
    from medperf.flows.results import BenchmarkResults

_Id = Annotated[int, typer.Argument(metavar="ID", help="The benchmark's id.", show_default=False)]


class TableFormat(StrEnum):
    """How the table of a benchmark is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    TEXT = "text"


def add_results(app: typer.Typer) -> None:
    """Register both commands on the noun ``benchmark``."""
    example(
        app,
        "results",
        "medperf benchmark results 1",
        "medperf benchmark results 1 --format csv --output results.csv",
    )(results)
    example(
        app,
        "leaderboard",
        "medperf benchmark leaderboard 1",
        "medperf benchmark leaderboard 1 --metric AUC.Edema",
    )(leaderboard)


def results(
    ctx: typer.Context,
    benchmark: _Id,
    output_format: Annotated[
        TableFormat | None,
        typer.Option(
            "--format", metavar="table|csv|json", help="How the table is printed; csv and json hold every metric."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it into this file instead.")
    ] = None,
) -> None:
    """Show the results of a benchmark that you may see: a line for every dataset with every model, also where there is none yet."""
    import io

    from medperf.flows.results import benchmark_results

    session = session_of(ctx)
    with session.site() as site:
        found = benchmark_results(site, benchmark)
    wanted = output_format or (TableFormat.JSON if session.out.as_json else TableFormat.TABLE)
    if output is None:
        _print(session, Output(session.stdout, as_json=wanted is TableFormat.JSON), found, wanted)
        return
    text = io.StringIO()
    _print(session, Output(text, as_json=wanted is TableFormat.JSON), found, wanted)
    try:
        output.write_text(text.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise MedPerfError(
            "output_failed", f"The file {str(output)!r} cannot be written: {error.strerror}.", "Choose another file."
        ) from error
    session.out.wrote(output)


def leaderboard(
    ctx: typer.Context,
    benchmark: _Id,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="KEY", help="The metric that ranks; the primary one when missing.")
    ] = None,
) -> None:
    """Rank the models of a benchmark by one metric, site by site and over all sites."""
    from medperf.flows.results import benchmark_leaderboard

    session = session_of(ctx)
    with session.site() as site:
        found = benchmark_leaderboard(site, benchmark, metric=metric)
    if session.out.as_json:
        session.out.json(found)
        return
    out, board = session.out, found.board
    out.line(f"Benchmark {found.benchmark} ({found.name}): {_metric_line(board)}")
    if not board.standings:
        out.line("There are no results that you may see, and no dataset is in it that you may see.")
        return
    out.line()
    _show_board(out, board)
    out.line()
    out.line(
        "unweighted: the mean over sites, each counting the same; it ranks. n_weighted: by the cases evaluated at each site."
    )
    out.line(
        "Neither is a mean over all records together. A model without a value at a site where others have one has no rank."
    )
    _show_totals(out, board.totals)
    out.line(f"Every metric: {session.next('benchmark', 'results', str(benchmark), '--format', 'csv')}")


# -------------------------------------------------------------------------------------------------------------- results


def _print(session: Session, out: Output, found: BenchmarkResults, wanted: TableFormat) -> None:
    import csv
    import io

    from medperf.domain.results import csv_value, table

    header, rows = table(found.contract, found.cells)
    if wanted is TableFormat.JSON:
        out.write(_json_text(found, header, rows))
        return
    if wanted is TableFormat.CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(csv_value, header))
        for row in rows:  # numbers are most of it, and need no looking at
            writer.writerow(
                value if type(value) in (int, float) else csv_value(clean(value) if isinstance(value, str) else value)
                for value in row
            )
        out.write(text.getvalue())
        return
    keys = [rule.key for rule in found.contract.rules]
    primary = found.contract.primary
    columns = [
        Column("site (dataset)"),
        Column("model"),
        Column("state"),
        Column("cases", right=True, extra=True),
        *(Column(key, right=True, extra=key != primary) for key in _primary_first(keys, primary)),
    ]
    order = [keys.index(key) for key in _primary_first(keys, primary)]
    lines = []
    for dataset, site, model, name, state, revoked, *rest in rows:
        cases, values = rest[:3], rest[3:]
        marked = f"{state}, revoked" if revoked else state
        shown = (values[index] for index in order)
        lines.append((f"{site} ({dataset})", f"{name} ({model})", marked, _of_three(cases), *shown))
    out.table(columns, lines, empty="There are no results that you may see yet.")
    if lines:
        out.line("cases: evaluated/failed/total.")
        _show_totals(out, found.totals)
        number = str(found.benchmark)
        out.line(f"Every metric: {session.next('benchmark', 'results', number, '--format', 'csv')}")
        out.line(f"Next: {session.next('benchmark', 'leaderboard', number)}")


def _json_text(found: BenchmarkResults, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """One JSON document with a line for each cell: there may be ten thousand, and a spread of all their metrics would be slow."""
    import json

    fixed = header.index("total") + 1
    keys = header[fixed:]
    items = []
    for row in rows:
        known = dict(zip(header[:fixed], row, strict=False))
        cases: dict[str, Any] | None = {name: known.pop(name) for name in ("evaluated", "failed", "total")}
        metrics: dict[str, Any] | None = dict(zip(keys, row[fixed:], strict=True))
        if cases is not None and cases["total"] is None:  # of a state that shows no values
            cases = metrics = None
        items.append(json.dumps({**known, "cases": cases, "metrics": metrics}, allow_nan=False))
    head = {
        "benchmark": found.benchmark,
        "name": found.name,
        "primary": found.contract.primary,
        "metrics": list(keys),
        "totals": document(found.totals),
    }
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    return "\n".join(["{", *lines, '  "items": [', ",\n".join(f"    {item}" for item in items), "  ]", "}"]) + "\n"


def _primary_first(keys: Sequence[str], primary: str | None) -> list[str]:
    return sorted(keys, key=lambda key: key != primary)


def _of_three(cases: Sequence[Any]) -> str:
    """``10/2/12``, or ``unknown`` where no number is known."""
    if all(value is None for value in cases):
        return "-"
    if set(cases) == {"unknown"}:
        return "unknown"
    return "/".join(map(str, cases))


# ---------------------------------------------------------------------------------------------------------- leaderboard


def _metric_line(board: Leaderboard) -> str:
    if board.metric is None:
        return "its contract has no metric that ranks. Choose one with --metric."
    better = {"higher": ", the higher the better", "lower": ", the lower the better"}.get(board.direction, "")
    return f"{board.metric}{better or ', which does not rank'}"


def _show_board(out: Output, board: Leaderboard) -> None:
    """One table with a column for each site where that fits; else the means, then site by site."""
    means = [
        Column("rank", right=True),
        Column("model"),
        Column("unweighted", right=True),
        Column("n_weighted", right=True),
        Column("sites", right=True),
        Column("cases", right=True),
    ]
    rows = [_over_all(one, len(board.sites)) for one in board.standings]
    wide = [*means, *(Column(f"{label} ({number})", right=True) for number, label in board.sites)]
    wide_rows = [(*row, *map(_score, one.scores)) for row, one in zip(rows, board.standings, strict=True)]
    if out.fits(wide, wide_rows):
        out.table(wide, wide_rows, empty="-")
        out.line(
            "cases: evaluated/failed/total, of all sites together. In brackets after a value: its rank at that site."
        )
        return
    out.table(means, rows, empty="-")
    out.line("cases: evaluated/failed/total, of all sites together.")
    out.line()
    places = []
    for index, (number, label) in enumerate(board.sites):
        here = [(one, one.scores[index]) for one in board.standings]
        here.sort(key=lambda pair: (pair[1].rank is None, pair[1].rank or 0))
        for one, score in here:
            model, cases = f"{one.model_name} ({one.model})", _cases(score.cases, score)
            places.append((f"{label} ({number})", score.rank, model, _score(score, ranked=False), cases))
    columns = [Column("site (dataset)"), Column("rank", right=True), Column("model"), Column("value", right=True)]
    out.table([*columns, Column("cases", right=True)], places, empty="-")


def _over_all(one: Standing, sites: int) -> tuple[Any, ...]:
    weighted = one.means.n_weighted
    return (
        one.rank,
        f"{one.model_name} ({one.model})",
        one.means.unweighted,
        "unknown" if weighted is None and one.means.unweighted is not None else weighted,
        f"{one.means.sites}/{sites}",
        _cases(one.cases) if any(score.state.has_values for score in one.scores) else "-",
    )


def _score(score: Score, *, ranked: bool = True) -> str:
    """``0.91 (1)``, ``0.88, partial``, ``withheld``, ``missing``."""
    if not score.state.has_values:
        return score.state.value
    value = "undefined" if score.value is None else str(score.value)
    text = f"{value} ({score.rank})" if ranked and score.rank is not None else value
    marks = [score.state.value] if score.state.value != "released" else []
    marks += ["revoked"] if score.revoked else []
    return ", ".join([text, *marks])


def _cases(cases: Cases, score: Score | None = None) -> str:
    return "-" if score is not None and not score.state.has_values else _of_three(cases.shown())


def _show_totals(out: Output, totals: Totals) -> None:
    """How many cells are in which state."""
    counted = ", ".join(f"{count} {state.value}" for state, count in totals.states.items() if count)
    datasets, models = _counted(totals.datasets, "dataset"), _counted(totals.models, "model")
    out.line(f"{datasets} with {models}: {counted or 'nothing yet'}.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
