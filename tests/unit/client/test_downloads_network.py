"""What a name means, what a proxy may do, and whose certificate is taken."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.addresses import literal
from medperf.testing.hostile_http import (
    HostileServer,
    Stall,
    parts,
    redirect,
    reply,
)
from medperf.workspace.workspace import Workspace

from .downloading import CONTENT, DIGEST, QUICK, downloader, refused


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


class TestNames:
    """What a name means is looked up once, judged, and that very address is connected to."""

    @pytest.fixture
    def names(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
        """name: the addresses that each look-up in turn gives; the last stays. Others are looked up as ever."""
        known: dict[str, list[list[str]]] = {}
        real = socket.getaddrinfo

        def look_up(host: Any, port: Any, *args: Any, **named: Any) -> Any:
            if host not in known:
                return real(host, port, *args, **named)
            found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
            return [entry for address in found for entry in real(address, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr("socket.getaddrinfo", look_up)
        for variable in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(variable, raising=False)
            monkeypatch.delenv(variable.upper(), raising=False)
        return known

    @pytest.mark.parametrize(
        "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"]
    )
    def test_a_name_of_a_private_address(self, workspace: Workspace, names: Any, address: str) -> None:
        names["files.example.org"] = [[address]]
        error = refused(
            lambda: downloader(workspace).probe("https://files.example.org/x"), "private_address", workspace
        )
        assert address in error.what

    def test_one_private_address_among_others_is_enough(self, workspace: Workspace, names: Any) -> None:
        names["files.example.org"] = [["93.184.216.34", "10.0.0.1"]]
        refused(lambda: downloader(workspace).probe("https://files.example.org/x"), "private_address", workspace)

    def test_a_name_that_means_something_else_the_next_time(self, workspace: Workspace, names: Any) -> None:
        with HostileServer(reply(200, body=CONTENT)) as server:
            names["a.localhost"] = [["127.0.0.1"], ["10.0.0.1"]]
            assert downloader(workspace).probe(f"http://a.localhost:{server.port}/x").digest == DIGEST
            assert names["a.localhost"] == [["10.0.0.1"]], "looked up once only"

    def test_a_name_of_this_machine_that_is_not(self, workspace: Workspace, names: Any) -> None:
        """Otherwise somebody's name server could have things sent unencrypted."""
        names["evil.localhost"] = [["93.184.216.34"]]
        refused(lambda: downloader(workspace).probe("http://evil.localhost/x"), "private_address", workspace)

    def test_a_name_without_an_address(self, workspace: Workspace, names: Any) -> None:
        names["files.example.org"] = [[]]
        error = refused(
            lambda: downloader(workspace).probe("https://files.example.org/x"), "server_unavailable", workspace
        )
        assert "medperf server" not in error.fix


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("08", None),
        ("1.2.3.256", None),
        ("1.2.65536", None),
        ("1.2.3.4.5", None),
        ("4294967296", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_spellings_of_addresses(host: str, address: str | None) -> None:
    assert literal(host) == address


class TestProxy:
    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    @pytest.mark.parametrize(
        "url", ["https://10.1.2.3/x", "https://2852039166/x", "https://[64:ff9b::a00:1]/x", "https://0x7f.1/x"]
    )
    def test_is_no_way_round(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        with HostileServer(reply(200)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            refused(lambda: downloader(workspace).probe(url), "private_address", workspace)
            assert proxy.requests == []

    def test_is_asked_and_its_refusal_said(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        with HostileServer(reply(407)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:secret@"))
            error = refused(
                lambda: downloader(workspace).probe("https://files.example.org/x"), "server_unavailable", workspace
            )
            assert proxy.requests[0].target == "files.example.org:443"
            assert proxy.requests[0].header("proxy-authorization") is not None
        assert "407" in error.what
        assert "HTTPS_PROXY" in error.fix
        assert "secret" not in str(error)

    def test_that_falls_silent(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        with HostileServer(parts(Stall())) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            here = downloader(workspace, timeouts=QUICK)
            refused(lambda: here.probe("https://files.example.org/x"), "server_timeout", workspace)

    @pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://", "http://[::1", "http://x:port"])
    def test_that_cannot_be_used(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("HTTPS_PROXY", value)
        error = refused(lambda: downloader(workspace).probe("https://files.example.org/x"), "bad_proxy", workspace)
        assert "HTTPS_PROXY" in error.fix

    def test_is_left_out_for_this_machine(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        with HostileServer(reply(500)) as proxy, HostileServer(reply(200, body=CONTENT)) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            assert downloader(workspace).probe(server.url).digest == DIGEST
            assert proxy.requests == []

    def test_is_left_out_where_no_proxy_says_so(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("10.0.0.1", port))])
        with HostileServer(reply(500)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("NO_PROXY", "example.org")
            refused(lambda: downloader(workspace).probe("https://files.example.org/x"), "private_address", workspace)
            assert proxy.requests == []


@pytest.fixture(scope="module")
def certify(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``certify(name, days)``: a PEM file with key, for that host name, that ends in so many days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def make(name: str, days: int) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = tmp_path_factory.mktemp("tls") / "both.pem"
        path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + secret)
        return path

    return make


class TestTLS:
    def context(self, path: Path, *, oldest: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        if oldest:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="OP_NO_TLS"):
                context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
        return context

    @pytest.mark.parametrize(
        ("name", "days", "trusted", "said"),
        [
            ("127.0.0.1", 9, False, "self"),
            ("127.0.0.1", -1, True, "expired"),
            ("elsewhere.example.org", 9, True, "mismatch"),
        ],
    )
    def test_certificates(
        self, workspace: Workspace, certify: Any, name: str, days: int, trusted: bool, said: str
    ) -> None:
        path = certify(name, days)
        with HostileServer(reply(200, body=CONTENT), tls=self.context(path)) as server:
            here = downloader(workspace, verify=path if trusted else None)
            error = refused(lambda: here.probe(server.url), "certificate_untrusted", workspace)
            assert said in error.what
            assert "medperf server" not in error.fix
            assert server.requests == []

    def test_a_good_one_then_a_downgrade(self, workspace: Workspace, certify: Any) -> None:
        path = certify("127.0.0.1", 9)
        here = downloader(workspace, verify=path)
        with HostileServer(
            reply(200, body=CONTENT), redirect("http://example.org/f"), tls=self.context(path)
        ) as server:
            assert here.probe(server.url).digest == DIGEST
            with pytest.raises(Exception, match="not encrypted"):
                here.probe(f"{server.url}/again")

    def test_an_old_version_of_tls(self, workspace: Workspace, certify: Any) -> None:
        path = certify("127.0.0.1", 9)
        with HostileServer(reply(200, body=CONTENT), tls=self.context(path, oldest=True)) as server:
            here = downloader(workspace, verify=path)
            refused(lambda: here.probe(server.url), "tls_failed", workspace)

    def test_http_where_tls_is_expected(self, workspace: Workspace) -> None:
        with HostileServer(parts(b"HTTP/1.1 400 Bad\r\n\r\n")) as server:
            https = server.url.replace("http://", "https://")
            refused(lambda: downloader(workspace).probe(https), "url_failed", workspace)
