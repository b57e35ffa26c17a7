"""What went wrong between us and a server, in words: network faults and problem documents become errors of the domain."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from medperf import __version__
from medperf.domain.addresses import is_loopback, split_url
from medperf.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MedPerfError,
    NotFound,
    ServerUnavailable,
    Unauthenticated,
)
from medperf.wire.headers import VERSION

_START = "Start it with: medperf server start (or name another one with --server, or in the profile)."
_UPDATE = "Install the newer MedPerf here: pip install -U medperf"
_WEB_PAGE = "a web page: that of a proxy, of a network that wants a login, or of another service"
#: Characters of one text of a server, and of a text about one field; errors of one answer.
_WORDS = 4000
_WORDS_OF_ERROR = 400
_ERRORS = 20
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,9}){0,3}(\+[a-z0-9.]{1,40})?")
_CLASSES: Mapping[int, type[MedPerfError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    428: Conflict,
    429: ServerUnavailable,
}
_FIXES = {
    401: "Log in with: medperf login",
    403: "Ask the owner or an admin of this server.",
    429: "Wait a minute and try again.",
}


def wrong_instance(server: str) -> Conflict:
    """The server is not the one that the login was made for."""
    return Conflict(
        "wrong_instance",
        f"{server} was reset or replaced since you logged in; nothing was changed there.",
        "Log in again with: medperf login",
    )


def not_medperf(server: str, why: str) -> ServerUnavailable:
    """Something answers there, but no MedPerf server."""
    return ServerUnavailable(
        "not_medperf", f"{server} is no MedPerf server: {why}.", "Check the address: --server URL, or the profile's."
    )


def raise_problem(server: str, status: int, headers: Mapping[str, str], document: Any) -> NoReturn:
    """Raise what an answer that is no success stands for.

    Raises:
        MedPerfError: always; code, what and fix are the server's own where it sent a problem document.
    """
    if 300 <= status < 400:
        target = headers.get("location", "")[:100]
        raise not_medperf(server, f"it answered {status}, a redirection" + (f" to {target!r}" if target else ""))
    details: dict[str, Any] = {"status": status}
    retry_after = headers.get("retry-after", "")
    if retry_after.isdecimal() and status in (429, 503):
        details["retry_after"] = min(int(retry_after[:9]), 86_400)
    if not (
        isinstance(document, dict)
        and isinstance(document.get("code"), str)
        and _CODE.fullmatch(document["code"])
        and isinstance(document.get("detail"), str)
    ):
        if status < 500 and status != 429:
            if "html" in headers.get("content-type", "").lower():
                raise not_medperf(server, f"it answered {status} with {_WEB_PAGE}")
            raise not_medperf(server, f"it answered {status} without saying why")
        what = f"{server} answered {status}."
        raise ServerUnavailable(
            "server_unavailable", what, "Try again later, or tell the server's admin.", details=details
        )
    code, what, fix = document["code"], _cut(document["detail"]), _cut(document.get("fix") or "")
    if code == "wrong_instance":
        raise wrong_instance(server)
    if code == "unsupported_api_version":
        raise ServerUnavailable(code, what, fix or _UPDATE, details=details)
    errors = _errors(document.get("errors"))
    if errors:
        details["errors"] = errors
        if not any(entry["message"] in what for entry in errors):
            more = "; ".join(f"{entry['field']}: {entry['message']}" for entry in errors[:5])
            what = f"{what} {more}."
    theirs = _version(headers)
    if _asks_the_unknown(code, errors) and (not theirs or _numbers(theirs) < _numbers(__version__)):
        raise ServerUnavailable(
            "server_too_old",
            f"{server} runs {f'MedPerf {theirs}' if theirs else 'an older MedPerf'}, which does not know what this MedPerf {__version__} asks of it: {what}",
            f"Ask its admin to update it, or install the server's version here{f': pip install medperf=={theirs}' if theirs else ''}.",
            details=details,
        )
    kind = ServerUnavailable if status >= 500 else _CLASSES.get(status, InvalidInput)
    raise kind(code, what, fix or _FIXES.get(status, ""), details=details)


def no_sense(server: str, headers: Mapping[str, str], where: str) -> ServerUnavailable:
    """The answer of a MedPerf server has something that this version does not understand: a newer server's, or a fault."""
    theirs = _version(headers)
    if _numbers(theirs) > _numbers(__version__):
        return ServerUnavailable(
            "server_too_new",
            f"{server} runs MedPerf {theirs}, and this MedPerf {__version__} does not understand its answer ({where}).",
            _UPDATE,
        )
    return not_medperf(server, f"its answer cannot be understood ({where})")


