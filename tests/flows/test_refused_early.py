"""What can be seen to be wrong is refused before anything long or lasting is done, in words that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medperf.domain.errors import Interrupted
from medperf.domain.events import Progress
from medperf.flows.compatibility import TestRequest, run_test
from medperf.flows.site import Site, SiteOptions
from medperf.flows.uploads import create_once
from medperf.testing.workflows import Workflow, make_demo, make_tarball
from medperf.wire.models import MLCubeCreate

from .conftest import Command, left_behind


def assets(medperf: Command) -> int:
    return len(medperf("asset", "ls", "--format", "json").json["items"])


def submit(demo: str | Path, *extra: str) -> list[str]:
    ids = ["--data-preparation-mlcube", "1", "--reference-model-mlcube", "2", "--evaluator-mlcube", "3"]
    return ["benchmark", "submit", "--demo-url", str(demo), *ids, "--format", "json", *extra]


def cube(workflow: Workflow, name: str, *extra: str | Path) -> list[str | Path]:
    folder = workflow.folder / "prep" / "mlcube" / "deploy"
    files = ["-m", folder / "mlcube.yaml", "-p", folder / "parameters.yaml"]
    return ["mlcube", "submit", "--name", name, *files, "--format", "json", *extra]


BODIES = {
    "a long name": (["-n", "x" * 129], "name"),
    "no name": (["-n", "  "], "name"),
    "a name of two lines": (["-n", "a\nb"], "name"),
    "a name that is no text": (["-n", "a\udcff"], "name"),
    "a long description": (["-n", "b", "-d", "x" * 1001], "description"),
    "documentation that is no URL": (["-n", "b", "-u", "our page"], "https://"),
    "a hash that is none": (["-n", "b", "--demo-hash", "123"], "sha256"),
}


@pytest.mark.parametrize("fault", BODIES)
def test_a_benchmark_that_cannot_be_sent_is_not_tested(registered: Command, fault: str) -> None:
    extra, said = BODIES[fault]
    before = assets(registered)
    answer = registered(*submit("there-is-no-such-file.tar.gz", *extra))
    assert answer.code == 1
    assert said in answer.error["what"], "the demo data would have been looked at first"
    assert assets(registered) == before


def test_spaces_around_a_name_do_not_hide_that_it_is_taken(registered: Command, workflow: Workflow) -> None:
    before = assets(registered)
    answer = registered(*cube(workflow, " prep "))
    assert answer.error["code"] == "name_taken"
    assert "medperf mlcube view 1" in answer.error["fix"]
    assert assets(registered) == before


@pytest.mark.parametrize("name", ["x" * 129, "", "a\nb", "a\udcff"])
def test_an_mlcube_that_cannot_be_sent_uploads_nothing(online: Command, workflow: Workflow, name: str) -> None:
    answer = online("mlcube", "submit", "--name", name, "-m", "there-is-no-such-file", "--format", "json")
    assert answer.code == 1
    assert "name" in answer.error["what"]


def test_a_name_that_fits_is_not_refused_for_its_uploads(registered: Command, workflow: Workflow) -> None:
    answer = registered(*cube(workflow, "n" * 128))
    assert answer.code == 0, answer.err


def test_from_folder_finds_every_taken_name_before_registering_anything(online: Command, workflow: Workflow) -> None:
    answer = online("benchmark", "submit", "--from", workflow.folder, "--name", "b" * 125, "--format", "json")
    assert answer.code == 1
    assert "at most 128" in answer.error["what"]
    assert online("mlcube", "package", workflow.folder / "metrics").code == 0
    deploy = workflow.folder / "metrics" / "mlcube" / "deploy"
    other = ["-m", deploy / "mlcube.yaml", "-p", workflow.folder / "paths.yaml"]
    assert online("mlcube", "submit", "-n", "quick-metrics", *other).code == 0
    answer = online("benchmark", "submit", "--from", workflow.folder, "--name", "quick", "--format", "json")
    assert answer.error["code"] == "name_taken"
    assert [item["name"] for item in online("mlcube", "ls", "--format", "json").json["items"]] == ["quick-metrics"]


def test_a_hash_without_its_file_is_not_read_over(registered: Command, workflow: Workflow) -> None:
    answer = registered(*cube(workflow, "other", "--additional-hash", "a" * 64))
    assert answer.code == 2
    assert "--additional-file" in answer.error["what"]
    answer = registered("test", "run", "-b", "1", "--demo_dataset_hash", "a" * 64)
    assert answer.code == 2
    assert "--demo_dataset_url" in answer.err


@pytest.mark.parametrize("option", ["--additional-file", "--project-file"])
def test_what_nobody_could_unpack_is_not_registered(
    registered: Command, workflow: Workflow, home: Path, option: str
) -> None:
    broken = Path("weights.tar.gz")
    broken.write_bytes(b"\x1f\x8bno archive")
    before = assets(registered)
    answer = registered(*cube(workflow, "other", option, broken))
    assert answer.code == 1
    assert "cannot be unpacked" in answer.error["what"]
    empty = make_tarball(Path("empty.tar.gz"), {"README": b"no program"})
    answer = registered(*cube(workflow, "other", "--project-file", empty))
    assert answer.error["code"] == "missing_entrypoint"
    assert assets(registered) == before
    assert left_behind(home) == []


@pytest.mark.parametrize(
    "project", ["../mlcube", "../mlcube/x", "workspace", "workspace/x", "deploy", "../..", ".", "/etc"]
)
def test_a_project_in_a_place_of_the_mlcubes_own(medperf: Command, workflow: Workflow, project: str) -> None:
    text = workflow.model.read_text()
    workflow.model.write_text(text.replace("project: ../project", f"project: {project}"))
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == "bad_path"
    assert answer.error["fix"]


def test_a_project_folder_that_holds_the_mlcube(medperf: Command, workflow: Workflow) -> None:
    folder = workflow.model.parent.rename(workflow.model.parent.with_name("cube"))
    manifest = folder / "mlcube.yaml"
    manifest.write_text(manifest.read_text().replace("project: ../project", "project: ../cube"))
    (folder / "mlcube.py").write_text("")
    answer = medperf("mlcube", "package", folder, "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == "bad_path"


def test_data_that_the_preparator_cannot_read(registered: Command, workflow: Workflow) -> None:
    cubes = ["-p", "1", "-m", "2", "-e", "3", "--format", "json"]
    members = {"paths.yaml": b"data_path: a/x\nlabels_path: a/y", "a/x": b"1", "a/y": b"2"}
    demo = make_tarball(Path("files.tar.gz"), members)  # type: ignore[arg-type]
    answer = registered("test", "run", *cubes, "--demo_dataset_url", demo)
    assert answer.error["code"] == "wrong_data"
    assert "files.tar.gz" in answer.error["what"]
    Path("none").mkdir()
    answer = registered("test", "run", *cubes, "--data_path", "none", "--labels_path", workflow.labels)
    assert answer.error["code"] == "no_data"


@pytest.mark.parametrize("option", ["--data_path", "--labels_path", "--model"])
def test_an_empty_option_does_not_mean_this_folder(medperf: Command, workflow: Workflow, option: str) -> None:
    arguments = [argument for argument in workflow.test_arguments() if not argument.startswith(option)]
    answer = medperf(*arguments, f"{option}=", "--format", "json")
    assert answer.code == 2
    assert option in answer.error["what"]


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 300, "a\udcff"])
def test_odd_paths_are_said_to_be_wrong(medperf: Command, workflow: Workflow, path: str) -> None:
    answer = medperf(*workflow.test_arguments(), f"--labels_path={path}", "--format", "json")
    assert answer.code == 1
    assert answer.error["fix"]


def test_what_is_no_local_file_is_not_uploaded(online: Command) -> None:
    for source in ("asset:1", "https://example.org/x.tar.gz"):
        answer = online("asset", "upload", source, "--format", "json")
        assert answer.error["code"] == "not_local"
        assert source in answer.error["what"]
    odd = Path("a\udcff.txt")
    odd.write_text("x")
    assert online("asset", "upload", odd, "--format", "json").error["code"] == "invalid_input"
    assert online("asset", "upload", odd, "--name", "plain").code == 0


# ------------------------------------------------------------------------------------------------- what is written over


def test_force_removes_tutorials_only(medperf: Command, home: Path) -> None:
    precious = Path("thesis")
    precious.mkdir()
    (precious / "chapter.txt").write_text("years of work")
    answer = medperf("tutorial", "setup", "--folder", precious, "--force", "--format", "json")
    assert answer.error["code"] == "not_a_tutorial"
    assert (precious / "chapter.txt").is_file()
    assert (
        medperf("tutorial", "setup", "--folder", ".", "--force", "--format", "json").error["code"] == "not_a_tutorial"
    )
    assert precious.is_dir()
    assert medperf("tutorial", "setup").code == 0
    assert medperf("tutorial", "setup", "--force").code == 0


def test_packaging_writes_over_packages_only(medperf: Command, workflow: Workflow) -> None:
    folder = workflow.folder / "model" / "mlcube"
    (folder / "deploy").mkdir()
    (folder / "deploy" / "cluster.yaml").write_text("mine")
    answer = medperf("mlcube", "package", folder, "--format", "json")
    assert answer.error["code"] == "deploy_taken"
    assert (folder / "deploy" / "cluster.yaml").is_file()
    (folder / "deploy" / "cluster.yaml").unlink()
    assert medperf("mlcube", "package", folder).code == 0
    assert medperf("mlcube", "package", folder).code == 0


def test_the_newer_manifest_can_be_packaged(medperf: Command, workflow: Workflow) -> None:
    folder = Path("newer")
    folder.mkdir()
    volumes = "{data_path: {mount_path: /data, type: directory}}, output_volumes: {output_path: {mount_path: /out, type: directory}}"
    (folder / "container_config.yaml").write_text(
        f"container_type: DockerImage\nimage: org/model:1\ntasks: {{infer: {{input_volumes: {volumes}}}}}\n"
    )
    answer = medperf("mlcube", "package", folder, "--format", "json")
    assert answer.code == 0, answer.err
    assert (
        Path(answer.json["files"]["manifest"]["path"]).read_bytes() == (folder / "container_config.yaml").read_bytes()
    )


def test_a_template_that_fails_leaves_nothing(medperf: Command, home: Path) -> None:
    answer = medperf("mlcube", "create", "model", "--name", "x" * 300, "--format", "json")
    assert answer.code == 1
    assert answer.error["fix"]
    assert list(Path().iterdir()) == []


# --------------------------------------------------------------------------------------------------- answers never heard


def _site(home: Path) -> Site:
    return Site.open(SiteOptions(), environ={"MEDPERF_HOME": str(home)}, cwd=Path.cwd())


def test_an_answer_that_was_never_heard(registered: Command, workflow: Workflow, home: Path) -> None:
    """Killed between the server's commit and our hearing of it: the next try says what became of the first."""
    with _site(home) as site:
        seen = site.api.mlcubes.get(1)
        body = MLCubeCreate.of(
            name="late", manifest_text=seen.manifest_text or "", files=seen.files, forms=seen.forms, state=seen.state
        )

        def killed(*arguments: Any, **named: Any) -> Any:
            site.api.mlcubes.create(*arguments, **named)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            create_once(site, "mlcube", body, killed)
    assert registered("status", "--format", "json").json["pending"] == 1
    answer = registered(*cube(workflow, "late"))
    assert answer.error["code"] == "name_taken"
    assert "reached the server" in answer.error["what"]
    assert "medperf mlcube view 4" in answer.error["fix"]
    assert registered("status", "--format", "json").json["pending"] == 0
    assert "already have" in registered(*cube(workflow, "late")).error["what"]


