"""A data owner's datasets, made in the real sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medperf.domain.errors import Conflict, InvalidInput, NotFound, TaskFailed, UsageError
from medperf.flows.datasets import (
    CreatedDataset,
    check_dataset,
    create_dataset,
    list_datasets,
    verified_dataset,
    view_dataset,
    withdraw_dataset,
)
from medperf.testing.workflows import Workflow

from .dataset_site import Person, Told, declare_report, open_site, request


def make(workflow: Workflow, **changes: object) -> CreatedDataset:
    with open_site() as site:
        return create_dataset(site, request(workflow, **changes))


class TestCreating:
    def test_prepared_checked_described_and_moved(self, home: Path, workflow: Workflow) -> None:
        made = make(workflow, location="Ward 7").dataset
        assert made.facts.statistics == {"cases": 3}
        assert sorted(path.name for path in made.data.iterdir()) == ["case0.txt", "case1.txt", "case2.txt"]
        assert [path.name for path in made.labels.iterdir()] == ["labels.csv"]
        assert (made.facts.site_label, made.facts.preparator, made.facts.files) == ("Ward 7", None, 4)
        with open_site() as site:
            assert [one.local for one in list_datasets(site, local=True)] == [made]
            assert view_dataset(site, "chest", local=True).local == made
            assert view_dataset(site, made.uuid[:6], local=True).local == made
            assert site.workspace.preparing.ls() == []
        copies = list(home.rglob("case0.txt"))
        assert copies == [made.data / "case0.txt"]  # nowhere else: not in the steps, not in the store

    def test_what_is_here_is_not_prepared_again(self, home: Path, workflow: Workflow) -> None:
        made = make(workflow)
        with open_site() as site, pytest.raises(Conflict, match="prepared by this MLCube already") as error:
            create_dataset(site, request(workflow, name="other"))
        assert error.value.details["dataset"] == made.dataset.uuid
        (workflow.data / "more.txt").write_text("record\n")
        with open_site() as site, pytest.raises(Conflict, match="named 'chest'"):
            create_dataset(site, request(workflow))
        assert make(workflow, name="other").dataset.facts.statistics == {"cases": 4}

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ("output_path.write_text('patient: Doe')", "bad_statistics"),
            ("output_path.write_text('{case%06d: 1}')", "bad_statistics"),
            ("output_path.write_text('- 1')", "bad_statistics"),
        ],
    )
    def test_statistics_that_could_be_records_make_no_dataset(
        self, home: Path, workflow: Workflow, body: str, code: str
    ) -> None:
        workflow.replace_task("prep", "statistics", body.replace("%06d", "123456"))
        with open_site() as site:
            with pytest.raises(InvalidInput) as error:
                create_dataset(site, request(workflow))
            assert error.value.code == code
            assert list_datasets(site, local=True) == []

    def test_a_failed_sanity_check_keeps_what_was_prepared_for_the_next_try(
        self, home: Path, workflow: Workflow
    ) -> None:
        workflow.replace_task("prep", "sanity_check", "raise SystemExit('no')")
        with open_site() as site, pytest.raises(TaskFailed):
            create_dataset(site, request(workflow))
        with open_site() as site, pytest.raises(TaskFailed) as error:
            create_dataset(site, request(workflow))
        assert error.value.details["task"] == "sanity_check"
        with open_site() as site:
            assert [one.finished for one in site.workspace.preparing.ls()] == [True]
            assert list_datasets(site, local=True) == []

    def test_a_failed_preparation_leaves_nothing(self, home: Path, workflow: Workflow) -> None:
        workflow.replace_task("prep", "prepare", "(output_path / 'a').write_text('half'); raise SystemExit('no')")
        with open_site() as site:
            with pytest.raises(TaskFailed):
                create_dataset(site, request(workflow))
            assert site.workspace.usage()["preparing"] == site.workspace.usage()["datasets"] == 0

    def test_records_changed_while_they_are_prepared(self, home: Path, workflow: Workflow) -> None:
        record = workflow.data / "case0.txt"

        class Editing(Told):
            def __call__(self, event: object) -> None:
                if "StepStarted(text='prepare')" in str(event):
                    record.write_text("other\n")

        with open_site(told=Editing()) as site:
            with pytest.raises(InvalidInput) as error:
                create_dataset(site, request(workflow))
            assert error.value.code == "data_changed"
            assert list_datasets(site, local=True) == []
        assert make(workflow).dataset.facts.files == 4

    @pytest.mark.parametrize(
        "changes", [{"benchmark": 1, "preparator": "x"}, {"benchmark": None, "preparator": None}, {"data_path": " "}]
    )
    def test_bad_options(self, home: Path, workflow: Workflow, changes: dict[str, object]) -> None:
        with open_site() as site, pytest.raises(UsageError):
            create_dataset(site, request(workflow, **changes))

    @pytest.mark.parametrize("changes", [{"name": ""}, {"name": "a" * 129}, {"location": "a\nb"}, {"site_label": ""}])
    def test_bad_names(self, home: Path, workflow: Workflow, changes: dict[str, object]) -> None:
        with open_site() as site, pytest.raises(InvalidInput):
            create_dataset(site, request(workflow, **changes))


class TestContinuing:
    BODY = """
output_path.mkdir(exist_ok=True); output_labels_path.mkdir(exist_ok=True)
done = report_file.read_text().split() if report_file.exists() else []
for file in sorted(data_path.iterdir()):
    if file.name not in done:
        (output_path / file.name).write_bytes(file.read_bytes())
        report_file.write_text(' '.join([*done, file.name]))
        if len(done) < 2:
            raise SystemExit('one a day')
        done.append(file.name)
