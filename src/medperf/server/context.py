"""What a running server consists of, built once by `medperf.server.app.create_app` and handed to every handler."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from medperf.server.assets.store import AssetStore
from medperf.server.auth import Passwords
from medperf.server.background import Background
from medperf.server.bodies import BodyBudget
from medperf.server.db import Database
from medperf.server.limiter import RateLimiter
from medperf.server.log import ServerLog
from medperf.server.settings import Settings
from medperf.server.tokens.limiter import LoginLimiter


@dataclass(frozen=True)
class ServerContext:
    """Everything a handler may use. ``verifying``: so many uploads are verified at once; ``reading``: so many long bodies."""

    settings: Settings
    database: Database
    passwords: Passwords
    logins: LoginLimiter
    rates: RateLimiter
    anonymous_rates: RateLimiter
    bodies: BodyBudget
    store: AssetStore
    log: ServerLog
    background: Background
    verifying: asyncio.Semaphore
    reading: asyncio.Semaphore


async def _context(request: Request) -> ServerContext:
    context = request.app.state.context
    assert isinstance(context, ServerContext)
    return context


Server = Annotated[ServerContext, Depends(_context, use_cache=False)]
