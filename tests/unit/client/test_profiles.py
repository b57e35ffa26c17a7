from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.client import profiles
from medperf.client.profiles import (
    Profile,
    activate_profile,
    create_profile,
    delete_profile,
    find_certificate,
    list_profiles,
    load_profile,
    set_profile,
    trust_certificate,
    view_profile,
)
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, NotFound


def test_the_built_in_profile_needs_no_file(tmp_path: Path) -> None:
    assert load_profile(tmp_path / "none") == Profile(
        name="local", server="https://localhost:8000", certificate="automatic"
    )
    assert [(entry.name, entry.active, entry.built_in) for entry in list_profiles(tmp_path / "none")] == [
        ("local", True, True)
    ]
    assert not (tmp_path / "none").exists()


def test_a_profile_is_read_back_as_it_was_set(tmp_path: Path) -> None:
    wheels = tmp_path / 'wheels "of" \\ us'
    wheels.mkdir()
    made = create_profile(
        tmp_path,
        "site-b.1",
        server="HTTPS://Api.example.org:8443/",
        engine="sandbox",
        wheelhouse=str(wheels),
        memory_bytes=2**31,
        timeouts={"infer": 5},
    )
    assert made.server == "https://api.example.org:8443"
    assert view_profile(tmp_path, "site-b.1") == made
    assert made.timeouts == {"infer": 5.0}
    assert set_profile(tmp_path, "site-b.1", timeouts={"infer": None, "evaluate": 2.5}).timeouts == {"evaluate": 2.5}
    assert view_profile(tmp_path, "site-b.1").timeouts == {"evaluate": 2.5}
    assert set_profile(tmp_path, "site-b.1", wheelhouse=None).wheelhouse is None
    assert stat.S_IMODE((tmp_path / "config.toml").stat().st_mode) == 0o600
    tomllib.loads((tmp_path / "config.toml").read_text())


def test_the_active_profile_is_the_default_everywhere(tmp_path: Path) -> None:
    create_profile(tmp_path, "b", server="https://b.example.org")
    activate_profile(tmp_path, "b")
    assert load_profile(tmp_path).name == "b"
    assert set_profile(tmp_path, engine="sandbox").name == "b"
    assert load_profile(tmp_path, name="local").server == "https://localhost:8000"
    with pytest.raises(Conflict, match="active"):
        delete_profile(tmp_path, "b")
    activate_profile(tmp_path, "local")
    delete_profile(tmp_path, "b")
    assert [entry.name for entry in list_profiles(tmp_path)] == ["local"]


def test_the_built_in_profile_can_be_changed_but_not_deleted(tmp_path: Path) -> None:
    set_profile(tmp_path, "local", server="https://localhost:9000")
    assert load_profile(tmp_path).server == "https://localhost:9000"
    with pytest.raises(Conflict, match="built in"):
        delete_profile(tmp_path, "local")


def test_a_server_for_this_once_keeps_the_settings_but_not_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("x")
    create_profile(tmp_path, "b", server="https://b.example.org", engine="sandbox", certificate=str(tmp_path / "c.pem"))
    found = load_profile(tmp_path, name="b", server="https://c.example.org/")
    assert (found.server, found.engine, found.certificate) == ("https://c.example.org", "sandbox", "automatic")
    assert load_profile(tmp_path, name="b", server="https://b.example.org/").certificate == str(tmp_path / "c.pem")


