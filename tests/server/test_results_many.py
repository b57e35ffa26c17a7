"""The table of a benchmark with 10,000 results, on both databases: one answer, in less than a second."""

from __future__ import annotations

import json
import time

import pytest

from medperf.server.tables import metadata
from medperf.wire.executions import ResultsTable, cells_of

from .conftest import World
from .executing import Study, make_study

pytestmark = pytest.mark.long
SIDE = 100
METRICS = {f"AUC.finding {number}": 0.123456 for number in range(20)}


def copy(world: World, table: str, values: dict[str, str], more: str) -> None:
    """Rows like the first one, with ``values`` of the tables that ``more`` adds."""
    columns = [column.name for column in metadata.tables[table].columns if column.name != "id"]
    found = ", ".join(values.get(name, f"one.{name}") for name in columns)
    world.sql(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {found} FROM {table} one {more}")


def fill(study: Study) -> None:
    """A hundred datasets with a hundred models: all like the one that was released."""
    world, model = study.world, study.model
    rules = [{"key": key, "minimum": 0.0, "maximum": 1.0, "direction": "higher"} for key in METRICS]
    contract = {"version": 1, "primary": next(iter(METRICS)), "has_cases": False, "rules": rules}
    world.sql("UPDATE benchmarks SET metrics_contract = ?", json.dumps(contract))
    world.sql("UPDATE releases SET metrics = ?", json.dumps(METRICS))
    for number in range(2, SIDE + 1):
        text = f"'{number}'"
        names = {"name": text, "name_key": text, "uuid": text, "identity": text, "site_label": f"'site {number}'"}
        copy(world, "datasets", names, f"WHERE one.id = {study.dataset}")
        copy(world, "mlcubes", names, f"WHERE one.id = {model}")
    others = f"d.id <> {study.dataset}"
    copy(world, "associations", {"dataset_id": "d.id"}, f", datasets d WHERE one.kind = 'dataset' AND {others}")
    copy(world, "associations", {"mlcube_id": "m.id"}, f", mlcubes m WHERE one.kind = 'model' AND m.id > {model}")
    copy(
        world,
        "executions",
        {"dataset_id": "d.id", "mlcube_id": "m.id"},
        f", datasets d, mlcubes m WHERE m.id >= {model} AND ({others} OR m.id > {model})",
    )
    copy(world, "attempts", {"execution_id": "e.id"}, ", executions e WHERE e.id > one.execution_id ORDER BY e.id")
    what = {name: f"e.{name}" for name in ("dataset_id", "mlcube_id")} | {"execution_id": "e.id", "attempt_id": "a.id"}
    copy(
        world,
        "releases",
        what,
        ", executions e JOIN attempts a ON a.execution_id = e.id WHERE e.id > one.execution_id ORDER BY e.id",
    )
    world.sql("ANALYZE")


def test_ten_thousand_results(world: World) -> None:
    study = make_study(world, world.person("bench"), world.person("data"), world.person("maker"))
    study.released()
    fill(study)
    for person in (study.bench, study.data, study.maker):
        seconds = []
        for _ in range(3):
            began = time.process_time()  # server and client; others may use the machine too
            answer = person.get(f"/benchmarks/{study.benchmark['id']}/results")
            table = ResultsTable.model_validate_json(answer.content)
            cells = cells_of([table])
            seconds.append(time.process_time() - began)
        assert (len(table.rows), table.next) == (SIDE * SIDE, None)
        assert sum(cell.state.has_values for cell in cells) == SIDE * SIDE
        print(f"{person.name}: {len(answer.content):,} bytes, {min(seconds):.3f} s of processor, with reading them")
        assert min(seconds) < 1.0
