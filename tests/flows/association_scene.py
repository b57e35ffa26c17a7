"""A benchmark that is approved, and the people around it, each at a site of their own. Steps that ran in one test are done for the next."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medperf.cli.main import main
from medperf.flows.datasets import create_dataset, submit_dataset
from medperf.testing.workflows import Workflow, make_workflow

from .conftest import Answer, RunningServer
from .dataset_site import Person, open_site, request

PEOPLE = {"bench": "testbenchmarkowner", "maker": "testmodelowner", "data": "testdataowner", "admin": "admin"}
Act = Callable[..., Answer]


@dataclass
class Scene:
    """Benchmark 1 of ``bench``; ``maker`` and ``data`` own nothing yet."""

    server: RunningServer
    folder: Path
    workflow: Workflow
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def home(self, who: str) -> Path:
        return self.folder / who

    def model(self, act: Act, *, changed: bool = False, who: str = "maker", owner: str | None = None) -> int:
        """A new model of the maker's; ``changed``: with other files than all before."""
        name = f"model-{next(self.numbers)}"
        folder = self.folder / "models" / name
        made = make_workflow(folder)
        if changed:
            parameters = made.model.parent / "workspace" / "parameters.yaml"
            parameters.write_text(f"{parameters.read_text()}\n# {name}\n")
        cube = made.model.parent
        assert act(who, "mlcube", "package", cube).code == 0
        files = ["--mlcube-file", cube / "deploy/mlcube.yaml", "--parameters-file", cube / "deploy/parameters.yaml"]
        owned = ["--owner", owner] if owner is not None else []
        answer = act(who, "mlcube", "submit", "--name", name, *files, *owned, "--format", "json")
        assert answer.code == 0, answer.err
        return int(answer.json["id"])

    def dataset(self, patch: pytest.MonkeyPatch) -> int:
        """A new dataset of the data owner's, registered; nobody was asked to take it."""
        name = f"data-{next(self.numbers)}"
        made = make_workflow(self.folder / "records" / name)
        (made.data / "case0.txt").write_text(name)  # two datasets of the same records are one
        patch.setenv("MEDPERF_HOME", str(self.home("data")))
        with open_site(Person()) as site:
            create_dataset(site, request(made, name=name, benchmark=1))
            return submit_dataset(site, name).registered.id


@pytest.fixture(scope="module")
def scene(running_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("people")
    found = Scene(running_server, folder, make_workflow(folder / "flow"))
    running_server.reset()
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("MEDPERF_")]:
            patch.delenv(name)
        for who, username in PEOPLE.items():
            patch.setenv("MEDPERF_HOME", str(found.home(who)))
            for words in (
                ["profile", "create", "here", "--server", running_server.url],
                ["profile", "activate", "here"],
                *(
                    [["server", "seed", "--demo", "benchmark", "--server", running_server.url]]
                    if who == "bench"
                    else []
                ),
                ["login", "-u", username, "-p", "admin" if who == "admin" else "test"],
                *(
                    [["benchmark", "submit", "--from", str(found.workflow.folder), "--name", "bmk"]]
                    if who == "bench"
                    else []
                ),
                *([["benchmark", "approve", "1"]] if who == "admin" else []),
            ):
                assert main(words) == 0, words
    return found


@pytest.fixture
def act(scene: Scene, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Act:
    """A command line of one of them; nothing is asked."""
    monkeypatch.chdir(tmp_path)

    def run(who: str, *words: Any) -> Answer:
        monkeypatch.setenv("MEDPERF_HOME", str(scene.home(who)))
        capfd.readouterr()
        code = main([str(word) for word in words])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run
