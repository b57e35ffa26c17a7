"""Environments from hash-locked requirements, with wheels made here."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.domain.events import Event
from medperf.runtime.images.interpreters import Interpreter, find_interpreter
from medperf.runtime.images.requirements import parse_requirements
from medperf.runtime.images.unpack import unpack_wheel
from medperf.runtime.images.wheels import Wheels


def make_wheel(folder: Path, name: str, version: str = "1.0", files: dict[str, str] | None = None) -> tuple[Path, str]:
    """A pure wheel and its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{member},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for member, text in content.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(member, text)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return find_interpreter(">=3.11")


class House:
    """A wheelhouse with two packages, their lock and a cache."""

    def __init__(self, folder: Path) -> None:
        self.wheelhouse = folder / "house"
        self.cache = folder / "cache"
        _, one = make_wheel(
            self.wheelhouse,
            "alpha",
            files={"alpha-1.0.data/purelib/beside.py": "", "alpha-1.0.data/scripts/run": "#!python\n"},
        )
        _, two = make_wheel(self.wheelhouse, "beta")
        self.lock = folder / "requirements.txt"
        self.lock.write_text(
            f"alpha==1.0 --hash=sha256:{one}\nbeta==1.0 \\\n    --hash=sha256:{two} \\\n    --hash=sha256:{'0' * 64}\n"
        )
        self.wheels = Wheels(cache=self.cache, wheelhouse=self.wheelhouse)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_fetch_unpack_and_find_again(house: House, interpreter: Interpreter) -> None:
    events: list[Event] = []
    first = house.wheels.ensure(house.lock, interpreter, emit=events.append)
    assert events
    assert sorted(path.name for path in first.site.iterdir()) == [
        "alpha",
        "alpha-1.0.dist-info",
        "beside.py",
        "beta",
        "beta-1.0.dist-info",
    ]
    shutil.rmtree(house.wheelhouse)
    events.clear()
    again = Wheels(cache=house.cache, wheelhouse=house.wheelhouse).ensure(house.lock, interpreter, emit=events.append)
    assert again == first
    assert events == []
    assert house.wheels.verify(again)


def test_the_digest_names_the_set_not_the_place(tmp_path: Path, interpreter: Interpreter) -> None:
    one, two = House(tmp_path / "1"), House(tmp_path / "2")
    first = one.wheels.ensure(one.lock, interpreter)
    two.lock.write_text("# comment\n" + two.lock.read_text())
    assert two.wheels.ensure(two.lock, interpreter).digest == first.digest
    _, other = make_wheel(two.wheelhouse, "beta", "1.1")
    two.lock.write_text(two.lock.read_text().split("beta")[0] + f"beta==1.1 --hash=sha256:{other}\n")
    assert two.wheels.ensure(two.lock, interpreter).digest != first.digest


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_changed_environment_is_unpacked_anew(house: House, interpreter: Interpreter, change: str) -> None:
    first = house.wheels.ensure(house.lock, interpreter)
    target = first.site / "alpha" / "__init__.py"
    if change == "edit":
        info = target.stat()
        target.write_text("VERSION = '6.6'\n")
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        assert not house.wheels.verify(first)
    elif change == "add":
        (first.site / "alpha" / "more.py").write_text("")
    else:
        target.unlink()
    again = house.wheels.ensure(house.lock, interpreter)
    assert again == first
    assert target.read_text() == "VERSION = '1.0'\n"
    assert not (first.site / "alpha" / "more.py").exists()
    assert house.wheels.verify(again)


def test_a_wheel_damaged_in_the_cache_is_fetched_again(house: House, interpreter: Interpreter) -> None:
    first = house.wheels.ensure(house.lock, interpreter)
    shutil.rmtree(first.site.parent)
    for path in (house.cache / "wheels").rglob("*.whl"):
        path.write_bytes(b"damaged")
    assert (house.wheels.ensure(house.lock, interpreter).site / "beta" / "__init__.py").exists()


def test_a_wheel_that_differs_from_the_lock_is_refused(house: House, interpreter: Interpreter) -> None:
    make_wheel(house.wheelhouse, "beta", files={"beta/evil.py": ""})
    with pytest.raises(MedPerfError) as caught:
        house.wheels.ensure(house.lock, interpreter)
    assert caught.value.code == "wheel_hash"
    assert not (house.cache / "environments").exists()


