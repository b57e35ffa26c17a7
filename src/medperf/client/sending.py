"""One file on its way to the server, in pieces: continued after cuts, and by a later process with the same key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, ServerUnavailable
from medperf.domain.events import Emit, Progress
from medperf.wire.assets import UploadCreate, UploadView
from medperf.wire.models import AssetView

if TYPE_CHECKING:
    from medperf.client.assets import UploadsPart

#: One request: small enough for the limits of most proxies' buffers, large enough that the requests cost nothing.
PIECE = 8 * 1024**2
CHUNK = 128 * 1024
#: Tries in a row without a single new byte on the server, after which we give up.
FRUITLESS_TRIES = 5
BACKOFF_SECONDS = 0.2
#: Waits for a server that is at work (verifying the file, or still with a connection of ours that was cut).
BUSY_TRIES = 3600
_BUSY = ("upload_busy", "upload_verifying")
_SILENCE = ("connection_lost", "server_timeout")
_LATER = (429, 500, 502, 503, 504)


class Sending:
    """The upload of one file.

    Args:
        body: what is announced.
        sleep: how to wait between tries.
    """

    def __init__(
        self, uploads: UploadsPart, path: Path, body: UploadCreate, *, emit: Emit, sleep: Callable[[float], None]
    ) -> None:
        self._uploads = uploads
        self._path = path
        self._body = body
        self._emit = emit
        self._sleep = sleep
        self._text = f"Uploading {body.name}"
        self._fruitless = 0
        self._waits = 0

    def run(self, key: str) -> AssetView:
        """Announce it, send what the server does not have, and complete it. Raises as `AssetsPart.upload`."""
        try:
            stream = self._path.open("rb")
        except OSError as error:
            raise InvalidInput(
                "file_unreadable",
                f"{str(self._path)!r} cannot be read: {os.strerror(error.errno or 0)}.",
                "Give a file that exists and that your account may read.",
            ) from error
        with stream:
            before = _facts(stream)
            if before[0] != self._body.size:
                raise self._changed()
            upload = self._uploads.create(self._body, idempotency_key=key)
            try:
                return self._send(upload, stream, before)
            except InvalidInput as error:
                if error.code == "digest_mismatch" and not self._is_intact(stream):
                    raise self._changed() from error
                if error.code == "file_changed":
                    self._give_up(upload)
                raise

    def _send(self, upload: UploadView, stream: BufferedReader, before: tuple[int, int]) -> AssetView:
        offset = upload.offset
        self._emit(Progress(self._text, offset, self._body.size))
        while True:
            try:
                while offset < self._body.size:
                    length = min(PIECE, self._body.size - offset)
                    content = partial(self._piece, stream, offset, length)
                    reached = self._uploads.append(upload.id, offset=offset, length=length, content=content)
                    self._note(reached > offset)
                    offset = reached
                if _facts(stream) != before and not self._is_intact(stream):
                    raise self._changed()
                return self._uploads.complete(upload.id)
            except Conflict as error:
                if error.code not in ("wrong_offset", "upload_incomplete"):
                    raise
                self._wait(error)
            except ServerUnavailable as error:
                self._wait(error)
            offset = self._ask(upload.id, offset)

    def _ask(self, upload_id: str, offset: int) -> int:
        """Where the server is, asked until it says it."""
        while True:
            try:
                reached = self._uploads.get(upload_id).offset
            except ServerUnavailable as error:
                self._wait(error)
            else:
                self._note(reached > offset)
                return reached

    def _note(self, gained: bool) -> None:
        if gained:
            self._fruitless = self._waits = 0

    def _wait(self, error: MedPerfError) -> None:
        """Before another try.

        Raises:
            MedPerfError: ``error``, when another try is not worth it.
        """
        if error.code in _BUSY:
            self._waits += 1
            if self._waits > BUSY_TRIES:
                raise error
            self._sleep(float(error.details.get("retry_after", 1)))
            return
        again = (
            isinstance(error, Conflict)
            or error.details.get("retry")
            or error.code in _SILENCE
            or (error.details.get("status") in _LATER and error.code != "storage_full")
        )
        self._fruitless += 1
        if not again or self._fruitless > FRUITLESS_TRIES:
            raise error
        asked = error.details.get("retry_after")
        self._sleep(float(asked) if asked is not None else BACKOFF_SECONDS * 2 ** (self._fruitless - 1))

    def _piece(self, stream: BufferedReader, offset: int, length: int) -> Iterator[bytes]:
        end = offset + length
        while offset < end:
            chunk = os.pread(stream.fileno(), min(CHUNK, end - offset), offset)
            if not chunk:
                raise self._changed()
            yield chunk
            offset += len(chunk)
            self._emit(Progress(self._text, offset, self._body.size))

    def _is_intact(self, stream: BufferedReader) -> bool:
        import hashlib

        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest() == Digest(self._body.digest).hex

    def _give_up(self, upload: UploadView) -> None:
        with contextlib.suppress(MedPerfError):  # the file is what the person must hear about; the upload expires
            self._uploads.cancel(upload.id)

    def _changed(self) -> InvalidInput:
        return InvalidInput(
            "file_changed", f"{self._path} changed while it was uploaded.", "Try again when nothing writes to it."
        )


def _facts(stream: BufferedReader) -> tuple[int, int]:
    info = os.fstat(stream.fileno())
    return info.st_size, info.st_mtime_ns
