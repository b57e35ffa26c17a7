"""What tests of organisations do again and again."""

from __future__ import annotations

from typing import Any

from .conftest import Person

ALL = ["manage", "operate", "release"]


def make_organisation(person: Person, name: str = "Hospital A") -> dict[str, Any]:
    answer = person.post("/organisations", {"name": name})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def invite(manager: Person, organisation: dict[str, Any], username: str, rights: list[str]) -> Any:
    return manager.post(f"/organisations/{organisation['id']}/invitations", {"username": username, "rights": rights})


def join(manager: Person, organisation: dict[str, Any], person: Person, rights: list[str]) -> None:
    sent = invite(manager, organisation, person.name, rights)
    assert sent.status_code == 201, sent.text
    answered = person.post(f"/invitations/{sent.json()['id']}/answer", {"accept": True})
    assert answered.status_code == 200, answered.text


def members(person: Person, organisation: dict[str, Any]) -> dict[str, list[str]]:
    found = person.get(f"/organisations/{organisation['id']}/members").json()["items"]
    return {one["username"]: one["rights"] for one in found}


def member_path(organisation: dict[str, Any], person: Person) -> str:
    return f"/organisations/{organisation['id']}/members/{person.id}"
