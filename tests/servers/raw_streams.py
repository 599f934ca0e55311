"""A hand-written HTTP server whose event streams, chunks and connections break in the middle.

`/mcp/KEY` is a legacy endpoint, `/modern/KEY` one of 2026-07-28; a call does what its tool's name says. Query:
`get` says what the standalone stream does, `close=1` closes each connection after its response without a word.
`/seen?key=KEY` tells every request with the time it came at. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import sys
import time
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.servers import lifetime, payload
from tests.servers.http_wire import Request, read_request

Params = dict[str, msgspec.Raw]
MIB = 1 << 20
LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'


class Message(msgspec.Struct):
    """A message of the client, its parts as they stand."""

    method: str = ""
    id: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw(b"{}")


def event(data: bytes, key: str | None = None, retry: int | None = None) -> bytes:
    """Return one event."""
    head = b"" if key is None else b"id: %s\n" % key.encode()
    head += b"" if retry is None else b"retry: %d\n" % retry
    return head + b"data: " + data + b"\n\n"


class Dropped:
    """A call whose stream is cut again and again."""

    def __init__(self, frame: bytes, token: Any, arguments: dict[str, Any]) -> None:
        """Begin before the first event."""
        self.frame = frame
        self.token = token
        self.times = arguments["times"]
        self.retry = arguments.get("retry")
        self.again = arguments.get("again", False)
        self.step = 0


class Server:
    """All keys of one process."""

    def __init__(self) -> None:
        """Begin without sessions."""
        self.seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.sessions: dict[str, str] = {}
        self.dropped: dict[str, Dropped] = {}
        self.condition = asyncio.Condition()
        self.count = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes."""
        try:
            while not writer.is_closing():
                request = await read_request(reader, writer)
                if request is None:
                    break
                await self.serve(request)
                if "close" in request.query:
                    writer.close()
                    await writer.wait_closed()
                    async with self.condition:
                        self.seen[request.path.strip("/").split("/")[1]].append({"what": "closed"})
                        self.condition.notify_all()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def serve(self, request: Request) -> None:
        """Answer one request."""
        if request.path == "/seen":
            await request.reply(200, json.dumps(self.seen[request.query["key"]]).encode())
            return
        if request.path == "/wait":
            key, what, count = request.query["key"], request.query["what"], int(request.query.get("count", "1"))
            async with self.condition:
                await asyncio.wait_for(
                    self.condition.wait_for(lambda: sum(what in entry["what"] for entry in self.seen[key]) >= count),
                    15,
                )
            await request.reply(200, json.dumps(self.seen[key]).encode())
            return
        if request.path == "/forget":
            self.sessions.clear()
            await request.reply(200, b"{}")
            return
        era, key = request.path.strip("/").split("/")
        what = request.method
        if request.method == "POST":
            message = msgspec.json.decode(request.body, type=Message)
            what = message.method or "answer"
            if what == "tools/call":
                name = msgspec.json.decode(msgspec.json.decode(message.params, type=Params)["name"])
                what = f"call {name}"
        entry = {"what": what, "at": time.monotonic(), "last": request.headers.get("last-event-id")}
        async with self.condition:
            self.seen[key].append(entry)
            self.condition.notify_all()
        if request.method == "GET":
            await self.listen(request, key)
        elif request.method == "POST":
            await self.post(request, message, era, key)
        else:
            await request.reply(200)

    # -- the standalone stream, and resumed ones --------------------------------------------------------------

    async def listen(self, request: Request, key: str) -> None:
        """Answer a GET."""
        last = request.headers.get("last-event-id", "")
        call, _, step = last.partition("/")
        if call in self.dropped:
            await self.go_on(request, call, int(step))
            return
        how = request.query.get("get", "off")
        times = sum(entry["what"] == "GET" for entry in self.seen[key])
        known = request.headers.get("mcp-session-id") in self.sessions
        if how == "off":
            await request.reply(405)
        elif how.isdigit() and times <= 2:
            await request.reply(int(how))
        elif how == "gone" and not known:
            await request.reply(404)
        else:
            await request.stream()
            retry = {"zero": 0, "huge": 10**12}.get(how)
            await request.chunk(event(CHANGED, retry=retry))
            if how in {"zero", "cut"} or (how == "gone" and times == 1):
                self.sessions = {} if how == "gone" else self.sessions
                await request.finish()
            else:
                await request.left()

    async def go_on(self, request: Request, key: str, step: int) -> None:
        """Go on with a stream that was cut."""
        call = self.dropped[key]
        await request.stream()
        if call.again:  # a server that counts from the wrong end
            await request.chunk(event(self.progress(call, step), f"{key}/{step}"))
        call.step = step + 1
        if call.step <= call.times:
            await request.chunk(event(self.progress(call, call.step), f"{key}/{call.step}"))
        else:
            await request.chunk(event(call.frame, f"{key}/{call.step}"))
        await request.finish()

    @staticmethod
    def progress(call: Dropped, step: int) -> bytes:
        """Return progress, or a log line where none was asked for."""
        if call.token is None or step == 0:
            return LOG
        params = {"progressToken": call.token, "progress": step}
        return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()

    # -- posts ------------------------------------------------------------------------------------------------

    async def post(self, request: Request, message: Message, era: str, key: str) -> None:
        """Answer one message."""
        session = request.headers.get("mcp-session-id")
        raw_id = bytes(message.id)
        if era == "mcp" and message.method == "server/discover":
            await request.reply(400, b"no", "text/plain")
            return
        if era == "mcp" and message.method != "initialize" and session not in self.sessions:
            await request.reply(404, b"no session", "text/plain")
            return
        if not raw_id or not message.method:
            await request.reply(202)
            return
        if message.method == "initialize":
            self.count += 1
            name = f"session-{self.count}"
            self.sessions[name] = key
            result = (
                b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'
            )
            await request.reply(200, self.frame(raw_id, result), Mcp_Session_Id=name)
        elif message.method == "server/discover":
            result = (
                b'{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private",'
                b'"resultType":"complete"}'
            )
            await request.reply(200, self.frame(raw_id, result))
        elif message.method == "tools/call":
            params = msgspec.json.decode(message.params, type=Params)
            arguments = msgspec.json.decode(params.get("arguments", b"{}"))
            meta = msgspec.json.decode(params.get("_meta", b"{}"))
            handler = getattr(self, f"do_{msgspec.json.decode(params['name'])}")
            await handler(request, raw_id, arguments, meta.get("progressToken"))
        else:
            await request.reply(200, self.frame(raw_id, b"{}"))

    @staticmethod
    def frame(raw_id: bytes, result: bytes) -> bytes:
        """Return an answer."""
        return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (raw_id, result)

    def done(self, raw_id: bytes) -> bytes:
        """Return the answer of a call that has nothing else to say."""
        return self.frame(raw_id, b'{"content":[{"type":"text","text":"done"}]}')

    async def do_echo(self, request: Request, raw_id: bytes, *_: Any) -> None:
        await request.reply(200, self.done(raw_id))

    async def do_big(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        frame = self.frame(raw_id, payload.big(arguments["size"]))
        if arguments["as"] == "json":
            await request.reply(200, frame)
        else:
            await request.stream()
            await request.chunk(event(frame))
            await request.finish()

    async def do_drop(self, request: Request, raw_id: bytes, arguments: dict[str, Any], token: Any) -> None:
        self.count += 1
        key = f"call-{self.count}"
        call = self.dropped[key] = Dropped(self.done(raw_id), token, arguments)
        await request.stream()
        await request.chunk(event(b"", f"{key}/0", call.retry))
        if arguments.get("reset"):
            request.reset()
        else:
            await request.finish()

    async def do_no_http(self, request: Request, *_: Any) -> None:
        """Answer in another protocol."""
        request.writer.write(b"SSH-2.0-server\r\n\r\n")
        await request.writer.drain()
        request.close()

    async def do_two_lengths(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Claim two lengths at once."""
        body = self.done(raw_id)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request.writer.write(f"{head}Content-Length: 3\r\n\r\n".encode() + body)
        await request.writer.drain()
        request.close()

    async def do_http10(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Answer as HTTP/1.0 did: the body ends with the connection."""
        request.writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + self.done(raw_id))
        await request.writer.drain()
        request.close()

    async def do_interim(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Send two interim responses first."""
        request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        await request.reply(200, self.done(raw_id))

    async def do_short_gzip(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Cut the compressed body."""
        await request.reply(200, gzip.compress(self.done(raw_id))[:-9], Content_Encoding="gzip")

    async def do_brotli(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Use an encoding that nobody accepted."""
        await request.reply(200, self.done(raw_id), Content_Encoding="br")

    async def do_drip(self, request: Request, *_: Any) -> None:
        """Send a body that never ends, bit by bit."""
        request.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not request.writer.is_closing():
                request.writer.write(b" ")
                await request.writer.drain()
                await asyncio.sleep(0.02)

    async def do_batch(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Answer with a batch."""
        await request.reply(200, b"[" + self.done(raw_id) + b"]")

    async def do_empty(self, request: Request, *_: Any) -> None:
        """Answer with nothing."""
        await request.reply(200, b" ")

    async def do_status(self, request: Request, _: bytes, arguments: dict[str, Any], __: Any) -> None:
        await request.reply(arguments["code"], b"a secret body", "text/plain")

    async def do_reset(self, request: Request, *_: Any) -> None:
        request.reset()

    async def do_half(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """End in the middle of a body."""
        body = self.done(raw_id)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body) + 9}\r\n\r\n"
        request.writer.write(head.encode() + body)
        await request.writer.drain()
        request.close()

    async def do_bad_chunk(self, request: Request, *_: Any) -> None:
        await request.stream()
        request.writer.write(b"zz\r\nno chunk\r\n")
        await request.writer.drain()
        request.close()

    async def do_end_early(self, request: Request, *_: Any) -> None:
        await request.stream()
        await request.finish()

    async def do_raw(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        """Answer with these words, in which ID stands for the call's id."""
        await request.reply(200, arguments["text"].encode("latin-1").replace(b"ID", raw_id))

    async def do_html(self, request: Request, *_: Any) -> None:
        await request.reply(200, b"<html>a login page</html>", "text/html")

    async def do_accepted(self, request: Request, *_: Any) -> None:
        await request.reply(202)

    async def do_redirect(self, request: Request, *_: Any) -> None:
        await request.reply(307, Location="http://127.0.0.1:1/evil")

    async def do_silent(self, request: Request, *_: Any) -> None:
        await request.left()

    async def do_endless_event(self, request: Request, *_: Any) -> None:
        """Never end the one event."""
        await request.stream()
        await request.chunk(b"data: ")
        with contextlib.suppress(ConnectionError):
            while True:
                await request.chunk(b"x" * MIB)

    async def do_bomb(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        """Answer with little that becomes much: a body, or an event stream."""
        size, kind = arguments["size"], "application/json" if arguments["as"] == "json" else "text/event-stream"
        text = self.frame(raw_id, b'"' + b"x" * size + b'"')
        body = text if arguments["as"] == "json" else event(text)
        await request.reply(200, gzip.compress(body, 1), kind, Content_Encoding="gzip")

    async def do_after_gzip(self, request: Request, raw_id: bytes, *_: Any) -> None:
        """Answer in two members, and send much after their end."""
        text = self.done(raw_id)
        body = gzip.compress(text[:20]) + gzip.compress(text[20:]) + b"\0" * MIB
        await request.reply(200, body, Content_Encoding="gzip")

    async def do_deflate(self, request: Request, raw_id: bytes, *_: Any) -> None:
        await request.reply(200, zlib.compress(self.done(raw_id)), Content_Encoding="deflate")

    async def do_many_lines(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        """Answer in an event of very many short lines."""
        text = self.frame(raw_id, b'{"content":[],"x":[' + b"1,\n" * arguments["count"] + b"1]}")
        await request.stream()
        await request.event(text)
        await request.finish()

    async def do_tiny_chunks(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        """Send an event byte by byte, each in a chunk of its own."""
        await request.stream()
        filler = b":" + b"x" * arguments["size"] + b"\n"
        text = filler + event(self.done(raw_id))
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
        request.writer.write(chunks)
        await request.writer.drain()
        await request.finish()

    async def do_flood(self, request: Request, raw_id: bytes, arguments: dict[str, Any], _: Any) -> None:
        """Send very many messages on the call's stream, then answer."""
        await request.stream()
        ping = arguments["what"] == "ping"
        for start in range(0, arguments["count"], 1000):
            lines = [
                b'{"jsonrpc":"2.0","id":"p%d","method":"ping"}' % (start + number) if ping else LOG
                for number in range(1000)
            ]
            await request.chunk(b"".join(map(event, lines)))
        await request.chunk(event(self.done(raw_id)))
        await request.finish()


async def main() -> None:
    """Listen on the loopback."""
    lifetime.end_with_parent()
    server = Server()
    listener = await asyncio.start_server(server.connection, "127.0.0.1", 0, limit=1 << 26, backlog=1024)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    asyncio.run(main())
