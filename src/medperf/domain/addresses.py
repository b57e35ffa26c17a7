"""Server addresses as text: the name a folder gets from one, and whether it means this machine. No look-ups."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from medperf.domain.errors import InvalidInput

_HOST_LENGTH, _LABEL_LENGTH = 253, 63
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9}")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def split_url(url: str) -> SplitResult:
    """Parse an ``http(s)://`` URL.

    Raises:
        InvalidInput: another scheme, no host, a bad port, or a user name and password in it.
    """
    try:
        parts = urlsplit(url.strip())
        host = str(parts.hostname or "")
        url.encode()
        if not host.isascii():
            host = host.encode("idna").decode()
        valid = parts.scheme in _DEFAULT_PORTS and (parts.port is None or parts.port > 0)
        valid = valid and 0 < len(host) <= _HOST_LENGTH and all(len(part) <= _LABEL_LENGTH for part in host.split("."))
    except ValueError:  # an encoding that does not work is one too
        valid = False
    if not valid or any(ord(letter) <= 32 for letter in url.strip()):
        raise InvalidInput(
            "bad_url",
            f"{url[:200]!r} is no http(s) URL.",
            "Write it like https://localhost:8000 or https://example.org/file.tar.gz.",
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "url_credentials",
            "A user name or password in a URL would be stored and shown.",
            "Leave them out of the URL.",
        )
    return parts


def host_port(url: str) -> str:
    """Name of a server's folder and files.

    >>> host_port("https://localhost:8000"), host_port("https://api.example.org")
    ('localhost_8000', 'api_example_org')

    Raises:
        InvalidInput: ``url`` is no http(s) URL.
    """
    parts = split_url(url)
    name = str(parts.hostname)
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        name += f"_{parts.port}"
    if parts.path.strip("/"):
        name += "_" + parts.path.strip("/")
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def is_loopback(host: str) -> bool:
    """Whether ``host`` literally names this machine: ``localhost``, ``127.x.x.x`` or ``::1``."""
    host = host.rstrip(".").lower().strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name, in any spelling that a look-up takes for one."""
    return literal(host) is not None


def literal(host: str) -> str | None:
    """The usual form of an IP address in any spelling (``0x7f.1``, ``2130706433``, ``[::1]``); None when ``host`` is a name."""
    host = host.strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    # The spellings that getaddrinfo takes: one to four numbers, decimal, octal or hexadecimal, the last one filling the rest.
    parts = host.rstrip(".").split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    numbers = [int(part, 8) if part[0] == "0" and part.isdecimal() else int(part, 0) for part in parts]
    *first, last = numbers
    if any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):
        return None
    value = last + sum(number << (8 * (3 - index)) for index, number in enumerate(first))
    return str(ipaddress.IPv4Address(value))
