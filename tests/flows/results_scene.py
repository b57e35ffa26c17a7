"""A benchmark with a dataset and models, made at the server at once, and a site of its data owner where they have run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2

from medperf.cli.main import main
from medperf.domain.digests import Digest
from medperf.domain.executions import AttemptState, Disclosure
from medperf.flows.site import Site
from medperf.server.settings import Settings
from medperf.workspace.datasets import DatasetFacts
from medperf.workspace.runs import LocalRun

from ..server.conftest import PASSWORD, World  # noqa: TID252
from ..server.conftest import Person as ServerPerson  # noqa: TID252
from ..server.executing import METRICS, Study, associate, make_study  # noqa: TID252
from .conftest import RunningServer

PREDICTIONS = "case0: 0.75"


def log_in(server: RunningServer, name: str) -> None:
    """The profile of the current home is that account's."""
    known = Path(os.environ["MEDPERF_HOME"]) / "config.toml"
    if not known.exists() or "there" not in known.read_text():
        assert main(["profile", "create", "there", "--server", server.url]) == 0
        assert main(["profile", "activate", "there"]) == 0
    assert main(["login", "-u", name, "-p", PASSWORD]) == 0


@dataclass
class Stage:
    """A running server with the accounts ``bench``, ``data`` and ``maker``, who make one study after the other."""

    server: RunningServer
    world: World
    people: tuple[ServerPerson, ServerPerson, ServerPerson]
    studies: int = 0

    @classmethod
    def set(cls, server: RunningServer) -> Stage:
        server.reset()
        world = World(httpx2.Client(base_url=server.url, timeout=30), Settings(data=server.data))  # type: ignore[arg-type]
        return cls(server, world, (world.person("bench"), world.person("data"), world.person("maker")))

    def study(self, **fields: Any) -> Study:
        """A new one: see `make_study`."""
        self.studies += 1
        # The dataset of a study is always called the same; those of the studies before give way.
        self.world.sql(
            "UPDATE datasets SET name = 'old' || id, name_key = 'old' || id, identity = 'old' || id WHERE name_key NOT LIKE 'old%'"
        )
        bench, data, maker = (replace(one, name=f"{one.name}{self.studies}") for one in self.people)
        return make_study(self.world, bench, data, maker, **fields)


def another_model(study: Study, name: str) -> int:
    """A further model of the maker, approved in the benchmark."""
    cube = study.maker.make_cube("model", name=name)
    associate(study.world, study.benchmark, model=cube["id"])
    return int(cube["id"])


def keep_dataset(site: Site, study: Study, *, name: str = "chest") -> str:
    """The study's dataset, prepared at this site."""
    made = str(uuid.uuid4())
    workspace = site.workspace
    source = workspace.path / "source"
    (source / "data").mkdir(parents=True)
    (source / "data" / "case0.txt").write_text("record")
    facts = DatasetFacts(
        description="",
        location="",
        site_label="",
        preparator=1,
        preparator_label="prep",
        preparator_files={},
        benchmark=study.benchmark["id"],
        raw_data="",
        raw_labels="",
        raw_root=Digest.of(b"raw"),
        identities={"data": Digest.of(b"data")},
        places={"data": "data"},
        statistics={},
        statistics_digest=Digest.of(b"statistics"),
        files=1,
        bytes=6,
    )
    workspace.datasets.ls()
    workspace.pending.forget("")  # the first write: what it sweeps is swept before the folder below is there
    workspace.datasets.adopt(
        source,
        uuid=made,
        name=name,
        root=Digest.of(made.encode()),
        salt=b"salt",
        prepared_from=Digest.of(made.encode()),
        facts=facts,
        index=b"",
    )
    workspace.datasets.register(made, instance_id=site.credential().instance_id, registered=study.dataset)
    return made


def keep_run(
    site: Site,
    study: Study,
    dataset: str,
    *,
    model: int | None = None,
    state: str = "COMPLETED",
    metrics: Mapping[str, Any] | None = METRICS,
    predictions: str = "",
    **attempt: Any,
) -> LocalRun:
    """A model that ran: at the server an attempt that ended so, here the run with its metrics and its predictions."""
    model = study.model if model is None else model
    cube = study.maker.get(f"/mlcubes/{model}").json()
    execution = study.register(model=model)
    made = str(uuid.uuid4())
    number = study.attempt(execution, uuid=made, model=model, model_cube=study.pin(cube), **attempt)
    if state in ("COMPLETED", "PARTIAL", "FAILED"):
        study.finish(execution, number, state, **({"failure": "exit"} if state == "FAILED" else {}))
    key = seal(site, "infer", predictions or made)
    run = LocalRun(
        uuid=made,
        instance_id=site.credential().instance_id,
        benchmark=study.benchmark["id"],
        dataset=dataset,
        dataset_id=study.dataset,
        model=model,
        model_name=cube["name"],
        execution=execution,
        attempt=number,
        state=AttemptState(state),
        metrics=metrics,
        contract=Digest.of_document(study.benchmark["metrics_contract"]),
        steps={"infer": key},
        disclosure=Disclosure.UNDER_REVIEW if state in ("COMPLETED", "PARTIAL") else None,
    )
    return site.workspace.runs.add(run)


def seal(site: Site, task: str, what: str) -> Digest:
    """A sealed step."""
    key = Digest.of_document({"task": task, "of": what})
    if site.workspace.steps.lookup(key) is None:
        with site.workspace.steps.begin(key, task=task) as step:
            (step.outputs / "output_path").write_text(f"{PREDICTIONS} {what}")
            step.seal({})
    return key
