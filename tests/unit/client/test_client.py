"""The typed client against the real server."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.downloads import Downloader
from medperf.client.http import Transport
from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, ServerUnavailable, Unauthenticated
from medperf.domain.events import Event, Progress
from medperf.domain.states import Kind, State
from medperf.wire.models import FileRef, MLCubeCreate, MLCubeUpdate, PasswordChange, TokenCreate, UserCreate, UserUpdate
from medperf.workspace.workspace import Workspace

MANIFEST = """\
name: a
python: {project: project}
tasks:
  infer:
    parameters:
      inputs: {data_path: {type: directory}}
      outputs: {output_path: {type: directory}}
"""


@pytest.fixture(scope="module")
def admin(real_server: Any) -> MedPerfClient:
    return real_server.login("admin", "admin")


@pytest.fixture
def user(real_server: Any, admin: MedPerfClient) -> MedPerfClient:
    name = f"user-{uuid.uuid4().hex[:8]}"
    admin.users.create(UserCreate(username=name, password="password"))
    return real_server.login(name, "password")


def upload(client: MedPerfClient, path: Path, content: bytes, **settings: Any) -> Any:
    path.write_bytes(content)
    return client.assets.upload(path, name=path.name, digest=Digest.of(content), size=len(content), **settings)


def test_the_server_says_who_it_is(real_server: Any) -> None:
    found = real_server.anonymous().server.get()
    assert found.development
    assert found.instance_id


def test_logging_in_and_out(real_server: Any, user: MedPerfClient) -> None:
    name = user.me.get().username
    with pytest.raises(Unauthenticated) as error:
        real_server.anonymous().tokens.create(TokenCreate(username=name, password="wrong"))
    assert error.value.code == "bad_login"
    user.me.change_password(PasswordChange(current="password", new="better"))
    user.tokens.end_current()
    with pytest.raises(Unauthenticated):
        user.me.get()
    assert real_server.login(name, "better").me.get().username == name


def test_accounts(admin: MedPerfClient, user: MedPerfClient) -> None:
    with pytest.raises(Forbidden):
        list(user.users.list())
    me = user.me.get()
    assert me.id in {entry.id for entry in admin.users.list()}
    assert admin.users.get(me.id) == me
    assert not admin.users.update(me.id, UserUpdate(is_active=False)).is_active
    with pytest.raises(Unauthenticated):
        user.me.get()
    assert any(event.target == f"user:{me.id}" for event in admin.audit.list())


def test_a_reset_server_is_noticed(real_server: Any, user: MedPerfClient) -> None:
    stale = MedPerfClient(Transport(real_server.url, token="x", instance_id="another", verify=real_server.certificate))
    with pytest.raises(Conflict) as error:
        stale.me.get()
    stale.close()
    assert error.value.code == "wrong_instance"


def test_pages_are_asked_for_as_they_are_needed(
    user: MedPerfClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PAGE_MAX", 3)
    ids = [upload(user, tmp_path / f"f{number}", b"x").id for number in range(7)]
    assert [asset.id for asset in user.assets.list(owner="me")] == ids
    assert [asset.id for asset in user.assets.list(owner="me", limit=4)] == ids[:4]
    assert list(user.assets.list(owner="me", limit=0)) == []
    assert [asset.id for asset in user.assets.list(owner="me", name="f5")] == [ids[5]]
    pages = user.assets.list(owner="me")
    assert next(pages).id == ids[0]


class TestAssets:
    def test_up_and_down(self, user: MedPerfClient, tmp_path: Path) -> None:
        content = bytes(range(256)) * 4000
        events: list[Event] = []
        asset = upload(user, tmp_path / "a.tar.gz", content, emit=events.append)
        assert (asset.digest, asset.size) == (Digest.of(content), len(content))
        assert events[-1] == Progress("Uploading a.tar.gz", len(content), len(content))
        assert user.assets.get(asset.id) == asset
        with Workspace.open(tmp_path / "w") as workspace:
            fetch = Downloader(workspace.store, api=user)
            found = fetch.fetch(FileRef(digest=asset.digest, size=asset.size, urls=(f"asset:{asset.id}",)), name="a")
            assert found.path.read_bytes() == content
            assert fetch.probe(f"asset:{asset.id}") == found

    def test_an_empty_file(self, user: MedPerfClient, tmp_path: Path) -> None:
        asset = upload(user, tmp_path / "empty", b"")
        with Workspace.open(tmp_path / "w") as workspace:
            assert Downloader(workspace.store, api=user).probe(f"asset:{asset.id}").size == 0

    def test_a_file_that_changed_meanwhile_is_refused(self, user: MedPerfClient, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abcdef")
        for size in (5, 7):
            with pytest.raises(InvalidInput) as error:
                user.assets.upload(tmp_path / "a", name="a", digest=Digest.of(b"abcdef"), size=size)
            assert error.value.code == "file_changed"
        with pytest.raises(InvalidInput):
            user.assets.upload(tmp_path / "a", name="a", digest=Digest.of(b"other"), size=6)
        assert list(user.assets.list(owner="me")) == []

    def test_other_peoples_files_are_not_there(
        self, real_server: Any, user: MedPerfClient, admin: MedPerfClient, tmp_path: Path
    ) -> None:
        asset = upload(admin, tmp_path / "secret", b"secret")
        with Workspace.open(tmp_path / "w") as workspace, pytest.raises(NotFound):
            Downloader(workspace.store, api=user).probe(f"asset:{asset.id}")
        assert not list((tmp_path / "w" / "store").rglob("tmp-*"))


class TestMLCubes:
    def body(self, user: MedPerfClient, tmp_path: Path, name: str) -> MLCubeCreate:
        manifest = upload(user, tmp_path / "mlcube.yaml", MANIFEST.encode())
        project = upload(user, tmp_path / "project.tar.gz", b"project")
        files = {
            key: FileRef(digest=asset.digest, size=asset.size, urls=(f"asset:{asset.id}",))
            for key, asset in (("manifest", manifest), ("project", project))
        }
        forms = {"python": {"project": project.digest}}
        return MLCubeCreate.model_validate(
            {"name": name, "manifest_text": MANIFEST, "files": files, "forms": forms, "state": State.DEVELOPMENT}
        )

    def test_create_once_read_list_and_change(self, user: MedPerfClient, tmp_path: Path) -> None:
        body, key = self.body(user, tmp_path, "a"), str(uuid.uuid4())
        made = user.mlcubes.create(body, idempotency_key=key)
        assert user.mlcubes.create(body, idempotency_key=key) == made
        assert made.kind is Kind.MODEL
        assert user.mlcubes.get(made.id).manifest_text == MANIFEST
        assert [entry.id for entry in user.mlcubes.list(owner="me", kind=Kind.MODEL, state=State.DEVELOPMENT)] == [
            made.id
        ]
        assert list(user.mlcubes.list(owner="me", kind=Kind.EVALUATOR)) == []
        changed = user.mlcubes.update(made.id, MLCubeUpdate(name="b"), version=made.version)
        assert (changed.name, changed.is_valid) == ("b", True)
        with pytest.raises(Conflict) as error:
            user.mlcubes.update(made.id, MLCubeUpdate(name="c"), version=made.version)
        assert error.value.code == "edited_meanwhile"
        with pytest.raises(Conflict):
            user.mlcubes.create(self.body(user, tmp_path, "b"), idempotency_key=str(uuid.uuid4()))
        with pytest.raises(NotFound):
            user.mlcubes.get(10**9)


class TestBenchmarks:
    def test_nothing_is_there_and_hidden_things_are_not_found(self, user: MedPerfClient) -> None:
        assert list(user.benchmarks.list(owner="me")) == []
        with pytest.raises(NotFound):
            user.benchmarks.get(10**9)


@pytest.mark.parametrize(
    "document",
    [None, [], {"items": 5}, {"items": [{"id": "x"}]}, {"items": [], "next": 7}, {"items": [1], "next": None}, "x", 0],
)
def test_an_answer_of_another_shape_is_no_medperf_servers(serve: Any, document: object) -> None:
    server = serve(
        lambda handler: handler.answer(
            200, json.dumps(document).encode(), content_type="application/json", medperf_instance="one"
        )
    )
    client = MedPerfClient(Transport(server.url))
    with pytest.raises(ServerUnavailable) as error:
        list(client.users.list())
    client.close()
    assert error.value.code == "not_medperf"


def test_pages_without_end_are_noticed(serve: Any) -> None:
    event = {"id": 1, "at": "2026-01-01T00:00:00Z", "actor_id": None, "action": "a", "target": "t", "data": {}}
    page = json.dumps({"items": [event], "next": "1"}).encode()
    server = serve(lambda handler: handler.answer(200, page, content_type="application/json", medperf_instance="one"))
    client = MedPerfClient(Transport(server.url))
    with pytest.raises(ServerUnavailable):
        list(client.audit.list())
    client.close()
    assert len(server.seen) == 2
