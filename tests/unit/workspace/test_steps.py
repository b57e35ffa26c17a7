from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InternalError
from medperf.workspace.processes import Process
from medperf.workspace.steps import SealedStep
from medperf.workspace.workspace import Workspace

KEY = Digest.of(b"key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "localhost_8000"


def do(workspace: Workspace, content: str = "x") -> SealedStep:
    with workspace.steps.begin(KEY, task="infer") as step:
        (step.outputs / "deep").mkdir()
        (step.outputs / "deep" / "file").write_text(content)
        step.log.write_text("said")
        return step.seal({"seconds": 0.25, "name": "é"})


def test_looking_makes_nothing(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        assert workspace.steps.lookup(KEY) is None
        assert workspace.reports.ls() == []
        assert workspace.pending.ls("i") == []
        assert workspace.store.path(KEY) is None
        assert set(workspace.usage().values()) == {0}
        assert workspace.sweep() == 0
    assert not folder.parent.exists()


def test_a_sealed_step_is_found_by_another_process(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        sealed = do(workspace)
    with Workspace.open(folder) as workspace:
        assert workspace.steps.lookup(KEY) == sealed
    assert sealed.facts == {"seconds": 0.25, "name": "é"}
    assert (sealed.outputs / "deep" / "file").read_text() == "x"
    assert sealed.folder.name == KEY.hex
    assert (sealed.folder / "log").read_text() == "said"
    assert folder.stat().st_mode & 0o077 == 0


def fail(workspace: Workspace) -> None:
    with workspace.steps.begin(KEY, task="infer") as step:
        locked = step.outputs / "locked"
        locked.mkdir()
        (locked / "x").write_text("partial")
        locked.chmod(0)
        raise RuntimeError


def test_a_failed_step_leaves_nothing(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        with pytest.raises(RuntimeError):
            fail(workspace)
        with workspace.steps.begin(KEY, task="infer"):
            pass  # never sealed
        assert workspace.steps.lookup(KEY) is None
        assert list((folder / "steps").iterdir()) == []
        do(workspace)


def _append(path: Path) -> None:
    with path.open("a") as stream:
        stream.write("more")


def _same_length_and_time(path: Path) -> None:
    info = path.stat()
    path.write_text("y")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def _replaced(path: Path) -> None:
    info = path.stat()
    other = path.with_name("other")
    other.write_text("x")
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize(
    "tamper",
    [
        _append,
        _same_length_and_time,
        _replaced,
        lambda path: path.unlink(),
        lambda path: path.with_name("added").write_text("z"),
        lambda path: path.with_name("added").mkdir(),
        lambda path: path.with_name("link").symlink_to("/etc/passwd"),
        lambda path: path.chmod(0o777),
        lambda path: shutil.rmtree(path.parents[2]),
        lambda path: (path.parents[1].rename(path.parents[2] / "moved"), path.parents[1].symlink_to("moved")),
    ],
)
def test_outputs_that_were_touched_are_forgotten(folder: Path, tamper: Callable[[Path], object]) -> None:
    with Workspace.open(folder) as workspace:
        tamper(do(workspace).outputs / "deep" / "file")
        assert workspace.steps.lookup(KEY) is None
        assert workspace.steps.lookup(KEY) is None
        assert do(workspace, "again") == workspace.steps.lookup(KEY)


def test_a_step_done_anew_replaces_the_older(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        do(workspace, "old")
        sealed = do(workspace, "new")
        assert (sealed.outputs / "deep" / "file").read_text() == "new"
        assert workspace.steps.lookup(KEY) == sealed
        assert [path.name for path in (folder / "steps").iterdir()] == [KEY.hex]


def test_sealing_twice_is_a_fault_of_ours(folder: Path) -> None:
    with Workspace.open(folder) as workspace, workspace.steps.begin(KEY, task="infer") as step:
        step.seal({})
        with pytest.raises(InternalError):
            step.seal({})


class TestLeases:
    def test_a_running_step_is_refused_naming_its_process(self, folder: Path) -> None:
        with Workspace.open(folder) as one, Workspace.open(folder) as two:
            with (
                one.steps.begin(KEY, task="infer"),
                pytest.raises(Conflict) as error,
                two.steps.begin(KEY, task="infer"),
            ):
                pass
            assert error.value.code == "step_running"
            assert str(os.getpid()) in error.value.what
            do(two)

    @pytest.mark.parametrize("change", [{"pid": 2**22 - 1}, {"started": 1}, {"boot": "00000000"}])
    def test_a_dead_holder_is_taken_over(self, folder: Path, change: dict[str, object]) -> None:
        dead = Process.current()._replace(**change)  # type: ignore[arg-type]
        with Workspace.open(folder) as workspace:
            with workspace._database.writing() as connection:
                connection.execute("INSERT INTO leases VALUES (?, 'infer', ?, 'then')", (KEY, dead.token))
            do(workspace)
            with workspace._database.writing() as connection:
                connection.execute("INSERT INTO leases VALUES (?, 'infer', ?, 'then')", (KEY, dead.token))
            (folder / "steps" / f"tmp-{dead.token}-abcd").mkdir()
            (folder / "steps" / "tmp-rubbish").mkdir()
            assert workspace.sweep() == 3
            with workspace.steps.begin(Digest.of(b"other"), task="infer") as step:
                assert workspace.sweep() == 0
                assert step.outputs.is_dir()

    def test_the_first_write_sweeps(self, folder: Path) -> None:
        dead = Process.current()._replace(started=1)
        with Workspace.open(folder) as workspace:
            do(workspace)
        left = folder / "steps" / f"tmp-{dead.token}-abcd"
        left.mkdir()
        with Workspace.open(folder) as workspace:
            workspace.steps.lookup(KEY)
            assert left.exists()
            workspace.reports.save({})
            assert not left.exists()

    def test_a_zombie_is_dead(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not Process(child.pid, 0, Process.current().boot).alive
        child.wait()
        assert Process.current().alive
        assert Process.parse(Process.current().token) == Process.current()
        assert Process.parse("x-1-2") is Process.parse("1-2") is None


RACER = """
import sys
from pathlib import Path
from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict
from medperf.workspace.workspace import Workspace
key = Digest.of(b"key")
with Workspace.open(Path(sys.argv[1])) as workspace:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with workspace.steps.begin(key, task="infer") as step:
            print("held", flush=True)
            sys.stdin.readline()
            (step.outputs / "x").write_text("x")
            step.seal({})
    except Conflict as error:
        print(error.code, flush=True)
"""


def test_of_processes_racing_for_a_step_one_does_it(folder: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(4)
    ]
    said: list[str] = []
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
        for racer in racers:
            assert racer.stdout is not None
            said.append(racer.stdout.readline().strip())
        for racer in racers:
            racer.communicate("seal\n", timeout=30)
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            for pipe in (racer.stdin, racer.stdout):
                assert pipe is not None
                pipe.close()
    assert sorted(said) == ["held"] + ["step_running"] * 3
    with Workspace.open(folder) as workspace:
        assert workspace.steps.lookup(KEY) is not None


def test_threads_writing_at_once_lose_nothing(folder: Path) -> None:
    problems: list[BaseException] = []
    with Workspace.open(folder) as shared:

        def work(number: int) -> None:
            try:
                with Workspace.open(folder) as own:
                    for workspace, kind in ((shared, "s"), (own, "o")):
                        workspace.reports.save({"n": number, "kind": kind})
                        content = f"{number}{kind}".encode()
                        with workspace.store.partial(Digest.of(content)) as writer:
                            writer.write(content)
                            writer.commit()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                problems.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert len(shared.reports.ls()) == 12


def test_many_files_are_sealed_too(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        with workspace.steps.begin(KEY, task="prepare") as step:
            for number in range(400):
                (step.outputs / str(number)).write_text("x")
            (step.outputs / "link").symlink_to("0")
            step.seal({})
        assert workspace.steps.lookup(KEY) is not None


def test_who_waits_finds_what_the_other_sealed(folder: Path) -> None:
    begun, waited = threading.Event(), threading.Event()

    def first() -> None:
        with Workspace.open(folder) as workspace, workspace.steps.begin(KEY, task="infer") as step:
            begun.set()
            assert waited.wait(60)
            (step.outputs / "file").write_text("first")
            step.seal({"by": "first"})

    told: list[str] = []

    def wait(held: Conflict) -> None:
        told.append(held.code)
        waited.set()
        threading.Event().wait(0.01)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with Workspace.open(folder) as workspace, workspace.steps.begin(KEY, task="infer", wait=wait):
        sealed = workspace.steps.lookup(KEY)
    thread.join(60)
    assert sealed is not None
    assert sealed.facts == {"by": "first"}
    assert set(told) == {"step_running"}


def test_who_waits_may_give_up(folder: Path) -> None:
    class TiredError(Exception):
        pass

    def wait(held: Conflict) -> None:
        raise TiredError(held.what)

    with Workspace.open(folder) as workspace, workspace.steps.begin(KEY, task="infer"):
        with pytest.raises(TiredError), workspace.steps.begin(KEY, task="infer", wait=wait):
            pass
        with pytest.raises(Conflict), workspace.steps.begin(KEY, task="infer"):
            pass


def test_taking_over_removes_what_the_dead_left(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        do(workspace)  # the sweep of the first write is over
        dead = Process(4_000_000, 1, "00000000")
        with workspace._database.writing() as connection:
            connection.execute("INSERT INTO leases VALUES (?, 'infer', ?, 'then')", (KEY, dead.token))
        left = folder / "steps" / f"tmp-{dead.token}-aa"
        left.mkdir()
        do(workspace)
        assert not left.exists()
