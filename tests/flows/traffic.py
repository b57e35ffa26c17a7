"""All that goes over the wire, as bytes, and what a site may have said in it.

Between the command lines and the server stands a plain TCP relay, so whatever a client sends is seen, however it was sent; and an audit hook
of Python sees every address that anything in this process asks to be connected with.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import httptools

from medperf.domain.digests import canonical_json
from medperf.domain.disclosure import RULES, Exit, check_exit
from medperf.flows.egress import lines_of
from medperf.workspace.egress import EgressEntry

_PIECE = 64 * 1024


@dataclass
class Request:
    """One request. ``raw``: its bytes as they came, with those of what keeps the connection alive around it."""

    who: str
    raw: bytes
    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path.removeprefix("/api/v1")

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def label(self) -> str:
        """With ids left out: ``PUT /datasets/{}/statistics``."""
        return f"{self.method} " + re.sub(r"/[0-9a-f-]*[0-9][0-9a-f-]*(?=/|$)", "/{}", self.path)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def texts(self) -> Iterator[bytes]:
        """Its bytes, and all that is behind an encoding that it could be under."""
        yield self.raw
        yield self.body
        yield unquote(self.target).encode()
        with suppress(ValueError):
            yield json.dumps(json.loads(self.body), ensure_ascii=False).encode()


class _Parser:
    """httptools' callbacks."""

    def __init__(self, who: str, raw: bytes) -> None:
        self.found: list[Request] = []
        self._who, self._raw = who, raw
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.found.append(Request(self._who, self._raw))

    def on_headers_complete(self) -> None:
        self.found[-1].method = self.parser.get_method().decode()

    def on_url(self, url: bytes) -> None:
        self.found[-1].target += url.decode("ascii")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found[-1].headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.found[-1].body += body


def parsed(who: str, raw: bytes) -> list[Request]:
    """The requests of one connection."""
    reader = _Parser(who, raw)
    reader.parser.feed_data(raw)
    return reader.found


class Relay:
    """Passes bytes on to a server, and keeps those of the clients. ``who``: whose command line runs now."""

    def __init__(self, port: int) -> None:
        self.who = ""
        self.connections: list[tuple[str, bytearray]] = []
        self._there = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                kept = bytearray()
                self.connections.append((self.who, kept))
                threading.Thread(target=self._pass, args=(client, kept), daemon=True).start()

    def _pass(self, client: socket.socket, kept: bytearray) -> None:
        with client, socket.create_connection(self._there) as server, selectors.DefaultSelector() as waiting:
            waiting.register(client, selectors.EVENT_READ, (server, kept))
            waiting.register(server, selectors.EVENT_READ, (client, None))
            with suppress(OSError):
                while True:
                    for key, _ in waiting.select():
                        other, keeper = key.data
                        piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                        if not piece:
                            return
                        if keeper is not None:
                            keeper += piece  # before it goes on: what was answered was kept
                        other.sendall(piece)

    def requests(self) -> list[Request]:
        """Everything so far, in the order of connections."""
        return [request for who, raw in list(self.connections) for request in parsed(who, bytes(raw))]

    def close(self) -> None:
        self._listener.close()


@contextmanager
def connections_seen() -> Iterator[list[Any]]:
    """The addresses that this process connects or sends to meanwhile, and the names that it looks up."""
    found: list[Any] = []
    live = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if live and event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            found.append(arguments[1])
        elif live and event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
            found.append(arguments[0])

    sys.addaudithook(hook)  # there is no way to take one back: from then on it sees nothing
    try:
        yield found
    finally:
        live = False


# ------------------------------------------------------------------------------------------------------ what may be said

