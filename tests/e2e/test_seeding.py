"""``server seed``: each role finds exactly what its page needs, and what an earlier seeding made is used."""

from __future__ import annotations

import json
from typing import Any

import playing
import pytest
from people import Person, Server, new_person

pytestmark = pytest.mark.timeout(600)


def ask(person: Person, server: Server, account: str, *words: str) -> Any:
    there = ("--server", f"https://localhost:{server.port}", "--certificate", str(server.data / "cert.crt"))
    password = "admin" if account == "admin" else "test"
    assert person.medperf("login", "-u", account, "-p", password, *there).code == 0
    answer = person.medperf(*words, *there, "--format", "json")
    assert answer.code == 0, answer.text
    return json.loads(answer.text)


def test_the_later_roles_build_on_the_earlier_ones(server: Server, tmp_path: Any) -> None:
    person = new_person(tmp_path / "home")
    playing.share_packages(person.home / ".medperf")
    address = f"https://localhost:{server.port}"
    words = ("server", "seed", "--server", address, "--cert", str(server.data / "cert.crt"), "--demo")

    seeded = person.medperf(*words, "model", "--format", "json")
    assert seeded.code == 0, seeded.text
    found = json.loads(seeded.text)
    assert (found["mlcubes"], found["benchmarks"]) == ([1, 2, 3], [1])
    benchmark = ask(person, server, "testmodelowner", "benchmark", "view", "1")
    assert (benchmark["name"], benchmark["approval"], benchmark["reference_model"]) == ("xrv", "APPROVED", 2)
    assert ask(person, server, "testmodelowner", "association", "ls")["items"] == []

    seeded = person.medperf(*words, "data", "--format", "json")
    assert seeded.code == 0, seeded.text
    assert json.loads(seeded.text)["mlcubes"] == [1, 2, 3, 4]
    (association,) = ask(person, server, "testbenchmarkowner", "association", "ls")["items"]
    assert (association["model"], association["status"], association["name"]) == (4, "APPROVED", "xrv_linear")
    assert ask(person, server, "testdataowner", "benchmark", "ls")["items"][0]["id"] == 1
    assert person.error(*words, "data")["code"] == "already_seeded"
    assert person.error(*words, "model")["code"] == "already_seeded"


@pytest.mark.parametrize(
    ("part", "entries"),
    [
        ("model", ["xrv_linear"]),
        ("data", ["hospital"]),
        ("all", ["benchmark", "hospital", "xrv_linear"]),
        ("benchmark", ["chexpert_prep", "metrics", "mock_chexpert", "xrv_densenet"]),
    ],
)
def test_each_role_gets_its_files(person: Person, part: str, entries: list[str]) -> None:
    made = person.medperf("tutorial", "setup", part, "--format", "json")
    assert made.code == 0, made.text
    folder = person.home / "medperf_tutorial"
    assert sorted(path.name for path in folder.iterdir()) == json.loads(made.text)["entries"] == entries
    again = person.medperf("tutorial", "setup", part, "--force")
    assert again.code == 0, again.text
    if part == "all":
        assert {path.name for path in (folder / "benchmark").iterdir()} >= {"paths.yaml", "mock_chexpert", "metrics"}


def test_force_spares_a_folder_that_only_looks_alike(person: Person) -> None:
    folder = person.home / "medperf_tutorial"
    (folder / "hospital").mkdir(parents=True)
    (folder / "hospital" / "patients.txt").write_text("real ones")
    assert person.error("tutorial", "setup", "data", "--force")["code"] == "not_a_tutorial"
    assert (folder / "hospital" / "patients.txt").is_file()