def test_a_try_that_never_arrived_is_forgotten_by_the_next(registered: Command, workflow: Workflow, home: Path) -> None:
    with _site(home) as site:
        instance = site.credential().instance_id
        body = b'{"name": "late"}'
        from medperf.domain.digests import Digest

        site.workspace.pending.remember("mlcube", instance, Digest.of(body), body)
    answer = registered(*cube(workflow, "late"))
    assert answer.code == 0, answer.err
    assert registered("status", "--format", "json").json["pending"] == 0


def test_the_same_benchmark_again_is_no_silent_success(registered: Command, workflow: Workflow) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    assert registered(*submit(demo, "-n", "twice")).code == 0
    before = assets(registered)
    answer = registered(*submit(demo, "-n", "twice"))
    assert answer.error["code"] == "name_taken"
    assert "medperf benchmark view 1" in answer.error["fix"]
    assert assets(registered) == before


def test_the_login_that_is_asked_for_is_at_the_server_that_was_named(online: Command) -> None:
    answer = online("mlcube", "ls", "--server", "https://localhost:1", "--format", "json")
    assert answer.error["fix"] == "Log in with: medperf login --server https://localhost:1"


def test_a_folder_that_holds_the_workspace_is_no_data(medperf: Command, workflow: Workflow, home: Path) -> None:
    arguments = [argument for argument in workflow.test_arguments() if not argument.startswith("--data_path")]
    answer = medperf(*arguments, f"--data_path={home.parent}", "--format", "json")
    assert answer.error["code"] == "holds_workspace"


