"""What every credential store must do: subclass `CredentialStoreContract` in a test module and give it a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from medperf.client.credentials import Credential, CredentialStore
from medperf.domain.errors import Unauthenticated


def a_credential(*, token: str = "t0ken", server: str = "https://localhost:8000", hours: float = 1.0) -> Credential:  # noqa: S107 - a fake
    """A credential that expires in ``hours``."""
    return Credential(
        server=server,
        token=token,
        expires_at=datetime.now(UTC) + timedelta(hours=hours),
        username="testbo",
        is_admin=False,
        instance_id="a6f5b2d0",
    )


class CredentialStoreContract:
    """The suite. `make_store` gives a store over one and the same place each time it is called within a test."""

    def make_store(self) -> CredentialStore:
        """Open the store under test."""
        raise NotImplementedError

    def test_nothing_there(self) -> None:
        """An empty store answers None, and forgetting nothing is fine."""
        store = self.make_store()
        assert store.get("local") is None
        store.delete("local")

    def test_what_was_set_is_read_back_by_another_process(self) -> None:
        """Every field survives."""
        credential = a_credential()
        self.make_store().set("local", credential)
        assert self.make_store().get("local") == credential

    def test_a_second_login_replaces_the_first(self) -> None:
        """One credential per profile."""
        store = self.make_store()
        store.set("local", a_credential(token="first"))  # noqa: S106 - a fake
        store.set("local", a_credential(token="second"))  # noqa: S106 - a fake
        found = store.get("local")
        assert found is not None
        assert found.token == "second"  # noqa: S105 - a fake

    def test_profiles_do_not_touch_each_other(self) -> None:
        """Deleting one leaves the other."""
        store = self.make_store()
        store.set("local", a_credential())
        store.set("site.b", a_credential(server="https://b.example.org"))
        store.delete("local")
        assert store.get("local") is None
        found = store.get("site.b")
        assert found is not None
        assert found.server == "https://b.example.org"

    def test_an_expired_one_is_given_back_and_says_so(self) -> None:
        """The caller decides what an expired login is still good for."""
        store = self.make_store()
        store.set("local", a_credential(hours=-1))
        found = store.get("local")
        assert found is not None
        assert found.expired
        with pytest.raises(Unauthenticated) as error:
            found.check()
        assert error.value.code == "token_expired"
        assert "medperf login" in error.value.fix

    def test_the_token_is_in_no_representation(self) -> None:
        """Logs and tracebacks never hold it."""
        store = self.make_store()
        store.set("local", a_credential(token="very-secret"))  # noqa: S106 - a fake
        assert "very-secret" not in repr(store.get("local"))
