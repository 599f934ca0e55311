"""Results reach the host and arguments reach the server as the bytes they were, over every transport and era."""

from __future__ import annotations

import base64
import json

import pytest

from tests.harness import Sidecar
from tests.programs import Program, raw
from tests.servers import payload


def params(server: str, name: str, arguments: bytes, meta: bytes | None = None) -> bytes:
    """Return the params of a tool call as bytes."""
    more = b"" if meta is None else b',"_meta":' + meta
    return b'{"name":"%s","arguments":%s,"server":"%s"%s}' % (name.encode(), arguments, server.encode(), more)


def test_result_is_copied_byte_for_byte(shared: Sidecar, exact: str) -> None:
    assert shared.tool(exact, "faithful").bytes == payload.RESULT


def test_arguments_reach_the_server_byte_for_byte(shared: Sidecar, exact: str) -> None:
    answer = shared.answer(shared.raw_request("tools/call", params(exact, "echo", payload.ARGUMENTS)))
    assert b'"arguments":' + payload.ARGUMENTS in answer.bytes
    assert b'"server"' not in answer.bytes


def test_meta_of_the_host_is_kept_and_only_added_to(shared: Sidecar, exact: str) -> None:
    answer = shared.answer(shared.raw_request("tools/call", params(exact, "echo", b"{}", payload.META)))
    sent = answer.result["structuredContent"]["params"]
    assert payload.META[1:-1] in answer.bytes
    for key, value in json.loads(payload.META).items():
        assert sent["_meta"][key] == value


def test_unknown_keys_of_an_operation_reach_the_server(shared: Sidecar, exact: str) -> None:
    body = params(exact, "echo", b"{}")[:-1] + b',"vendor/x":{"n":1.0,"z":null},"timeoutMs":9000}'
    sent = shared.answer(shared.raw_request("tools/call", body)).result["structuredContent"]["params"]
    assert sent["vendor/x"] == {"n": 1.0, "z": None}
    assert not sent.keys() & {"server", "scope", "timeoutMs", "progress", "idempotent", "headers", "all", "detach"}


def test_absent_arguments_stay_absent(shared: Sidecar, exact: str) -> None:
    body = b'{"server":"%s","name":"echo"}' % exact.encode()
    sent = shared.answer(shared.raw_request("tools/call", body)).result["structuredContent"]["params"]
    assert "arguments" not in sent


def test_list_is_copied_with_its_unknown_fields(shared: Sidecar, exact: str) -> None:
    answer = shared.call("tools/list", {"server": exact})
    assert b'"vendor":1.0' in answer.bytes
    assert answer.bytes.endswith(b'"vendor":null}')


def test_error_of_the_server_is_verbatim(shared: Sidecar, exact: str) -> None:
    answer = shared.tool(exact, "error")
    remote = answer.is_error(1501, delivered="yes", retry="never", server=exact)["remote"]
    assert remote["code"] == -32042
    assert remote["data"]["null"] is None
    assert b'{"big":18446744073709551616,"one":1.0,"null":null}' in answer.line


@pytest.mark.parametrize("kind", ["json", "stream"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_line_breaks_between_tokens_become_blanks(
    shared: Sidecar, server: str, kind: str, era: str, raw_http: Program
) -> None:
    shared.connect(server, raw_http.http(f"/{kind}/{era}/breaks"))
    answer = shared.tool(server, "broken_lines")
    assert json.loads(answer.bytes) == json.loads(payload.BROKEN_LINES)
    # An event's lines are joined by one newline whatever ended them, and a carriage return ends a line too.
    sent = payload.BROKEN_LINES if kind == "json" else payload.BROKEN_LINES.replace(b"\r\n", b"\n")
    assert answer.bytes == payload.one_line(sent)


def test_line_breaks_become_blanks_over_sse(shared: Sidecar, server: str, raw_http: Program) -> None:
    shared.connect(server, raw_http.sse("/sse/legacy/breaks"))
    assert shared.tool(server, "broken_lines").bytes == payload.one_line(payload.BROKEN_LINES.replace(b"\r\n", b"\n"))


def test_number_that_no_double_holds_is_copied(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    assert shared.tool(server, "huge_number").bytes == b'{"content":[],"structuredContent":{"n":1e400}}'


def test_bytes_the_server_read_are_the_hosts(shared: Sidecar, server: str) -> None:
    shared.connect(server, raw())
    answer = shared.answer(shared.raw_request("tools/call", params(server, "bytes", payload.ARGUMENTS)))
    read = base64.b64decode(answer.result["content"][0]["text"])
    assert b'"arguments":' + payload.ARGUMENTS in read
    assert read.startswith(b'{"name":"bytes"')
