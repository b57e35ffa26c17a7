"""``/assets``, ``/uploads`` and ``/storage``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.client.base import Part
from medperf.client.faults import not_medperf
from medperf.client.streams import SinkWriter, receive
from medperf.domain.digests import Digest
from medperf.domain.events import Emit, ignore
from medperf.domain.numbers import whole_number
from medperf.wire.assets import PIECE_TYPE, UPLOAD_OFFSET, StorageView, UploadCreate, UploadView
from medperf.wire.models import AssetView, Page

if TYPE_CHECKING:
    import threading


class UploadsPart(Part[UploadView]):
    """``/uploads``."""

    def list(self) -> tuple[UploadView, ...]:
        """The account's unfinished uploads, oldest first."""
        return self._parsed(Page[UploadView], self._transport.request("GET", self._path)).items

    def get(self, upload_id: str) -> UploadView:
        """How far one is."""
        return self._get(f"/{upload_id}")

    def create(self, body: UploadCreate, *, idempotency_key: str) -> UploadView:
        """Announce a file. The same key and body again give the same upload, as far as it is."""
        return self._parsed(UploadView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def append(self, upload_id: str, *, offset: int, length: int, content: Callable[[], Iterator[bytes]]) -> int:
        """Send the piece that begins at ``offset``; returns how much the server has on disk now.

        Raises:
            Conflict: ``wrong_offset``.
            ServerUnavailable: the piece may have come in part: ask with `get`.
        """
        headers = {"Content-Type": PIECE_TYPE, "Content-Length": str(length), UPLOAD_OFFSET: str(offset)}
        answer = self._transport.upload(f"{self._path}/{upload_id}", content=content, headers=headers)
        reached = whole_number(answer.headers.get(UPLOAD_OFFSET.lower(), ""))
        if reached is None:
            raise not_medperf(self._transport.base_url, "it does not say how much of an upload it has")
        return reached

    def complete(self, upload_id: str) -> AssetView:
        """Make an asset of what was sent; asked again, the same one.

        Raises:
            Conflict: ``upload_incomplete``.
            InvalidInput: ``digest_mismatch``.
            ServerUnavailable: ``upload_verifying``: ask again.
        """
        return self._parsed(AssetView, self._transport.request("POST", f"{self._path}/{upload_id}/completion"))

    def cancel(self, upload_id: str) -> None:
        """Give up an unfinished upload."""
        self._transport.request("DELETE", f"{self._path}/{upload_id}")


class AssetsPart(Part[AssetView]):
    """``/assets``."""

    def list(
        self,
        *,
        owner: str | None = None,
        name: str | None = None,
        digest: str | None = None,
        search: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[AssetView]:
        """Assets the account may read, oldest first unless ``sort`` or ``search`` says otherwise. ``owner``: ``"me"`` or None."""
        return self._pages(limit=limit, owner=owner, name=name, digest=digest, search=search, sort=sort)

    def get(self, asset_id: int) -> AssetView:
        """What an asset is."""
        return self._get(f"/{asset_id}")

    def storage(self, *, owner: int | None = None) -> StorageView:
        """How much room an owner's files take; ``owner`` None: the account's own."""
        return self._parsed(StorageView, self._transport.request("GET", "/storage", params={"owner": owner}))

    def upload(
        self,
        path: Path,
        *,
        name: str,
        digest: Digest,
        size: int,
        owner: int | None = None,
        emit: Emit = ignore,
        idempotency_key: str | None = None,
    ) -> AssetView:
        """Send a file in pieces and make it an asset; a cut is continued.

        Args:
            size: bytes; a file that has another size by now is refused.
            owner: the party that will own it; None: the account's own.
            idempotency_key: the same key, after this process was killed or gave up, goes on where the server is.

        Raises:
            InvalidInput: ``file_changed``; or the server refuses it.
            NotFound: ``upload_gone``, ``no_such_upload``: there is nothing to go on with; use another key.
            ServerUnavailable: cut again and again; what was sent is kept there.
        """
        from medperf.client.sending import Sending

        body = UploadCreate.of(name=name, size=size, digest=str(digest), owner=owner)
        uploads = UploadsPart(self._transport, "/uploads", UploadView)
        key = idempotency_key or str(uuid.uuid4())
        return Sending(uploads, path, body, emit=emit, sleep=self._transport.sleep).run(key)

    def download(
        self,
        asset_id: int,
        writer: SinkWriter,
        *,
        size: int | None = None,
        limit: int | None = None,
        digest_known: bool | None = None,
        name: str = "",
        emit: Emit = ignore,
        cancel: threading.Event | None = None,
    ) -> int:
        """Write an asset's bytes, continuing after cuts. The caller checks the digest when it commits the writer.

        Args:
            size: bytes that must come, if known.
            limit, digest_known: as `medperf.client.streams.receive` takes them.

        Returns:
            how many answers the bytes come from.

        Raises:
            NotFound: no such asset, or the account may not read it.
            InvalidInput: another size.
            ServerUnavailable: cut again and again.
        """
        return receive(
            lambda headers: self._transport.stream(f"{self._path}/{asset_id}/content", headers=headers, cancel=cancel),
            writer,
            source=f"asset:{asset_id}",
            size=size,
            name=name or f"asset {asset_id}",
            emit=emit,
            sleep=self._transport.sleep,
            limit=limit,
            digest_known=digest_known,
        )

    def delete(self, asset_id: int) -> None:
        """Remove an asset of one's own that nothing refers to."""
        self._transport.request("DELETE", f"{self._path}/{asset_id}")
