"""Words to flow to text: what each command passes on, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict
from medperf.domain.metrics import MetricRule, MetricsContract
from medperf.domain.sorting import Sort
from medperf.domain.states import Approval, Kind, State
from medperf.flows.accounts import LoginResult, LogoutResult, StatusReport
from medperf.flows.benchmarks import BenchmarkSubmission, BenchmarkSubmitted
from medperf.flows.compatibility import TestRequest, TestResult, TestSummary
from medperf.flows.doctor import Check, DoctorReport
from medperf.flows.editing import BenchmarkPolicy
from medperf.flows.mlcubes import MLCubeSubmission
from medperf.flows.packaging import Package, PackagedFile
from medperf.flows.tutorial import SeedResult, TutorialFolder
from medperf.wire.models import AssetView, CompatibilityReport

METRICS = {"AUC.Edema": 0.9125, "AUC.Hernia": None, "cases.evaluated": 19, "cases.failed": 1, "cases.total": 20}

CONTRACT = MetricsContract(
    rules=(
        MetricRule("AUC.Edema", minimum=0.0, maximum=1.0, direction="higher"),
        MetricRule("AUC.Hernia", minimum=0.0, direction="lower", decimals=3),
        MetricRule("n", type="integer", maximum=9, decimals=0),
        MetricRule("grade", type="enum", values=("good", "bad")),
        MetricRule("free"),
    ),
    primary="AUC.Edema",
    has_cases=True,
)
CONTRACT_TABLE = [
    "METRIC      TYPE     RANGE      DECIMALS  BETTER  RANK",
    "AUC.Edema   number   0 to 1            6  higher  primary",
    "AUC.Hernia  number   0 or more         3  lower",
    "n           integer  9 or less         -  -",
    "grade       words    good, bad         -  -",
    "free        number   any               6  -",
]


def outcome(make: Any, *, containers: int = 5) -> TestResult:
    cube = {"files": {"manifest": make.digest}, "form": "python", "form_digests": {"wheels": make.digest}}
    report = CompatibilityReport(
        client_version="0.1.0",
        engine="sandbox",
        architecture="x86_64",
        policy={},
        prepared_identity=make.digest,
        preparator=cube,
        model=cube,
        evaluator=cube,
        steps=(
            {"task": "prepare", "key": make.digest, "seconds": 1.5, "cached": False},
            {"task": "infer", "key": make.digest, "seconds": 2.5, "cached": True},
        ),
        metrics={"AUC": {"Edema": 0.9125, "Hernia": None}},
        started_at=make.now,
        finished_at=make.now,
    )
    return TestResult(Digest("3f2a90" + "0" * 58), report, METRICS, CONTRACT, containers, 12.34)


def test_login(shell: Any, make: Any) -> None:
    calls = shell.flow("accounts.login", LoginResult("alice", True, "https://localhost:8000", make.now))
    answer = shell.run("--profile", "local", "login", "-u", "alice")
    assert answer.out == (
        "Logged in to https://localhost:8000 as alice (an admin), until 2026-03-01 09:30 UTC.\n"
        "Next: medperf benchmark ls --approval PENDING --profile local\n"
    )
    assert calls[0][1] == {"username": "alice", "password": None}
    assert shell.sites[0].options.profile == "local"
    assert shell.sites[0].closed
    shell.flow("accounts.login", LoginResult("alice", False, "https://localhost:8000", make.now))
    assert shell.run("login", "-u", "alice").out.endswith("Next: medperf status\n")


def test_logout_and_passwd(shell: Any) -> None:
    shell.flow("accounts.logout", LogoutResult("alice", True))
    assert shell.run("logout").out == "Logged out alice.\n"
    shell.flow("accounts.logout", LogoutResult(None, False))
    assert shell.run("logout").out == "You were not logged in.\n"
    shell.flow("accounts.change_password", None)
    assert shell.run("passwd").out == "Your password was changed.\n"
    assert shell.run("--format=json", "passwd").json() == {"changed": True}


@pytest.mark.parametrize("words", [("--profile", "p", "--server", "https://h", "--certificate", "c", "mlcube", "ls"), ("mlcube", "ls", "--profile", "p", "--server", "https://h", "--certificate=c"), ("mlcube", "--profile=p", "ls", "--server=https://h", "--certificate", "c")])  # fmt: skip
def test_global_options_before_between_and_after(shell: Any, words: tuple[str, ...]) -> None:
    shell.flow("mlcubes.list_mlcubes", [])
    assert shell.run(*words).code == 0
    options = shell.sites[0].options
    assert (options.profile, options.server, options.certificate) == ("p", "https://h", "c")


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_json_everywhere(shell: Any, make: Any, where: str) -> None:
    shell.flow("mlcubes.list_mlcubes", [make.mlcube()])
    if where == "environment":
        shell.monkeypatch.setenv("MEDPERF_FORMAT", "json")
    words = {
        "before": ("--format", "json", "mlcube", "ls"),
        "after": ("mlcube", "ls", "--format", "json"),
        "environment": ("mlcube", "ls"),
    }
    answer = shell.run(*words[where])
    assert answer.json()["items"][0]["name"] == "my-prep-cube"
    assert answer.err == ""


def test_the_option_outranks_the_environment(shell: Any) -> None:
    shell.flow("mlcubes.list_mlcubes", [])
    shell.monkeypatch.setenv("MEDPERF_FORMAT", "json")
    assert shell.run("--format", "text", "mlcube", "ls").out.startswith("No MLCubes")


def test_status(shell: Any, make: Any) -> None:
    report = StatusReport(
        "local",
        "https://localhost:8000",
        None,
        False,
        None,
        None,
        None,
        None,
        False,
        None,
        "/w",
        2500,
        "sandbox",
        0,
        "Nobody answers.",
    )
    shell.flow("accounts.status", report)
    out = shell.run("status").out
    assert "server: https://localhost:8000\n" in out.replace('"', "")
    assert "not logged in" in out
    assert out.endswith("Problem: Nobody answers.\n")
    assert shell.run("status", "--format", "json").json()["workspace_bytes"] == 2500


def test_doctor_fails_when_something_is_wrong(shell: Any) -> None:
    shell.flow(
        "doctor.examine",
        DoctorReport(
            (
                Check("disk", True, "much"),
                Check("engine", False, "none", "Install bubblewrap."),
                Check("gpu", None, "none"),
            )
        ),
    )
    answer = shell.run("doctor")
    assert answer.code == 1
    assert "PROBLEM" in answer.out
    assert "engine: Install bubblewrap." in answer.out
    assert shell.run("--format", "json", "doctor").json()["ok"] is False
    shell.flow("doctor.examine", DoctorReport((Check("home", None, "open", "chmod 700 it"),)))
    warned = shell.run("doctor")
    assert (warned.code, "warning" in warned.out, "home: chmod 700 it\n" in warned.out) == (0, True, True)
    shell.flow("doctor.examine", DoctorReport((Check("disk", True, "much"),)))
    assert shell.run("doctor").code == 0


@pytest.mark.parametrize("dashes", ["_", "-"])
def test_test_run(shell: Any, make: Any, dashes: str) -> None:
    calls = shell.flow("compatibility.run_test", outcome(make))
    words = "test run --data_preparation prep/mlcube.yaml --model m.yaml --evaluator e.yaml --data_path d --labels_path l --no-cache"
    answer = shell.run(*words.replace("_", dashes).split())
    assert answer.code == 0, answer.err
    assert calls[0][0][1] == TestRequest(
        preparator="prep/mlcube.yaml", model="m.yaml", evaluator="e.yaml", data_path="d", labels_path="l", no_cache=True
    )
    lines = answer.out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["METRIC", "VALUE"],
        ["AUC.Edema", "0.9125"],
        ["AUC.Hernia", "undefined"],
    ]
    assert lines[3:] == [
        "Cases: 19 evaluated, 1 failed, 20 total",
        "The compatibility test passed in 12.34 s. Report: 3f2a90000000",
        "Next: medperf test view 3f2a90000000",
    ]
    document = shell.run("--format", "json", *words.split()).json()
    assert document["metrics"]["AUC.Hernia"] is None
    assert document["report"]["preparator"]["files"]["manifest"] == make.digest
    assert document["contract"]["primary"] == "AUC.Edema"


def test_a_test_that_started_nothing_says_so(shell: Any, make: Any) -> None:
    shell.flow("compatibility.run_test", outcome(make, containers=0))
    assert "Nothing changed: no container was started.\n" in shell.run("test", "run", "-b", "1").out


def test_test_ls_and_view(shell: Any, make: Any) -> None:
    result = outcome(make)
    report_id = "sha256:3f2a90" + "0" * 58
    summary = TestSummary(
        report_id,
        "2026-03-01T09:30:00Z",
        "prep",
        "model",
        "metrics",
        "mock",
        "sandbox",
        METRICS,
        result.report.model_dump(mode="json"),
    )
    shell.flow("compatibility.list_tests", [summary])
    listed = shell.run("test", "ls").out
    assert report_id in listed
    assert listed.endswith("AUC.Edema 0.9125\n")
    assert shell.run("test", "ls", "--format", "json").json()["items"][0]["metrics"] == METRICS
    calls = shell.flow("compatibility.view_test", summary)
    out = shell.run("test", "view").out
    assert calls[0][0][1] is None
    assert make.digest not in out
    assert out.splitlines()[:8] == [
        "report: 3f2a90000000",
        "created: 2026-03-01 09:30 UTC",
        "data preparation: prep",
        "model: model",
        "evaluator: metrics",
        "data: mock",
        "engine: sandbox",
        "steps: prepare (1.50 s), infer (already done)",
    ]
    assert "AUC.Hernia  undefined" in out
    assert "Every digest: medperf test view 3f2a90000000 --verbose\n" in out
    whole = shell.run("test", "view", "-v").out
    assert whole.count(make.digest) >= 7
    assert "AUC.Hernia  undefined" in whole
    assert shell.run("test", "view", "--format", "json").json()["report"]["prepared_identity"] == make.digest
    shell.run("test", "view", "3f")
    assert calls[-1][0][1] == "3f"
    shell.flow("compatibility.list_tests", [])
    assert shell.run("test", "ls").out == "No test was run yet. Run one with: medperf test run --help\n"


def test_mlcube_submit(shell: Any, make: Any) -> None:
    calls = shell.flow("mlcubes.submit_mlcube", make.mlcube())
    answer = shell.run(
        *[
            "mlcube",
            "submit",
            "--name",
            "my-prep-cube",
            "--mlcube-file",
            "https://e/m.yaml",
            "--parameters-file",
            "p.yaml",
            "-a",
            "a.tgz",
            "--image-hash",
            "sha256:x",
        ]
    )
    assert answer.out == "Created mlcube 1 (my-prep-cube).\nNext: medperf mlcube view 1\n"
    assert calls[0][0][1] == MLCubeSubmission(
        name="my-prep-cube", manifest="https://e/m.yaml", parameters="p.yaml", additional="a.tgz", image_hash="sha256:x"
    )


def test_mlcube_ls(shell: Any, make: Any) -> None:
    calls = shell.flow("mlcubes.list_mlcubes", [make.mlcube(), make.mlcube(12, "other")])
    words = ["--mine", "--kind", "model", "--state", "operation", "--invalid"]
    words += ["--search", "chest", "--sort", "-name", "--limit", "5"]
    answer = shell.run("mlcube", "ls", *words)
    assert calls[0][1] == {
        "mine": True,
        "owner": None,
        "kind": Kind.MODEL,
        "state": State.OPERATION,
        "is_valid": False,
        "name": None,
        "search": "chest",
        "sort": Sort.NAME_REVERSED,
        "limit": 5,
    }
    assert [line.split()[:3] for line in answer.out.splitlines()] == [
        ["ID", "NAME", "KIND"],
        ["1", "my-prep-cube", "preparator"],
        ["12", "other", "preparator"],
    ]
    listed = shell.run("mlcube", "ls", "--format", "json").json()["items"]
    assert [entry["id"] for entry in listed] == [1, 12]
    assert not any("manifest_text" in entry for entry in listed)
    assert "\x1b" not in answer.out
    assert "2026-03-01 09:30 UTC" in answer.out


def test_mlcube_view(shell: Any, make: Any, tmp_path: Path) -> None:
    shell.flow("mlcubes.view_mlcube", make.mlcube())
    out = shell.run("mlcube", "view", "1").out
    assert "manifest_text: |\n  name: prep\n  tasks: {}\n" in out
    assert shell.run("mlcube", "view", "1", "-o", "cube.yaml").out == "Wrote cube.yaml.\n"
    assert (tmp_path / "cube.yaml").read_text() == out
    assert shell.run("mlcube", "view", "1", "-o", "no/folder").code == 1


def test_mlcube_package(shell: Any, make: Any) -> None:
    deploy = Path("my cube/mlcube/deploy")
    files = {
        "manifest": PackagedFile(deploy / "mlcube.yaml", make.digest, 10),
        "project": PackagedFile(deploy / "project.tar.gz", make.digest, 99),
    }
    shell.flow("packaging.package_mlcube", Package(Kind.MODEL, "xrv", deploy, files, ("gpu",), Path("all.tar.gz")))
    out = shell.run("mlcube", "package", "my cube/mlcube").out
    assert make.digest in out
    assert "Wrote all.tar.gz." in out
    assert "unknown: gpu" in out
    assert out.endswith("Next: medperf mlcube submit --name xrv --mlcube-file 'my cube/mlcube/deploy/mlcube.yaml'\n")


def test_mlcube_package_shows_short_paths_below_this_folder(shell: Any, make: Any, tmp_path: Path) -> None:
    deploy = tmp_path / "cube" / "deploy"
    files = {
        "manifest": PackagedFile(deploy / "mlcube.yaml", make.digest, 10),
        "parameters": PackagedFile(Path("/elsewhere/parameters.yaml"), make.digest, 10),
    }
    made = Package(Kind.MODEL, "xrv", deploy, files, (), tmp_path / "all.tar.gz")
    shell.flow("packaging.package_mlcube", made)
    out = shell.run("mlcube", "package", str(tmp_path / "cube")).out
    assert str(tmp_path) not in out
    assert "Wrote all.tar.gz." in out
    assert out.endswith("--mlcube-file cube/deploy/mlcube.yaml --parameters-file /elsewhere/parameters.yaml\n")
    document = shell.run("mlcube", "package", "cube", "--format", "json").json()
    assert document["files"]["manifest"]["path"] == str(deploy / "mlcube.yaml")


def test_mlcube_create_works_for_real(shell: Any, tmp_path: Path) -> None:
    answer = shell.run("mlcube", "create", "model", "--name", "my-model")
    assert answer.out == (
        "Created model in my-model.\nEdit: my-model/project/mlcube.py\n"
        "Next: medperf test run --help\nThen: medperf mlcube package my-model/mlcube\n"
    )
    assert (tmp_path / "my-model" / "mlcube" / "mlcube.yaml").is_file()
    assert shell.run("mlcube", "create", "model", "--name", "my-model").code == 1
    assert shell.run("mlcube", "create", "doctor").code == 1


SUBMIT = "benchmark submit --name tutorial_bmk --description text --demo-url https://e/d.tgz --data-preparation-mlcube 1 --reference-model-mlcube 2 --evaluator-mlcube 3"


def test_benchmark_submit_prints_the_metrics(shell: Any, make: Any) -> None:
    calls = shell.flow("benchmarks.submit_benchmark", BenchmarkSubmitted(make.benchmark(), outcome(make)))
    out = shell.run(*SUBMIT.split()).out
    assert calls[0][0][1] == BenchmarkSubmission(
        name="tutorial_bmk",
        description="text",
        demo_url="https://e/d.tgz",
        preparator=1,
        reference_model=2,
        evaluator=3,
    )
    assert "AUC.Edema      0.9125" in out
    assert "Cases: 19 evaluated" in out
    lines = out.splitlines()
    start = lines.index(CONTRACT_TABLE[0])
    assert start > lines.index("Cases: 19 evaluated, 1 failed, 20 total")
    assert lines[start:] == [
        *CONTRACT_TABLE,
        "This metrics contract is frozen with the benchmark: every result of it must keep to it.",
        "",
        "Created benchmark 1 (tutorial_bmk).",
        "It is PENDING. An admin of the server approves it with: medperf benchmark approve 1",
        "Next: medperf benchmark view 1",
    ]
    assert shell.run("--format", "json", *SUBMIT.split()).json()["benchmark"]["approval"] == "PENDING"


def test_benchmark_submit_from_a_folder(shell: Any, make: Any) -> None:
    calls = shell.flow(
        "benchmarks.submit_benchmark_from_folder", BenchmarkSubmitted(make.benchmark(), outcome(make), (make.mlcube(),))
    )
    out = shell.run("benchmark", "submit", "--from", "tutorial", "-n", "b").out
    assert calls[0][0][1] == Path("tutorial")
    given = {
        "name": "b",
        "description": None,
        "docs_url": None,
        "metrics_contract": None,
        "no_cache": False,
        "owner": None,
        "policy": BenchmarkPolicy(),
    }
    assert calls[0][1] == given
    shell.run("benchmark", "submit", "--from", "tutorial", "--metrics-contract", "c.yaml")
    assert calls[1][1]["metrics_contract"] == "c.yaml"
    assert "MLCube 1 (my-prep-cube): preparator" in out


def test_benchmark_submit_refuses_half_a_command(shell: Any) -> None:
    answer = shell.run("benchmark", "submit", "--name", "b", "-p", "1")
    assert answer.code == 2
    assert "--demo-url, --reference-model-mlcube, --evaluator-mlcube must be given" in answer.err
    assert shell.run("benchmark", "submit", "--from", "x", "-p", "1").code == 2


def test_benchmark_ls_view_and_decisions(shell: Any, make: Any) -> None:
    shell.flow("benchmarks.list_benchmarks", [make.benchmark()])
    assert "tutorial_bmk  1, 2, 3" in shell.run("benchmark", "ls", "--approval", "pending").out
    item = shell.run("benchmark", "ls", "--format", "json").json()["items"][0]
    assert item["demo"]["digest"] == make.digest
    assert not {"report", "metrics_contract"} & set(item)
    approved = make.benchmark(approval=Approval.APPROVED, metrics_contract=CONTRACT.as_document())
    calls = shell.flow("benchmarks.decide_benchmark", approved)
    assert shell.run("benchmark", "approve", "1").out == (
        "Benchmark 1 (tutorial_bmk) is APPROVED.\n"
        "Owner: testbenchmarkowner\n"
        "MLCubes: 1 (preparator), 2 (reference model), 3 (evaluator)\n"
        "Primary metric: AUC.Edema\n"
    )
    assert calls[0][1] == {"approve": True, "reason": ""}
    assert shell.run("benchmark", "reject", "1").code == 2
    shell.run("benchmark", "reject", "1", "--reason", "no")
    assert calls[1][1] == {"approve": False, "reason": "no"}


def test_benchmark_view_is_a_page(shell: Any, make: Any) -> None:
    found = make.benchmark(
        description="Chest X-rays", report=outcome(make).report, metrics_contract=CONTRACT.as_document()
    )
    shell.flow("benchmarks.view_benchmark", found)
    out = shell.run("benchmark", "view", "1").out
    assert make.digest not in out
    assert out.splitlines() == [
        "benchmark: 1 (tutorial_bmk)",
        "description: Chest X-rays",
        "owner: testbenchmarkowner",
        "state: OPERATION",
        "approval: PENDING",
        "MLCubes: 1 (preparator), 2 (reference model), 3 (evaluator)",
        "demo data: abababababab (10 bytes)",
        "submitted: 2026-03-01 09:30 UTC",
        "tested: with sandbox on x86_64",
        "",
        "What its compatibility test measured:",
        "METRIC          VALUE",
        "AUC.Edema      0.9125",
        "AUC.Hernia  undefined",
        "",
        "Its metrics contract:",
        *CONTRACT_TABLE,
        "",
        "Every digest: medperf benchmark view 1 --verbose",
        "It is PENDING. An admin of the server approves it with: medperf benchmark approve 1",
    ]
    whole = shell.run("benchmark", "view", "1", "-v").out
    assert "approval: PENDING\n" in whole
    assert whole.count(make.digest) >= 7
    assert shell.run("benchmark", "view", "1", "--format", "json").json()["report"]["policy"] == {}


def test_benchmark_view_names_what_comes_next(shell: Any, make: Any) -> None:
    approved = make.benchmark(approval="APPROVED", decided_at=make.now, metrics_contract={"version": 99})
    shell.flow("benchmarks.view_benchmark", approved)
    out = shell.run("benchmark", "view", "1").out
    assert "decided: 2026-03-01 09:30 UTC\n" in out
    assert "METRIC" not in out
    assert "With a model, next: medperf test run --benchmark 1 --model my_model/mlcube/mlcube.yaml\n" in out
    assert out.endswith("With data, next: medperf dataset create --help\n")
    rejected = make.benchmark(approval="REJECTED", approval_reason="real names", is_active=False)
    shell.flow("benchmarks.view_benchmark", rejected)
    out = shell.run("benchmark", "view", "1").out
    assert "active: no\napproval: REJECTED\nreason: real names\n" in out
    assert "Next: medperf benchmark submit --help" in out


def test_assets(shell: Any, make: Any) -> None:
    asset = AssetView(
        id=3, name="demo.tar.gz", digest=make.digest, size=12, owner=make.mlcube().owner, created_at=make.now
    )
    shell.flow("assets.upload_asset", asset)
    assert "asset:3" in shell.run("asset", "upload", "demo.tar.gz").out
    shell.flow("assets.list_assets", [asset])
    assert make.digest in shell.run("asset", "ls", "--mine").out


def test_users(shell: Any, make: Any) -> None:
    calls = shell.flow("accounts.add_user", make.user())
    assert (
        shell.run("user", "add", "alice", "--admin").out
        == "Created user 7 (alice).\nNext: medperf login --username alice\n"
    )
    assert calls[0][1] == {"username": "alice", "password": None, "email": None, "admin": True}
    shell.flow("accounts.list_users", [make.user()])
    assert "alice" in shell.run("user", "ls", "--search", "a", "--sort=-id", "--admin", "--disabled").out
    calls = shell.flow("accounts.disable_user", make.user())
    assert shell.run("user", "disable", "alice").out == "Disabled user 7 (alice).\n"
    shell.flow("accounts.enable_user", make.user())
    assert shell.run("user", "enable", "alice").out == "Enabled user 7 (alice).\n"
    shell.run("user", "disable", "alice", "--leave-unmanaged")
    assert [call[1] for call in calls] == [{"leave_unmanaged": False}, {"leave_unmanaged": True}]


def test_tutorial(shell: Any) -> None:
    calls = shell.flow(
        "tutorial.setup_tutorial", TutorialFolder(Path("medperf_tutorial"), ("metrics",), "medperf test run")
    )
    assert (
        shell.run("tutorial", "setup", "model").out
        == "Created medperf_tutorial with metrics.\nNext: medperf test run\n"
    )
    assert calls[0] == (("model",), {"folder": Path("medperf_tutorial"), "force": False})


def test_server_seed_never_shows_a_password(shell: Any) -> None:
    calls = shell.flow("tutorial.seed_server", SeedResult("https://localhost:8000", ("testbenchmarkowner",), (), ()))
    answer = shell.run("server", "seed", "--demo", "benchmark", "--cert", "cert.crt", "--password", "hunter2")
    assert answer.code == 0, answer.err
    assert calls[0][1]["certificate"] == "cert.crt"
    assert "testbenchmarkowner" in answer.out
    assert "hunter2" not in answer.out + answer.err
    assert answer.out.endswith("Next: medperf tutorial setup benchmark\n")


def test_a_flow_that_refuses(shell: Any) -> None:
    shell.flow("mlcubes.submit_mlcube", Conflict("name_taken", "You already have one.", "Choose another name."))
    answer = shell.run("mlcube", "submit", "-n", "a", "-m", "b")
    assert (answer.code, answer.out, answer.err) == (
        1,
        "",
        "Error: You already have one.\nWhat to do: Choose another name.\n",
    )


def test_profiles_for_real(shell: Any, tmp_path: Path) -> None:
    made = shell.run(
        *[
            "profile",
            "create",
            "lab",
            "--server",
            "https://medperf.example.org",
            "--engine",
            "sandbox",
            "--timeout",
            "infer=7200",
        ]
    )
    assert (made.code, made.out) == (0, "Created profile lab.\nNext: medperf profile activate lab\n")
    assert shell.run("profile", "activate", "lab").out == "Profile lab is active. Server: https://medperf.example.org\n"
    assert [line.split()[:3] for line in shell.run("profile", "ls").out.splitlines()] == [
        ["NAME", "SERVER", "ACTIVE"],
        ["local", "https://localhost:8000", "no"],
        ["lab", "https://medperf.example.org", "yes"],
    ]
    assert (
        shell.run("profile", "set", "--memory-bytes", "1000000000", "--timeout", "infer=").out
        == "Changed profile lab.\n"
    )
    view = shell.run("profile", "view", "--format", "json").json()
    assert (view["memory_bytes"], view["timeouts"], view["engine"]) == (1_000_000_000, {}, "sandbox")
    assert "server: https://medperf.example.org\n" in shell.run("profile", "view", "lab").out
    assert shell.run("--profile", "local", "profile", "view").out.startswith("name: local\n")
    assert shell.run("profile", "set").code == 2
    assert shell.run("profile", "set", "--timeout", "soon").code == 2
    assert shell.run("profile", "delete", "lab").code == 1
    shell.run("profile", "activate", "local")
    assert shell.run("profile", "delete", "lab").out == "Deleted profile lab.\n"
    assert shell.run("profile", "view", "lab").code == 1
