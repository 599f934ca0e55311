"""The faults that the hand-written servers can show, and what each must cost."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from tests.answers import Json
from tests.harness import Sidecar

MIB = 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """One call that goes wrong. `code` None: the call must succeed in spite of it."""

    name: str
    tool: str
    code: int | None = None
    delivered: str | None = None
    arguments: Json = field(default_factory=dict)
    timeout: int = 10_000
    renewed: bool = False
    """Whether the connection must be a new one afterwards."""
    extra: Json = field(default_factory=dict)
    """Further members of the error's data."""
    seconds: float = 1.5
    """How long the answer may take, beyond what a deadline of its own says."""


def line(text: bytes) -> Json:
    """Return the arguments of the tool that answers with these bytes; ID stands for the call's id."""
    return {"bytes": base64.b64encode(text).decode()}


def _answer(name: str, text: bytes) -> Fault:
    return Fault(name, "raw", 1502, "yes", line(text))


def _stray(name: str, text: bytes) -> Fault:
    return Fault(name, "raw", 1005, "maybe", line(text), timeout=300, extra={"phase": "wait"})


def _noise(name: str, text: bytes, count: int) -> Fault:
    return Fault(name, "noise", arguments={"line": base64.b64encode(text).decode(), "count": count}, seconds=10)


HEAD = b'{"jsonrpc":"2.0","id":ID,'

STDIO: tuple[Fault, ...] = (
    _answer("bad-utf8", HEAD + b'"result":{"x":"\xff\xfe"}}'),
    _answer("bad-json", HEAD + b'"result":{"content":[}'),
    _answer("nan", HEAD + b'"result":{"x":NaN}}'),
    _answer("lone-surrogate", HEAD + b'"result":{"x":"\\ud800"}}'),
    _answer("deep", HEAD + b'"result":{"x":' + b"[" * 600 + b"]" * 600 + b"}}"),
    _answer("trailing-data", HEAD + b'"result":{}} x'),
    _answer("control-character", HEAD + b'"result":{"x":"\x01"}}'),
    _answer("neither-result-nor-error", HEAD + b'"x":1}'),
    _answer("both-result-and-error", HEAD + b'"result":{},"error":{"code":1,"message":"m"}}'),
    _answer("result-is-no-object", HEAD + b'"result":[1]}'),
    _answer("error-is-no-object", HEAD + b'"error":"no"}'),
    _answer("error-without-code", HEAD + b'"error":{"message":"m"}}'),
    _stray("float-id", b'{"jsonrpc":"2.0","id":ID.5,"result":{}}'),
    _stray("foreign-id", b'{"jsonrpc":"2.0","id":987654,"result":{}}'),
    _stray("null-id", b'{"jsonrpc":"2.0","id":null,"result":{}}'),
    _stray("no-id", b'{"jsonrpc":"2.0","result":{}}'),
    _stray("batch", b"[" + HEAD + b'"result":{}}]'),
    _stray("web-page", b"<html>no</html>"),
    Fault("silence", "silent", 1005, "maybe", timeout=300, extra={"phase": "wait"}),
    Fault("error-of-its-own", "error", 1501, "yes"),
    Fault("answer-twice", "twice"),
    Fault("blank-lines-and-carriage-returns", "crlf"),
    Fault("byte-by-byte", "slow_bytes"),
    Fault("stray-messages", "stray"),
    _noise("garbage-lines", b"this is no JSON", 20_000),
    _noise("notifications", b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}', 20_000),
    Fault("pings", "pings", arguments={"count": 5000}, seconds=10),
    Fault("stderr-flood", "stderr", arguments={"size": 5 * MIB}, seconds=10),
    Fault("long-line-id-first", "long_line", 1006, "yes", {"size": 20 * MIB}, seconds=5),
    Fault("long-line-id-last", "long_line", 1006, "yes", {"size": 20 * MIB, "id": "end"}, seconds=5),
    Fault("long-line-without-id", "long_line", 1006, "yes", {"size": 20 * MIB, "id": "none"}, seconds=5),
    Fault("killed", "kill", 1107, "maybe", renewed=True, extra={"signal": "SIGKILL"}),
    Fault("exit", "exit", 1107, "maybe", {"code": 3}, renewed=True, extra={"exitCode": 3}),
    Fault("exit-in-mid-line", "half_line", 1107, "maybe", renewed=True, extra={"exitCode": 4}),
    Fault("exit-with-an-heir", "exit_with_heir", 1107, "maybe", renewed=True, extra={"exitCode": 0}),
    Fault("exit-with-a-loud-heir", "exit_with_loud_heir", 1107, "maybe", renewed=True, extra={"exitCode": 0}),
    Fault("exit-after-the-answer", "last_answer", renewed=True),
    Fault("stdout-closed", "close_stdout", 1106, "maybe", renewed=True),
)


