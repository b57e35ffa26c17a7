"""Bodies of ``/uploads`` and ``/storage``: how a file reaches the server in pieces, and how much room its owner has."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from medperf.domain import limits
from medperf.wire.models import Body, Id, Name, PartyRef, Sha256, View

#: Of a piece: where in the file it begins. Of an answer: how many bytes the server has on disk.
UPLOAD_OFFSET = "Upload-Offset"
PIECE_TYPE = "application/offset+octet-stream"


class UploadCreate(Body):
    """A file that will come. The server takes exactly ``size`` bytes with this digest, or nothing.

    Attributes:
        owner: the party that will own the asset; None: the account's own.
    """

    name: Name
    size: Annotated[int, Field(ge=0, lt=10**limits.DOCUMENT_INT_DIGITS)]
    digest: Sha256
    owner: Id | None = None


class UploadView(View):
    """A file on its way. ``offset``: bytes that are on the server's disk. ``asset``: what it became, None before its completion."""

    id: str
    name: str
    digest: str
    size: int
    offset: int
    owner: PartyRef
    created_at: datetime
    expires_at: datetime
    asset: int | None = None


class StorageView(View):
    """What an owner's files take, and what they may. Unfinished uploads count with the whole size that was announced."""

    owner: PartyRef
    bytes: int
    bytes_limit: int
    assets: int
    assets_limit: int
    uploads: int
    uploads_limit: int
