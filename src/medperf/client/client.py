"""The server's API, one typed part per noun."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from medperf.client.faults import not_medperf
from medperf.client.http import Answer, Transport
from medperf.client.streams import SinkWriter, receive
from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import Emit, Progress, ignore
from medperf.wire.models import (
    AssetView,
    AuditEventView,
    BenchmarkCreate,
    BenchmarkUpdate,
    BenchmarkView,
    Body,
    Decision,
    MLCubeCreate,
    MLCubeUpdate,
    MLCubeView,
    Page,
    PasswordChange,
    ServerView,
    TokenCreate,
    TokenView,
    UserCreate,
    UserUpdate,
    UserView,
    View,
)

if TYPE_CHECKING:
    import threading

V = TypeVar("V", bound=View)
M = TypeVar("M", bound=BaseModel)
CHUNK = 256 * 1024


class Part(Generic[V]):
    """What every noun can do."""

    def __init__(self, transport: Transport, path: str, view: type[V]) -> None:
        self._transport = transport
        self._path = path
        self._view = view

    def _get(self, path: str = "") -> V:
        return self._parsed(self._view, self._transport.request("GET", self._path + path))

    def _send(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        changed_only: bool = False,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        data = body.model_dump_json(exclude_unset=changed_only).encode()
        return self._transport.request(
            method, self._path + path, body=data, headers=headers, idempotency_key=idempotency_key
        )

    def _pages(self, *, limit: int | None, **filters: Any) -> Iterator[V]:
        """All items over all pages, asked for as they are needed; at most ``limit``."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            size = limits.PAGE_MAX if left is None else min(left, limits.PAGE_MAX)
            answer = self._transport.request("GET", self._path, params={**filters, "limit": size, "after": after})
            page = self._parsed(Page[self._view], answer)  # type: ignore[name-defined] # the view is a value here
            yield from page.items[:left]
            if page.next is None or not page.items:
                return
            if page.next == after:
                raise not_medperf(self._transport.base_url, "its pages have no end")
            after = page.next
            left = None if left is None else left - len(page.items)

    def _parsed(self, model: type[M], answer: Answer) -> M:
        try:
            return model.model_validate(answer.document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise not_medperf(
                self._transport.base_url, f"its answer cannot be understood ({where}: {first['msg']})"
            ) from error


class ServerPart(Part[ServerView]):
    """``/server``."""

    def get(self) -> ServerView:
        """Who the server is; needs no login."""
        return self._get()


class TokensPart(Part[TokenView]):
    """``/tokens``."""

    def create(self, body: TokenCreate) -> TokenView:
        """Log in.

        Raises:
            Unauthenticated: wrong name or password, or a disabled account.
        """
        return self._parsed(TokenView, self._send("POST", "", body))

    def end_current(self) -> None:
        """Log out: the token that is used ends."""
        self._transport.request("DELETE", self._path + "/current")


class MePart(Part[UserView]):
    """``/me``."""

    def get(self) -> UserView:
        """The account that is logged in."""
        return self._get()

    def change_password(self, body: PasswordChange) -> None:
        """Replace the password; other logins of the account end."""
        self._send("POST", "/password", body)


class UsersPart(Part[UserView]):
    """``/users`` (admins)."""

    def list(self, *, limit: int | None = None) -> Iterator[UserView]:
        """All accounts, oldest first."""
        return self._pages(limit=limit)

    def get(self, user_id: int) -> UserView:
        """One account."""
        return self._get(f"/{user_id}")

    def create(self, body: UserCreate, *, idempotency_key: str | None = None) -> UserView:
        """Make an account."""
        return self._parsed(
            UserView, self._send("POST", "", body, idempotency_key=idempotency_key or str(uuid.uuid4()))
        )

    def update(self, user_id: int, body: UserUpdate) -> UserView:
        """Enable or disable an account."""
        return self._parsed(UserView, self._send("PATCH", f"/{user_id}", body))


class MLCubesPart(Part[MLCubeView]):
    """``/mlcubes``."""

    def list(
        self,
        *,
        owner: str | None = None,
        kind: str | None = None,
        state: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MLCubeView]:
        """What the account may see, oldest first. ``owner``: ``"me"`` or None."""
        return self._pages(limit=limit, owner=owner, kind=kind, state=state, name=name)

    def get(self, mlcube_id: int) -> MLCubeView:
        """One MLCube with its manifest."""
        return self._get(f"/{mlcube_id}")

    def create(self, body: MLCubeCreate, *, idempotency_key: str) -> MLCubeView:
        """Register an MLCube. The same key and body again give the first answer."""
        return self._parsed(MLCubeView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def update(self, mlcube_id: int, body: MLCubeUpdate, *, version: int) -> MLCubeView:
        """Change the fields that ``body`` was made with.

        Args:
            version: of the view that the change is based on.

        Raises:
            Conflict: somebody changed it meanwhile.
        """
        return self._parsed(MLCubeView, self._send("PATCH", f"/{mlcube_id}", body, changed_only=True, version=version))


class BenchmarksPart(Part[BenchmarkView]):
    """``/benchmarks``."""

    def list(
        self,
        *,
        owner: str | None = None,
        approval: str | None = None,
        state: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[BenchmarkView]:
        """What the account may see, oldest first. ``owner``: ``"me"`` or None."""
        return self._pages(limit=limit, owner=owner, approval=approval, state=state, name=name)

    def get(self, benchmark_id: int) -> BenchmarkView:
        """One benchmark with its report and metrics contract."""
        return self._get(f"/{benchmark_id}")

    def create(self, body: BenchmarkCreate, *, idempotency_key: str) -> BenchmarkView:
        """Register a benchmark. The same key and body again give the first answer."""
        return self._parsed(BenchmarkView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def update(self, benchmark_id: int, body: BenchmarkUpdate, *, version: int) -> BenchmarkView:
        """Change the fields that ``body`` was made with; see `MLCubesPart.update`."""
        return self._parsed(
            BenchmarkView, self._send("PATCH", f"/{benchmark_id}", body, changed_only=True, version=version)
        )

    def decide(self, benchmark_id: int, body: Decision, *, idempotency_key: str | None = None) -> BenchmarkView:
        """Approve or reject, as an admin."""
        key = idempotency_key or str(uuid.uuid4())
        return self._parsed(BenchmarkView, self._send("POST", f"/{benchmark_id}/decision", body, idempotency_key=key))


class AssetsPart(Part[AssetView]):
    """``/assets``."""

    def list(
        self, *, owner: str | None = None, name: str | None = None, digest: str | None = None, limit: int | None = None
    ) -> Iterator[AssetView]:
        """Assets the account may read, oldest first. ``owner``: ``"me"`` or None."""
        return self._pages(limit=limit, owner=owner, name=name, digest=digest)

    def get(self, asset_id: int) -> AssetView:
        """What an asset is."""
        return self._get(f"/{asset_id}")

    def upload(
        self,
        path: Path,
        *,
        name: str,
        digest: Digest,
        size: int,
        emit: Emit = ignore,
        idempotency_key: str | None = None,
    ) -> AssetView:
        """Stream a file to the server, which checks ``digest``.

        Args:
            size: bytes; a file that has another size by now is refused.

        Raises:
            InvalidInput: the file changed, or is larger than the server takes.
        """
        text = f"Uploading {name}"

        def content() -> Iterator[bytes]:
            done = 0
            emit(Progress(text, 0, size))
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    done += len(chunk)
                    if done > size:
                        break
                    yield chunk
                    emit(Progress(text, done, size))
            if done != size:
                raise InvalidInput(
                    "file_changed", f"{path} changed while it was uploaded.", "Try again when nothing writes to it."
                )

        answer = self._transport.upload(
            self._path,
            params={"name": name, "digest": str(digest)},
            content=content,
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size)},
            idempotency_key=idempotency_key or str(uuid.uuid4()),
        )
        return self._parsed(AssetView, answer)

    def download(
        self,
        asset_id: int,
        writer: SinkWriter,
        *,
        size: int | None = None,
        name: str = "",
        emit: Emit = ignore,
        cancel: threading.Event | None = None,
    ) -> None:
        """Write an asset's bytes, continuing after cuts. The caller checks the digest when it commits the writer.

        Args:
            size: bytes that must come, if known.

        Raises:
            NotFound: no such asset, or the account may not read it.
            InvalidInput: another size.
            ServerUnavailable: cut again and again.
        """
        receive(
            lambda headers: self._transport.stream(f"{self._path}/{asset_id}/content", headers=headers, cancel=cancel),
            writer,
            source=f"asset:{asset_id}",
            size=size,
            name=name or f"asset {asset_id}",
            emit=emit,
            sleep=self._transport.sleep,
        )

    def delete(self, asset_id: int) -> None:
        """Remove an asset of one's own that nothing refers to."""
        self._transport.request("DELETE", f"{self._path}/{asset_id}")


class AuditPart(Part[AuditEventView]):
    """``/audit-events`` (admins)."""

    def list(
        self, *, action: str | None = None, target: str | None = None, limit: int | None = None
    ) -> Iterator[AuditEventView]:
        """Changes, oldest first."""
        return self._pages(limit=limit, action=action, target=target)


class MedPerfClient:
    """Everything the server offers, as one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.server = ServerPart(transport, "/server", ServerView)
        self.tokens = TokensPart(transport, "/tokens", TokenView)
        self.me = MePart(transport, "/me", UserView)
        self.users = UsersPart(transport, "/users", UserView)
        self.mlcubes = MLCubesPart(transport, "/mlcubes", MLCubeView)
        self.benchmarks = BenchmarksPart(transport, "/benchmarks", BenchmarkView)
        self.assets = AssetsPart(transport, "/assets", AssetView)
        self.audit = AuditPart(transport, "/audit-events", AuditEventView)

    def close(self) -> None:
        """Close connections."""
        self.transport.close()
