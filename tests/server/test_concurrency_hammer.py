"""Many at once against a real server with two workers; then the whole database is looked at."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from medperf.domain.digests import Digest
from medperf.server.audit import commands
from medperf.server.settings import Settings
from medperf.testing.postgres import Cluster

from .conftest import API, PASSWORD, World, manifest_of, web_file
from .test_admin import Running

NAMES = 5
FILE = b"0123456789"


@dataclass
class Crowd:
    """Who hammers, and what was answered."""

    url: str
    random: random.Random
    client: httpx2.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    organisation: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    async def ask(self, who: str, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who in self.tokens else {}
        headers |= options.pop("headers", {})
        content = {"json": body} if body is not None else options
        answer = await self.client.request(method, f"{self.url}{API}{path}", headers=headers, **content)
        code = answer.json()["code"] if answer.status_code >= 400 else ""
        self.answers[f"{method} {path.split('/')[1]} {answer.status_code} {code}".strip()] += 1
        return answer

    async def prepare(self) -> None:
        made = await self.ask("", "POST", "/tokens", {"username": "admin", "password": "admin"})
        self.tokens["admin"] = made.json()["token"]
        for who, admin in {"one": False, "two": False, "second": True, "victim": False}.items():
            user = await self.ask("admin", "POST", "/users", {"username": who, "password": PASSWORD, "is_admin": admin})
            self.ids[who] = user.json()["id"]
            made = await self.ask("", "POST", "/tokens", {"username": who, "password": PASSWORD})
            self.tokens[who] = made.json()["token"]
        self.organisation = (await self.ask("one", "POST", "/organisations", {"name": "Org 0"})).json()["id"]
        for who in ("two", "victim"):
            path = f"/organisations/{self.organisation}/invitations"
            sent = await self.ask("one", "POST", path, {"username": who, "rights": ["manage", "operate"]})
            await self.ask(who, "POST", f"/invitations/{sent.json()['id']}/answer", {"accept": True})

    async def one(self) -> None:
        """One thing that somebody does."""
        await self.random.choice([self.register, self.edit, self.upload, self.manage, self.rename, self.accounts])()

    async def register(self) -> None:
        kind, number = "model", self.random.randrange(NAMES)
        text = manifest_of(kind)
        files = {"manifest": web_file(text.encode()), "project": web_file(b"project")}
        forms = {"python": {"project": files["project"]["digest"]}}
        body = {"name": f"n{number}", "manifest_text": text, "files": files, "forms": forms, "state": "DEVELOPMENT"}
        who = self.random.choice(["one", "two"])
        if self.random.random() < 0.5:
            body["owner"] = self.organisation
        key = {"Idempotency-Key": f"key-of-{who}-{number}-{'owner' in body}"}
        await self.ask(who, "POST", "/mlcubes", body, headers=self.random.choice([key, {}]))

    async def edit(self) -> None:
        who = self.random.choice(["one", "two"])
        found = (await self.ask(who, "GET", "/mlcubes")).json()["items"]
        if found:
            cube = self.random.choice(found)
            change = self.random.choice([{"name": f"n{self.random.randrange(2 * NAMES)}"}, {"user_metadata": {"a": 1}}])
            version = {"If-Match": f'"{cube["version"]}"'}
            await self.ask(who, "PATCH", f"/mlcubes/{cube['id']}", change, headers=version)

    async def upload(self) -> None:
        who, name = self.random.choice(["one", "two"]), str(self.random.randrange(100))
        content = FILE + name.encode()
        body = {"name": name, "size": len(content), "digest": Digest.of(content), "owner": self.organisation}
        started = await self.ask(who, "POST", "/uploads", body)
        if started.status_code != 201 or self.random.random() < 0.3:
            return
        path = f"/uploads/{started.json()['id']}"
        piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        await self.ask(who, "PATCH", path, headers=piece, content=content)
        last = [self.ask(who, "POST", f"{path}/completion") for _ in range(2)] + [self.ask(who, "DELETE", path)]
        done = await asyncio.gather(*last)
        if done[0].status_code == 201 and self.random.random() < 0.5:
            gone = f"/assets/{done[0].json()['id']}"
            await asyncio.gather(*(self.ask(who, "DELETE", gone) for _ in range(2)))

    async def manage(self) -> None:
        who, other = self.random.sample(["one", "two", "victim"], 2)
        rights = self.random.choice([["operate"], ["manage", "operate"]])
        await self.ask(
            who, "PATCH", f"/organisations/{self.organisation}/members/{self.ids[other]}", {"rights": rights}
        )

    async def rename(self) -> None:
        who = self.random.choice(["one", "two"])
        found = (await self.ask(who, "GET", f"/organisations/{self.organisation}")).json()
        name = {"name": f"Org {self.random.randrange(3)}"}
        version = {"If-Match": f'"{found.get("version", 1)}"'}
        await self.ask(who, "PATCH", f"/organisations/{self.organisation}", name, headers=version)
        await self.ask(who, "POST", "/organisations", {"name": f"Org {self.random.randrange(3)}"})

    async def accounts(self) -> None:
        path = f"/users/{self.ids['victim']}"
        active = self.random.random() < 0.5
        await self.ask(self.random.choice(["admin", "second"]), "PATCH", path, {"is_active": active})


async def hammer(url: str, seconds: float, at_once: int) -> Crowd:
    """So many do one thing after the other for so long."""
    async with httpx2.AsyncClient(timeout=60) as client:
        crowd = Crowd(url, random.Random(1), client)
        await crowd.prepare()
        end = time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < end:
                await crowd.one()

        await asyncio.gather(*(work() for _ in range(at_once)))
        return crowd


def look(world: World, crowd: Crowd) -> None:
    """What holds whatever came first."""
    sql = world.sql
    assert not [answer for answer in crowd.answers if " 50" in answer and "upload_" not in answer], crowd.answers
    # One of each name, and one event for each change.
    assert sql("SELECT owner_id, name FROM mlcubes GROUP BY owner_id, name HAVING count(*) > 1") == []
    changes = "SELECT target, count(*) FROM audit_events WHERE action = ? GROUP BY target"
    edits, renames = dict(sql(changes, "mlcube.updated")), dict(sql(changes, "organisation.renamed"))
    cubes = sql("SELECT id, version FROM mlcubes")
    assert {number: 1 + edits.get(f"mlcube:{number}", 0) for number, _ in cubes} == dict(cubes)
    organisations = sql("SELECT party_id, version FROM organisations")
    assert {i: 1 + renames.get(f"organisation:{i}", 0) for i, _ in organisations} == dict(organisations)
    for noun, table in (("mlcube", "mlcubes"), ("organisation", "organisations"), ("user", "users")):
        count = sql(f"SELECT count(*) FROM {table}")[0][0] - (noun == "user")  # the first admin came with the server
        assert len(sql(changes, f"{noun}.created")) == count
    made, deleted = dict(sql(changes, "asset.created")), dict(sql(changes, "asset.deleted"))
    assert {*made.values(), *deleted.values()} <= {1}
    assert {f"asset:{row[0]}" for row in sql("SELECT id FROM assets")} == made.keys() - deleted.keys()
    # Limits and rules over several rows.
    assert sql("SELECT count(*) FROM uploads WHERE asset_id IS NULL")[0][0] <= world.settings.upload_count
    managers = "SELECT count(*) FROM memberships JOIN users ON users.id = user_id WHERE memberships.party_id = ? AND can_manage AND is_active"
    assert all(sql(managers, number)[0][0] >= 1 for number, _ in organisations)
    live = "SELECT count(*) FROM tokens JOIN users ON users.id = user_id WHERE revoked_at IS NULL AND NOT is_active"
    assert sql(live)[0][0] == 0
    instance = sql("SELECT instance_id FROM settings")[0][0]
    for (digest,) in sql("SELECT DISTINCT digest FROM assets"):
        name = digest.removeprefix("sha256:")
        assert Digest.of((world.settings.assets / instance / name[:2] / name).read_bytes()) == digest
    # It was a crowd: some got what they wanted, and some lost against others.
    assert {"POST mlcubes 201", "POST uploads 201", "PATCH mlcubes 200"} <= crowd.answers.keys(), crowd.answers
    assert any(" 409 " in answer or " 412 " in answer for answer in crowd.answers), crowd.answers


class Database(World):
    """A database whose server is elsewhere."""

    def __init__(self, settings: Settings, cluster: Cluster | None) -> None:
        self.settings, self.cluster = settings, cluster


@pytest.mark.parametrize(
    ("seconds", "at_once"), [(1.5, 12), pytest.param(60, 24, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_a_crowd(request: Any, database: str, settings: Settings, seconds: float, at_once: int) -> None:
    running = Running(settings.data, http=True, workers=2, requests_per_second=0)
    try:
        crowd = asyncio.run(hammer(running.url, seconds, at_once))
    finally:
        ended = running.stop(signal.SIGTERM)
    assert ended == (0, "ended\n", "")
    look(Database(settings, request.getfixturevalue("cluster") if database == "postgresql" else None), crowd)
    commands.seal(settings)
    found = commands.verify(settings)
    assert (found.ok, found.unsealed) == (True, 0), found.fault
