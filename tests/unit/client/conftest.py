"""Servers on loopback that misbehave on demand, and the real one."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.wire.models import TokenCreate


@dataclass
class Seen:
    """One request that a fake server saw."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HTTPServer

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer. ``retry_after="1"`` gives ``retry-after: 1``; ``content_length=""`` leaves that header out."""
        self.send_response(status)
        named = {"content_length": str(len(body))} | headers
        for name, value in named.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """End the connection now."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle_any(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, self.rfile.read(length)))
        try:
            self.server.behave(self)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = do_CONNECT = handle_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, behave: Callable[[Handler], None], context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.seen: list[Seen] = []
        self.released = threading.Event()
        self.scheme = "http" if context is None else "https"
        self._context = context

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        try:
            if self._context is not None:
                request.settimeout(5)
                request = self._context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)  # type: ignore[arg-type]
        except (OSError, ValueError):
            pass
        finally:
            request.close()


Serve = Callable[..., HTTPServer]


@pytest.fixture
def serve(certificates: Certificates) -> Iterator[Serve]:
    """``serve(behave)``: a fake server; ``behave(handler)`` answers each request. ``tls=True``: with the certificate of `certificates`."""
    running: list[tuple[HTTPServer, threading.Thread]] = []

    def start(behave: Callable[[Handler], None], *, tls: bool = False) -> HTTPServer:
        server = HTTPServer(behave, certificates.context() if tls else None)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """``raw(talk)``: a TCP server; ``talk(connection)`` does what it likes. Gives ``127.0.0.1:PORT``."""
    listeners: list[socket.socket] = []
    connections: list[socket.socket] = []

    def start(talk: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one(connection: socket.socket) -> None:
            try:
                talk(connection)
            except OSError:
                pass
            finally:
                connection.close()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for opened in (*listeners, *connections):
        with contextlib.suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
        opened.close()


@dataclass
class Certificates:
    """A self-signed certificate for this machine, and another one that nobody uses."""

    own: Path
    key: Path
    other: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.own, self.key)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    own, key = _certificate(folder, "own")
    other, _ = _certificate(folder, "other")
    return Certificates(own, key, other)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.crt", folder / f"{name}.key"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


#: The app behind TLS, with passwords that are cheap to check: it is not the hashing that is tested here.
REAL_SERVER = """
import asyncio, socket, sys
from pathlib import Path
import uvicorn
from medperf.server.admin import init
from medperf.server.app import create_app
from medperf.server.settings import PasswordCost, Settings

data, cost = Path(sys.argv[1]), PasswordCost(time=1, memory_kib=64, lanes=1)
made = init(data, development=True, password_cost=cost)
app = create_app(Settings(data=data, password_cost=cost))
config = uvicorn.Config(app, lifespan="on", log_config=None, ssl_certfile=made.certificate, ssl_keyfile=str(made.key))
listener = socket.create_server(("127.0.0.1", 0))
print(f"https://localhost:{listener.getsockname()[1]}", flush=True)
asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
"""


@dataclass
class RealServer:
    """A MedPerf development server in a process of its own, with https."""

    url: str
    certificate: Path
    opened: list[MedPerfClient] = field(default_factory=list)

    def anonymous(self) -> MedPerfClient:
        client = MedPerfClient(Transport(self.url, verify=self.certificate))
        self.opened.append(client)
        return client

    def login(self, username: str, password: str) -> MedPerfClient:
        """A client that is logged in."""
        asked = self.anonymous()
        answer = asked.tokens.create(TokenCreate(username=username, password=password))
        instance_id = asked.server.get().instance_id
        client = MedPerfClient(
            Transport(self.url, token=answer.token, instance_id=instance_id, verify=self.certificate)
        )
        self.opened.append(client)
        return client


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    data = tmp_path_factory.mktemp("real") / "server"
    with subprocess.Popen([sys.executable, "-c", REAL_SERVER, str(data)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            server = RealServer(process.stdout.readline().strip(), data / "cert.crt")
            assert server.url, "the server did not start"
            yield server
            for client in server.opened:
                client.close()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                process.kill()
