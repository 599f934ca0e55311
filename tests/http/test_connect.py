"""Reaching a server over HTTP: names, ports, TLS, URLs, the egress rule."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.harness import Sidecar
from tests.http.certificates import Certificates
from tests.programs import Program

HOST = {"name": "tests", "version": "1"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates good and bad."""
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(certificates: Certificates, request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the port of a listener that shakes hands with the certificate of the test's parameter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.pair(request.param))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.recv(1000)
            except OSError:
                connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(20)


def connect(sidecar: Sidecar, server: str, url: str, **more: Any) -> Any:
    """Send `servers/connect` for a URL and return the answer."""
    return sidecar.call("servers/connect", {"server": server, "transport": {"type": "http", "url": url, **more}})


def test_refused_port_is_1102_within_a_second(shared: Sidecar, server: str) -> None:
    connect(shared, f"{server}-loads-the-engine", "http://127.0.0.1:1/").is_error(1102)
    began = time.monotonic()
    answer = connect(shared, server, "http://127.0.0.1:1/mcp?token=very-secret")
    answer.is_error(1102, kind="ConnectFailed", phase="tcp", errno="ECONNREFUSED", delivered="no", retry="after")
    assert answer.at - began <= 1.0
    assert b"very-secret" not in answer.line
    assert b"very-secret" not in shared.stderr


def test_name_that_does_not_resolve_is_1102_dns(shared: Sidecar, server: str) -> None:
    answer = connect(shared, server, "https://nosuch.invalid/mcp")
    data = answer.is_error(1102, phase="dns", delivered="no")
    assert data["errno"].startswith("EAI_")


def test_plain_server_called_with_tls_is_1103(shared: Sidecar, server: str, modern: Program) -> None:
    answer = connect(shared, server, modern.origin.replace("http:", "https:") + "/mcp")
    assert answer.is_error(1103, kind="TLSFailed", delivered="no", retry="never")["reason"]


@pytest.mark.parametrize("tls_port", ["self-signed", "expired", "wrong-host"], indirect=True)
def test_bad_certificate_is_1103_within_a_second(
    shared: Sidecar, server: str, tls_port: int, certificates: Certificates
) -> None:
    began = time.monotonic()
    answer = connect(shared, server, f"https://127.0.0.1:{tls_port}/", tls={"caFile": str(certificates.ca)})
    assert answer.is_error(1103, delivered="no", retry="never")["reason"]
    assert answer.at - began <= 1.0
    assert shared.call("servers/get", {"server": server}).result["state"] == "failed"


@pytest.mark.parametrize("tls_port", ["good"], indirect=True)
def test_certificate_of_a_named_authority_passes_the_handshake(
    shared: Sidecar, server: str, tls_port: int, certificates: Certificates
) -> None:
    answer = connect(shared, server, f"https://127.0.0.1:{tls_port}/", tls={"caFile": str(certificates.ca)})
    answer.is_error(1106)


@pytest.mark.parametrize("tls_port", ["good"], indirect=True)
def test_certificate_of_an_unknown_authority_is_1103(shared: Sidecar, server: str, tls_port: int) -> None:
    connect(shared, server, f"https://127.0.0.1:{tls_port}/").is_error(1103)


@pytest.mark.parametrize("tls_port", ["self-signed"], indirect=True)
def test_verify_false_takes_any_certificate(shared: Sidecar, server: str, tls_port: int) -> None:
    connect(shared, server, f"https://127.0.0.1:{tls_port}/", tls={"verify": False}).is_error(1106)


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:1/mcp",
        "wss://127.0.0.1:1/mcp",
        "ftp://127.0.0.1/mcp",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:///mcp",
        "https://",
        "http://127.0.0.1:0/mcp",
        "http://127.0.0.1:65536/mcp",
        "http://127.0.0.1:port/mcp",
        "http://user:hunter2@127.0.0.1/mcp",
        "http://user@127.0.0.1/mcp",
        "http://127.0.0.1/a b\n",
        "127.0.0.1/mcp",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["http", "sse"])
