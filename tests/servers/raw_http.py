"""A hand-written MCP server over Streamable HTTP: byte-exact, and broken in every way the tests need.

A path is `/STYLE/ERA/KEY`. STYLE says how answers come: `json` or `stream`, or how everything fails: `status-503`,
`html`, `redirect-on`, `redirect-off`, `redirect-loop`; `sse` is the transport of 2024-11-05. ERA is `legacy` (with
sessions), `plain` (legacy without) or `modern`. KEY belongs to one test. What a call does is chosen by the tool's
name. `/requests?key=` returns what came, `/wait?key=&what=` waits until something happened. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers import lifetime, payload
from tests.servers.http_wire import Request, read_request

Params = dict[str, msgspec.Raw]
MARKED = b'{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"%s"}}}'
"""A schema whose argument goes into a header too."""


class Message(msgspec.Struct):
    """A message of the client, its parts as they stand."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Call:
    """One JSON-RPC request and the way to answer it."""

    def __init__(self, server: Server, request: Request, message: Message, style: str, key: str) -> None:
        """Take the request apart."""
        self.server = server
        self.request = request
        self.style = style
        self.key = key
        self.id = bytes(message.id)
        self.params = bytes(message.params)
        members = msgspec.json.decode(message.params, type=Params)
        self.arguments: dict[str, Any] = msgspec.json.decode(members.get("arguments", msgspec.Raw(b"{}")))
        meta = msgspec.json.decode(members.get("_meta", msgspec.Raw(b"{}")))
        self.token: Any = meta.get("progressToken")

    def frame(self, result: bytes) -> bytes:
        """Return the answer's bytes."""
        return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (self.id, result)

    async def answer(self, result: bytes) -> None:
        """Answer with the bytes of a result, in the style of the path."""
        await self.send(self.frame(result))

    async def text(self, text: str) -> None:
        """Answer with a text."""
        await self.answer(b'{"content":[{"type":"text","text":%s}]}' % json.dumps(text).encode())

    async def send(self, frame: bytes, status: int = 200) -> None:
        """Send a whole message."""
        if self.style == "sse":
            await self.server.streams[self.request.query["session"]].event(frame, extra=b"event: message\n")
        elif self.style == "stream" and status == 200:
            await self.request.stream()
            await self.request.event(frame)
            await self.request.finish()
        else:
            await self.request.reply(status, frame)

    # -- tools: good ------------------------------------------------------------------------------------------

    async def do_echo(self) -> None:
        await self.answer(b'{"content":[],"structuredContent":{"params":%s}}' % self.params)

    async def do_faithful(self) -> None:
        await self.answer(payload.RESULT)

    async def do_broken_lines(self) -> None:
        await self.answer(payload.BROKEN_LINES)

    async def do_big(self) -> None:
        await self.answer(self.server.big(self.arguments["size"]))

    async def do_gzip(self) -> None:
        body = gzip.compress(self.frame(payload.RESULT))
        await self.request.reply(200, body, Content_Encoding="gzip")

    async def do_headers(self) -> None:
        text = json.dumps(self.request.headers).encode()
        await self.answer(b'{"content":[],"structuredContent":%s}' % text)

    async def do_slow(self) -> None:
        """Report progress on the call's own stream, then answer."""
        steps = self.arguments.get("steps", 3)
        await self.request.stream()
        gone = asyncio.ensure_future(self.request.left())
        for step in range(steps):
            if self.token is not None:
                body = {"progressToken": self.token, "progress": step + 1, "total": steps}
                line = {"jsonrpc": "2.0", "method": "notifications/progress", "params": body}
                await self.request.event(json.dumps(line).encode())
            if (await asyncio.wait([gone], timeout=self.arguments.get("delay", 0.02)))[0]:
                await self.server.note(self.key, "aborted")
                return
        gone.cancel()
        await asyncio.wait([gone])
        await self.request.event(self.frame(b'{"content":[{"type":"text","text":"done"}]}'))
        await self.request.finish()

    async def do_silent(self) -> None:
        await self.server.note(self.key, "silent")
        if self.style == "sse":
            return  # its answer would come on the session's stream; the connection of the post is free again
        await self.request.left()
        await self.server.note(self.key, "aborted")

    async def do_error(self) -> None:
        await self.send(self.error())

    async def do_error_status(self) -> None:
        await self.send(self.error(), self.arguments["code"])

    def error(self) -> bytes:
        """Return a JSON-RPC error under this call's id."""
        data = rb'{"big":18446744073709551616,"one":1.0,"null":null}'
        return b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32042,"message":"no","data":%s}}' % (self.id, data)

    async def do_forget_session(self) -> None:
        """Answer, and know no session from now on."""
        await self.text("forgotten")
        self.server.sessions.clear()

    # -- tools: broken ----------------------------------------------------------------------------------------

    async def do_status(self) -> None:
        headers = {} if self.arguments.get("retry") is None else {"Retry_After": self.arguments["retry"]}
        await self.request.reply(self.arguments["code"], b"a secret body", "text/plain", **headers)

    async def do_reset(self) -> None:
        self.request.reset()

    async def do_half(self) -> None:
        body = self.frame(payload.RESULT)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 100}\r\n\r\n"
        self.request.writer.write(head.encode() + body[:50])
        await self.request.writer.drain()
        self.request.close()

    async def do_bad_chunk(self) -> None:
        await self.request.stream()
        self.request.writer.write(b"zz\r\nno chunk\r\n")
        await self.request.writer.drain()
        self.request.close()

    async def do_bad_gzip(self) -> None:
        await self.request.reply(200, b"this is no gzip", Content_Encoding="gzip")

    async def do_bomb(self) -> None:
        body = gzip.compress(self.frame(b'"' + b"x" * self.arguments["size"] + b'"'), 1)
        await self.request.reply(200, body, Content_Encoding="gzip")

    async def do_wrong_id(self) -> None:
        await self.send(b'{"jsonrpc":"2.0","id":987654,"result":{"content":[]}}')

    async def do_accepted(self) -> None:
        await self.request.reply(202)

    async def do_no_content(self) -> None:
        await self.request.reply(204)

    async def do_html(self) -> None:
        await self.request.reply(200, b"<html>a login page</html>", "text/html")

    async def do_bad_json(self) -> None:
        await self.send(b'{"jsonrpc":"2.0","id":%s,"result":{"content":[}' % self.id)

    async def do_bad_utf8(self) -> None:
        await self.send(self.frame(b'{"content":[{"type":"text","text":"\xff"}]}'))

    async def do_end_early(self) -> None:
        """End the event stream without a result."""
        await self.request.stream()
        await self.request.finish()

    async def do_big_header(self) -> None:
        await self.request.reply(200, self.frame(payload.RESULT), X_Big="x" * (1 << 20))

    async def do_redirect(self) -> None:
        await self.request.reply(self.arguments.get("code", 307), Location=self.arguments["to"])


