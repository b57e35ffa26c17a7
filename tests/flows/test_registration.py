"""Registering MLCubes and benchmarks: what is refused, when, and that nothing is left here or there."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from medperf.testing.workflows import Workflow, make_demo, make_tarball

from .conftest import Command, RunningServer, left_behind


def submit(medperf: Command, demo: str | Path, *extra: str, name: str = "bmk") -> list[str]:
    return [
        "benchmark", "submit", "--name", name, "--description", "A benchmark created following MedPerf tutorial",
        "--demo-url", str(demo), "--data-preparation-mlcube", "1", "--reference-model-mlcube", "2", "--evaluator-mlcube", "3",
        "--format", "json", *extra,
    ]  # fmt: skip


def assets(medperf: Command) -> int:
    return len(medperf("asset", "ls", "--format", "json").json["items"])


def test_the_whole_way(registered: Command, workflow: Workflow, home: Path) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    answer = registered(*submit(registered, demo))
    assert answer.code == 0, answer.err
    benchmark = answer.json["benchmark"]
    assert (benchmark["id"], benchmark["approval"]) == (1, "PENDING")
    view = registered("benchmark", "view", "1", "--format", "json").json
    assert view["report"]["demo_digest"] == view["demo"]["digest"]
    assert view["prepared_identity"] == view["report"]["prepared_identity"]
    assert [rule["key"] for rule in view["metrics_contract"]["rules"]] == ["mean_score"]
    assert registered("login", "-u", "admin", "-p", "admin").code == 0
    approved = registered("benchmark", "approve", "1")
    assert approved.code == 0, approved.err
    assert registered("benchmark", "view", "1", "--format", "json").json["approval"] == "APPROVED"
    assert left_behind(home) == []


def test_from_folder_in_one_go_and_again(online: Command, workflow: Workflow) -> None:
    answer = online("benchmark", "submit", "--from", workflow.folder, "--name", "quick", "--format", "json")
    assert answer.code == 0, answer.err
    assert [cube["id"] for cube in answer.json["mlcubes"]] == [1, 2, 3]
    again = online("benchmark", "submit", "--from", workflow.folder, "--name", "quick", "--format", "json")
    assert again.code == 1
    assert again.error["code"] == "name_taken"
    assert len(online("mlcube", "ls", "--format", "json").json["items"]) == 3


def test_a_failure_on_the_way_can_be_repeated(online: Command, workflow: Workflow) -> None:
    good = workflow.program("metrics").read_text()
    workflow.replace_task("metrics", "evaluate", "raise SystemExit(3)")
    submit_folder = ["benchmark", "submit", "--from", str(workflow.folder), "--name", "quick", "--format", "json"]
    answer = online(*submit_folder)
    assert answer.error["code"] == "task_exit"
    for noun in ("benchmark", "mlcube", "asset"):
        assert online(noun, "ls", "--format", "json").json["items"] == [], "tested before anything is sent"
    workflow.program("metrics").write_text(good)
    assert online(*submit_folder).code == 0


CONTRACT = """\
primary: mean_score
has_cases: true
rules:
  - {key: mean_score, type: number, minimum: 0, maximum: 1, decimals: 4, direction: higher}