@pytest.mark.parametrize("name", ["", " ", "a b", "ä", "a/b", "x" * 65, "a\n"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        create_profile(tmp_path, name, server="https://b.example.org")
    assert error.value.code == "bad_profile_name"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"server": "ftp://x"}, "bad_url"),
        ({"server": "https://"}, "bad_url"),
        ({"server": "https://x:99999"}, "bad_url"),
        ({"server": "https://u:p@x"}, "url_credentials"),
        ({"server": "http://api.example.org"}, "insecure_server"),
        ({"server": "https://x?y=1"}, "bad_url"),
        ({"server": 5}, "bad_setting"),
        ({"certificate": "/nowhere.pem"}, "certificate_missing"),
        ({"wheelhouse": "/nowhere"}, "wheelhouse_missing"),
        ({"engine": "-rm"}, "bad_setting"),
        ({"memory_bytes": 5}, "bad_setting"),
        ({"memory_bytes": True}, "bad_setting"),
        ({"timeouts": {"train": 5}}, "unknown_task"),
        ({"timeouts": {"infer": 0}}, "bad_setting"),
        ({"timeouts": {"infer": float("nan")}}, "bad_setting"),
        ({"colour": "red"}, "unknown_setting"),
    ],
)
def test_bad_settings_are_refused_and_nothing_is_written(tmp_path: Path, change: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as error:
        set_profile(tmp_path, "local", **change)
    assert error.value.code == code
    assert not (tmp_path / "config.toml").exists()


def test_taken_and_unknown_names(tmp_path: Path) -> None:
    create_profile(tmp_path, "b", server="https://b.example.org")
    for taken in ("local", "b"):
        with pytest.raises(Conflict):
            create_profile(tmp_path, taken, server="https://b.example.org")
    for function in (view_profile, activate_profile, delete_profile, set_profile):
        with pytest.raises(NotFound) as error:
            function(tmp_path, "nobody")
        assert error.value.code == "unknown_profile"


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "active = 1",
        'active = "b"',
        "profiles = 1",
        "[profiles.b]\nserver = 5",
        "[profiles.b]\ncolour = 1",
        "[profiles.'a b']",
        "\xff",
    ],
)
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(MedPerfError) as error:
        load_profile(tmp_path)
    assert error.value.code == "bad_config"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_survives_the_file(text: str) -> None:
    assert tomllib.loads(f"x = {profiles._text(text)}") == {"x": text}


class TestCertificate:
    def place(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("pem")
        return path

    def test_automatic_prefers_the_server_folder_here_then_the_trusted_one(self, tmp_path: Path) -> None:
        home, cwd = tmp_path / "home", tmp_path / "cwd"
        local = Profile(name="local")
        assert find_certificate(home, local, cwd=cwd) is None
        trusted = trust_certificate(home, local.server, b"pem")
        assert trusted == home / "trust" / "localhost_8000.crt"
        assert find_certificate(home, local, cwd=cwd) == trusted
        beside = self.place(cwd / "server" / "cert.crt")
        assert find_certificate(home, local, cwd=cwd) == beside

    def test_the_folder_one_is_in_decides_nothing_about_other_machines(self, tmp_path: Path) -> None:
        self.place(tmp_path / "server" / "cert.crt")
        assert (
            find_certificate(tmp_path / "home", Profile(name="b", server="https://api.example.org"), cwd=tmp_path)
            is None
        )

    def test_given_and_set_paths_must_exist(self, tmp_path: Path) -> None:
        pem = self.place(tmp_path / "own.pem")
        assert find_certificate(tmp_path, Profile(name="b", certificate=str(pem)), cwd=tmp_path) == pem
        assert find_certificate(tmp_path, Profile(name="b"), given="own.pem", cwd=tmp_path) == pem
        with pytest.raises(InvalidInput) as error:
            find_certificate(tmp_path, Profile(name="b"), given="other.pem", cwd=tmp_path)
        assert error.value.code == "certificate_missing"
        self.place(tmp_path / "server" / "cert.crt")
        assert find_certificate(tmp_path, Profile(name="b", certificate="system"), cwd=tmp_path) is None


def test_these_modules_are_cheap_to_import() -> None:
    code = (
        "import sys, medperf.client.profiles, medperf.client.credentials, medperf.workspace.paths\n"
        "print([name for name in ('httpx2', 'pydantic', 'sqlite3', 'ssl', 'yaml', 'socket') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
