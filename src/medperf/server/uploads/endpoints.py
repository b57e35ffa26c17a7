"""``/uploads`` and ``/storage``."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.domain.permissions import Action
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.errors import WrongMediaType, problem_of
from medperf.server.requests import Sent, body, describe_body, describe_query, query
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.server.uploads import service
from medperf.wire.assets import PIECE_TYPE, UPLOAD_OFFSET, StorageView, UploadCreate, UploadView
from medperf.wire.models import AssetView, Id, Page

router = make_router("uploads")
Uploader = Annotated[Actor, may(Action.ASSET_UPLOAD)]
_OFFSET = {
    "name": UPLOAD_OFFSET,
    "in": "header",
    "required": True,
    "description": "Where in the file this piece begins: how much the server has.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
}
_PIECE = {"parameters": [_OFFSET], "requestBody": {"required": True, "content": {PIECE_TYPE: {}}}}


class StorageQuery(BaseModel):
    """Whose room."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: Annotated[Id | None, Field(description="A party's id; the account's own when missing.")] = None


@router.post("/uploads", status_code=201, response_model=UploadView, openapi_extra=describe_body(UploadCreate))
async def start_upload(
    actor: Uploader, server: Server, sent: Annotated[Sent[UploadCreate], Depends(body(UploadCreate), use_cache=False)]
) -> Response:
    """Announce a file. The same Idempotency-Key gives the same upload, as it is now."""
    view = await service.start(server, actor, sent)
    return answer(view, status=201, headers={UPLOAD_OFFSET: str(view["offset"])})


@router.get("/uploads", response_model=Page[UploadView])
async def list_uploads(actor: Uploader, server: Server) -> Response:
    """One's own unfinished uploads."""
    return answer({"items": await service.ls(server, actor), "next": None})


@router.get("/uploads/{upload_id}", response_model=UploadView)
async def read_upload(actor: Uploader, server: Server, upload_id: UUID) -> Response:
    """How far one's own upload is."""
    view = await service.read(server, actor, str(upload_id))
    return answer(view, headers={UPLOAD_OFFSET: str(view["offset"])})


@router.patch("/uploads/{upload_id}", status_code=204, response_class=Response, openapi_extra=_PIECE)
async def append_to_upload(actor: Uploader, server: Server, request: Request, upload_id: UUID) -> Response:
    """Send the piece that begins at Upload-Offset. The answer's Upload-Offset is what is on disk, whatever happens next."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != PIECE_TYPE:
        raise WrongMediaType("wrong_media_type", f"A piece must be {PIECE_TYPE}.", "Send its bytes as that.")
    given = request.headers.get(UPLOAD_OFFSET, "")
    if re.fullmatch(r"[0-9]{1,18}", given) is None:
        raise InvalidInput(
            "bad_offset", f"{UPLOAD_OFFSET} is no whole number from 0.", "Send how many bytes the server has already."
        )
    try:
        offset = await service.append(server, actor, str(upload_id), offset=int(given), stream=request.stream())
    except MedPerfError as error:
        if "offset" not in error.details:
            raise
        refusal = problem_of(error)
        refusal.headers[UPLOAD_OFFSET] = str(error.details["offset"])
        return refusal
    return Response(status_code=204, headers={UPLOAD_OFFSET: str(offset)})


@router.post("/uploads/{upload_id}/completion", status_code=201, response_model=AssetView)
async def complete_upload(actor: Uploader, server: Server, upload_id: UUID) -> Response:
    """All is sent: verify it and make it an asset. Asked again, it gives the same asset."""
    return answer(await service.complete(server, actor, str(upload_id)), status=201)


@router.delete("/uploads/{upload_id}", status_code=204, response_class=Response)
async def cancel_upload(actor: Uploader, server: Server, upload_id: UUID) -> Response:
    """Give up an unfinished upload."""
    await service.cancel(server, actor, str(upload_id))
    return Response(status_code=204)


@router.get("/storage", response_model=StorageView, openapi_extra=describe_query(StorageQuery))
async def read_storage(
    actor: Uploader, server: Server, asked: Annotated[StorageQuery, Depends(query(StorageQuery), use_cache=False)]
) -> Response:
    """How much room an owner's files take, and how much there is."""
    return answer(await service.storage(server, actor, asked.owner))
