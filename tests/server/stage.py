"""The people and the things that the table of permissions speaks of, and the requests that fill its cells."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from .conftest import API, PASSWORD, Person, World
from .permission_table import ACTORS, BENCHMARKS, DATASETS, MLCUBES, Row
from .stage_executions import ExecutionsStage
from .stage_joining import JoiningStage

#: Rows that are about the actor, and so prepared for each.
_OF_THE_ACTOR = ("this login", "organisation: oneself", "to oneself")


@dataclass
class Request:
    """A good request of one row. ``person`` sends it where it must be another login of the actor's."""

    row: Row
    ids: dict[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    person: Person | None = None

    def send(self, person: Person, fields: dict[str, Any] | None = None, **other: str) -> Any:
        """Send it; ``fields`` are put into its body, ``other`` replaces ids of the path."""
        path = re.sub(r"\{(\w+)\}", lambda found: other.get(found[1], str(self.ids.get(found[1]))), self.row.path)
        options = dict(self.more, headers=dict(self.headers))
        if self.json is not None:
            options["json"] = self.json | (fields or {})
        if person.token:
            return person.send(self.row.method, path, **options)
        return person.client.request(self.row.method, f"{API}{path}", **options)


class Stage(ExecutionsStage, JoiningStage):
    """The people and the things of the table, in one world. What a request changes is put back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbers = itertools.count(1)
        self.kept: dict[tuple[Any, ...], Any] = {}  # what was prepared and not used up
        self.people = {name: world.person(f"{name}.x") for name in ACTORS[1:] if name != "admn"}
        self.people["admn"] = world.person("admn.x", admin=True)
        self.people["anon"] = Person(world.client, "anon", 0, 0, "")
        self.founder, self.absent = world.person("founder"), world.person("absent")
        self.disabled, self.member = world.person("gone"), world.person("member")
        self.organisation = self._organise()
        self.unmanaged = int(self.absent.post("/organisations", {"name": "Unmanaged"}).json()["id"])
        self._join(self.absent, self.unmanaged, self.member, ["release"])
        self.ids = self._things()
        self.ids |= self._make_datasets()
        kinds = ("preparator", "model", "evaluator")
        #: A benchmark that anybody could register.
        self.open_body = self.founder.benchmark_body(
            {kind: self.founder.make_cube(kind, upload=False) for kind in kinds}
        )
        self.open_body["demo"] = self.open_body["demo"] | {"urls": ["https://example.org/demo"]}
        no = "(1 = 0)"
        world.sql(f"UPDATE users SET is_active = {no} WHERE username IN ('absent', 'gone', 'disa.x')")
        world.sql("UPDATE tokens SET expires_at = '2020' WHERE user_id = ?", self.people["expi"].id)

    def _organise(self) -> int:
        made = int(self.founder.post("/organisations", {"name": "Hospital"}).json()["id"])
        for name, rights in {
            "mana": ["manage"],
            "oper": ["operate"],
            "rele": ["release"],
            "form": ["manage", "operate", "release"],
        }.items():
            self._join(self.founder, made, self.people[name], rights)
        self._join(self.founder, made, self.member, ["release"])
        assert self.people["form"].send("DELETE", f"/organisations/{made}/members/{self.people['form'].id}").is_success
        return made

    def _join(self, manager: Person, organisation: int, person: Person, rights: list[str]) -> None:
        sent = manager.post(f"/organisations/{organisation}/invitations", {"username": person.name, "rights": rights})
        answered = person.post(f"/invitations/{sent.json()['id']}/answer", {"accept": True})
        assert answered.status_code == 200, answered.text

    def _things(self) -> dict[str, int]:
        modl, bnch, oper, data = (self.people[name] for name in ("modl", "bnch", "oper", "data"))
        cubes = {
            "model owner's draft": modl.make_cube("model", name="draft", state="DEVELOPMENT"),
            "model owner's model": modl.make_cube("model", name="model"),
            "model owner's invalid one": modl.make_cube("model", name="invalid"),
            "organisation's draft": oper.make_cube("model", name="d", state="DEVELOPMENT", owner=self.organisation),
            "organisation's model": oper.make_cube("model", name="m", owner=self.organisation),
        }
        modl.patch(f"/mlcubes/{cubes['model owner' + chr(39) + 's invalid one']['id']}", {"is_valid": False}, 1)
        parts = {kind: bnch.make_cube(kind) for kind in ("preparator", "evaluator")}
        ours = {kind: oper.make_cube(kind, name=kind, owner=self.organisation) for kind in parts}
        model = cubes["model owner's model"]
        benchmarks = {
            name: bnch.make_benchmark(name=name, cubes={**parts, "model": model}, **fields)
            for name, fields in {
                "development": {"state": "DEVELOPMENT"},
                "pending": {},
                "approved": {},
                "rejected": {},
                "invalid": {},
            }.items()
        }
        for name in ("pending", "approved"):
            benchmarks[f"organisation's {name}"] = oper.make_benchmark(
                name=name, cubes={**ours, "model": model}, owner=self.organisation
            )
        for name, approval in {
            "approved": "APPROVED",
            "invalid": "APPROVED",
            "organisation's approved": "APPROVED",
            "rejected": "REJECTED",
        }.items():
            self.world.approve(benchmarks[name], approval)
        assert self.world.admin.patch(f"/benchmarks/{benchmarks['invalid']['id']}", {"is_valid": False}, 2).is_success
        self.parts, self.our_parts = parts | {"model": model}, ours | {"model": model}
        found = {name: thing["id"] for name, thing in (cubes | benchmarks).items()}
        found |= {
            "reference model's file": _asset(model["files"]["project"]),
            "demo data of approved": _asset(benchmarks["approved"]["demo"]),
            "demo data of pending": _asset(benchmarks["pending"]["demo"]),
            "data owner's own": _asset(data.upload(b"data")),
            "organisation's own": _asset(oper.upload(b"ours", owner=self.organisation)),
        }
        return found

    # -- one request -------------------------------------------------------------------------------------------------

    def ask(self, row: Row, actor: str, **other: str) -> Any:
        """The answer to one cell. ``other`` replaces ids of the path."""
        key = (row.route, row.fields, row.what, actor if row.what in _OF_THE_ACTOR else "")
        if key not in self.kept:
            self.kept[key] = self.prepared(row, actor)
        request = self.kept[key]
        answer = request.send(request.person or self.people[actor], **other)
        if answer.is_success:
            del self.kept[key]
        return answer

    def prepared(self, row: Row, actor: str) -> Request:
        """A good request, and the thing it is about."""
        request = Request(row)
        for name, values in (("mlcube_id", MLCUBES), ("benchmark_id", BENCHMARKS), ("dataset_id", DATASETS)):
            if row.what in values:
                request.ids[name] = self.ids[row.what]
        if "{asset_id}" in row.path:
            request.ids["asset_id"] = self.ids.get(row.what)
        if "{organisation_id}" in row.path:
            unmanaged = row.what == "unmanaged organisation"
            request.ids["organisation_id"] = self.unmanaged if unmanaged else self.organisation
            request.ids["user_id"] = self.member.id
        elif "{user_id}" in row.path:
            request.ids["user_id"] = self.disabled.id if row.what == "a disabled account" else self.people["strn"].id
        prepare = getattr(self, "_" + re.sub(r"\W+", "_", row.route).strip("_").lower(), None)
        if prepare is not None:
            prepare(request, self.people[actor])
        return request

    # -- what each route needs: a body, headers, a thing of its own ----------------------------------------------------

    def _owner(self, row: Row) -> dict[str, int]:
        parties = {"for the model owner": self.people["modl"].party, "for the organisation": self.organisation}
        return {"owner": parties[row.what]} if row.what in parties else {}

    def _post_tokens(self, request: Request, actor: Person) -> None:
        request.json = {"username": "strn.x", "password": PASSWORD}

    def _post_me_password(self, request: Request, actor: Person) -> None:
        request.json = {"current": PASSWORD, "new": PASSWORD}

    def _delete_tokens_current(self, request: Request, actor: Person) -> None:
        if actor not in (self.people["anon"], self.people["expi"], self.people["disa"]):
            request.person = self.world.login(actor.name, PASSWORD)

    def _post_users(self, request: Request, actor: Person) -> None:
        request.json = {"username": f"new{next(self.numbers)}", "password": PASSWORD}

    def _patch_users_user_id(self, request: Request, actor: Person) -> None:
        request.json = {"is_active": request.row.what == "an account"}

    def _post_mlcubes(self, request: Request, actor: Person) -> None:
        body = self.people["modl"].cube_body("model", name=f"new {next(self.numbers)}", upload=False)
        request.json = body | self._owner(request.row)

    def _patch_mlcubes_mlcube_id(self, request: Request, actor: Person) -> None:
        self._patch("mlcubes", request, request.ids["mlcube_id"], is_valid="invalid" not in request.row.what)

    def _post_benchmarks(self, request: Request, actor: Person) -> None:
        request.json = self.open_body | {"name": f"new {next(self.numbers)}"} | self._owner(request.row)

    def _patch_benchmarks_benchmark_id(self, request: Request, actor: Person) -> None:
        self._patch("benchmarks", request, request.ids["benchmark_id"], is_valid=request.row.what != "invalid")

    def _patch(self, table: str, request: Request, row_id: int, *, is_valid: bool) -> None:
        version = self.world.sql(f"SELECT version FROM {table} WHERE id = ?", row_id)[0][0]
        values = {"user_metadata": {}, "is_valid": is_valid, "is_active": True, "name": "x", "description": "x"}
        values |= {"auto_models": {}, "auto_datasets": {}, "results_visibility": "owners"}
        request.json = {name: values[name] for name in request.row.fields}
        request.headers = {"If-Match": f'"{version}"'}

    def _post_benchmarks_benchmark_id_decision(self, request: Request, actor: Person) -> None:
        request.json = {"approval": "APPROVED"}
        name = f"to decide {next(self.numbers)}"
        if request.row.what == "pending":  # a new one each: it will be decided about
            made = self.people["bnch"].make_benchmark(name=name, cubes=self.parts)
            request.ids["benchmark_id"] = made["id"]
        elif request.row.what == "organisation's pending":
            made = self.people["oper"].make_benchmark(name=name, cubes=self.our_parts, owner=self.organisation)
            request.ids["benchmark_id"] = made["id"]

    def _delete_assets_asset_id(self, request: Request, actor: Person) -> None:
        content = f"new {next(self.numbers)}".encode()
        if request.row.what == "a new one of data owner":
            request.ids["asset_id"] = _asset(self.people["data"].upload(content))
        elif request.row.what == "a new one of organisation":
            request.ids["asset_id"] = _asset(self.people["oper"].upload(content, owner=self.organisation))

    def _post_uploads(self, request: Request, actor: Person) -> None:
        self.world.sql("DELETE FROM uploads")  # those of the cells before: there is a limit
        request.json = {"name": "file", "size": 3, "digest": "sha256:" + "a" * 64} | self._owner(request.row)

    def _get_storage(self, request: Request, actor: Person) -> None:
        request.more = {"params": self._owner(request.row)}

    def _get_uploads_upload_id(self, request: Request, actor: Person) -> None:
        self.world.sql("DELETE FROM uploads")
        ours = request.row.what.startswith("organisation")
        owner = self.people["oper" if ours else "modl"]
        content = f"{next(self.numbers):03}".encode()
        started = owner.announce(content, **({"owner": self.organisation} if ours else {}))
        assert started.status_code == 201, started.text
        request.ids["upload_id"] = started.json()["id"]
        if "whole" in request.row.what:
            assert owner.send_piece(request.ids["upload_id"], 0, content).status_code == 204

    _post_uploads_upload_id_completion = _delete_uploads_upload_id = _get_uploads_upload_id

    def _patch_uploads_upload_id(self, request: Request, actor: Person) -> None:
        self._get_uploads_upload_id(request, actor)
        request.headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        request.more = {"content": b"a"}

    def _post_organisations(self, request: Request, actor: Person) -> None:
        request.json = {"name": f"New {next(self.numbers)}"}

    def _patch_organisations_organisation_id(self, request: Request, actor: Person) -> None:
        query = "SELECT version FROM organisations WHERE party_id = ?"
        version = self.world.sql(query, request.ids["organisation_id"])[0][0]
        request.json = {"name": f"Hospital {version} x"}
        request.headers = {"If-Match": f'"{version}"'}

    def _patch_organisations_organisation_id_members_user_id(self, request: Request, actor: Person) -> None:
        request.json = {"rights": ["release"]}

    def _delete_organisations_organisation_id_members_user_id(self, request: Request, actor: Person) -> None:
        if request.row.what.endswith("oneself"):
            request.ids["user_id"] = actor.id or 1
        members = [(self.organisation, self.member.id, "release"), (self.unmanaged, self.member.id, "release")]
        for name, right in (("mana", "manage"), ("oper", "operate"), ("rele", "release")):
            members.append((self.organisation, self.people[name].id, right))
        for party, user, right in members:  # whoever was removed is a member again
            if not self.world.sql("SELECT 1 FROM memberships WHERE user_id = ? AND party_id = ?", user, party):
                flags = ", ".join(f"(1 = {int(right == one)})" for one in ("manage", "operate", "release"))
                self.world.sql(f"INSERT INTO memberships VALUES (?, ?, {flags}, '2026', '2026')", user, party)

    def _post_organisations_organisation_id_invitations(self, request: Request, actor: Person) -> None:
        request.json = {"username": f"nobody{next(self.numbers)}", "rights": ["operate"]}

    def _delete_organisations_organisation_id_invitations_invitation_id(self, request: Request, actor: Person) -> None:
        self._invite(request, f"nobody{next(self.numbers)}", request.ids["organisation_id"])

    def _post_invitations_invitation_id_answer(self, request: Request, actor: Person) -> None:
        request.json = {"accept": False}
        name = actor.name if request.row.what == "to oneself" else f"else{next(self.numbers)}"
        self._invite(request, name, self.organisation)

    def _invite(self, request: Request, username: str, organisation: int) -> None:
        self.world.sql(
            """INSERT INTO invitations (party_id, username, username_key, can_manage, can_operate, can_release, invited_by,
               created_at, expires_at) VALUES (?, ?, ?, (1 = 0), (1 = 1), (1 = 0), ?, '2026', '9999')""",
            organisation,
            username,
            username,
            self.founder.id,
        )
        request.ids["invitation_id"] = self.world.sql("SELECT max(id) FROM invitations")[0][0]


def _asset(ref: dict[str, Any]) -> int:
    return int(ref["urls"][0].removeprefix("asset:"))
