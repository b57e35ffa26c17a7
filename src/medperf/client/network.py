"""Connections with a deadline, a cancel switch and a rule about addresses, under httpx2.

The rule is applied to the very address that is connected to, so that a name cannot mean one address when it is checked and another
when it is used.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from medperf.domain.addresses import is_loopback, split_url
from medperf.domain.errors import Interrupted, MedPerfError

_SLICE_SECONDS = 0.25
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):
    """A host means an address that must not be asked. ``args``: host and address."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds. ``total`` bounds one whole request and answer, however slowly it trickles; of a long stream, all up to its first byte.

    Attributes:
        window: in every so many seconds a long stream must bring ``window * rate`` bytes, or it is given up. So a stream of N bytes
            takes at most ``total + window + N / rate`` seconds.
        rate: bytes per second.
    """

    connect: float = 5.0
    read: float = 30.0
    write: float = 30.0
    total: float | None = 60.0
    window: float = 30.0
    rate: float = 1024.0


class Clock(threading.local):
    """The deadline of the request that runs in this thread (monotonic seconds), and what cancels it."""

    deadline: float | None = None
    cancel: threading.Event | None = None

    @contextlib.contextmanager
    def running(self, seconds: float | None, cancel: threading.Event | None = None) -> Iterator[None]:
        """Everything inside ends after ``seconds``."""
        before = self.deadline, self.cancel
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.cancel = cancel
        try:
            yield
        finally:
            self.deadline, self.cancel = before

    def left(self, timeout: float | None) -> float | None:
        """The smaller of ``timeout`` and what is left; never 0, which sockets read as something else."""
        if self.cancel is not None and self.cancel.is_set():
            raise Interrupted
        if self.deadline is None:
            return timeout
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the whole answer took too long")
        return left if timeout is None else min(timeout, left)


class Pace:
    """Whether a long stream comes fast enough: sets the clock's deadline anew each time enough of it came.

    Only bytes of the file count: what a server wraps them in could go on for ever.
    """

    def __init__(self, clock: Clock, timeouts: Timeouts) -> None:
        self.rate = timeouts.rate
        self._clock = clock
        self._window = timeouts.window
        self._least = timeouts.window * timeouts.rate
        self._came = 0.0

    def start(self) -> None:
        """The head of the answer is here; from now on its bytes must come."""
        self._came = 0.0
        self._clock.deadline = time.monotonic() + self._window

    def came(self, count: int) -> None:
        """So many bytes more."""
        self._came += count
        if self._came >= self._least:
            self.start()


#: Name of the `Pace` in the ``extensions`` of a response that is a long stream.
PACE = "medperf_pace"


class _Stream(httpcore2.NetworkStream):
    """A connection whose every wait obeys the clock."""

    def __init__(self, stream: httpcore2.NetworkStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._clock.cancel is None:
            return self._stream.read(max_bytes, self._clock.left(timeout))
        # In slices, so that Ctrl-C is noticed while nothing comes.
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = self._clock.left(None if end is None else max(end - time.monotonic(), 0.001))
            try:
                return self._stream.read(max_bytes, _SLICE_SECONDS if left is None else min(left, _SLICE_SECONDS))
            except httpcore2.ReadTimeout:
                if left is not None and left <= _SLICE_SECONDS:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._clock.left(timeout)), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@dataclass(frozen=True)
class AddressRule:
    """Which addresses may be asked.

    Attributes:
        private: any address may.
        loopback: this machine may.
        trusted: hosts that may mean anything (the person's own proxy).
    """

    private: bool = True
    loopback: bool = True
    trusted: frozenset[str] = frozenset()

    def allows(self, host: str, address: str) -> bool:
        """Whether ``host``, which means ``address`` (an IP address), may be asked."""
        if self.private or host in self.trusted:
            return True
        ip = _meant(ipaddress.ip_address(address.partition("%")[0]))
        if ip.is_loopback:
            return self.loopback
        if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
            return (
                False  # ``is_global`` says yes to some that lead into networks: old site-local ones, other translators
            )
        return ip.is_global and not ip.is_multicast


def _meant(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


class _Backend(httpcore2.NetworkBackend):
    """Looks names up itself and connects to the first address that answers and may be asked."""

    def __init__(self, clock: Clock, rule: AddressRule) -> None:
        self._clock = clock
        self._rule = rule
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} is not known ({error})") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # A name that says it is this machine may be spoken to without encryption, so it must be this machine.
        here = is_loopback(host)
        refused = [
            address
            for address in addresses
            if not self._rule.allows(host, address) or (here and not is_loopback(address))
        ]
        if refused:
            raise AddressRefused(host, refused[0])
        problem: Exception = httpcore2.ConnectError(f"the name {host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._clock.left(timeout), local_address, socket_options
                )
                return _Stream(stream, self._clock)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                problem = error
        raise problem


class _Connections(httpx2.HTTPTransport):
    """httpx2's transport over a pool of ours."""

    def __init__(self, pool: httpcore2.ConnectionPool) -> None:
        self._pool = pool


def open_client(url: str, *, verify: Path | None, timeouts: Timeouts, clock: Clock, rule: AddressRule) -> httpx2.Client:
    """A client for one host: no redirects, no cookies of others, no ``.netrc``; the environment's proxy beyond this machine.

    Args:
        verify: a PEM file: trust these certificates and no others; None: the system's.

    Raises:
        MedPerfError: ``bad_certificate``.
    """
    # The system's authorities take a while to read, and http has no use for them.
    context = None if verify is None and split_url(url).scheme == "http" else ssl_context(verify)
    proxy = _proxy(url)
    if proxy is None:
        pool = httpcore2.ConnectionPool(ssl_context=context, network_backend=_Backend(clock, rule))
    else:
        parts = split_proxy(proxy)
        trusted = AddressRule(private=rule.private, loopback=rule.loopback, trusted=rule.trusted | {str(parts.host)})
        pool = httpcore2.HTTPProxy(
            proxy_url=str(parts.copy_with(username=None, password=None)),
            proxy_auth=(parts.username, parts.password) if parts.username else None,
            ssl_context=context,
            network_backend=_Backend(clock, trusted),
        )
    return httpx2.Client(
        transport=_Connections(pool),
        timeout=httpx2.Timeout(timeouts.read, connect=timeouts.connect, write=timeouts.write, pool=timeouts.connect),
        follow_redirects=False,
        trust_env=False,
    )


def ssl_context(verify: Path | None) -> ssl.SSLContext:
    """Trust the certificates in ``verify`` and nothing else, or the system's for None.

    Raises:
        MedPerfError: ``bad_certificate``: the file is missing or holds no certificate.
    """
    if verify is None:
        return httpx2.create_ssl_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The file may hold the server's own certificate rather than the one of its authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cafile=verify)
        empty = not context.cert_store_stats()["x509"]
    except (OSError, ssl.SSLError) as error:
        raise _bad_certificate(verify, str(error)) from error
    if empty:
        raise _bad_certificate(verify, "it holds no certificate")
    return context


def split_proxy(proxy: str) -> httpx2.URL:
    """Raises:
    MedPerfError: ``bad_proxy``: the environment names a proxy that cannot be used.
    """
    try:
        found = httpx2.URL(proxy if "://" in proxy else f"http://{proxy}")
    except httpx2.InvalidURL as error:
        # Not shown: it may hold a password.
        raise MedPerfError(
            "bad_proxy", f"The environment's proxy is no URL: {error}.", "Set HTTPS_PROXY to http://HOST:PORT."
        ) from error
    if found.scheme not in ("http", "https") or not found.host:
        raise MedPerfError(
            "bad_proxy",
            f"The proxy {found.copy_with(username=None, password=None)} cannot be used.",
            "Set HTTPS_PROXY to http://HOST:PORT.",
        )
    return found


def _proxy(url: str) -> str | None:
    parts = split_url(url)
    host = str(parts.hostname)
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _bad_certificate(path: Path, why: str) -> MedPerfError:
    return MedPerfError(
        "bad_certificate",
        f"The certificate {path} cannot be used: {why}.",
        "Give a PEM file with --certificate; a server started with 'medperf server start' writes cert.crt into its data folder.",
    )
