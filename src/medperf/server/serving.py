"""Listening: which addresses, which transport, and an end that lets requests finish."""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import math
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medperf.domain.errors import MedPerfError, UsageError
from medperf.server.maintenance import look, transact
from medperf.server.settings import Settings

if TYPE_CHECKING:
    import uvicorn

_GRACE_SECONDS = 10


def serve(
    data: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    cert: Path | None = None,
    key: Path | None = None,
    behind_proxy: bool = False,
    requests_per_second: float | None = None,
    workers: int = 1,
    http: bool = False,
    development: bool = False,
    database: str | None = None,
    migrate: bool = False,
    ready: Callable[[str, bool], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way get ten seconds to end. Prints nothing.

    HTTPS with ``cert`` and ``key``, or with the development certificate in ``data``; plain HTTP on loopback, or where a proxy ends TLS.

    Args:
        port: 0 takes any free one.
        requests_per_second: of one account, per worker; 0: any number; None: the default of `Settings`.
        behind_proxy: a proxy on this machine ends TLS; its X-Forwarded-For is believed.
        http: plain HTTP on loopback although there is a development certificate.
        development: make a development server first if there is none.
        database: address of its PostgreSQL database; None: what is remembered in ``data``, else the SQLite file there.
        migrate: bring a PostgreSQL database to this version's schema (a SQLite file is copied and migrated without being told).
        ready: called with the URL, and whether it is a development server, once it listens (with several workers: once all do).

    Raises:
        UsageError: a combination that would not be safe.
        MedPerfError: ``port_in_use``, ``bad_address``, ``bad_certificate``, no server, or another version's.
    """
    from medperf.server import admin

    settings = Settings(data=data, database=database, behind_proxy=behind_proxy)
    if requests_per_second is not None:
        settings = replace(
            settings, rate_per_second=requests_per_second, rate_burst=max(1, math.ceil(10 * requests_per_second))
        )
    if development and look(settings).revision is None:
        admin.init(data, development=True, port=port, database=database)
    admin.prepare(data, database=database, migrate_postgres=migrate)
    development = _is_development(settings)
    tls = _choose_tls(data, cert, key, http=http or behind_proxy)
    _check_address(host, tls=tls is not None, behind_proxy=behind_proxy, development=development)
    with closing(_listen(host, port)) as listener:
        scheme = "http" if tls is None else "https"
        name = f"[{host}]" if ":" in host else host
        _run(
            settings,
            listener,
            tls,
            workers,
            functools.partial(ready or _nobody, f"{scheme}://{name}:{listener.getsockname()[1]}", development),
        )


def _run(
    settings: Settings, listener: socket.socket, tls: tuple[Path, Path] | None, workers: int, ready: Callable[[], None]
) -> None:
    import uvicorn

    from medperf.server.app import create_app
    from medperf.server.arrival import Encrypted
    from medperf.server.connection import Connection, raise_file_limit

    raise_file_limit()
    config = uvicorn.Config(
        functools.partial(create_app, settings),
        factory=True,
        loop="uvloop",
        http=Connection if tls is None else Encrypted(*tls),  # type: ignore[arg-type] # called as a class is
        ws="none",
        lifespan="on",
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips="127.0.0.1,::1",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=512,
    )
    _quiet()
    if workers > 1:
        _run_many(config, listener, ready)
    else:
        _run_one(config, listener, ready)


def _run_one(config: uvicorn.Config, listener: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """As uvicorn's, but a signal that was obeyed is not raised once more: this is a normal end."""
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    Server(config).run(sockets=[listener])


def _run_many(config: uvicorn.Config, listener: socket.socket, ready: Callable[[], None]) -> None:
    from uvicorn.supervisors import Multiprocess

    class Supervisor(Multiprocess):
        def init_processes(self) -> None:
            super().init_processes()
            if all(process.wait_until_ready(timeout=30) for process in self.processes):
                ready()

    Supervisor(config, sockets=[listener]).run()


def _nobody(_url: str, _development: bool) -> None:
    """Nobody waits for the server."""


def _quiet() -> None:
    """Requests are in our own log; uvicorn's words about connections are for nobody."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]


def _choose_tls(data: Path, cert: Path | None, key: Path | None, *, http: bool) -> tuple[Path, Path] | None:
    if (cert is None) != (key is None):
        raise UsageError(
            "missing_option", "A certificate and its key belong together.", "Give --cert and --key, or neither."
        )
    if cert is None or key is None:
        cert, key = data / "cert.crt", data / "cert.key"
        if http or not (cert.exists() and key.exists()):
            return None
    elif http:
        raise UsageError(
            "two_transports", "A certificate is given, but plain HTTP is asked for.", "Leave one of them out."
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise MedPerfError(
            "bad_certificate", f"{cert} and {key} cannot be used: {error}.", "Give a PEM certificate and its key."
        ) from error
    return cert, key


def _check_address(host: str, *, tls: bool, behind_proxy: bool, development: bool) -> None:
    if _is_loopback(host):
        return
    if development:
        raise UsageError(
            "development_server",
            f"A development server has a known password and does not listen on {host}.",
            "Make a real one with: medperf server init (without --development)",
        )
    if not tls and not behind_proxy:
        raise UsageError(
            "plain_http",
            f"Plain HTTP on {host} would show passwords to the network.",
            "Give --cert and --key, or --behind-proxy if a proxy ends TLS.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a port in use is told before anything starts."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
        listener.set_inheritable(True)
        return listener
    except (OSError, OverflowError) as error:
        if listener is not None:
            listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise MedPerfError(
                "port_in_use",
                f"Port {port} of {host} is in use.",
                "Stop what listens there, or choose another port with --port.",
            ) from error
        raise MedPerfError(
            "bad_address", f"Cannot listen on {host} port {port}: {error}.", "Give another --host or --port."
        ) from error


def _is_development(settings: Settings) -> bool:
    from medperf.server.tables import settings as table

    return transact(settings, lambda connection: bool(connection.execute(sa.select(table.c.development)).scalar_one()))
