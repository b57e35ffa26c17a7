"""Requests per second and latencies of list, get and post on both databases, with 100 to 1,000,000 rows.

    .venv/bin/python benchmarks/server_load.py [--rows 100 10000 1000000] [--databases sqlite postgresql] [--seconds 5]

A real server (uvicorn, one worker) and, for PostgreSQL, a real cluster with fsync on; the load generator runs on the same
machine, with keep-alive connections over raw sockets. Every request carries a bearer token, which is looked up each time. The
tables of benchmarks and of MLCubes hold that many rows each. ``list`` asks for a page of 32 after a random id, as an account that may see
nine rows of ten; ``list-few`` as one that may see its own hundred only, among rows that are all hidden from it; ``search`` asks for names that
begin with something; ``get`` reads one benchmark; ``post`` registers an MLCube with an Idempotency-Key, fifty accounts in turn.

The baseline is what the rival did in the same setting on a machine like this: 84 lists and 75 posts per second. Rounds of a
database's sizes are interleaved, and the median round counts, so that a busy moment of the machine does not pass for a slow table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from medperf.domain.digests import Digest
from medperf.server import admin
from medperf.server.auth import hash_token, new_token
from medperf.server.maintenance import transact
from medperf.server.names import name_key
from medperf.server.schema import now
from medperf.server.settings import PasswordCost, Settings
from medperf.server.tables import benchmarks, memberships, mlcubes, parties, tokens, users
from medperf.testing.postgres import Cluster

RIVAL = {"list": 84, "list-few": 84, "post": 75}
OPERATIONS = ("list", "list-few", "search", "get", "post")
OWNERS = 100
#: An owner has room for so many MLCubes and no more, so many of them post in turn.
POSTERS = 50
CHUNK = 5000
MANIFEST = (
    Path(__file__).resolve().parents[1] / "examples" / "chest_xray" / "xrv_densenet" / "mlcube" / "mlcube.yaml"
).read_text()


@dataclass(frozen=True)
class Round:
    """Requests per second, latencies in milliseconds, the server's CPU time per request in microseconds."""

    per_second: float
    p50: float
    p95: float
    p99: float
    cpu: float


@dataclass
class Target:
    """A server that is running, and how many rows its tables have."""

    database: str
    rows: int
    settings: Settings
    url: str
    pid: int
    tokens: dict[str, str]
    posted: Iterator[int]
    rounds: dict[str, list[Round]]


def fill(settings: Settings, rows: int) -> dict[str, str]:
    """That many benchmarks and MLCubes; the tokens of who asks."""
    return transact(settings, functools.partial(_fill, rows=rows))


def _account(connection: sa.Connection, name: str) -> tuple[int, str]:
    moment, token = now(), new_token()
    party = connection.execute(
        sa.insert(parties).values(kind="person", name=name, created_at=moment)
    ).inserted_primary_key[0]
    user = connection.execute(
        sa.insert(users).values(
            username=name,
            username_key=name,
            password_hash="",
            is_admin=False,
            is_active=True,
            party_id=party,
            created_at=moment,
            modified_at=moment,
        )
    ).inserted_primary_key[0]
    rights = dict.fromkeys(("can_manage", "can_operate", "can_release"), True)
    connection.execute(
        sa.insert(memberships).values(user_id=user, party_id=party, created_at=moment, modified_at=moment, **rights)
    )
    connection.execute(
        sa.insert(tokens).values(
            hash=hash_token(token), user_id=user, created_at=moment, expires_at="9999", revoked_at=None
        )
    )
    return party, token


