"""``/assets``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.assets import repository, service
from medperf.server.assets.content import MEDIA_TYPE, content
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.paging import NamedQuery, OwnerFilter
from medperf.server.requests import describe_query, query
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.wire.models import AssetView, Id, Page, Sha256

router = make_router("assets")
_CONTENT = {
    "responses": {
        status: {"description": text, "content": {MEDIA_TYPE: {}}}
        for status, text in (("200", "The file"), ("206", "The range"))
    }
}


class AssetQuery(NamedQuery):
    """Filters of ``GET /assets``."""

    owner: OwnerFilter = None
    digest: Annotated[Sha256 | None, Field(description="Exactly this digest.")] = None


@router.get("/assets", response_model=Page[AssetView], openapi_extra=describe_query(AssetQuery))
async def list_assets(
    actor: Annotated[Actor, may(Action.ASSET_LIST)],
    server: Server,
    asked: Annotated[AssetQuery, Depends(query(AssetQuery), use_cache=False)],
) -> Response:
    """Assets one may see."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.get("/assets/{asset_id}", response_model=AssetView)
async def read_asset(actor: Annotated[Actor, may(Action.ASSET_READ)], server: Server, asset_id: Id) -> Response:
    """What an asset is."""
    async with server.database.read() as tx:
        return answer(repository.view(await service.found(tx, actor, asset_id)))


@router.get("/assets/{asset_id}/content", response_class=Response, openapi_extra=_CONTENT)
async def read_content(
    actor: Annotated[Actor, may(Action.ASSET_READ_CONTENT)], server: Server, request: Request, asset_id: Id
) -> Response:
    """An asset's bytes. One range is understood (several: the whole file), so a download can be continued."""
    return await _content(actor, server, request, asset_id)


@router.head("/assets/{asset_id}/content", response_class=Response)
async def head_content(
    actor: Annotated[Actor, may(Action.ASSET_READ_CONTENT)], server: Server, request: Request, asset_id: Id
) -> Response:
    """Size and ETag of an asset's bytes."""
    return await _content(actor, server, request, asset_id)


async def _content(actor: Actor, server: Server, request: Request, asset_id: Id) -> Response:
    async with server.database.read() as tx:
        row = await service.found(tx, actor, asset_id, content=True)
    path = server.store.path(actor.instance_id, row.digest)
    try:
        return content(
            path, digest=row.digest, name=row.name, asked=request.headers, with_body=request.method != "HEAD"
        )
    except FileNotFoundError:
        # Deleted just now; otherwise it is our fault, and stays one.
        async with server.database.read() as tx:
            await service.found(tx, actor, asset_id, content=True)
        raise


@router.delete("/assets/{asset_id}", status_code=204, response_class=Response)
async def delete_asset(actor: Annotated[Actor, may(Action.ASSET_DELETE)], server: Server, asset_id: Id) -> Response:
    """Take back an asset of one's own that nothing registered names."""
    await service.delete(server, actor, asset_id)
    return Response(status_code=204)
