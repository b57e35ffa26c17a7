"""How fast ``GET /api/v1/benchmarks?limit=32`` is: a real server (uvicorn, one worker, SQLite) with 1,000 benchmarks.

    .venv/bin/python benchmarks/server_list.py [--seconds 5] [--connections 8]

The baseline in the same run is a bare FastAPI endpoint that returns the same number of constant bytes. The load comes from raw
sockets in this process, so on two cores it takes little from the server.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from medperf.server import admin
from medperf.server.settings import PasswordCost, Settings

ROWS = 1000
PATH = "/api/v1/benchmarks?limit=32"


class Load(NamedTuple):
    """Requests per second, latencies in milliseconds, and the server's own CPU time per request in microseconds.

    The last one hardly depends on what else the machine is doing.
    """

    requests: int
    per_second: float
    p50: float
    p95: float
    p99: float
    cpu: float = 0.0


def fill(data: Path) -> None:
    """1,000 approved benchmarks of 10 owners, and three MLCubes, by SQL."""
    import sqlalchemy as sa

    from medperf.server.schema import now
    from medperf.server.tables import benchmarks, mlcubes, parties

    moment, digest = now(), "sha256:" + "0" * 64
    ref = {"digest": digest, "size": 1000, "urls": ["asset:1"]}
    with admin.transaction(Settings(data=data).database_file) as tx:
        owners = [
            tx.execute(
                sa.insert(parties).values(kind="person", name=f"owner{i}", created_at=moment)
            ).inserted_primary_key[0]
            for i in range(10)
        ]
        cube = {
            "owner_id": owners[0],
            "state": "OPERATION",
            "is_valid": True,
            "manifest_text": "",
            "files": json.dumps({"manifest": ref}),
            "forms": "{}",
            "user_metadata": "{}",
            "version": 1,
            "created_at": moment,
            "modified_at": moment,
        }
        for kind in ("preparator", "model", "evaluator"):
            tx.execute(sa.insert(mlcubes).values(name=kind, kind=kind, **cube))
        rows = [
            {
                "owner_id": owners[i % 10],
                "name": f"benchmark {i}",
                "description": "Compares chest X-ray classifiers on fourteen findings, site by site.",
                "docs_url": "https://example.org/benchmark",
                "state": "OPERATION",
                "approval": "APPROVED",
                "approval_reason": "",
                "is_valid": True,
                "is_active": True,
                "demo": json.dumps(ref),
                "prepared_identity": digest,
                "preparator_id": 1,
                "reference_model_id": 2,
                "evaluator_id": 3,
                "report": json.dumps({"filler": "x" * 8000}),
                "metrics_contract": "{}",
                "user_metadata": "{}",
                "version": 1,
                "created_at": moment,
                "modified_at": moment,
                "decided_at": moment,
            }
            for i in range(ROWS)
        ]
        tx.execute(sa.insert(benchmarks), rows)


def make_token(data: Path) -> str:
    """A login of an ordinary account, without hashing a password."""
    import sqlalchemy as sa

    from medperf.server.auth import hash_token, new_token
    from medperf.server.tables import parties, tokens, users

    token = new_token()
    with admin.transaction(Settings(data=data).database_file) as tx:
        party = tx.execute(sa.insert(parties).values(kind="person", name="reader", created_at="")).inserted_primary_key[
            0
        ]
        values = {
            "username": "reader",
            "username_key": "reader",
            "password_hash": "",
            "is_admin": False,
            "is_active": True,
        }
        user = tx.execute(
            sa.insert(users).values(party_id=party, created_at="", modified_at="", **values)
        ).inserted_primary_key[0]
        tx.execute(
            sa.insert(tokens).values(
                hash=hash_token(token), user_id=user, created_at="", expires_at="9999", revoked_at=None
            )
        )
    return token


def serve_medperf(data: Path, ready: Any) -> None:
    """The server under test, in a process of its own."""
    admin.serve(data, port=0, http=True, ready=lambda url, _: ready.send(url))


def serve_baseline(size: int, ready: Any) -> None:
    """A bare FastAPI endpoint with ``size`` constant bytes, under the same uvicorn."""
    import uvicorn
    from fastapi import FastAPI
    from starlette.responses import Response

    body = json.dumps({"filler": "x" * (size - 13)}).encode()
    app = FastAPI()

    @app.get("/api/v1/benchmarks")
    async def constant() -> Response:
        return Response(body, media_type="application/json")

    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, loop="uvloop", http="httptools", log_config=None, access_log=False)).run(
        sockets=[listener]
    )


async def load(url: str, token: str, *, seconds: float, connections: int) -> tuple[Load, int]:
    """Keep-alive requests, one after the other on each connection; also the size of a body."""
    host, port = url.removeprefix("http://").split(":")
    request = f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    times: list[float] = []
    sizes: set[int] = set()
    end = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            sizes.add(length)
            times.append(time.perf_counter() - start)
        writer.close()

    begin = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    elapsed = time.perf_counter() - begin
    cuts = statistics.quantiles(times, n=100)
    return Load(len(times), len(times) / elapsed, cuts[49] * 1000, cuts[94] * 1000, cuts[98] * 1000), max(sizes)


def measure(target: Any, token: str, *, seconds: float, connections: int) -> tuple[Load, int]:
    """Start a server, warm it, load it, stop it."""
    import uvloop

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(there,))
    process.start()
    try:
        url = here.recv()
        for _ in range(100):
            try:
                uvloop.run(load(url, token, seconds=0.5, connections=connections))
                break
            except ConnectionError:
                time.sleep(0.05)
        before = cpu_seconds(process.pid)
        found, size = uvloop.run(load(url, token, seconds=seconds, connections=connections))
        return found._replace(cpu=(cpu_seconds(process.pid) - before) / found.requests * 1e6), size
    finally:
        process.terminate()
        process.join()


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def statements_per_request(data: Path, token: str) -> int:
    """Counted in this process, through the same application."""
    from starlette.testclient import TestClient

    from medperf.server.app import create_app

    app = create_app(Settings(data=data, log=False))
    with TestClient(app) as client:
        database = app.state.context.database
        before = database.statements
        client.get(PATH, headers={"Authorization": f"Bearer {token}"}).raise_for_status()
        return int(database.statements - before)


def main() -> None:
    """Print both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "server"
        admin.init(data, development=True, password_cost=PasswordCost(time=1, memory_kib=8, lanes=1))
        fill(data)
        token = make_token(data)
        how = {"seconds": asked.seconds, "connections": asked.connections}
        ours, size = measure(functools.partial(serve_medperf, data), token, **how)
        bare, _ = measure(functools.partial(serve_baseline, size), token, **how)
        print(
            f"{ROWS} benchmarks, page of 32 ({size:,} bytes), {asked.connections} connections, {asked.seconds:g} s, statements per request: {statements_per_request(data, token)}"
        )
        for name, found in (("medperf", ours), ("bare FastAPI", bare)):
            print(
                f"{name:13} {found.per_second:7.0f} requests/s   p50 {found.p50:.2f} ms   p95 {found.p95:.2f} ms   p99 {found.p99:.2f} ms   server CPU {found.cpu:.0f} us/request"
            )
        print(f"ratio         {ours.per_second / bare.per_second:7.2f} (requests/s), {bare.cpu / ours.cpu:.2f} (CPU)")


if __name__ == "__main__":
    main()
