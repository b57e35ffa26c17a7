"""A benchmark whose models and evaluator do what the data of a test tells them, and sites that run them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medperf.domain.associations import AutoMode, Status
from medperf.domain.events import Event
from medperf.flows.accounts import login
from medperf.flows.compatibility import TestRequest, run_test
from medperf.flows.datasets import DatasetRequest, associate_dataset, create_dataset, submit_dataset
from medperf.flows.mlcubes import MLCubeSubmission, submit_mlcube
from medperf.flows.packaging import package_mlcube
from medperf.flows.site import Site, SiteOptions
from medperf.testing.workflows import Workflow, make_workflow
from medperf.wire.associations import AssociationCreate, AssociationDecision
from medperf.wire.models import AutoPolicy, BenchmarkUpdate

from .dataset_site import Person

AUTOMATIC = '[release]\nstate = "automatic"\nregistration = "automatic"\nstatistics = "automatic"\n'
ACCEPTING = AUTOMATIC + '[models]\naccept = "listed"\nowners = [{owner}]\n'

#: What the model called NAME does with data that hold ``act.json``: {NAME: what}.
INFER = """
import time
act_file = data_path / "act.json"
act = json.loads(act_file.read_text()).get(NAME) if act_file.exists() else None
given = sorted(path.name for top in Path("/").glob("mlcube_io*") for path in top.rglob("*") if path.is_file())
seen = [name for name in given if "label" in name or name.endswith(".csv")]
if act == "hang":
    time.sleep(3600)
elif act == "exit":
    print("case0.txt cannot be read")
    raise SystemExit(3)
elif act == "much":
    (output_path / "much").write_bytes(bytes(64 * 2**20))
elif act != "nothing":
    if act and act.startswith("work:"):
        import hashlib
        hashlib.pbkdf2_hmac("sha256", NAME.encode(), b"", int(act[5:]))
        act = None
    names = sorted(str(path.relative_to(data_path)) for path in data_path.rglob("*") if path.is_file())
    (output_path / "predictions.json").write_text(json.dumps({"by": NAME, "given": given, "names": names, "act": act, "seen": seen}))
"""
#: It writes what the model says, or what it measured; and how many cases failed.
EVALUATE = """
said = json.loads((predictions / "predictions.json").read_text())
act, total = said["act"], len(said["names"])
if said["seen"]:
    raise SystemExit("a model saw labels: " + repr(said["seen"]))
if not any(labels.rglob("*.csv")):
    raise SystemExit("no labels")
if act == "flood":
    with output_path.open("w") as stream:
        for _ in range(100):
            stream.write("x: " + "y" * 2**20 + "\\n")
elif act and act.startswith("metrics:"):
    output_path.write_text(act[8:])
else:
    failed = 1 if act == "partial" else 0
    cases = {"evaluated": total - failed, "failed": failed, "total": total}
    output_path.write_text(json.dumps({"mean_score": 0.5, "cases": cases}))
"""
MODELS = ("alpha", "beta", "gamma")


@dataclass
class Watching:
    """Events, and what is done when one of them comes."""

    then: Any = None
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self.then is not None:
            self.then(event)

    @property
    def text(self) -> str:
        return "\n".join(str(event) for event in self.events)


@dataclass(frozen=True)
class Bench:
    """A server with benchmark 1, approved: reference model 2, and models ``alpha``, ``beta``, ``gamma`` in it; ``stray`` is not."""

    url: str
    folder: Path
    workflow: Workflow
    models: dict[str, int]
    owner_party: int

    @contextmanager
    def owner(self) -> Iterator[Site]:
        """The benchmark's owner, who owns the models too."""
        with site_at(self.folder / "owner", self.url, "testbenchmarkowner") as site:
            yield site

    @contextmanager
    def site(
        self,
        home: Path,
        person: Person | None = None,
        watching: Watching | None = None,
        *,
        user: str = "testdataowner",
    ) -> Iterator[Site]:
        """A data owner's; its policy asks about nothing but metrics, unless a test writes another."""
        with site_at(home, self.url, user, person, watching) as site:
            if not policy_text(site):
                write_policy(site, ACCEPTING.format(owner=self.owner_party))
            yield site

    def dataset(self, site: Site, name: str, acts: dict[str, str] | None = None, *, owner: str | None = None) -> str:
        """Records that make models act so: prepared, registered and approved. Returns its id here."""
        records = site.home.parent / "records" / name
        records.mkdir(parents=True)
        (records / "case0.txt").write_text(f"record of {name}\n")
        (records / "act.json").write_text(json.dumps(acts or {}))
        before = policy_text(site)
        write_policy(site, AUTOMATIC)
        request = DatasetRequest(name=name, data_path=str(records), labels_path=str(self.workflow.labels), benchmark=1)
        dataset = create_dataset(site, request).dataset
        submit_dataset(site, name, owner=owner)
        assert associate_dataset(site, name, 1).status is Status.APPROVED
        write_policy(site, before)
        return dataset.uuid


