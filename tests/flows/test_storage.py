"""What a site keeps on disk, and what a cleanup leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, Forbidden
from medperf.domain.executions import AttemptState, Disclosure
from medperf.flows.predictions import drop_predictions
from medperf.flows.site import Site
from medperf.flows.storage import CLEANABLE, Part, clean_up, list_storage
from medperf.workspace.runs import LocalRun

from .conftest import Command
from .dataset_site import Person, open_site
from .results_scene import seal


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def site(home: Path, person: Person) -> Iterator[Site]:
    with open_site(person) as opened:
        yield opened


def a_run(
    site: Site, predictions: str, *, state: str, disclosure: Disclosure | None = None, number: int = 1
) -> LocalRun:
    """A run of this site, of a process that has ended."""
    steps = {"infer": seal(site, "infer", predictions), "evaluate": seal(site, "evaluate", predictions)}
    run = site.workspace.runs.add(
        LocalRun(
            uuid=f"{number:08}-0000-4000-8000-000000000000",
            instance_id="one",
            benchmark=1,
            dataset=f"dataset {predictions}",
            dataset_id=1,
            model=1,
            model_name="net",
            execution=number,
            attempt=1,
            state=AttemptState(state),
            metrics={"AUC": 0.5} if disclosure else None,
            steps=steps,
            disclosure=disclosure,
        )
    )
    with site.workspace._database.writing() as connection:
        connection.execute("UPDATE runs SET holder = '1-1-none'")
    return run


def download(site: Site, content: bytes) -> Digest:
    """A file in the store, as if downloaded."""
    writer = site.workspace.store.partial(Digest.of(content))
    assert writer is not None
    with writer:
        writer.write(content)
        return writer.commit()


def begun(site: Site, content: bytes) -> Path:
    """A download that was cut."""
    key = Digest.of(content)
    writer = site.workspace.store.partial(key)
    assert writer is not None
    with writer:
        writer.write(content)
    return site.workspace.path / "store" / "partial" / key.hex


def tasks(site: Site) -> list[str]:
    """What every sealed step holds."""
    return sorted((step.outputs / "output_path").read_text().rpartition(" ")[2] for step in site.workspace.steps.ls())


def policy(site: Site, text: str) -> None:
    path = site.workspace.path / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)


def test_only_what_can_be_had_again_goes(site: Site, person: Person, medperf: Command) -> None:
    a_run(site, "reviewed", state="COMPLETED", disclosure=Disclosure.UNDER_REVIEW, number=1)
    a_run(site, "released", state="COMPLETED", disclosure=Disclosure.RELEASED, number=2)
    seal(site, "fetch", "cube")
    stored = download(site, b"a project")
    partial = begun(site, b"half of one")
    logs = site.workspace.path / "logs"
    logs.mkdir()
    (logs / "one.log").write_text("said")
    prepared = site.workspace.path / "datasets" / "one"
    prepared.mkdir(parents=True)
    (prepared / "case0.txt").write_text("record")
    wheel = site.home / "cache" / "wheels" / "some" / "one.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"wheel")
    sizes = {one.part: one for one in list_storage(site)}
    assert set(sizes) == set(Part)
    assert (sizes[Part.PREDICTIONS].count, sizes[Part.STEPS].count) == (2, 3)
    assert 0 < sizes[Part.PREDICTIONS].free < sizes[Part.PREDICTIONS].bytes
    assert sizes[Part.DATASETS].free == sizes[Part.FACTS].free == 0
    assert sizes[Part.DATASETS].bytes >= 6
    listed = medperf("storage", "ls")
    assert listed.code == 0
    assert "medperf storage cleanup --dry-run" in listed.out
    planned = clean_up(site, dry_run=True)
    assert not planned.deleted
    assert person.asked == []
    assert len(tasks(site)) == 5
    person.yes = False
    with pytest.raises(Forbidden):
        clean_up(site)
    assert len(tasks(site)) == 5
    person.yes = True
    done = clean_up(site)
    assert done.deleted
    assert done.parts == planned.parts
    assert {part.part: part.count for part in done.parts} == {
        Part.PREDICTIONS: 1, Part.STEPS: 2, Part.DOWNLOADS: 2, Part.LOGS: 1,
    }  # fmt: skip
    assert tasks(site) == ["reviewed", "reviewed"]
    assert site.workspace.store.path(stored) is None
    assert not partial.exists()
    assert list(logs.iterdir()) == []
    assert (prepared / "case0.txt").exists()
    assert wheel.exists()
    assert not clean_up(site).deleted
    assert len(site.workspace.runs.ls(None)) == 2
    clean_up(site, [Part.WHEELS], yes=True)
    assert not wheel.exists()
    assert len(person.asked) == 2


def test_while_something_runs_nothing_is_deleted(site: Site) -> None:
    seal(site, "fetch", "cube")
    with site.workspace.steps.begin(Digest.of(b"other"), task="infer"):
        with pytest.raises(Conflict, match="is doing infer"):
            clean_up(site, yes=True)
        assert clean_up(site, dry_run=True).parts
    assert tasks(site) == ["cube"]
    clean_up(site, yes=True)
    assert tasks(site) == []


def test_only_what_is_old(site: Site, medperf: Command) -> None:
    logs = site.workspace.path / "logs"
    logs.mkdir(parents=True)
    (logs / "new.log").write_text("said")
    old = logs / "old.log"
    old.write_text("said")
    then = time.time() - 40 * 86400
    os.utime(old, (then, then))
    fresh, stale = begun(site, b"fresh"), begun(site, b"stale")
    os.utime(stale, (then, then))  # the sweep of a week's old ones comes with a process's first write
    shown = medperf("storage", "cleanup", "logs", "downloads", "--older-than", "30", "--dry-run")
    assert "storage cleanup" in shown.out
    done = medperf("storage", "cleanup", "logs", "downloads", "--older-than", "30", "--yes", "--format", "json")
    assert done.code == 0, done.err
    assert [path.name for path in logs.iterdir()] == ["new.log"]
    assert (fresh.exists(), stale.exists()) == (True, False)
    assert medperf("storage", "cleanup", "datasets").code == 2
    assert "nothing to delete" in medperf("storage", "cleanup", "steps", "--yes").out


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("", False),
        ('[retention]\npredictions = "delete"\n', False),
        ('[retention]\npredictions = "keep"\n', True),
        ('[retention]\npredictions = "keep"\ndays = 5\n', True),
    ],
)
def test_retention(site: Site, text: str, stays: bool) -> None:
    a_run(site, "decided", state="COMPLETED", disclosure=Disclosure.WITHHELD)
    policy(site, text)
    dropped = drop_predictions(site)
    assert dropped.count == (0 if stays else 1)
    assert (
        "decided"
        in {
            (step.outputs / "output_path").read_text().split()[-1]
            for step in site.workspace.steps.ls()
            if step.task == "infer"
        }
    ) is stays
    if stays:
        assert clean_up(site, dry_run=True).parts[0].count == 0  # kept by policy
        assert clean_up(site, [Part.PREDICTIONS], yes=True).parts[0].count == 1  # unless it is said by hand


def test_kept_predictions_end_when_their_days_are_over(site: Site) -> None:
    run = a_run(site, "decided", state="COMPLETED", disclosure=Disclosure.RELEASED)
    policy(site, '[retention]\npredictions = "keep"\ndays = 5\n')
    long_ago = (datetime.now(UTC) - timedelta(days=6)).isoformat()
    with site.workspace._database.writing() as connection:
        connection.execute("UPDATE runs SET modified_at = ? WHERE uuid = ?", (long_ago, run.uuid))
    assert drop_predictions(site).count == 1


@pytest.mark.parametrize("state", ["RUNNING", "REGISTERED", "FAILED", "INTERRUPTED"])
def test_what_can_be_continued_is_not_dropped_by_itself(site: Site, state: str) -> None:
    a_run(site, "begun", state=state)
    assert drop_predictions(site).count == 0
    kept_open = state in ("RUNNING", "REGISTERED")
    clean_up(site, yes=True)
    assert ("begun" in tasks(site)) is kept_open


def test_the_words_of_the_command_are_those_of_the_flow() -> None:
    from medperf.cli.storage import PartName

    assert [part.value for part in PartName] == [part.value for part in CLEANABLE]