def test_impossible_url_is_32602_with_a_sentence_and_leaves_no_address(
    shared: Sidecar, name: str, url: str, kind: str
) -> None:
    answer = shared.call("servers/connect", {"server": name, "transport": {"type": kind, "url": url}})
    data = answer.is_error(-32602)
    assert data["path"] == "/transport/url"
    assert len(answer.error["message"].split()) >= 4
    assert "hunter2" not in answer.error["message"]
    shared.call("servers/get", {"server": name}).is_error(1101)


def test_cluster_internal_plain_http_works_because_the_host_named_it(
    shared: Sidecar, server: str, raw_http: Program
) -> None:
    assert connect(shared, server, raw_http.origin + "/json/legacy/x").result["state"] == "ready"


def strict(start: Start, **egress: Any) -> Sidecar:
    """Return a sidecar that does not trust the URLs of `servers/connect`."""
    sidecar = start()
    egress = {"trustConnectOrigin": False, **egress}
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "egress": egress})
    return sidecar


@pytest.mark.parametrize(
    ("egress", "setting"),
    [
        ({}, "allow"),
        ({"allowHttp": ["127.0.0.1"]}, "allowPrivate"),
        ({"allowPrivate": ["127.0.0.0/8"]}, "allowHttp"),
        ({"allowHttp": ["*"], "allowPrivate": ["10.0.0.0/8"]}, "allowPrivate"),
    ],
)
def test_untrusted_url_to_the_loopback_is_1306_and_names_the_setting(
    start: Start, raw_http: Program, egress: Any, setting: str
) -> None:
    sidecar = strict(start, **egress)
    answer = connect(sidecar, "s", raw_http.origin + "/json/legacy/denied")
    answer.is_error(1306, kind="AuthPolicy", rule="egress", delivered="no", retry="never")
    assert setting in answer.error["message"]
    assert raw_http.get("/requests?key=denied") == []


def test_untrusted_url_that_the_settings_name_connects(start: Start, raw_http: Program) -> None:
    sidecar = strict(start, allowHttp=["127.0.0.1"], allowPrivate=["127.0.0.0/8"])
    assert connect(sidecar, "s", raw_http.origin + "/json/legacy/x").result["state"] == "ready"


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "127.1", "localhost", "[::1]", "0.0.0.0"]
)
def test_other_spellings_of_the_loopback_are_refused_too(start: Start, raw_http: Program, host: str) -> None:
    sidecar = strict(start, allowHttp=["*"])
    answer = connect(sidecar, "s", f"http://{host}:{raw_http.port}/json/legacy/spelled")
    assert answer.code in {1306, -32602}
    assert raw_http.get("/requests?key=spelled") == []


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "https://169.254.1.1/"]
)
def test_link_local_address_is_never_implied(shared: Sidecar, server: str, url: str) -> None:
    answer = connect(shared, server, url)
    answer.is_error(1306, rule="egress", delivered="no")
    assert "allowPrivate" in answer.error["message"]


def test_denied_host_is_1306_also_where_the_host_named_it(start: Start, raw_http: Program) -> None:
    sidecar = start()
    egress = {"denyHosts": ["127.0.0.*"]}
    sidecar.call("initialize", {"protocolVersion": 1, "host": HOST, "egress": egress})
    answer = connect(sidecar, "s", raw_http.origin + "/json/legacy/denied-host")
    answer.is_error(1306, rule="egress")
    assert "denyHosts" in answer.error["message"]


def test_host_outside_the_allowed_ones_is_1306(start: Start) -> None:
    sidecar = strict(start, allowHosts=["*.example.com"])
    answer = connect(sidecar, "s", "https://nosuch.invalid/mcp")
    answer.is_error(1306, rule="egress")
    assert "allowHosts" in answer.error["message"]


def test_missing_certificate_file_is_a_clear_error(shared: Sidecar, server: str, tmp_path: Path) -> None:
    answer = connect(shared, server, "https://127.0.0.1:1/", tls={"caFile": str(tmp_path / "none.pem")})
    assert answer.code in {-32602, 1103}
    assert "caFile" in answer.error["message"]