def _status(code: int, error: int, delivered: str) -> Fault:
    return Fault(f"status-{code}", "status", error, delivered, {"code": code}, extra={"httpStatus": code})


def _body(name: str, text: str, delivered: str = "yes") -> Fault:
    return Fault(name, "raw", 1502, delivered, {"text": text})


HTTP: tuple[Fault, ...] = (
    _status(400, 1203, "maybe"),
    _status(401, 1302, "no"),
    _status(403, 1302, "no"),
    _status(405, 1203, "no"),
    _status(408, 1203, "maybe"),
    _status(413, 1203, "maybe"),
    _status(429, 1201, "no"),
    _status(500, 1202, "maybe"),
    _status(502, 1202, "maybe"),
    _status(503, 1202, "maybe"),
    _status(504, 1202, "maybe"),
    Fault("reset", "reset", 1106, "maybe"),
    Fault("half-a-body", "half", 1106, "maybe"),
    Fault("bad-chunk", "bad_chunk", 1106, "maybe"),
    Fault("another-protocol", "no_http", 1106, "maybe"),
    Fault("two-lengths", "two_lengths", 1106, "maybe"),
    Fault("cut-gzip", "short_gzip", 1106, "maybe"),
    Fault("unknown-encoding", "brotli", 1106, "maybe"),
    Fault("stream-without-a-result", "end_early", 1106, "maybe"),
    Fault("accepted", "accepted", 1502, "maybe"),
    Fault("web-page", "html", 1203, "maybe", extra={"httpStatus": 200}),
    Fault("redirect-away", "redirect", 1204, "no", extra={"origin": "http://127.0.0.1:1"}),
    _body("bad-json", '{"jsonrpc":"2.0","id":ID,"result":{'),
    _body("bad-utf8", '{"jsonrpc":"2.0","id":ID,"result":{"x":"\xff"}}'),
    _body("foreign-id", '{"jsonrpc":"2.0","id":987654,"result":{}}', "maybe"),
    Fault("batch", "batch", 1502, "yes"),
    Fault("nothing", "empty", 1502),
    Fault("silence", "silent", 1005, "maybe", timeout=300, extra={"phase": "wait"}),
    Fault("drip", "drip", 1005, "maybe", timeout=500, extra={"phase": "wait"}),
    Fault("bomb", "bomb", 1006, "yes", {"size": 40 * MIB, "as": "json"}, seconds=5),
    Fault("bomb-in-a-stream", "bomb", 1006, "yes", {"size": 40 * MIB, "as": "sse"}, seconds=5),
    Fault("old-http", "http10"),
    Fault("interim-responses", "interim"),
    Fault("bytes-after-the-body", "after_gzip"),
)


def applies(fault: Fault, answer: Any) -> None:
    """Check the answer of a call that met a fault."""
    if fault.code is None:
        assert answer.result is not None
    else:
        data = answer.is_error(fault.code, **fault.extra)
        assert fault.delivered in {None, data["delivered"]}
        assert b"a secret body" not in answer.line
        assert b"login page" not in answer.line


def meet(sidecar: Sidecar, server: str, fault: Fault) -> None:
    """Make the call that meets a fault, check what it costs, and make one more call."""
    before = sidecar.call("servers/get", {"server": server}).result["generation"]
    began = time.monotonic()
    answer = sidecar.tool(server, fault.tool, fault.arguments, timeoutMs=fault.timeout)
    applies(fault, answer)
    own = fault.timeout / 1000 if fault.code == 1005 else 0.0
    assert answer.at - began <= own + fault.seconds
    if fault.renewed:
        sidecar.wait_told(
            "servers/changed",
            lambda info: info["server"] == server and info["state"] == "ready" and info["generation"] == before + 1,
        )
    assert sidecar.tool(server, "echo", timeoutMs=5000).result
    after = sidecar.call("servers/get", {"server": server}).result
    assert after["state"] == "ready"
    assert after["generation"] == before + fault.renewed
