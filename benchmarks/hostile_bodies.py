"""What hostile requests do to a real server: the most memory its worker ever had, and how long others waited meanwhile.

    .venv/bin/python benchmarks/hostile_bodies.py [--connections 32] [--rounds 3]

Every attack is sent over many connections at once by an account that may send bodies. Each must be answered with 4xx, or have its
connection ended; never with 5xx other than "busy, try again" (503 with Retry-After).
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from medperf.domain import limits

BODY = limits.BODY_BYTES
Attack = Callable[[], tuple[bytes, Iterator[bytes]]]


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> tuple[bytes, Iterator[bytes]]:
    head = [f"POST /api/v1{path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(head).encode(), iter([body])


def chunked(path: str, pieces: Iterator[bytes], *headers: str, method: str = "POST") -> tuple[bytes, Iterator[bytes]]:
    head = [
        f"{method} /api/v1{path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
    ]
    return "\r\n".join([*head, *headers]).encode(), (b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


def stream(size: int) -> Iterator[bytes]:
    piece = b"[" * 65536
    for _ in range(size // len(piece)):
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


def cube(**fields: object) -> bytes:
    return json.dumps({"name": "x", "manifest_text": "", "files": {}, "forms": {}, **fields}).encode()


def alias_bomb() -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    return "\n".join(lines)


def attacks(stream_bytes: int) -> dict[str, Attack]:
    fill = BODY - 200
    return {
        "deep lists": lambda: post("/mlcubes", b"[" * (BODY // 2) + b"]" * (BODY // 2)),
        "deep objects": lambda: post("/mlcubes", b'{"a":' * (fill // 6) + b"1" + b"}" * (fill // 6)),
        "many empty lists": lambda: post("/mlcubes", b"[" + b"[]," * (fill // 3) + b"0]"),
        "many empty objects": lambda: post("/benchmarks", b'{"x":[' + b"{}," * (fill // 3) + b"0]}"),
        "many keys": lambda: post("/mlcubes", b"{" + b",".join(b'"%d":0' % n for n in range(fill // 11)) + b"}"),
        "one long text": lambda: post("/mlcubes", cube(name="x" * fill)),
        "one long text of wide letters": lambda: post("/mlcubes", json.dumps({"name": "\U0001f9e0" * (fill // 12)}).encode()),
        "a number of 2 million digits": lambda: post("/mlcubes", b'{"preparator":' + b"9" * fill + b"}"),
        "1e999": lambda: post("/benchmarks", b'{"x": [1e999, -1e999, NaN, Infinity]}'),
        "alias bomb in the manifest": lambda: post("/mlcubes", cube(manifest_text=alias_bomb())),
        "deep manifest": lambda: post("/mlcubes", cube(manifest_text="[" * 60_000)),
        "manifest of many nodes": lambda: post("/mlcubes", cube(manifest_text="- a\n" * 16_000)),
        "deep metadata": lambda: post("/mlcubes", cube(user_metadata=json.loads('{"a":' * 30 + "1" + "}" * 30))),
        "wide metadata": lambda: post("/mlcubes", cube(user_metadata={str(n): 0 for n in range(90_000)})),
        "gzip bomb": lambda: post("/mlcubes", gzip.compress(bytes(64 * 1024**2)), "Content-Encoding: gzip"),
        "a stream without length": lambda: (chunked("/mlcubes", iter(()))[0], stream(stream_bytes)),
        "a stream that says it is short": lambda: (post("/mlcubes", b"", length=10)[0], stream(stream_bytes)),
        "a stream that says how long it is": lambda: (post("/mlcubes", b"", length=stream_bytes)[0], stream(stream_bytes)),
        "a stream to an upload": lambda: (
            chunked("/uploads/00000000-0000-4000-8000-000000000000", iter(()), "Upload-Offset: 0", method="PATCH")[0],
            stream(stream_bytes),
        ),
        "ten thousand headers": lambda: (b"GET /api/v1/server HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"Host: x", iter(())),
        "one long header": lambda: (b"GET /api/v1/server HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_000_000, iter(())),
        "a million parameters": lambda: (b"GET /api/v1/mlcubes?" + b"a=1&" * 1_000_000 + b" HTTP/1.1\r\nHost: x", iter(())),
        "thousands of parameters": lambda: (b"GET /api/v1/mlcubes?" + b"a&" * 30_000 + b" HTTP/1.1\r\nHost: x", iter(())),
        "no HTTP": lambda: (bytes(range(256)) * 100, iter(())),
    }  # fmt: skip


def send(port: int, token: str, attack: Attack) -> int:
    """The status of the answer, 0 where the connection was ended without one."""
    head, pieces = attack()
    if token and head[:4] in (b"POST", b"PATC", b"GET "):
        first, _, rest = head.partition(b"\r\n")
        head = first + b"\r\nAuthorization: Bearer " + token.encode() + b"\r\n" + rest
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            connection.sendall(head + b"\r\n\r\n")
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.suppress(ConnectionError):
            found = re.match(rb"HTTP/1.1 ([0-9]{3})", connection.recv(65536))
            return int(found[1]) if found else 0
    return 0


class Found(NamedTuple):
    """Statuses with their numbers; the worker's memory in MiB and its highest; the longest wait of somebody else, in milliseconds."""

    statuses: dict[int, int]
    now: float
    peak: float
    worst: float