def make_bench(url: str, folder: Path) -> Bench:
    """All of it, on a server that is empty. ``MEDPERF_HOME`` must be the caller's to change."""
    from medperf.cli.main import main

    workflow = make_workflow(folder / "flow")
    _puppet(workflow, "model", "reference")
    workflow.replace_task("metrics", "evaluate", EVALUATE)
    for words in (
        ["profile", "create", "here", "--server", url],
        ["profile", "activate", "here"],
        ["server", "seed", "--demo", "benchmark", "--server", url],
        ["login", "-u", "testbenchmarkowner", "-p", "test"],
        ["benchmark", "submit", "--from", str(workflow.folder), "--name", "bmk"],
        ["login", "-u", "admin", "-p", "admin"],
        ["benchmark", "approve", "1"],
        ["login", "-u", "testbenchmarkowner", "-p", "test"],
    ):
        assert main(words) == 0, words
    models: dict[str, int] = {"reference": 2}
    with site_at(folder / "owner", url, "testbenchmarkowner") as site:
        benchmark = site.api.benchmarks.get(1)
        opened = BenchmarkUpdate(auto_datasets=AutoPolicy(mode=AutoMode.ALWAYS))
        site.api.benchmarks.update(1, opened, version=benchmark.version)
        for name in (*MODELS, "stray"):
            models[name] = add_model(site, folder, name)
            if name != "stray":
                join(site, models[name])
    return Bench(url, folder, workflow, models, benchmark.owner.id)


def add_model(site: Site, folder: Path, name: str) -> int:
    """Register a puppet of that name."""
    flow = make_workflow(folder / name)
    _puppet(flow, "model", name)
    made = package_mlcube(flow.model.parent, home=site.home)
    paths = {key: str(file.path) for key, file in made.files.items()}
    submission = MLCubeSubmission(name=name, manifest=paths["manifest"], parameters=paths["parameters"])
    return submit_mlcube(site, submission).id


def join(site: Site, model: int) -> None:
    """Test a model with benchmark 1 and have it approved, which one owner of both is at once."""
    report = run_test(site, TestRequest(benchmark=1, model=str(model))).report
    body = AssociationCreate(uuid=uuid.uuid4(), benchmark=1, model=model, report=report)
    assert site.api.associations.ask(body, idempotency_key=str(uuid.uuid4())).status is Status.APPROVED


def revoke(site: Site, *, model: int | None = None, dataset: int | None = None) -> None:
    """End an association of benchmark 1."""
    for one in site.api.associations.list(model=model, dataset=dataset):
        if one.status is Status.APPROVED and one.benchmark == 1:
            body = AssociationDecision(status=Status.REVOKED)
            site.api.associations.decide(one.id, body, idempotency_key=str(uuid.uuid4()))


@contextmanager
def site_at(
    home: Path, url: str, user: str, person: Person | None = None, watching: Watching | None = None
) -> Iterator[Site]:
    """A site with a home of its own, logged in."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MEDPERF")}
    environ["MEDPERF_HOME"] = str(home)
    options = SiteOptions(server=url)
    site = Site.open(options, environ=environ, cwd=home.parent, ask=person or Person(), emit=watching or Watching())
    with site:
        if site.credentials.get(site.profile.name) is None:
            login(site, username=user, password="test")
        yield site


def write_policy(site: Site, text: str) -> None:
    path = site.workspace.path / "policy.toml"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text)
    path.chmod(0o600)


def policy_text(site: Site) -> str:
    path = site.workspace.path / "policy.toml"
    return path.read_text() if path.exists() else ""


def _puppet(workflow: Workflow, cube: str, name: str) -> None:
    workflow.replace_task(cube, "infer", f"NAME = {name!r}\n{INFER.strip()}")
