"""``/assets``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from medperf.server.assets import repository, service
from medperf.server.authz import Account
from medperf.server.context import Server
from medperf.server.paging import NameFilter, OwnerFilter, PageQuery
from medperf.server.requests import describe_query, idempotency_key, query
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.wire.models import AssetView, Id, Name, Page, Sha256

router = make_router("assets")


class AssetQuery(PageQuery):
    """Filters of ``GET /assets``."""

    owner: OwnerFilter = None
    name: NameFilter = None
    digest: Annotated[Sha256 | None, Field(description="Exactly this digest.")] = None


class UploadQuery(BaseModel):
    """What is said about an upload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[Name, Field(description="A file name for people.")]
    digest: Annotated[
        Sha256 | None, Field(description="What the client thinks it sends; anything else is refused.")
    ] = None


_UPLOAD = describe_query(UploadQuery) | {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


@router.post("/assets", status_code=201, response_model=AssetView, openapi_extra=_UPLOAD)
async def upload_asset(
    actor: Account,
    server: Server,
    request: Request,
    asked: Annotated[UploadQuery, Depends(query(UploadQuery), use_cache=False)],
) -> Response:
    """Upload a file: the body is its bytes."""
    key = idempotency_key(request)
    return await service.upload(server, actor, name=asked.name, digest=asked.digest, key=key, stream=request.stream())


@router.get("/assets", response_model=Page[AssetView], openapi_extra=describe_query(AssetQuery))
async def list_assets(
    actor: Account, server: Server, asked: Annotated[AssetQuery, Depends(query(AssetQuery), use_cache=False)]
) -> Response:
    """Assets one may see."""
    async with server.database.read() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.get("/assets/{asset_id}", response_model=AssetView)
async def read_asset(actor: Account, server: Server, asset_id: Id) -> Response:
    """What an asset is."""
    async with server.database.read() as tx:
        return answer(repository.view(await service.found(tx, actor, asset_id)))


@router.get("/assets/{asset_id}/content", response_class=FileResponse)
async def read_content(actor: Account, server: Server, request: Request, asset_id: Id) -> Response:
    """An asset's bytes; ranges are understood, so a download can be continued."""
    async with server.database.read() as tx:
        row = await service.found(tx, actor, asset_id, content=True)
    tag = f'"{row.digest}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    path = server.store.path(actor.instance_id, row.digest)
    headers = {"ETag": tag}
    return FileResponse(
        path, media_type="application/octet-stream", filename=row.name, headers=headers, stat_result=path.stat()
    )


@router.delete("/assets/{asset_id}", status_code=204, response_class=Response)
async def delete_asset(actor: Account, server: Server, asset_id: Id) -> Response:
    """Take back an asset of one's own that nothing registered names."""
    async with actor.change(server.database) as tx:
        await service.delete(tx, actor, asset_id)
    return Response(status_code=204)
