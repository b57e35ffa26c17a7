from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medperf.client.credentials import CredentialStore, FileCredentialStore
from medperf.domain.errors import MedPerfError
from medperf.testing.stores import CredentialStoreContract, a_credential


class TestFileCredentialStore(CredentialStoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home" / ".medperf"

    def make_store(self) -> CredentialStore:
        return FileCredentialStore(self.home)

    def test_reading_makes_nothing(self) -> None:
        self.make_store().get("local")
        self.make_store().delete("local")
        assert not self.home.exists()

    def test_only_the_owner_can_read_it(self) -> None:
        self.make_store().set("local", a_credential())
        assert stat.S_IMODE(self.home.stat().st_mode) == 0o700
        assert stat.S_IMODE((self.home / "credentials.json").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
    def test_a_file_that_others_can_read_is_refused(self, mode: int) -> None:
        self.make_store().set("local", a_credential())
        (self.home / "credentials.json").chmod(mode)
        with pytest.raises(MedPerfError) as error:
            self.make_store().get("local")
        assert error.value.code == "credentials_exposed"
        assert "chmod 600" in error.value.fix

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"local": 1}', b'{"local": {}}', b'{"local": {"expires_at": "soon"}}', b"\xff"]
    )
    def test_a_damaged_file_is_said_to_be_damaged(self, content: bytes) -> None:
        self.make_store().set("local", a_credential())
        (self.home / "credentials.json").write_bytes(content)
        with pytest.raises(MedPerfError) as error:
            self.make_store().get("local")
        assert error.value.code == "credentials_damaged"

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        self.home.mkdir(parents=True)
        (tmp_path / "elsewhere").write_text("{}")
        (self.home / "credentials.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(MedPerfError) as error:
            self.make_store().get("local")
        assert error.value.code == "credentials_unreadable"

    def test_writers_at_once_lose_nothing(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(lambda number: self.make_store().set(f"p{number}", a_credential(token=str(number))), range(16))
            )
        found = [self.make_store().get(f"p{number}") for number in range(16)]
        assert [entry.token for entry in found if entry is not None] == [str(number) for number in range(16)]
        assert not list(self.home.glob(".credentials.json.[0-9a-f]*"))