"""


def test_a_metrics_contract_of_ones_own(online: Command, workflow: Workflow) -> None:
    contract = workflow.folder / "metrics_contract.yaml"
    contract.write_text(CONTRACT.replace("maximum: 1", "maximum: 0.25"))
    submit_folder = ["benchmark", "submit", "--from", str(workflow.folder), "--name", "quick", "--format", "json"]
    refused = online(*submit_folder)
    assert refused.error["code"] == "metrics_contract"
    assert online("mlcube", "ls", "--format", "json").json["items"] == []
    contract.write_text("rules: [3]")
    assert online(*submit_folder).error["code"] == "bad_contract"
    contract.write_text(CONTRACT)
    assert online(*submit_folder).code == 0
    frozen = online("benchmark", "view", "1", "--format", "json").json["metrics_contract"]
    assert (frozen["primary"], frozen["rules"][0]["decimals"]) == ("mean_score", 4)


def test_owner_cannot_approve_their_own(registered: Command, workflow: Workflow) -> None:
    assert registered(*submit(registered, make_demo(workflow, Path("demo.tar.gz")))).code == 0
    answer = registered("benchmark", "approve", "1", "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == "admin_only"


def test_taken_names_are_found_before_the_test(registered: Command, workflow: Workflow) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    assert registered(*submit(registered, demo)).code == 0
    workflow.replace_task("model", "infer", "raise SystemExit(9)")
    before = assets(registered)
    answer = registered(*submit(registered, "nowhere-at-all.tar.gz"))
    assert answer.error["code"] == "name_taken"
    taken = registered(
        "mlcube", "submit", "--name", "prep", "-m", workflow.preparator, "-p", "nowhere", "--format", "json"
    )
    assert taken.error["code"] == "name_taken"
    assert assets(registered) == before


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


DEMOS = {
    "no paths.yaml": {"mock/images/a": b"x"},
    "paths.yaml is a list": {"paths.yaml": b"[]"},
    "paths.yaml leads out": {"paths.yaml": b"data_path: ../x\nlabels_path: /etc"},
    "paths.yaml names nothing": {"paths.yaml": b"data_path: a\nlabels_path: b"},
    "climbs": {"../../evil": b"x", "paths.yaml": b"data_path: a\nlabels_path: b"},
    "absolute": {"/tmp/evil": b"x"},
    "symlink out": {"paths.yaml": _link("paths.yaml", "/etc/passwd", tarfile.SYMTYPE)},
    "symlinked folder": {
        "mock": _link("mock", "/etc", tarfile.SYMTYPE),
        "paths.yaml": b"data_path: mock\nlabels_path: mock",
    },
    "hard link out": {"a": _link("a", "/etc/passwd", tarfile.LNKTYPE)},
    "device": {"a": _link("a", "", tarfile.CHRTYPE)},
    "fifo": {"a": _link("a", "", tarfile.FIFOTYPE)},
}


@pytest.mark.parametrize("fault", DEMOS)
def test_bad_demo_data(registered: Command, home: Path, fault: str) -> None:
    demo = make_tarball(Path("demo.tar.gz"), DEMOS[fault])  # type: ignore[arg-type]
    before = assets(registered)
    answer = registered(*submit(registered, demo))
    assert answer.code == 1
    assert answer.error["what"]
    assert answer.error["fix"]
    assert assets(registered) == before
    assert registered("benchmark", "ls", "--format", "json").json["items"] == []
    assert left_behind(home) == []
    assert not Path("../evil").exists()


def test_truncated_demo_data(registered: Command, workflow: Workflow, home: Path) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    demo.write_bytes(demo.read_bytes()[:-40])
    answer = registered(*submit(registered, demo))
    assert answer.code == 1
    assert answer.error["fix"]
    assert left_behind(home) == []


def test_wrong_digest(registered: Command, workflow: Workflow) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    answer = registered(*submit(registered, demo, "--demo-hash", "0" * 64))
    assert answer.error["code"] == "digest_mismatch"
    folder = workflow.folder / "prep" / "mlcube" / "deploy"
    for option in ("--mlcube-hash", "--parameters-hash"):
        cube = registered(
            "mlcube", "submit", "--name", "other", "-m", folder / "mlcube.yaml", "-p", folder / "parameters.yaml",
            option, "0" * 64, "--format", "json",
        )  # fmt: skip
        assert cube.error["code"] == "digest_mismatch", option


def test_a_url_that_is_not_there(registered: Command, server: RunningServer, home: Path) -> None:
    answer = registered(*submit(registered, f"{server.url}/nothing.tar.gz"))
    assert answer.code == 1
    assert "404" in answer.error["what"]
    assert left_behind(home) == []


def test_unknown_and_wrong_ids(registered: Command, workflow: Workflow) -> None:
    demo = make_demo(workflow, Path("demo.tar.gz"))
    for change, code in ((("--evaluator-mlcube", "99"), "no_such_mlcube"), (("--evaluator-mlcube", "1"), "wrong_kind")):
        arguments = submit(registered, demo)
        arguments[arguments.index(change[0]) + 1] = change[1]
        answer = registered(*arguments)
        assert answer.code == 1
        assert answer.error["code"] == code
    assert registered("benchmark", "view", "99", "--format", "json").error["code"] == "no_such_benchmark"
    assert registered("mlcube", "view", "99", "--format", "json").error["code"] == "no_such_mlcube"


def test_a_docker_only_manifest_needs_no_engine(online: Command, workflow: Workflow) -> None:
    text = workflow.model.read_text()
    start, end = text.index("python:"), text.index("tasks:")
    workflow.model.write_text(text[:start] + text[end:])
    parameters = workflow.model.parent / "workspace" / "parameters.yaml"
    arguments = ["mlcube", "submit", "--name", "m", "-m", workflow.model, "-p", parameters, "--format", "json"]
    refused = online(*arguments)
    assert refused.error["code"] == "no_form"
    assert "--image-hash" in refused.error["fix"]
    accepted = online(*arguments, "--image-hash", "sha256:" + "a" * 64)
    assert accepted.code == 0, accepted.err
    assert list(accepted.json["forms"]) == ["oci"]


def test_nothing_inside_a_workspace_is_uploaded(online: Command, home: Path) -> None:
    secret = home / "127_0_0_1" / "prepared.bin"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("patient")
    answer = online("asset", "upload", secret, "--format", "json")
    assert answer.error["code"] == "inside_workspace"


def test_wrong_password_and_not_logged_in(online: Command) -> None:
    answer = online("login", "-u", "testbenchmarkowner", "-p", "wrong", "--format", "json")
    assert answer.code == 1
    assert "password" in answer.error["what"].lower()
    assert online("logout").code == 0
    answer = online("mlcube", "ls", "--format", "json")
    assert answer.code == 1
    assert "medperf login" in answer.error["fix"]


def test_another_instance_is_noticed(online: Command, server: RunningServer) -> None:
    server.reset()
    answer = online("mlcube", "ls", "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == "wrong_instance"
    assert "medperf login" in answer.error["fix"]


def test_a_refused_registration_takes_its_uploads_back(registered: Command, workflow: Workflow) -> None:
    """A name that is too long is noticed when the body is made, after the uploads."""
    folder = workflow.folder / "prep" / "mlcube" / "deploy"
    before = assets(registered)
    answer = registered(
        "mlcube",
        "submit",
        "--name",
        "x" * 129,
        "-m",
        folder / "mlcube.yaml",
        "-p",
        folder / "parameters.yaml",
        "--format",
        "json",
    )
    assert answer.code == 1
    assert "name" in answer.error["what"]
    assert assets(registered) == before


def test_seeding_for_the_later_roles(medperf: Command, server: RunningServer, home: Path) -> None:
    home.mkdir(mode=0o700)
    packages = Path(sys.prefix) / "medperf-cache"  # what the demo and the documents' tests downloaded already
    packages.mkdir(exist_ok=True)
    (home / "cache").symlink_to(packages)
    seeded = medperf("server", "seed", "--demo", "data", "--server", server.url, "--format", "json")
    assert seeded.code == 0, seeded.err
    assert (seeded.json["mlcubes"], seeded.json["benchmarks"]) == ([1, 2, 3, 4], [1])
    assert (
        medperf("server", "seed", "--demo", "data", "--server", server.url, "--format", "json").error["code"]
        == "already_seeded"
    )
    assert medperf("--server", server.url, "login", "-u", "testmodelowner", "-p", "test").code == 0
    assert medperf("--server", server.url, "benchmark", "view", "1", "--format", "json").json["approval"] == "APPROVED"
    # The model owner reads the benchmark's demo data, preparator and evaluator, and runs a model of their own.
    tested = medperf("--server", server.url, "test", "run", "-b", 1, "-m", 4, "--format", "json")
    assert tested.code == 0, tested.err
    assert tested.json["report"]["model"]["mlcube"] == 4