(output_labels_path / 'labels.csv').write_bytes((labels_path / 'labels.csv').read_bytes())
"""

    def test_goes_on_from_day_to_day(self, home: Path, workflow: Workflow) -> None:
        declare_report(workflow)
        workflow.replace_task("prep", "prepare", self.BODY)
        told = Told()
        for _ in range(2):
            with open_site(told=told) as site, pytest.raises(TaskFailed):
                create_dataset(site, request(workflow))
        assert "the same command goes on from there" in told.text
        made = make(workflow)
        assert made.resumed
        assert sorted(path.name for path in made.dataset.data.iterdir()) == ["case0.txt", "case1.txt", "case2.txt"]
        assert made.dataset.facts.files == 4  # the report is no part of the data
        with open_site() as site:
            assert site.workspace.preparing.ls() == []


class TestChecking:
    @pytest.fixture
    def made(self, home: Path, workflow: Workflow) -> CreatedDataset:
        return make(workflow)

    def test_unchanged(self, made: CreatedDataset) -> None:
        with open_site() as site:
            quick = check_dataset(site, "chest")
            assert (quick.unchanged, quick.reading, quick.hashed, quick.files) == (True, "metadata", 0, 4)
            full = check_dataset(site, "chest", full=True)
            assert (full.unchanged, full.reading, full.hashed) == (True, "full", 4)
            assert view_dataset(site, "chest", local=True).local.full_checked_at > made.dataset.full_checked_at  # type: ignore[union-attr]

    def test_touched_files_are_read_once(self, made: CreatedDataset) -> None:
        os.utime(made.dataset.data / "case1.txt", (1, 1))
        with open_site() as site:
            assert [check_dataset(site, "chest").hashed for _ in range(2)] == [1, 0]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("swap", ["data/case0.txt was swapped with data/case1.txt"]),
            ("rename", ["data/case0.txt was renamed to data/new.txt"]),
            ("relabel", ["labels/labels.csv was relabelled"]),
            ("edit", ["data/case2.txt was changed"]),
            ("add", ["data/new.txt was added"]),
            ("remove", ["data/case0.txt was removed"]),
            ("empty", ["data was changed"]),
        ],
    )
    def test_what_happened_is_named_and_nothing_runs(self, made: CreatedDataset, change: str, said: list[str]) -> None:
        data, labels = made.dataset.data, made.dataset.labels
        one, two = data / "case0.txt", data / "case1.txt"
        if change == "swap":
            one.rename(data / "x")
            two.rename(one)
            (data / "x").rename(two)
        elif change == "rename":
            one.rename(data / "new.txt")
        elif change == "relabel":
            (labels / "labels.csv").write_text("case0.txt,1\n")
        elif change == "edit":
            info = (data / "case2.txt").stat()
            (data / "case2.txt").write_text("record 7\n")
            os.utime(data / "case2.txt", ns=(info.st_atime_ns, info.st_mtime_ns))
        elif change == "add":
            (data / "new.txt").write_text("new")
        elif change == "remove":
            one.unlink()
        else:
            (data / "folder").mkdir()
        with open_site() as site:
            report = check_dataset(site, "chest")
            assert [str(one) for one in report.changes] == said
            with pytest.raises(InvalidInput) as error:
                verified_dataset(site, "chest")
            assert error.value.code == "data_changed"
            assert [str(one) for one in check_dataset(site, "chest", full=True).changes] == said

    def test_what_was_verified_is_what_ran(self, made: CreatedDataset) -> None:
        with open_site() as site:
            verified = verified_dataset(site, "chest")
            assert verified.data == (made.dataset.data, made.dataset.facts.identities["data"])
            assert verified.labels == (made.dataset.labels, made.dataset.facts.identities["labels"])
            verified.recheck(site)
            (made.dataset.data / "case0.txt").write_text("meanwhile")
            with pytest.raises(InvalidInput, match=r"case0\.txt was changed"):
                verified.recheck(site)

    def test_policy_says_when_all_is_read(self, made: CreatedDataset) -> None:
        with open_site() as site:
            assert verified_dataset(site, "chest").report.reading == "metadata"
            policy = site.workspace.path / "policy.toml"
            policy.write_text("[data]\nfull_check_days = 0\n")
            assert verified_dataset(site, "chest").report.reading == "full"
            policy.chmod(0o666)
            with pytest.raises(InvalidInput, match="Others can write"):
                verified_dataset(site, "chest")

    def test_identities_are_those_of_a_compatibility_test(self, made: CreatedDataset) -> None:
        from medperf.runtime.hashing import data_identity

        for role, path in made.dataset.paths.items():
            assert made.dataset.facts.identities[role] == data_identity({"output": path}).root


class TestWithdrawing:
    def test_a_local_dataset_is_deleted_when_somebody_agrees(self, home: Path, workflow: Workflow) -> None:
        made = make(workflow)
        with open_site(Person(yes=False)) as site:
            with pytest.raises(InvalidInput, match="does not know"):
                withdraw_dataset(site, "chest")
            with pytest.raises(Exception, match="did not agree"):
                withdraw_dataset(site, "chest", delete=True)
            assert made.dataset.data.exists()
        with open_site() as site:
            assert withdraw_dataset(site, "chest", delete=True).deleted
            with pytest.raises(NotFound):
                view_dataset(site, "chest", local=True)
        assert not made.dataset.folder.exists()
        assert workflow.data.exists()
        assert make(workflow).dataset.uuid != made.dataset.uuid