#: The request by which each exit leaves.
EXITS: Mapping[str, tuple[Exit, ...]] = {
    "POST /datasets": (Exit.DATASET_REGISTRATION,),
    "PATCH /datasets/{}": (Exit.DATASET_UPDATE,),
    "PUT /datasets/{}/statistics": (Exit.STATISTICS,),
    "POST /associations": (Exit.ASSOCIATION,),
    "POST /associations/{}/decision": (Exit.ASSOCIATION_END, Exit.ASSOCIATION_APPROVAL),
    "POST /executions": (Exit.EXECUTION,),
    "POST /executions/{}/attempts": (Exit.EXECUTION,),
    "PATCH /executions/{}/attempts/{}": (Exit.ATTEMPT_STATE,),
    "PUT /executions/{}/attempts/{}/progress": (Exit.PROGRESS,),
    "POST /executions/{}/release": (Exit.METRICS,),
    "POST /executions/{}/withholding": (Exit.WITHHOLDING,),
    "POST /executions/{}/retraction": (Exit.RETRACTION,),
}
#: An execution is registered by two requests: the first names what the journal's entry names first.
PARTS = {"POST /executions": {"benchmark", "dataset", "model"}}
#: What else a site sends with a body: it is about an account.
ACCOUNT = {"POST /tokens": {"username", "password"}}
HEADERS = {
    "host", "accept", "accept-encoding", "connection", "user-agent", "authorization", "content-type", "content-length",
    "idempotency-key", "medperf-instance", "if-match", "range", "if-range",
}  # fmt: skip
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def violations(requests: Iterable[Request], journal: Iterable[EgressEntry], secrets: Mapping[str, str]) -> list[str]:
    """What a site said that is not on the closed list, not in its journal as it went, or that never leaves.

    Args:
        requests: all of that site.
        secrets: what never leaves -> what it is.
    """
    entries, found, went = list(journal), [], set[int]()
    for request in requests:
        found += [f"{request.label}: {fault}" for fault in _faults(request, entries, went)]
    found += held(requests, secrets)
    sent = {entry.number for entry in entries if entry.outcome is not None}
    found += [f"egress {number} is in the journal, but nothing of it went" for number in sorted(sent - went)]
    return found


def held(requests: Iterable[Request], secrets: Mapping[str, str]) -> list[str]:
    """What of ``secrets`` occurs in a request."""
    wanted = {
        form.encode(): what
        for text, what in secrets.items()
        for form in {text, *(unicodedata.normalize(way, text) for way in ("NFC", "NFD"))}
    }
    found = []
    for request in requests:
        texts = list(request.texts())
        for secret, what in wanted.items():
            if any(secret in text for text in texts):
                found.append(f"{request.label}: {what} ({secret!r}) is in it")
    return found


def _faults(request: Request, entries: list[EgressEntry], went: set[int]) -> Iterator[str]:
    yield from (f"the header {name}" for name in sorted(set(request.headers) - HEADERS))
    key = request.headers.get("idempotency-key")
    if key is not None and not _UUID.fullmatch(key):
        yield f"the key {key!r} is no random one"
    if not re.fullmatch(r"medperf/[0-9.]+( \(API v1\))?", request.headers.get("user-agent", "")):
        yield f"the program says {request.headers.get('user-agent')!r}"
    if request.method in ("GET", "HEAD", "DELETE"):
        if request.body:
            yield "a body"
        return
    if request.label in ACCOUNT:
        if set(request.document) != ACCOUNT[request.label]:
            yield f"the fields {sorted(request.document)}"
        return
    if request.label not in EXITS:
        yield "no exit"
        return
    body = request.document
    address = {int(number) for number in re.findall(r"/([0-9]+)(?=/|$)", request.path)}
    kept = [entry for entry in entries if entry.kind in EXITS[request.label] and _is_of(request, body, address, entry)]
    if not kept:
        yield f"not in the journal as it went: {request.body.decode()}"
        return
    went.update(entry.number for entry in kept)
    listed = {name for entry in kept for name in RULES[entry.kind].names}
    names = {name for name, _ in lines_of(body)}
    # Below a field with a contract everything is that contract's business.
    stray = [name for name in names if not any(name == one or name.startswith(f"{one}.") for one in listed)]
    if stray:
        yield f"the fields {sorted(stray)}"
    for entry in kept:
        check_exit(entry.kind, entry.body)


def _is_of(request: Request, body: dict[str, Any], address: set[int], entry: EgressEntry) -> bool:
    """Whether this body is what the entry says that went; what else it says stands in the address."""
    part = PARTS.get(request.label)
    if part is not None:
        return set(body) == part and all(entry.body.get(name) == value for name, value in body.items())
    more = {name: value for name, value in entry.body.items() if name not in body}
    same = canonical_json({**body, **more}) == canonical_json(entry.body)
    return same and all(value in address for value in more.values())