def _fill(connection: sa.Connection, *, rows: int) -> dict[str, str]:
    moment, digest = now(), Digest.of(b"")
    ref = json.dumps({"digest": digest, "size": 1000, "urls": ["asset:1"]})
    owners = [_account(connection, f"owner{number}")[0] for number in range(OWNERS)]
    few, few_token = _account(connection, "few")
    _, reader_token = _account(connection, "reader")
    common = {"is_valid": True, "user_metadata": "{}", "version": 1, "created_at": moment, "modified_at": moment}

    def cube(number: int) -> dict[str, Any]:
        name = f"{number:x} model {number}"
        return common | {
            "owner_id": few if number % max(rows // 100, 1) == 0 else owners[number % OWNERS],
            "name": name,
            "name_key": name_key(name),
            "kind": ("preparator", "model", "evaluator")[number] if number < 3 else "model",
            "state": "DEVELOPMENT",
            "manifest_text": "",
            "files": json.dumps({"manifest": {"digest": digest, "size": 0, "urls": ["asset:1"]}}),
            "forms": "{}",
        }

    def benchmark(number: int) -> dict[str, Any]:
        name = f"{number:x} benchmark {number}"
        return common | {
            "owner_id": owners[number % OWNERS],
            "name": name,
            "name_key": name_key(name),
            "description": "Compares chest X-ray classifiers on fourteen findings, site by site.",
            "docs_url": "https://example.org/benchmark",
            "state": "OPERATION",
            "approval": "PENDING" if number % 10 == 9 else "APPROVED",
            "approval_reason": "",
            "is_active": True,
            "demo": ref,
            "prepared_identity": digest,
            "preparator_id": 1,
            "reference_model_id": 2,
            "evaluator_id": 3,
            "report": json.dumps({"filler": "x" * 300}),
            "metrics_contract": "{}",
            "decided_at": moment,
        }

    for table, make in ((mlcubes, cube), (benchmarks, benchmark)):
        for start in range(0, rows, CHUNK):
            connection.execute(sa.insert(table), [make(number) for number in range(start, min(start + CHUNK, rows))])
    connection.exec_driver_sql("ANALYZE")
    posters = {f"poster{number}": _account(connection, f"poster{number}")[1] for number in range(POSTERS)}
    return {"reader": reader_token, "few": few_token, **posters}


def serve(settings: Settings, ready: Any) -> None:
    """The server under test, in a process of its own."""
    admin.serve(
        settings.data,
        port=0,
        http=True,
        requests_per_second=0,
        ready=lambda url, _: ready.send(url),
    )


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[tuple[str, int]]:
    """A server on these settings: its URL and process."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, there))
    process.start()
    there.close()  # so that a server that fails to start is noticed
    try:
        yield here.recv(), int(process.pid or 0)
    finally:
        process.terminate()
        process.join()


def request_of(operation: str, target: Target, chance: random.Random) -> Callable[[], bytes]:
    """Makes the next request of that kind."""
    host = target.url.removeprefix("http://")
    token = target.tokens["few" if operation == "list-few" else "reader"]
    head = f"Host: {host}\r\nAuthorization: Bearer {token}\r\n"
    if operation == "post":
        raw = MANIFEST.encode()
        file = {"digest": Digest.of(raw), "size": len(raw), "urls": ["https://example.org/file"]}
        names = ("manifest", "parameters", "additional", "project")
        body = {
            "manifest_text": MANIFEST,
            "files": dict.fromkeys(names, file),
            "forms": {"python": {"project": file["digest"]}},
        }
        text = json.dumps(body)[1:]

        def post() -> bytes:
            number = next(target.posted)
            content = f'{{"name": "posted {number}", {text}'
            more = f"Content-Type: application/json\r\nIdempotency-Key: load-test-{number:012}\r\nContent-Length: {len(content)}\r\n"
            poster = target.tokens[f"poster{number % POSTERS}"]
            return f"POST /api/v1/mlcubes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {poster}\r\n{more}\r\n{content}".encode()

        return post

    def get() -> bytes:
        number = chance.randrange(target.rows)
        path = {
            "list": f"benchmarks?limit=32&after={number if number < target.rows - 40 else 0}",
            "list-few": "mlcubes?limit=32",
            "search": f"benchmarks?limit=32&search={number:x}",
            "get": f"benchmarks/{number // 10 * 10 + 1}",
        }[operation]
        return f"GET /api/v1/{path} HTTP/1.1\r\n{head}\r\n".encode()

    return get


async def load(operation: str, target: Target, *, seconds: float, connections: int) -> list[float]:
    """Keep-alive requests, one after the other on each connection; seconds each took."""
    host, port = target.url.removeprefix("http://").split(":")
    make = request_of(operation, target, random.Random(7))
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        while (start := time.perf_counter()) < end:
            writer.write(make())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                raise RuntimeError((head + body).decode())
            times.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return times


def measure(operation: str, target: Target, *, seconds: float, connections: int) -> Round:
    """One round."""
    import uvloop

    run = functools.partial(load, operation, target, connections=connections)
    uvloop.run(run(seconds=min(0.5, seconds)))
    before, begin = cpu_seconds(target.pid), time.perf_counter()
    times = uvloop.run(run(seconds=seconds))
    elapsed = time.perf_counter() - begin
    cuts = [cut * 1000 for cut in statistics.quantiles(times, n=100)]
    cpu = (cpu_seconds(target.pid) - before) / len(times) * 1e6
    return Round(len(times) / elapsed, cuts[49], cuts[94], cuts[98], cpu)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def statements_of(target: Target) -> dict[str, int]:
    """Statements per request, counted in this process through the same application."""
    from starlette.testclient import TestClient

    from medperf.server.app import create_app

    app = create_app(Settings(data=target.settings.data, database=target.settings.database, log=False))
    found = {}
    with TestClient(app) as client:
        database = app.state.context.database

        def ask(request: bytes) -> int:
            line, _, rest = request.decode().partition("\r\n")
            head, _, body = rest.partition("\r\n\r\n")
            headers = dict(entry.split(": ", 1) for entry in head.split("\r\n"))
            headers.pop("Content-Length", None)
            method, path, _ = line.split(" ")
            before = database.statements
            client.request(method, path, headers=headers, content=body.encode() or None).raise_for_status()
            return int(database.statements - before)

        for operation in OPERATIONS:
            make = request_of(operation, target, random.Random(1))
            # The least, for now and then one counts what an owner has, or something else is going on.
            found[operation] = min(ask(make()) for _ in range(POSTERS + 5))
    return found


def main() -> None:
    """Fill, serve, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 10_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--operations", nargs="+", default=list(OPERATIONS), choices=OPERATIONS)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--buffers", default="4GB", help="of PostgreSQL, as its setting shared_buffers")
    asked = parser.parse_args()
    for database in asked.databases:
        with contextlib.ExitStack() as stack:
            play(database, asked, stack)