class Server:
    """All paths of one process."""

    def __init__(self) -> None:
        """Begin without sessions."""
        self.seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.happened: dict[str, list[str]] = defaultdict(list)
        self.condition = asyncio.Condition()
        self.sessions: set[str] = set()
        self.streams: dict[str, Request] = {}
        self.count = 0
        self.prepared: dict[int, bytes] = {}

    def big(self, size: int) -> bytes:
        """Return a prepared result of this size."""
        if size not in self.prepared:
            self.prepared[size] = payload.big(size)
        return self.prepared[size]

    async def note(self, key: str, what: str) -> None:
        """Remember that something happened, and wake who waits for it."""
        async with self.condition:
            self.happened[key].append(what)
            self.condition.notify_all()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes."""
        try:
            while not writer.is_closing():
                request = await read_request(reader, writer)
                if request is None:
                    break
                await self.serve(request)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if request.path == "/requests":
            await request.reply(200, json.dumps(self.seen[request.query["key"]]).encode())
        elif request.path == "/wait":
            key, what = request.query["key"], request.query["what"]
            async with self.condition:
                await asyncio.wait_for(self.condition.wait_for(lambda: what in self.happened[key]), 15)
            await request.reply(200, json.dumps(self.happened[key]).encode())
        else:
            style, era, key = (*request.path.strip("/").split("/"), "", "")[:3]
            entry = {"method": request.method, "target": request.target, "headers": request.headers}
            self.seen[key].append(entry | {"body": request.body.decode("utf-8", "replace")})
            await self.note(key, request.method)
            await self.mcp(request, style, era, key)

    async def mcp(self, request: Request, style: str, era: str, key: str) -> None:
        """Answer one request of the MCP endpoint."""
        if style.startswith("status-"):
            headers = {"Retry_After": request.query["retry"]} if "retry" in request.query else {}
            await request.reply(int(style[7:]), b"a secret body", "text/plain", **headers)
        elif style == "html":
            await request.reply(200, b"<html>a login page</html>", "text/html")
        elif style == "redirect-on":
            await request.reply(307, Location=f"/json/{era}/{key}")
        elif style == "redirect-off":
            await request.reply(307, Location=request.query["to"])
        elif style == "redirect-loop":
            await request.reply(307, Location=request.path)
        elif style == "sse" and request.method == "GET":
            await self.listen(request, key)
        elif style == "sse":
            await request.reply(202)
            await self.post(request, style, "plain", key)
        elif request.method == "DELETE":
            self.sessions.discard(request.headers.get("mcp-session-id", ""))
            await request.reply(200)
        elif request.method != "POST":
            await request.reply(405)
        else:
            await self.post(request, style, era, key)

    async def listen(self, request: Request, key: str) -> None:
        """Open the one event stream of a session, and tell where to post."""
        self.count += 1
        session = f"stream-{self.count}"
        self.streams[session] = request
        await request.stream()
        endpoint = request.query.get("endpoint", f"/sse/legacy/{key}?session={session}")
        await request.event(endpoint.encode(), extra=b"event: endpoint\n")
        await request.left()
        del self.streams[session]
        await self.note(key, "stream closed")

    async def post(self, request: Request, style: str, era: str, key: str) -> None:
        """Answer one message."""
        message = msgspec.json.decode(request.body, type=Message)
        session = request.headers.get("mcp-session-id")
        legacy = era in {"legacy", "plain"}
        if message.method == "server/discover" and legacy and style != "sse":
            await request.reply(400, b"Missing session ID", "text/plain")
            return
        if era == "legacy" and message.method != "initialize" and session not in self.sessions:
            await request.reply(404 if session else 400, b"no session", "text/plain")
            return
        if not bytes(message.id):
            await self.note(key, message.method)
            if style != "sse":
                await request.reply(202)
            return
        call = Call(self, request, message, style, key)
        if message.method == "initialize":
            self.count += 1
            name = f"session-{self.count}"
            self.sessions.add(name)
            result = (
                b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{},"vendor":1.0},'
                b'"serverInfo":{"name":"raw","version":"1","vendor":null}}'
            )
            if style == "sse":
                await call.answer(result)
                return
            headers = {"Mcp_Session_Id": name} if era == "legacy" else {}
            await request.reply(200, call.frame(result), **headers)
        elif message.method == "server/discover":
            await call.answer(
                b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private",'
                b'"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1"}}}'
            )
        elif message.method == "tools/list":
            tool = b'{"name":"echo","inputSchema":{"type":"object"},"vendor":1.0,"x":null}'
            if "bad-tool" in request.query:
                tool += b',{"name":"marked","inputSchema":' + MARKED % b"not a header!" + b"}"
            if "good-tool" in request.query:
                tool += b',{"name":"headers","inputSchema":' + MARKED % b"Region" + b"}"
            await call.answer(b'{"tools":[%s],"ttlMs":0,"cacheScope":"private","vendor":null}' % tool)
        elif message.method == "tools/call":
            name = msgspec.json.decode(msgspec.json.decode(message.params, type=Params)["name"])
            await self.note(key, f"call {name}")
            await getattr(call, f"do_{name}")()
        else:
            await call.answer(b"{}")


async def main(port: int) -> None:
    """Listen on the loopback."""
    lifetime.end_with_parent()
    server = Server()
    listener = await asyncio.start_server(server.connection, "127.0.0.1", port, limit=1 << 26, backlog=1024)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))
