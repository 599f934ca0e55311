"""A small MCP server on stdio, written by hand, whose every tool does one thing that a transcript needs.

Legacy era only (2025-11-25): it answers `server/discover` with -32601. Numbers keep their spelling, keys their order.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from .exact import Number, dumps, loads

TOOLS = {
    "echo": "Answer the arguments as structured content, and as text.",
    "fail": "Answer a result with isError.",
    "refuse": "Answer a JSON-RPC error.",
    "steps": "Send progress for each of `count` steps, then answer.",
    "never": "Send one progress if asked for it, and never answer.",
    "slow": "Answer after `ms` milliseconds.",
    "told": "Answer once the client has cancelled a request.",
    "exit": "Write a line to stderr and end the process with `code`.",
    "params": "Answer all params of the call as structured content.",
    "garble": "Answer with bytes that are no UTF-8.",
    "noise": "Write words, an answer to nobody and an unknown notification, then answer twice.",
    "big": "Answer a text of `bytes` bytes.",
    "tell": "Send the notification `method` with `notice`, then answer.",
    "ask": "Send `method` and `params` to the client, and answer what it said.",
}
RESOURCES = [{"uri": f"test://{number}", "name": f"r{number}", "size": Number(f"{number}.0")} for number in (1, 2, 3)]


class Server:
    """The state of one conversation."""

    def __init__(self) -> None:
        """Begin without cancels."""
        self._lock = threading.Lock()
        self._cancels = 0
        self._waiting: list[Any] = []
        self._asked: Any = None

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        with self._lock:
            sys.stdout.buffer.write(dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            sys.stdout.buffer.flush()

    def answer(self, request: Any, result: Any) -> None:
        """Answer a request with a result."""
        self.send({"id": request, "result": result})

    def refuse(self, request: Any, code: int, message: str, data: Any = None) -> None:
        """Answer a request with an error."""
        self.send({"id": request, "error": {"code": code, "message": message, "data": data}})

    def handle(self, message: dict[str, Any]) -> None:
        """Act on one message."""
        request, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if method is None and request == "question":
            said = {key: message[key] for key in ("result", "error") if key in message}
            self.answer(self._asked, {"content": [], "structuredContent": said})
            return
        if method == "notifications/cancelled":
            self._cancels += 1
            self._tell_waiting()
        elif request is None or method is None:
            return
        elif method == "initialize":
            self.answer(
                request,
                {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}, "resources": {}, "prompts": {}, "completions": {}, "logging": {}},
                    "serverInfo": {"name": "scripted", "version": "1.0", "unknownKey": [1.0]},
                    "instructions": "For transcripts.",
                },
            )
        elif method == "ping":
            self.answer(request, {})
        elif method == "tools/list":
            tools = [
                {"name": name, "description": text, "inputSchema": {"type": "object"}} for name, text in TOOLS.items()
            ]
            self.answer(request, {"tools": tools})
        elif method == "resources/list":
            self.page(request, params.get("cursor"))
        elif method == "resources/templates/list":
            self.answer(request, {"resourceTemplates": []})
        elif method == "resources/read":
            self.answer(request, {"contents": [{"uri": params["uri"], "text": "hello"}]})
        elif method == "prompts/list":
            self.answer(request, {"prompts": [{"name": "greet", "unknownKey": None}]})
        elif method == "prompts/get":
            text = {"type": "text", "text": dumps(params.get("arguments"))}
            self.answer(request, {"messages": [{"role": "user", "content": text}]})
        elif method == "completion/complete":
            self.answer(request, {"completion": {"values": [params["argument"]["value"] + "..."]}})
        elif method == "logging/setLevel":
            self.answer(request, {"ignored": params})
        elif method == "tools/call":
            self.call(request, str(params.get("name")), params.get("arguments") or {}, params)
        else:
            self.refuse(request, -32601, "Method not found")

    def page(self, request: Any, cursor: str | None) -> None:
        """Answer one resource a page; `page` is a field that MCP does not know."""
        index = int(cursor or "0")
        result = {"resources": [RESOURCES[index]], "page": index + 1}
        if index + 1 < len(RESOURCES):
            result["nextCursor"] = str(index + 1)
        self.answer(request, result)

    def raw(self, line: bytes) -> None:
        """Write a line as it is."""
        with self._lock:
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()

    def call(self, request: Any, name: str, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        """Run one tool."""
        token = (params.get("_meta") or {}).get("progressToken")
        if name == "echo":
            text = {"type": "text", "text": dumps(arguments)}
            self.answer(request, {"content": [text], "structuredContent": arguments, "unknownKey": None})
        elif name == "fail":
            self.answer(request, {"content": [{"type": "text", "text": "out of paper"}], "isError": True})
        elif name == "refuse":
            data = {"big": Number("18446744073709551616"), "spelled": Number("1.0"), "none": None}
            self.refuse(request, -32055, "out of ink", data)
        elif name == "steps":
            count = int(arguments["count"])
            for step in range(1, count + 1):
                self.progress(token, step, count, f"step {step}")
            self.answer(request, {"content": []})
        elif name == "never":
            self.progress(token, 0, None, "begun")
        elif name == "slow":
            timer = threading.Timer(int(arguments["ms"]) / 1000, self.answer, (request, {"content": []}))
            timer.daemon = True
            timer.start()
        elif name == "told":
            self._waiting.append(request)
            self._tell_waiting()
        elif name == "exit":
            sys.stderr.write("the scripted server ends\n")
            sys.stderr.flush()
            os._exit(int(arguments["code"]))
        elif name == "params":
            self.answer(request, {"content": [], "structuredContent": params})
        elif name == "garble":
            self.raw(b'{"jsonrpc":"2.0","id":%s,"result":{"content":"\xff"}}' % dumps(request).encode())
        elif name == "noise":
            self.raw(b"hello, I am a server that prints")
            self.answer("nobody", {})
            self.send({"method": "notifications/unknown", "params": {}})
            self.answer(request, {"content": [], "structuredContent": {"answer": 1}})
            self.answer(request, {"content": [], "structuredContent": {"answer": 2}})
        elif name == "big":
            self.answer(request, {"content": [{"type": "text", "text": "x" * int(arguments["bytes"])}]})
        elif name == "tell":
            self.send({"method": arguments["method"], "params": arguments["notice"]})
            self.answer(request, {"content": []})
        elif name == "ask":
            self._asked = request
            self.send({"id": "question", "method": arguments["method"], "params": arguments.get("params", {})})
        else:
            self.refuse(request, -32602, f"Unknown tool: {name}")

    def progress(self, token: Any, done: int, total: int | None, message: str) -> None:
        """Tell progress to a client that asked for it."""
        if token is not None:
            params = {"progressToken": token, "progress": done, "total": total, "message": message}
            params = {key: value for key, value in params.items() if value is not None}
            self.send({"method": "notifications/progress", "params": params})

    def _tell_waiting(self) -> None:
        while self._cancels and self._waiting:
            self.answer(self._waiting.pop(0), {"content": [], "structuredContent": {"cancels": self._cancels}})


def main() -> None:
    """Serve until the end of input."""
    server = Server()
    for line in sys.stdin.buffer:
        server.handle(loads(line))


if __name__ == "__main__":
    main()