def test_what_is_not_in_the_wheelhouse_is_named(house: House, interpreter: Interpreter) -> None:
    (house.wheelhouse / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(MedPerfError) as caught:
        house.wheels.ensure(house.lock, interpreter)
    assert caught.value.code == "wheels_missing"
    assert "beta" in caught.value.what


def test_source_packages_are_never_built(house: House, interpreter: Interpreter) -> None:
    (house.wheelhouse / "beta-1.0-py3-none-any.whl").rename(house.wheelhouse / "beta-1.0.tar.gz")
    digest = hashlib.sha256((house.wheelhouse / "beta-1.0.tar.gz").read_bytes()).hexdigest()
    house.lock.write_text(f"beta==1.0 --hash=sha256:{digest}\n")
    with pytest.raises(MedPerfError) as caught:
        house.wheels.ensure(house.lock, interpreter)
    assert caught.value.code == "wheels_missing"


def test_the_current_folder_runs_nothing(
    house: House, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People stand in the folder of a stranger's MLCube when they test it."""
    strange = house.cache.parent / "strange"
    (strange / "pip").mkdir(parents=True)
    for name in ("pip/__init__.py", "pip/__main__.py", "runpy.py", "json.py"):
        (strange / name).write_text(f"open({str(strange / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(strange)
    house.wheels.ensure(house.lock, interpreter)
    assert not (strange / "ran").exists()


def test_two_at_once(house: House, interpreter: Interpreter) -> None:
    barrier = threading.Barrier(2)

    def work() -> object:
        own = Wheels(cache=house.cache, wheelhouse=house.wheelhouse)
        barrier.wait()
        return own.ensure(house.lock, interpreter)

    with ThreadPoolExecutor(2) as pool:
        first, second = (future.result() for future in [pool.submit(work), pool.submit(work)])
    assert first == second
    assert [path.name for path in (house.cache / "environments").iterdir()] == [first.digest.hex]  # type: ignore[attr-defined]


def test_killed_midway_leaves_nothing_believed(house: House, interpreter: Interpreter) -> None:
    house.wheels.ensure(house.lock, interpreter)
    shutil.rmtree(house.cache / "environments")
    pid = os.fork()
    if pid == 0:
        house.wheels.ensure(house.lock, interpreter, compiler=lambda site, python: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    (left,) = (house.cache / "environments").iterdir()
    os.utime(left, (1, 1))
    again = house.wheels.ensure(house.lock, interpreter)
    assert [path.name for path in (house.cache / "environments").iterdir()] == [again.digest.hex]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("alpha==1.0\n", "no --hash"),
        ("alpha>=1.0 --hash=sha256:" + "0" * 64, "not pinned"),
        ("alpha==1.* --hash=sha256:" + "0" * 64, "not pinned"),
        ("alpha==1.0 --hash=md5:00", "not a sha256"),
        ("alpha @ https://example.org/a.whl --hash=sha256:" + "0" * 64, "URL"),
        ("-e ./alpha", "option or a path"),
        ("--index-url https://example.org/simple", "option or a path"),
        ("-r other.txt", "option or a path"),
        ("./alpha.whl", "option or a path"),
        ("alpha==1.0 --config-settings=x", "not a sha256"),
        ("alpha==1.0 ; python_version > --hash=sha256:" + "0" * 64, "not a requirement"),
        (f"alpha==1.0 --hash=sha256:{'0' * 64}\nAlpha==1.1 --hash=sha256:{'1' * 64}", "twice"),
    ],
)
def test_what_is_not_a_lock_is_refused(text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as caught:
        parse_requirements(text.encode(), environment={"python_version": "3.11"})
    assert caught.value.fix


def test_markers_choose_for_the_interpreter() -> None:
    text = (
        f"alpha==1.0 ; python_full_version < '3.12' --hash=sha256:{'0' * 64}\n"
        f"alpha==2.0 ; python_full_version >= '3.12' --hash=sha256:{'1' * 64}  # via x\n"
    )
    (found,) = parse_requirements(text.encode(), environment={"python_full_version": "3.12.1"})
    assert (found.name, found.version) == ("alpha", "2.0")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "a\\..\\evil"])
def test_wheels_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    path, _ = make_wheel(tmp_path, "alpha")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    (tmp_path / "site").mkdir()
    with pytest.raises(InvalidInput):
        unpack_wheel(path, tmp_path / "site")
    assert not (tmp_path / "evil.py").exists()


@pytest.mark.parametrize(
    ("names", "what"),
    [(["/".join(["a"] * 65)], "deeper"), ([f"{number}/" + "b/" * 50 + "c" for number in range(3)], "more than 100")],
)
def test_wheels_cannot_make_endless_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], what: str
) -> None:
    monkeypatch.setattr("medperf.runtime.images.unpack.MAX_ENTRIES", 100)
    path, _ = make_wheel(tmp_path, "alpha", files=dict.fromkeys(names, ""))
    (tmp_path / "site").mkdir()
    with pytest.raises(InvalidInput, match=what):
        unpack_wheel(path, tmp_path / "site")
    assert not any((tmp_path / "site").iterdir())


def test_many_wheels_are_bounded_together(
    house: House, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medperf.domain.limits.ARCHIVE_ENTRIES", 8)
    with pytest.raises(InvalidInput) as caught:
        house.wheels.ensure(house.lock, interpreter)
    assert caught.value.code == "too_many_packages"
    assert not any((house.cache / "environments").iterdir())


@pytest.mark.parametrize("spoil", ["name-not-utf-8", "name-too-long", "stream"])
def test_damaged_wheels_are_named(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "alpha-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x" * 300 if spoil == "name-too-long" else "alpha/ü.py", "print('content')\n" * 50)
    data = bytearray(path.read_bytes())
    if spoil == "name-not-utf-8":
        data = data.replace("ü".encode(), b"\xff\xfe")
    elif spoil == "stream":
        data[45:60] = b"\xff" * 15
    path.write_bytes(data)
    (tmp_path / "site").mkdir()
    with pytest.raises(InvalidInput) as caught:
        unpack_wheel(path, tmp_path / "site")
    assert caught.value.code == "bad_wheel"


def test_wheels_cannot_hold_links(tmp_path: Path) -> None:
    path, _ = make_wheel(tmp_path, "alpha")
    entry = zipfile.ZipInfo("alpha/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "site").mkdir()
    with pytest.raises(InvalidInput, match="plain file"):
        unpack_wheel(path, tmp_path / "site")
