"""A host in the hands of a test: promises, and answers to what servers ask."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.answers import Answer, Json
from tests.harness import ROOT, Sidecar

CAPABILITIES: Json = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}},
    "roots": {"listChanged": True},
}
NAME_FORM: Json = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ELICIT: Json = {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": NAME_FORM}}
SAMPLE: Json = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 10},
}
ROOTS: Json = {"method": "roots/list"}
SAMPLED: Json = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "hello"}}


def promise(sidecar: Sidecar, **capabilities: Any) -> None:
    """Send `initialize` with these capabilities."""
    found = capabilities.get("capabilities", CAPABILITIES)
    host = {"name": "test", "version": "1"}
    assert sidecar.call("initialize", {"protocolVersion": 1, "host": host, "capabilities": found}).result


def talker(*options: str) -> Json:
    """Return the transport of the server that talks back, over stdio."""
    path = str(ROOT / "tests" / "servers" / "talker.py")
    return {"type": "stdio", "command": sys.executable, "args": [path, *options]}


def asked(sidecar: Sidecar, method: str, server: str, count: int = 1) -> list[Json]:
    """Wait until the host was asked so often for this server, and return all such requests."""

    def found() -> list[Json] | None:
        all_of_it = [
            body
            for body in list(sidecar.calls)
            if body["method"] == method and "id" in body and body["params"]["server"] == server
        ]
        return all_of_it if len(all_of_it) >= count else None

    requests: list[Json] = sidecar.wait(found, f"{count} {method} of {server}")
    return requests


def reply(sidecar: Sidecar, request: Json, result: Any) -> None:
    """Answer a question."""
    sidecar.send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def refuse(sidecar: Sidecar, request: Json, code: int = -32000) -> None:
    """Answer a question with an error."""
    sidecar.send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}})


def cancelled(sidecar: Sidecar, request: Json) -> Json:
    """Wait until a question was taken back."""
    return sidecar.wait_told("notifications/cancelled", lambda params: params["requestId"] == request["id"])


def found(answer: Answer) -> Any:
    """Return the structured content of a tool's result."""
    return answer.result["structuredContent"]


def heard(sidecar: Sidecar, server: str, method: str) -> list[Json]:
    """Return the params of what the server has heard."""
    everything = found(sidecar.tool(server, "heard"))["heard"]
    return [message.get("params") or {} for message in everything if message.get("method") == method]


def text_of(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(value)