def test_status_shows_what_it_can_of_a_damaged_workspace(online: Command, home: Path) -> None:
    workspace = Path(online("status", "--format", "json").json["workspace"])
    workspace.mkdir(parents=True, exist_ok=True)
    for path in workspace.glob("facts.db*"):
        path.unlink()
    (workspace / "facts.db").write_bytes(b"no database" * 1000)
    answer = online("status", "--format", "json")
    assert answer.code == 0, answer.err
    assert answer.json["username"] == "testbenchmarkowner"
    assert "damaged" in answer.json["problem"]


def test_ctrl_c_is_noticed_while_data_are_read(home: Path, workflow: Workflow) -> None:
    """Reading a large dataset takes hours: it is shown, and the first Ctrl-C ends it."""
    with (workflow.data / "large").open("wb") as stream:
        stream.truncate(512 * 1024**2)
    seen: list[Any] = []
    with _site(home) as site:

        def press(event: Any) -> None:
            seen.append(event)
            if isinstance(event, Progress) and event.text == "Reading data":
                site.cancel.set()

        site.emit = press
        given = {"preparator": workflow.preparator, "model": workflow.model, "evaluator": workflow.evaluator}
        paths = {"data_path": workflow.data, "labels_path": workflow.labels}
        with pytest.raises(Interrupted):
            run_test(site, TestRequest(**{name: str(path) for name, path in {**given, **paths}.items()}))
        assert isinstance(seen[-1], Progress), "it ended while the data were read"
