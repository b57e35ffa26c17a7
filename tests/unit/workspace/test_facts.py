from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

import pytest

from medperf.domain.addresses import host_port, is_loopback
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError, NotFound
from medperf.workspace import database, mounts
from medperf.workspace.paths import home, workspace_path
from medperf.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


class TestPaths:
    def test_home(self) -> None:
        assert home({"HOME": "/home/ada"}) == Path("/home/ada/.medperf")
        assert home({"HOME": "/home/ada", "MEDPERF_HOME": "/data/m"}) == Path("/data/m")
        assert home({"MEDPERF_HOME": "here"}) == Path.cwd() / "here"

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("https://localhost:8000", "localhost_8000"),
            ("https://api.example.org", "api_example_org"),
            ("https://API.example.org:443/", "api_example_org"),
            ("http://127.0.0.1:80", "127_0_0_1"),
            ("https://[::1]:8000", "__1_8000"),
            ("https://x.org/medperf/v1/", "x_org_medperf_v1"),
        ],
    )
    def test_a_server_has_one_folder(self, url: str, name: str) -> None:
        assert host_port(url) == name
        assert workspace_path(Path("/m"), url) == Path("/m") / name

    @pytest.mark.parametrize(
        "url",
        ["", "localhost:8000", "https://", "ftp://x", "https://x:y", "https://x y", "https://[::1", "https://a:b@c"],
    )
    def test_what_is_no_server_has_none(self, url: str) -> None:
        with pytest.raises(InvalidInput):
            host_port(url)

    def test_loopback(self) -> None:
        assert all(is_loopback(host) for host in ("localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]"))
        assert not any(
            is_loopback(host) for host in ("localhost.example.org", "10.0.0.1", "example.org", "0.0.0.0", "::")
        )


class TestReports:
    def test_newest_first_by_prefix_or_the_latest(self, workspace: Workspace) -> None:
        ids = [workspace.reports.save({"n": number}) for number in range(20)]
        assert [entry.report["n"] for entry in workspace.reports.ls()] == list(range(19, -1, -1))
        assert workspace.reports.get(None).report == {"n": 19}
        assert workspace.reports.get(ids[3]).report == {"n": 3}
        assert workspace.reports.get(ids[3].hex[:12].upper()).id == ids[3]
        assert workspace.reports.get(ids[4]).created_at.endswith("+00:00")

    def test_the_same_report_becomes_the_newest(self, workspace: Workspace) -> None:
        first = workspace.reports.save({"n": 1})
        workspace.reports.save({"n": 2})
        assert workspace.reports.save({"n": 1}) == first
        assert [entry.report["n"] for entry in workspace.reports.ls()] == [1, 2]

    def test_what_names_none_or_several_is_refused(self, workspace: Workspace) -> None:
        with pytest.raises(NotFound, match="No compatibility test"):
            workspace.reports.get(None)
        for number in range(17):  # sixteen first digits: two must share one
            workspace.reports.save({"n": number})
        digits = [entry.id.hex[0] for entry in workspace.reports.ls()]
        shared = next(digit for digit in digits if digits.count(digit) > 1)
        with pytest.raises(InvalidInput) as error:
            workspace.reports.get(shared)
        assert error.value.code == "ambiguous_report"
        with pytest.raises(NotFound):
            workspace.reports.get("0" * 64)
        for bad in ("", "xyz", "%", "sha256:", "a_"):
            with pytest.raises(InvalidInput):
                workspace.reports.get(bad)


class TestPending:
    def test_an_unanswered_submission_keeps_its_key(self, workspace: Workspace) -> None:
        body = b'{"name":"x"}'
        key = workspace.pending.remember("mlcube", "one", Digest.of(body), body)
        assert str(uuid.UUID(key)) == key
        assert workspace.pending.remember("mlcube", "one", Digest.of(body), body) == key
        others = {
            workspace.pending.remember("benchmark", "one", Digest.of(body), body),
            workspace.pending.remember("mlcube", "two", Digest.of(body), body),
            workspace.pending.remember("mlcube", "one", Digest.of(b"{}"), b"{}"),
        }
        assert len(others | {key}) == 4
        assert [(entry.kind, entry.body) for entry in workspace.pending.ls("two")] == [("mlcube", body)]
        assert next(entry.key for entry in workspace.pending.ls("one")) == key
        workspace.pending.forget(key)
        workspace.pending.forget(key)
        assert workspace.pending.remember("mlcube", "one", Digest.of(body), body) != key


