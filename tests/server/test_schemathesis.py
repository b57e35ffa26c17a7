"""Every check of schemathesis, examples to stateful, against a real server: as an admin, an ordinary account, and nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from medperf.server.settings import Settings

from .conftest import PASSWORD
from .real import serving

HERE = Path(__file__).parent


def run(
    url: str, folder: Path, *, actor: str, examples: int, phases: str = "examples,coverage,fuzzing,stateful"
) -> None:
    import json
    import urllib.request

    def call(path: str, body: dict[str, object], token: str = "") -> dict[str, str]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{url}/api/v1{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    who, password = "admin", "admin"
    if actor != "admin":
        admin = call("/tokens", {"username": who, "password": password})["token"]
        who, password = "someone", PASSWORD
        call("/users", {"username": who, "password": password}, admin)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"{url}/api/v1/openapi.json",
        "--max-examples",
        str(examples),
        "--phases",
        phases,
        "--seed",
        "1",
        "--workers",
        "1",
        "--no-color",
        "--continue-on-failure",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "PYTHONPATH": str(HERE),
        "MEDPERF_TEST_URL": url,
    }
    if actor != "nobody":
        environment |= {"MEDPERF_TEST_USER": who, "MEDPERF_TEST_PASSWORD": password}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "No operations" not in done.stdout


@pytest.mark.parametrize(
    ("database", "actor"),
    [("sqlite", "admin"), ("postgresql", "someone"), ("sqlite", "nobody")],
    indirect=["database"],
)
def test_every_check(settings: Settings, tmp_path: Path, actor: str) -> None:
    with serving(replace(settings, rate_per_second=0, anonymous_rate_per_second=0, login_burst=1_000_000)) as url:
        run(url, tmp_path, actor=actor, examples=2, phases="examples,fuzzing,stateful")


@pytest.mark.long
@pytest.mark.parametrize("actor", ["admin", "someone", "nobody"])
def test_every_check_with_many_examples(settings: Settings, tmp_path: Path, actor: str) -> None:
    """Every actor on both databases, with the phase that goes through every boundary of every parameter."""
    with serving(replace(settings, rate_per_second=0, anonymous_rate_per_second=0, login_burst=1_000_000)) as url:
        run(url, tmp_path, actor=actor, examples=100)