def web_page(server: str) -> ServerUnavailable:
    """An answer for people."""
    return not_medperf(server, f"it answered with {_WEB_PAGE}")


def _cut(text: Any) -> str:
    """What a server says, as far as a person would read it."""
    text = str(text)
    return text if len(text) <= _WORDS else f"{text[:_WORDS]} [...]"


def _errors(found: Any) -> list[dict[str, str]]:
    """Of a problem document: some of them, with what is known of each."""
    if not isinstance(found, list):
        return []
    entries = [entry for entry in found[:_ERRORS] if isinstance(entry, dict)]
    return [{name: _cut(entry.get(name, ""))[:_WORDS_OF_ERROR] for name in ("field", "message")} for entry in entries]


def _version(headers: Mapping[str, str]) -> str:
    """The server's, "" where it says none. It goes into commands that people copy, so it is nothing else than a version."""
    theirs = headers.get(VERSION, "")
    return theirs if _VERSION.fullmatch(theirs) else ""


def _asks_the_unknown(code: str, errors: Any) -> bool:
    """Whether a refusal is one that an older server gives to what only a newer one knows."""
    if code in ("no_such_route", "method_not_allowed", "unknown_parameter"):
        return True
    return code == "invalid_fields" and any(
        isinstance(entry, dict) and "extra inputs" in str(entry.get("message", "")).lower() for entry in errors
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, to compare it: ``1.10.0rc1`` -> (1, 10, 0)."""
    found = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def unreachable(server: str, error: Exception, *, pinned: Path | None) -> MedPerfError:
    """A transport error as a sentence. ``details["retry"]`` is true where another try may do better.

    Args:
        error: an ``httpx2.TransportError``.
        pinned: the certificate that was trusted, None for the system's.
    """
    import httpx2

    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if tls is not None:
        return _tls(server, tls, pinned)
    local = is_loopback(str(split_url(server).hostname))
    fix = _START if local else "Check the address (--server URL, or the profile's) and your network."
    if isinstance(error, httpx2.ConnectTimeout):
        return ServerUnavailable(
            "server_unavailable", f"{server} cannot be reached: it does not answer.", fix, details={"retry": False}
        )
    if isinstance(error, httpx2.TimeoutException):
        what = f"{server} took too long to answer."
        return ServerUnavailable(
            "server_timeout", what, "Try again; if it stays, look at the server's log.", details={"retry": False}
        )
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
        return ServerUnavailable(
            "server_unavailable",
            f"{server} cannot be reached: {_reason(error)}.",
            fix,
            # On this machine a refusal is final: nobody listens, and no load balancer or firewall answers for them.
            details={"retry": not (local and _refused(error))},
        )
    if isinstance(error, httpx2.RemoteProtocolError) and "illegal" in str(error).lower():
        return not_medperf(server, "it does not answer in HTTP (is it an https:// address?)")
    what = f"{server} broke the connection before its answer was whole."
    if server.startswith("http://"):
        what += " (Is it an https:// address?)"
    return ServerUnavailable(
        "connection_lost", what, "Try again; if it stays, look at the server's log.", details={"retry": True}
    )


def _tls(server: str, error: ssl.SSLError, pinned: Path | None) -> ServerUnavailable:
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = f"the certificate {pinned}" if pinned else "this system's certificates"
        return ServerUnavailable(
            "certificate_untrusted",
            f"The certificate of {server} is not accepted by {trusted}: {error.verify_message}.",
            "Give the server's own certificate with --certificate PATH (cert.crt in its data folder), or ask its admin for it.",
        )
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return not_medperf(server, "it does not speak TLS (is it an http:// address?)")
    if error.reason == "UNEXPECTED_EOF_WHILE_READING":
        what = f"{server} broke the connection while it was being secured."
        return ServerUnavailable(
            "connection_lost", what, "Try again; if it stays, look at the server's log.", details={"retry": True}
        )
    return ServerUnavailable(
        "tls_failed",
        f"No secure connection to {server}: {error.reason or error}.",
        "Check the address and the server's log.",
    )


def _refused(error: Exception) -> bool:
    return any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error))


def _reason(error: Exception) -> str:
    number = next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror), None)
    return (
        str(number.strerror).lower()
        if number is not None and isinstance(number, ConnectionError)
        else (str(error) or "no connection")
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