def play(database: str, asked: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """All sizes of one database."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    cluster = None
    if database == "postgresql":
        # As its manual wants a server of its own: a quarter of the memory for its buffers; the tests' cluster has 64 MiB.
        own = (f"shared_buffers={asked.buffers}", "max_wal_size=1GB")
        cluster = Cluster("fsync=on", "full_page_writes=on", "synchronous_commit=on", "autovacuum=on", *own)
        stack.callback(cluster.stop)
        cluster.start()
    targets = []
    for rows in asked.rows:
        url = None
        if cluster is not None:
            cluster.execute(f"CREATE DATABASE load{rows}")
            url = cluster.url(f"load{rows}")
        settings = Settings(data=folder / str(rows), database=url, rate_per_second=0)
        admin.init(
            settings.data, development=True, database=url, password_cost=PasswordCost(time=1, memory_kib=8, lanes=1)
        )
        begin = time.perf_counter()
        made = fill(settings, rows)
        if cluster is not None:
            cluster.execute("VACUUM ANALYZE", database=f"load{rows}")
        print(f"{database}: {rows:,} benchmarks and as many MLCubes in {time.perf_counter() - begin:.0f} s", flush=True)
        server, pid = stack.enter_context(running(settings))
        targets.append(
            Target(database, rows, settings, server, pid, made, itertools.count(), {name: [] for name in OPERATIONS})
        )
    for operation in asked.operations:
        for _ in range(asked.rounds):
            for target in targets:
                target.rounds[operation].append(
                    measure(operation, target, seconds=asked.seconds, connections=asked.connections)
                )
        report(operation, targets)
    for target in targets:
        counted = ", ".join(f"{name} {count}" for name, count in statements_of(target).items())
        print(f"{target.database:10} {target.rows:>9,} rows: statements per request: {counted}", flush=True)


def report(operation: str, targets: list[Target]) -> None:
    """A line per size."""
    first = None
    for target in targets:
        rounds = target.rounds[operation]
        middle = {
            name: statistics.median(getattr(entry, name) for entry in rounds)
            for name in ("per_second", "p50", "p95", "p99", "cpu")
        }
        first = first or middle
        rival = f"{middle['per_second'] / RIVAL[operation]:5.1f} times the rival" if operation in RIVAL else " " * 21
        print(
            f"{target.database:10} {target.rows:>9,} rows  {operation:8} {middle['per_second']:6.0f}/s  p50 {middle['p50']:6.2f}  "
            f"p95 {middle['p95']:6.2f}  p99 {middle['p99']:6.2f} ms  CPU {middle['cpu']:5.0f} us  {rival}  "
            f"p95 {middle['p95'] / first['p95']:4.2f} times that at {targets[0].rows:,}",
            flush=True,
        )


if __name__ == "__main__":
    main()
