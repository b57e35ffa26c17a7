"""Changing what is registered: only what may change, only if it is not so already."""

from __future__ import annotations

from pathlib import Path

import pytest

from medperf.domain.errors import Conflict, Forbidden, InvalidInput, UsageError
from medperf.flows.datasets import create_dataset
from medperf.flows.editing import deactivate_dataset, edit_dataset
from medperf.flows.egress import list_egress
from medperf.testing.workflows import make_workflow

from .association_scene import Act, Scene, act, scene
from .dataset_site import Person, open_site, request

__all__ = ["act", "scene"]
JSON = ("--format", "json")


def test_an_mlcube(scene: Scene, act: Act) -> None:
    model = scene.model(act)
    assert act("maker", "mlcube", "edit", model).code == 2
    frozen = act("maker", "mlcube", "edit", model, "--name", "other", *JSON)
    assert frozen.error["code"] == "frozen_in_operation"
    assert act("data", "mlcube", "edit", model, "--invalid", *JSON).error["code"] == "not_owner"
    done = act("maker", "mlcube", "deactivate", model)
    assert "Changed is_valid." in done.out
    assert "It is invalid" in done.out
    assert "Nothing was changed" in act("maker", "mlcube", "deactivate", model).out
    owner = act("maker", "mlcube", "view", model, *JSON).json["owner"]["id"]
    listed = act("bench", "mlcube", "ls", "--owner", owner, "--invalid", *JSON).json["items"]
    assert model in [item["id"] for item in listed]
    assert {item["owner"]["id"] for item in listed} == {owner}
    assert act("bench", "benchmark", "ls", "--owner", owner, *JSON).json["items"] == []
    assert act("bench", "mlcube", "ls", "--owner", owner, "--mine").code == 2
    assert act("bench", "mlcube", "ls", "--owner", "Nowhere", *JSON).error["code"] == "unknown_organisation"
    assert act("maker", "mlcube", "edit", model, "--valid", *JSON).json["changed"] == ["is_valid"]
    Path("about.yaml").write_text("paper: https://example.org/paper\n")
    told = act("maker", "mlcube", "edit", model, "--metadata", "about.yaml", *JSON)
    assert told.json["mlcube"]["user_metadata"] == {"paper": "https://example.org/paper"}
    assert act("maker", "mlcube", "edit", model, "--metadata", "about.yaml", *JSON).json["changed"] == []
    Path("about.yaml").write_text("- a list\n")
    assert act("maker", "mlcube", "edit", model, "--metadata", "about.yaml", *JSON).error["code"] == "bad_metadata"


def test_a_benchmark(act: Act) -> None:
    assert act("bench", "benchmark", "edit", 1, "--description", "x", *JSON).error["code"] == "frozen_in_operation"
    wider = act("bench", "benchmark", "edit", 1, "--results-visibility", "accounts", *JSON)
    assert wider.error["code"] == "visibility_only_narrows"
    assert act("maker", "benchmark", "edit", 1, "--auto-models", "always", *JSON).error["code"] == "not_owner"
    assert act("bench", "benchmark", "deactivate", 1).code == 0
    assert "It is inactive" in act("bench", "benchmark", "deactivate", 1).out
    both = act("bench", "benchmark", "edit", 1, "--active", "--auto-datasets", "always", *JSON)
    assert sorted(both.json["changed"]) == ["auto_datasets", "is_active"]
    assert "datasets that join without a yes: everybody's" in act("bench", "benchmark", "view", 1).out
    assert act("bench", "benchmark", "edit", 1, "--auto-datasets", "never", *JSON).json["changed"] == ["auto_datasets"]
    assert act("bench", "benchmark", "edit", 1, "--auto-datasets", "allow_list").code == 2


def test_a_new_benchmark_says_who_joins_and_who_sees(scene: Scene, act: Act) -> None:
    folder = scene.folder / "second"
    made = make_workflow(folder)
    options = ["--auto-models", "always", "--results-visibility", "participants"]
    assert act("bench", "benchmark", "submit", "--from", made.folder, "--auto-models", "allow_list").code == 2
    answer = act("bench", "benchmark", "submit", "--from", made.folder, "--name", "second", *options, *JSON)
    assert answer.code == 0, answer.err
    found = answer.json["benchmark"]
    assert (found["auto_models"]["mode"], found["results_visibility"]) == ("always", "participants")
    page = act("bench", "benchmark", "view", found["id"]).out
    assert "models that join without a yes: everybody's" in page
    assert "results are shown to: who takes part, too" in page


def test_a_dataset_that_no_server_knows(scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_workflow(scene.folder / "records" / "local")
    (made.data / "case0.txt").write_text("of its own")
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("data")))
    with open_site(Person(yes=False)) as site:
        create_dataset(site, request(made, name="local", benchmark=1))
        with pytest.raises(UsageError):
            edit_dataset(site, "local")
        with pytest.raises(InvalidInput, match="does not know the dataset"):
            deactivate_dataset(site, "local")
        done = edit_dataset(site, "local", site_label="Ward 7", name="renamed", description=" two words ")
        assert done.dataset is not None
        assert (done.dataset.name, done.dataset.facts.site_label) == ("renamed", "Ward 7")
        assert done.registered is None
        assert edit_dataset(site, "renamed", site_label="Ward 7").changed == ()
        with pytest.raises(InvalidInput, match="site_label"):
            edit_dataset(site, "renamed", site_label="x" * 500)


def test_a_dataset_that_a_server_knows(scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = scene.dataset(monkeypatch), scene.dataset(monkeypatch)
    person = Person()
    with open_site(person) as site:
        with pytest.raises(Conflict, match="frozen"):
            edit_dataset(site, str(first), location="elsewhere")
        assert person.asked == []
        with pytest.raises(Forbidden, match="--yes does not count"):
            edit_dataset(site, str(first), site_label="Ward 9", yes=True)
        done = edit_dataset(site, str(first), site_label="Ward 9")
        assert done.changed == ("site_label",)
        assert done.dataset is not None
        assert done.dataset.facts.site_label == "Ward 9", "here, too"
        assert list_egress(site, limit=1)[0].body == {"dataset": first, "site_label": "Ward 9"}
        assert edit_dataset(site, str(first), site_label="Ward 9").changed == ()
        assert len(person.asked) == 1
        update = site.api.datasets.update

        def killed(*arguments: object, **named: object) -> None:
            update(*arguments, **named)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        site.api.datasets.update = killed  # type: ignore[method-assign,assignment]
        with pytest.raises(KeyboardInterrupt):
            deactivate_dataset(site, str(first))
    with open_site(person) as site:
        # Agreed to for the first, and nothing is known of what became of it: that is no yes for the second.
        refusing = Person(yes=False)
        site.ask = refusing
        with pytest.raises(Forbidden, match="did not agree"):
            deactivate_dataset(site, str(second))
        again = deactivate_dataset(site, str(first))
        assert again.registered is not None
        assert (again.changed, again.registered.is_active) == ((), False)
        assert len(refusing.asked) == 1
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        assert [event.event for event in list_egress(site, limit=1)[0].events] == ["sent", "answered"]


def test_a_dataset_managed_from_elsewhere(scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin has no site of this dataset's, and may say that it is not sound."""
    dataset = scene.dataset(monkeypatch)
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("admin")))
    with open_site() as site:
        done = edit_dataset(site, str(dataset), is_valid=False)
    assert done.dataset is None
    assert done.registered is not None
    assert not done.registered.is_valid