def memory(pid: int) -> tuple[float, float]:
    """Resident now and at most, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.search(rf"{name}:\s+(\d+)", text)[1]) for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now / 1024, peak / 1024


def ask(port: int) -> float:
    """How long one small honest request takes, in milliseconds."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /api/v1/server HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    return (time.perf_counter() - began) * 1000


def once(attack: Attack) -> Attack:
    """The same, made only once: making it must not keep the watcher waiting."""
    head, pieces = attack()
    made = list(pieces)
    return lambda: (head, iter(made))


def run(port: int, pid: int, token: str, attack: Attack, *, connections: int, rounds: int) -> Found:
    """One attack over many connections at once, while somebody else goes on asking."""
    statuses: dict[int, int] = {}
    lock, ended = threading.Lock(), threading.Event()
    waits: list[float] = []

    def go() -> None:
        for _ in range(rounds):
            status = send(port, token, attack)
            with lock:
                statuses[status] = statuses.get(status, 0) + 1

    def watch() -> None:
        while not ended.wait(0.02):
            waits.append(ask(port))

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=go) for _ in range(connections)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watcher.join()
    waits.append(ask(port))
    return Found(statuses, *memory(pid), max(waits))


SERVER = """
import sys, uvicorn
from pathlib import Path
from medperf.server.app import create_app
from medperf.server.connection import Connection
from medperf.server.settings import PasswordCost, Settings
cheap = PasswordCost(time=1, memory_kib=8, lanes=1)
settings = Settings(data=Path(sys.argv[1]), password_cost=cheap, rate_per_second=0, anonymous_rate_per_second=0, log=False)
uvicorn.run(create_app(settings), port=int(sys.argv[2]), http=Connection, ws="none", log_config=None, access_log=False)
"""


@contextlib.contextmanager
def server(data: Path) -> Iterator[tuple[int, int, str]]:
    """A worker in a process of its own: its port, its pid, and the token of an admin."""
    from medperf.client.client import MedPerfClient
    from medperf.client.http import Transport
    from medperf.domain.errors import ServerUnavailable
    from medperf.server import admin
    from medperf.server.settings import PasswordCost
    from medperf.wire.models import TokenCreate

    admin.init(data, development=True, password_cost=PasswordCost(time=1, memory_kib=8, lanes=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", SERVER, str(data), str(port)]) as process:
        try:
            client = MedPerfClient(Transport(f"http://127.0.0.1:{port}"))
            for _ in range(300):
                try:
                    client.server.get()
                    break
                except ServerUnavailable:
                    time.sleep(0.1)
            yield port, process.pid, client.tokens.create(TokenCreate(username="admin", password="admin")).token
        finally:
            process.terminate()


def main() -> None:
    """Print one line for each attack, and the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream", type=int, default=1024**3, help="bytes of the streams")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "server") as (port, pid, token):
        idle = statistics.median(ask(port) for _ in range(50))
        start, _ = memory(pid)
        print(f"idle: {start:.0f} MiB, a small request takes {idle:.1f} ms")
        peak = worst = 0.0
        for name, attack in attacks(asked.stream).items():
            streams = name.startswith("a stream")
            few = 4 if streams else asked.connections
            attack = attack if streams else once(attack)
            found = run(port, pid, token, attack, connections=few, rounds=1 if streams else asked.rounds)
            peak, worst = max(peak, found.peak), max(worst, found.worst)
            told = ", ".join(f"{status or 'ended'}: {count}" for status, count in sorted(found.statuses.items()))
            print(
                f"{name:36} {told:32} {found.now:5.0f} MiB, peak {found.peak:5.0f}   others wait up to {found.worst:6.1f} ms"
            )
        print(
            f"highest memory of the worker: {peak:.0f} MiB ({peak - start:.0f} above idle); longest wait of others: {worst:.0f} ms"
        )


if __name__ == "__main__":
    main()
