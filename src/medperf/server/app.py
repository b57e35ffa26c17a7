"""The application: ``create_app(settings)``.

To add a noun:

1. a folder ``<noun>/`` with ``tables.py`` (use `medperf.server.schema`), named in ``tables.py`` of this folder, and a migration;
2. ``policy.py``: ``visible_to(actor)``, one SQL condition for lists and checks; hidden things are 404;
3. ``repository.py``: the statements, and ``view(row)`` in the shape of its wire model;
4. ``service.py``: each change in ``actor.change(...)`` or `create_once`, with ``audit.service.record`` in the same transaction;
5. ``endpoints.py``: handlers whose signature holds ``Visitor``, ``Account`` or ``Admin``; its router goes into ``ROUTERS`` below;
6. its cells in the permission table of ``tests/server``, which fails until they are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.responses import Response

from medperf import __version__
from medperf.server import errors, openapi
from medperf.server.assets import endpoints as assets
from medperf.server.assets.store import AssetStore
from medperf.server.assets.sweep import sweep_for_ever
from medperf.server.associations import endpoints as associations
from medperf.server.audit import endpoints as audit
from medperf.server.audit.sealer import sealing
from medperf.server.auth import Passwords
from medperf.server.authz import Visitor
from medperf.server.background import Background
from medperf.server.benchmarks import endpoints as benchmarks
from medperf.server.bodies import BodyBudget
from medperf.server.context import ServerContext
from medperf.server.datasets import endpoints as datasets
from medperf.server.db import Database
from medperf.server.door import Door
from medperf.server.executions import endpoints as executions
from medperf.server.inbox import endpoints as inbox
from medperf.server.limiter import RateLimiter
from medperf.server.log import ServerLog
from medperf.server.mlcubes import endpoints as mlcubes
from medperf.server.organisations import endpoints as organisations
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.server.settings import Settings
from medperf.server.tokens import endpoints as tokens
from medperf.server.tokens.limiter import LoginLimiter
from medperf.server.uploads import endpoints as uploads
from medperf.server.users import endpoints as users
from medperf.wire.headers import API_PREFIX, API_VERSION
from medperf.wire.models import ServerView

#: Uploads whose bytes are hashed at the same time, by one process.
_VERIFIED_AT_ONCE = 2
#: Long bodies that become documents at the same time, in a thread.
_READ_AT_ONCE = 1
about = make_router("server")
#: In this order they are matched: what is asked most comes first.
ROUTERS = (
    benchmarks.router,
    mlcubes.router,
    datasets.router,
    associations.router,
    assets.router,
    uploads.router,
    organisations.router,
    executions.router,
    inbox.router,
    users.router,
    tokens.router,
    about,
    audit.router,
)


def create_app(settings: Settings, *, database: Database | None = None) -> FastAPI:
    """The server. Nothing is opened before its lifespan begins.

    Args:
        database: one that watches what happens, for tests; else that of the settings.

    Raises (from the lifespan):
        MedPerfError: no server was made in ``settings.data``, or its schema is of another version.
    """
    log = ServerLog(settings)
    context = ServerContext(
        settings=settings,
        database=database or Database(settings),
        passwords=Passwords(settings.password_cost),
        logins=LoginLimiter(burst=settings.login_burst, refill_seconds=settings.login_refill_seconds),
        rates=RateLimiter(
            rate=settings.rate_per_second,
            burst=settings.rate_burst,
            who="This account",
            changes_rate=settings.changes_per_second,
            changes_burst=settings.changes_burst,
        ),
        anonymous_rates=RateLimiter(
            rate=settings.anonymous_rate_per_second,
            burst=settings.anonymous_rate_burst,
            who="Your address, without a login,",
        ),
        bodies=BodyBudget(total=settings.bodies_bytes, each=settings.bodies_bytes_each),
        store=AssetStore(settings.assets, reserve=settings.reserve_bytes),
        log=log,
        background=Background(log),
        verifying=asyncio.Semaphore(_VERIFIED_AT_ONCE),
        reading=asyncio.Semaphore(_READ_AT_ONCE),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await context.database.open()
        context.log.open()
        try:
            context.background.run("sweep", lambda: sweep_for_ever(context))
            async with sealing(context):
                yield
        finally:
            await context.background.close()
            context.log.close()
            await context.database.close()

    app = FastAPI(
        # Off whatever the environment says: it would hand bodies and tracebacks to exporters.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        title="MedPerf",
        version=__version__,
        description="The central service of MedPerf: metadata only.",
        lifespan=lifespan,
        # Pages for people load scripts from elsewhere; the description itself is enough.
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API_PREFIX}/openapi.json",
        redirect_slashes=False,  # a redirect would be built from the Host header, which is not ours to trust
    )
    app.state.context = context
    for router in ROUTERS:
        # The routes themselves, not a router in a router: a match costs half as much.
        app.router.routes.extend(router.routes)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(Door, context=context)
    return app


@about.get("/server", response_model=ServerView)
async def read_server(visitor: Visitor) -> Response:
    """Which server this is (anonymous)."""
    view = {
        "name": "MedPerf",
        "version": __version__,
        "api": API_VERSION,
        "instance_id": visitor.instance_id,
        "development": visitor.development,
    }
    return answer(view)
