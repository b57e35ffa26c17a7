"""An asset's bytes as an answer: read in pieces by threads, so that neither a disk nor a slow reader holds up anybody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from medperf.server.assets.ranges import UnsatisfiableError, names_tag, part_of
from medperf.server.assets.store import in_thread
from medperf.server.errors import problem

MEDIA_TYPE = "application/octet-stream"
_PIECE = 256 * 1024


class Content(Response):
    """Some or all bytes of a file that never changes. The next piece is read when the one before is on its way."""

    media_type = MEDIA_TYPE

    def __init__(self, descriptor: int, part: tuple[int, int], *, status: int, headers: Mapping[str, str]) -> None:
        """``descriptor`` is closed when the answer ends."""
        self._descriptor = descriptor
        self._part = part
        super().__init__(None, status, headers={**headers, "content-length": str(part[1] - part[0])})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of ASGI
        """Send it."""
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            offset, end = self._part
            while offset < end:
                if gone.done():  # what is sent to nobody is dropped without a word
                    raise ClientDisconnect
                data = await in_thread(os.pread, self._descriptor, min(_PIECE, end - offset), offset)
                if not data:
                    raise OSError(f"an asset's file ends after {offset} bytes")
                offset += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": offset < end})
            if self._part[0] == end:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            os.close(self._descriptor)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def content(path: Path, *, digest: str, name: str, asked: Mapping[str, str], with_body: bool) -> Response:
    """The answer to GET or HEAD.

    Args:
        asked: the request's headers.
        with_body: False for HEAD.

    Raises:
        FileNotFoundError: the bytes are gone.
    """
    tag = f'"{digest}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    if names_tag(asked.get("if-none-match"), tag):
        return Response(status_code=304, headers={"ETag": tag})
    if not with_body:  # Range means nothing to HEAD
        return Response(headers={**headers, "content-length": str(path.stat().st_size)}, media_type=MEDIA_TYPE)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    keep = False
    try:
        size = os.fstat(descriptor).st_size
        try:
            part = part_of(size, wanted=asked.get("range"), condition=asked.get("if-range"), tag=tag)
        except UnsatisfiableError:
            return problem(
                416,
                "no_such_range",
                f"The file has {size:,} bytes; nothing of it is in that range.",
                "Ask for bytes that it has.",
                headers={"Content-Range": f"bytes */{size}", "ETag": tag, "Accept-Ranges": "bytes"},
            )
        status = 200
        if part is not None:
            status = 206
            headers["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{size}"
        keep = True
        return Content(descriptor, part or (0, size), status=status, headers=headers)
    finally:
        if not keep:
            os.close(descriptor)
