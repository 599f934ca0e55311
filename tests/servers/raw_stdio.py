"""A hand-written MCP server over stdio: fast, byte-exact, and broken in every way the tests need.

How it starts is set by options; what a call does is chosen by the tool's name. Calls are noted in `--journal`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers import payload

HANDSHAKE = "2025-11-25"
MODERN = "2026-07-28"
PAGES = 3


class Message(msgspec.Struct):
    """A message of the client, its parts as they stand."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw(b"{}")


decode = msgspec.json.Decoder(Message).decode


class Server:
    """One connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Prepare what must not cost time later."""
        self.options = options
        self.lock = threading.Lock()
        self.cancelled: dict[str, threading.Event] = {}
        self.heard: list[str] = []
        self.prepared: dict[int, bytes] = {}
        for size in options.prepare:
            self.prepared[size] = payload.big(size)

    # -- out --------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write bytes in one piece."""
        with self.lock:
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]

    def answer(self, raw_id: bytes, result: bytes) -> None:
        """Answer with the bytes of a result."""
        self.write(b'{"jsonrpc":"2.0","id":%s,"result":%s}\n' % (raw_id, result))

    def refuse(self, raw_id: bytes, code: int, message: str, data: bytes = b"null") -> None:
        """Answer with an error."""
        text = json.dumps(message).encode()
        self.write(
            b'{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s,"data":%s}}\n' % (raw_id, code, text, data)
        )

    def text(self, raw_id: bytes, text: str, structured: bytes | None = None) -> None:
        """Answer with a text, and perhaps structured content."""
        more = b"" if structured is None else b',"structuredContent":' + structured
        self.answer(raw_id, b'{"content":[{"type":"text","text":%s}]%s}' % (json.dumps(text).encode(), more))

    def journal(self, line: str) -> None:
        """Note what was executed, across restarts of this program."""
        if self.options.journal:
            with open(self.options.journal, "a", encoding="utf-8") as file:  # noqa: PTH123 - one small append
                file.write(line + "\n")

    # -- in ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the input ends."""
        buffer = sys.stdin.buffer
        for line in iter(buffer.readline, b""):
            message = decode(line)
            raw_id = bytes(message.id)
            if raw_id:
                self.request(message.method, raw_id, bytes(message.params))
            elif message.method:
                self.heard.append(line.decode().strip())
                self.journal(f"notification {message.method}")
                if message.method == "notifications/cancelled":
                    target = msgspec.json.decode(message.params, type=dict[str, msgspec.Raw]).get("requestId")
                    event = self.cancelled.get(bytes(target or b"").decode())
                    if event is not None:
                        event.set()
        if self.options.ignore_eof:
            threading.Event().wait()

    def request(self, method: str, raw_id: bytes, params: bytes) -> None:
        """Serve one request."""
        if method == "tools/call":
            name = msgspec.json.decode(params, type=dict[str, msgspec.Raw])["name"]
            self.call(msgspec.json.decode(name), raw_id, params)
        elif method == "server/discover":
            if self.options.modern:
                self.answer(
                    raw_id,
                    b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{},"prompts":{}},'
                    b'"ttlMs":0,"cacheScope":"private","resultType":"complete","_meta":'
                    b'{"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1","vendor":null}}}',
                )
            else:
                self.refuse(raw_id, -32601, "Method not found")
        elif method == "initialize":
            self.initialize(raw_id, params)
        elif method in {"ping", "logging/setLevel"}:
            self.journal(method)
            self.answer(raw_id, b"{}")
        elif method in {"tools/list", "resources/list", "prompts/list", "resources/templates/list"}:
            self.journal(method)
            self.listing(method, raw_id, params)
        elif method == "resources/read":
            self.answer(raw_id, b'{"contents":[{"uri":"x:y","text":"t","vendor":1.0}],"params":%s}' % params)
        elif method == "prompts/get":
            self.answer(raw_id, b'{"messages":[],"params":%s}' % params)
        elif method == "completion/complete":
            self.answer(raw_id, b'{"completion":{"values":["one"]},"params":%s}' % params)
        else:
            self.refuse(raw_id, -32601, "Method not found")

    def initialize(self, raw_id: bytes, params: bytes) -> None:
        """Shake hands, or not."""
        self.journal("initialize")
        how = self.options.handshake
        if how == "silent":
            return
        if how == "exit":
            os._exit(7)
        if how == "html":
            self.write(b"<html>no</html>\n")
            return
        version = json.dumps("1999-01-01" if how == "version" else HANDSHAKE).encode()
        self.answer(
            raw_id,
            b'{"protocolVersion":%s,"capabilities":{"tools":{"listChanged":true},"resources":{},"prompts":{},'
            b'"logging":{},"completions":{},"vendor":{"k":null}},"serverInfo":{"name":"raw","version":"1","vendor":null},'
            b'"instructions":"be kind","asked":%s}' % (version, params),
        )

    def listing(self, method: str, raw_id: bytes, params: bytes) -> None:
        """Answer one page; its items say which page."""
        key = {"tools/list": "tools", "resources/list": "resources", "prompts/list": "prompts"}.get(
            method, "resourceTemplates"
        )
        if key == "tools" and self.options.tools:
            more = b',"ttlMs":%d,"cacheScope":"private"' % self.options.ttl if self.options.modern else b""
            self.answer(raw_id, b'{"tools":%s%s}' % (Path(self.options.tools).read_bytes(), more))
            return
        if self.options.pages == 0:
            page = b'{"name":"echo","description":"d","inputSchema":{"type":"object"},"vendor":1.0}'
            self.answer(raw_id, b'{"%s":[%s],"vendor":null}' % (key.encode(), page))
            return
        cursor = msgspec.json.decode(params, type=dict[str, Any]).get("cursor")
        number = int(cursor or 0)
        item = b'{"name":"t%d","n":%d.0,"uri":"x:%d","uriTemplate":"x:%d","inputSchema":{"type":"object"},"x":null}' % (
            (number,) * 4
        )
        more = (
            b'"nextCursor":"%d",' % (number + 1) if self.options.pages < 0 or number + 1 < self.options.pages else b""
        )
        self.answer(raw_id, b'{%s"page":%d.0,"%s":[%s]}' % (more, number, key.encode(), item))

    # -- calls ------------------------------------------------------------------------------------------------

    def call(self, name: str, raw_id: bytes, params: bytes) -> None:
        """Do what the tool's name says."""
        arguments = msgspec.json.decode(params, type=dict[str, Any]).get("arguments") or {}
        self.journal(f"call {name}")
        handler = getattr(self, f"do_{name}", None)
        if handler is None:
            self.refuse(raw_id, -32602, f"Unknown tool: {name}", b'{"vendor":1.0}')
        else:
            handler(raw_id, params, arguments)

    def do_echo(self, raw_id: bytes, params: bytes, _: dict[str, Any]) -> None:
        self.answer(raw_id, b'{"content":[],"structuredContent":{"params":%s}}' % params)

    def do_bytes(self, raw_id: bytes, params: bytes, _: dict[str, Any]) -> None:
        """Return the params as base64, so that no layer can retouch them."""
        self.text(raw_id, base64.b64encode(params).decode())

    def do_faithful(self, raw_id: bytes, *_: Any) -> None:
        self.answer(raw_id, payload.RESULT)

    def do_huge_number(self, raw_id: bytes, *_: Any) -> None:
        self.answer(raw_id, b'{"content":[],"structuredContent":{"n":1e400}}')

    def do_big(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        size = arguments["size"]
        self.answer(raw_id, self.prepared.get(size) or payload.big(size))

    def do_long_line(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        """Answer with a line far over every limit, the id in front, at the end or in the middle."""
        filler = b"x" * arguments["size"]
        where = arguments.get("id", "front")
        head = b'"id":%s,' % raw_id if where == "front" else b""
        tail = b',"id":%s' % raw_id if where == "end" else b""
        self.write(b'{"jsonrpc":"2.0",%s"result":{"content":[{"type":"text","text":"%s"}]}%s}\n' % (head, filler, tail))

    def do_raw(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        """Write the given bytes (base64) as a line, with ID for this call's id."""
        self.write(base64.b64decode(arguments["bytes"]).replace(b"ID", raw_id) + b"\n")

    def do_deep(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        depth = arguments["depth"]
        self.answer(raw_id, b'{"content":[],"x":' + b"[" * depth + b"]" * depth + b"}")

    def do_structured(self, raw_id: bytes, params: bytes, _: dict[str, Any]) -> None:
        """Return the arguments as structured content, or none where there are none."""
        arguments = msgspec.json.decode(params, type=dict[str, msgspec.Raw]).get("arguments", b"{}")
        value = msgspec.json.decode(arguments, type=dict[str, msgspec.Raw]).get("value")
        more = b"" if value is None else b',"structuredContent":' + bytes(value)
        self.answer(raw_id, b'{"content":[]%s}' % more)

    def do_failing(self, raw_id: bytes, *_: Any) -> None:
        self.answer(raw_id, b'{"content":[],"isError":true}')

    def do_tell_changed(self, raw_id: bytes, *_: Any) -> None:
        self.write(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n')
        self.text(raw_id, "told")

    def do_error(self, raw_id: bytes, *_: Any) -> None:
        self.refuse(raw_id, -32042, "no \u00e9", b'{"big":18446744073709551616,"one":1.0,"null":null}')

    def do_big_error(self, raw_id: bytes, *_: Any) -> None:
        self.refuse(raw_id, 17, "big", json.dumps("x" * 70_000).encode())

    def do_tool_error(self, raw_id: bytes, *_: Any) -> None:
        self.answer(raw_id, b'{"isError":true,"content":[{"type":"text","text":"it failed"}]}')

    def do_silent(self, raw_id: bytes, *_: Any) -> None:
        self.cancelled[raw_id.decode()] = threading.Event()

    def do_heard(self, raw_id: bytes, *_: Any) -> None:
        self.text(
            raw_id, "heard", b'{"heard":[%s],"waiting":%d}' % (",".join(self.heard).encode(), len(self.cancelled))
        )

    def do_wait_cancel(self, raw_id: bytes, *_: Any) -> None:
        """Answer once any earlier silent call was cancelled."""

        def wait() -> None:
            done = [event.wait(10) for event in list(self.cancelled.values())]
            self.text(raw_id, "cancelled" if done and all(done) else "not cancelled")

        threading.Thread(target=wait, daemon=True).start()

    def do_slow(self, raw_id: bytes, params: bytes, arguments: dict[str, Any]) -> None:
        """Report progress, then answer; a cancel ends it."""
        meta = msgspec.json.decode(params, type=dict[str, Any]).get("_meta") or {}
        token = meta.get("progressToken")
        event = self.cancelled[raw_id.decode()] = threading.Event()

        def work() -> None:
            steps = arguments.get("steps", 3)
            for step in range(steps):
                if token is not None:
                    self.progress(token, step + 1, steps)
                if event.wait(arguments.get("delay", 0.02)):
                    self.journal("cancelled")
                    return
            self.text(raw_id, "done")

        threading.Thread(target=work, daemon=True).start()

    def progress(self, token: Any, step: int, total: int) -> None:
        """Tell how far a call is."""
        body = {"progressToken": token, "progress": step, "total": total, "message": f"step {step}"}
        line = {"jsonrpc": "2.0", "method": "notifications/progress", "params": body}
        self.write(json.dumps(line).encode() + b"\n")

    def do_flood(self, raw_id: bytes, params: bytes, arguments: dict[str, Any]) -> None:
        """Send many progress notifications, then answer."""
        token = (msgspec.json.decode(params, type=dict[str, Any]).get("_meta") or {}).get("progressToken")
        if token is not None:
            for step in range(arguments["count"]):
                self.progress(token, step + 1, arguments["count"])
        self.text(raw_id, "done")

    def do_garbage(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        self.write(b"this is no JSON\n" * arguments["count"])
        self.text(raw_id, "done")

    def do_noise(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        """Write many copies of a line (base64), then answer."""
        block = (base64.b64decode(arguments["line"]) + b"\n") * 1000
        for _number in range(arguments["count"] // 1000):
            self.write(block)
        self.text(raw_id, "done")

    def do_pings(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        """Ask the client very often whether it is there, then answer; the input is not read meanwhile."""
        for number in range(arguments["count"]):
            self.write(b'{"jsonrpc":"2.0","id":"p%d","method":"ping"}\n' % number)
        self.text(raw_id, "done")

    def do_twice(self, raw_id: bytes, *_: Any) -> None:
        """Answer twice."""
        self.text(raw_id, "first")
        self.text(raw_id, "second")

    def do_crlf(self, raw_id: bytes, *_: Any) -> None:
        """Answer between blank lines, with a carriage return."""
        self.write(b'\n \r\n{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\r\n\n' % raw_id)

    def do_slow_bytes(self, raw_id: bytes, *_: Any) -> None:
        """Write the answer byte by byte."""
        for byte in b'{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' % raw_id:
            self.write(bytes([byte]))

    def do_last_answer(self, raw_id: bytes, *_: Any) -> None:
        """Answer and end in the same moment."""
        self.text(raw_id, "last")
        os._exit(0)

    def do_half_line(self, *_: Any) -> None:
        """End in the middle of a line."""
        self.write(b'{"jsonrpc":"2.0","id":')
        os._exit(4)

    def do_endless_line(self, _: bytes, __: bytes, arguments: dict[str, Any]) -> None:
        """Write a line that never ends, and stay."""
        for _number in range(arguments["mib"]):
            self.write(b"x" * (1 << 20))

    def do_stray(self, raw_id: bytes, *_: Any) -> None:
        """Say much about what nobody asked, then answer."""
        for line in (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99999,"progress":1}}',
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":[]}',
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99999}}',
            b'{"jsonrpc":"2.0","method":"notifications/nosuch"}',
            b'{"jsonrpc":"2.0","method":"notifications/message"}',
            b'{"jsonrpc":"2.0","method":17}',
            b'{"jsonrpc":"2.0","id":"a","method":"nosuch/method"}',
            b'{"jsonrpc":"2.0","id":"a","method":"roots/list","params":[]}',
            b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
            b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
            b'{"jsonrpc":"1.0","id":987654321,"result":{}}',
        ):
            self.write(line + b"\n")
        self.text(raw_id, "done")

    def do_stderr(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        line = arguments.get("line", "noise " * 20).encode() + b"\n"
        total = 0
        while total < arguments.get("size", 1):
            total += os.write(2, line)
        self.text(raw_id, "done")

    def do_stop_reading(self, raw_id: bytes, _: bytes, arguments: dict[str, Any]) -> None:
        self.text(raw_id, "stopped")
        time.sleep(arguments.get("seconds", 3600))

    def do_kill(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_exit(self, _: bytes, __: bytes, arguments: dict[str, Any]) -> None:
        os.write(2, b"last words\n")
        os._exit(arguments.get("code", 3))

    def do_exit_with_heir(self, *_: Any) -> None:
        """End while a grandchild keeps stdout open."""
        subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)
        os._exit(0)

    def do_exit_with_loud_heir(self, *_: Any) -> None:
        """End while a grandchild writes to stdout without end."""
        subprocess.Popen(["yes"], stdin=subprocess.DEVNULL)
        os._exit(0)

    def do_close_stdin(self, raw_id: bytes, *_: Any) -> None:
        """Answer, and read nothing any more."""
        self.text(raw_id, "closed")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        threading.Event().wait()

    def do_close_stdout(self, *_: Any) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def do_pids(self, raw_id: bytes, *_: Any) -> None:
        self.text(raw_id, "pids", json.dumps({"pid": os.getpid(), "children": self.options.pids}).encode())

    def do_environment(self, raw_id: bytes, *_: Any) -> None:
        fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, no paths
        body = {"env": dict(os.environ), "cwd": str(Path.cwd()), "fds": fds[:-1], "argv": sys.argv[1:]}
        self.text(raw_id, "environment", json.dumps(body).encode())

    def do_ping_back(self, raw_id: bytes, *_: Any) -> None:
        """Ask the client for something no host promised, then answer."""
        self.write(b'{"jsonrpc":"2.0","id":"ask-1","method":"roots/list"}\n')
        self.text(raw_id, "asked")


def grandchild(stubborn: bool) -> int:
    """Start a process of our own that holds no pipe of ours."""
    code = "import signal,time\n" + ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else "")
    null = subprocess.DEVNULL
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code + "print(1, flush=True)\ntime.sleep(600)"],
        stdin=null,
        stdout=subprocess.PIPE,
        stderr=null,
        start_new_session=stubborn,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modern", action="store_true", help="speak 2026-07-28 instead of the handshake")
    parser.add_argument("--handshake", default="ok", choices=["ok", "silent", "exit", "html", "version"])
    parser.add_argument("--ignore-eof", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--grandchild", choices=["plain", "stubborn"], action="append", default=[])
    parser.add_argument("--pages", type=int, default=0, help="pages of a list; negative: no end")
    parser.add_argument("--prepare", type=int, action="append", default=[], help="build a result of this size first")
    parser.add_argument("--tools", help="file with the JSON array of tools, read for each list")
    parser.add_argument("--ttl", type=int, default=0, help="how long a modern list of tools holds, in ms")
    parser.add_argument("--journal", help="file to note calls in")
    parser.add_argument("--say", help="write this to stderr first")
    parser.add_argument("--exit", type=int, help="end at once with this code")
    options = parser.parse_args()
    if options.say:
        os.write(2, options.say.encode() + b"\n")
    if options.exit is not None:
        os._exit(options.exit)
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    options.pids = [grandchild(kind == "stubborn") for kind in options.grandchild]
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Server(options).run()


if __name__ == "__main__":
    main()