class TestDatabase:
    def test_it_is_durable_and_private(self, workspace: Workspace) -> None:
        workspace.reports.save({})
        with workspace._database.reading() as connection:
            assert connection is not None
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert {path.stat().st_mode & 0o777 for path in workspace.path.glob("facts.*")} == {0o600}
        assert workspace.path.stat().st_mode & 0o777 == 0o700

    def test_an_older_schema_is_brought_up_in_place(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report_id = workspace.reports.save({"n": 1})
        workspace.close()
        monkeypatch.setattr(
            database, "MIGRATIONS", (*database.MIGRATIONS, ("ALTER TABLE reports ADD COLUMN note TEXT",))
        )
        with Workspace.open(workspace.path) as newer:
            assert newer.reports.get(None).id == report_id
            with newer._database.reading() as connection:
                assert connection is not None
                assert connection.execute("SELECT note FROM reports").fetchone() == (None,)
        monkeypatch.undo()
        with Workspace.open(workspace.path) as older, pytest.raises(MedPerfError) as error:
            older.reports.ls()
        assert error.value.code == "workspace_too_new"

    def test_a_migration_that_fails_changes_nothing(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workspace.reports.save({})
        workspace.close()
        monkeypatch.setattr(
            database, "MIGRATIONS", (*database.MIGRATIONS, ("ALTER TABLE reports ADD COLUMN note TEXT", "NONSENSE"))
        )
        with Workspace.open(workspace.path) as newer, pytest.raises(sqlite3.OperationalError):
            newer.reports.ls()
        monkeypatch.undo()
        assert len(workspace.reports.ls()) == 1

    def test_a_damaged_file_is_said_to_be_damaged(self, workspace: Workspace) -> None:
        workspace.path.mkdir()
        workspace._database.path.write_bytes(b"this is no database at all" * 100)
        for use in (workspace.reports.ls, lambda: workspace.reports.save({})):
            with pytest.raises(MedPerfError) as error:
                use()
            assert error.value.code == "workspace_damaged"

    def test_another_writer_is_waited_for_only_so_long(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
        workspace.reports.save({})
        with Workspace.open(workspace.path) as other, workspace._database.writing():
            with pytest.raises(MedPerfError) as error:
                other.pending.forget("x")
            assert error.value.code == "workspace_busy"
            assert len(other.reports.ls()) == 1

    def test_an_exception_rolls_back(self, workspace: Workspace) -> None:
        def interrupted() -> None:
            with workspace._database.writing() as connection:
                connection.execute("INSERT INTO reports (id, created_at, report) VALUES ('x', 'y', '{}')")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert workspace.reports.ls() == []


class TestMounts:
    TABLE = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:50 / /home rw shared:1 - nfs4 nas:/home rw\n"
        "24 23 0:51 / /home/ada/my\\040disk rw - ext4 /dev/sdb1 rw\n"
        "25 22 0:52 / /mnt/s rw - fuse.sshfs me@host: rw\n"
        "26 22 0:53 / /mnt/over rw - ext4 /dev/sdc rw\n"
        "27 26 0:54 / /mnt/over rw - cifs //nas/x rw\n"
        "broken line\n"
    )

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/opt/x", "ext4"),
            ("/home/ada/.medperf", "nfs4"),
            ("/home/ada/my disk/.medperf", "ext4"),
            ("/home2/ada", "ext4"),
            ("/mnt/s/w", "fuse.sshfs"),
            ("/mnt/over/w", "cifs"),
        ],
    )
    def test_the_innermost_mount_counts(self, path: str, kind: str) -> None:
        assert mounts.file_system(Path(path), self.TABLE) == kind

    def test_a_network_file_system_is_refused_naming_the_setting(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mounts, "file_system", lambda folder, text: "nfs4")
        with pytest.raises(MedPerfError) as error:
            Workspace.open(tmp_path / "w").reports.save({})
        assert error.value.code == "network_file_system"
        assert "MEDPERF_HOME" in error.value.fix
        assert not (tmp_path / "w").exists()


def test_a_folder_one_may_not_write_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MedPerfError) as error:
        Workspace.open(tmp_path / "file" / "w").reports.save({})
    assert error.value.code == "workspace_unwritable"
    assert "MEDPERF_HOME" in error.value.fix
