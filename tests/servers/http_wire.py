"""HTTP/1.1 by hand: requests as they came, answers as broken as a test needs them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

CHUNK = 1 << 16


@dataclass
class Request:
    """One request, and the connection to answer it on."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Split the target."""
        parts = urlsplit(self.target)
        self.path = parts.path
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}

    # -- answers ----------------------------------------------------------------------------------------------

    async def reply(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        """Send a whole response; an underscore in a header's name is a hyphen."""
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"]
        if body:
            lines.append(f"Content-Type: {kind}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await self.writer.drain()

    async def stream(self, **headers: str) -> None:
        """Begin a chunked event stream."""
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def event(self, data: bytes, key: str | None = None, extra: bytes = b"") -> None:
        """Send one event; a line break in its data begins a new data line."""
        lines = b"".join(b"data: " + line + b"\n" for line in data.split(b"\n"))
        await self.chunk((b"" if key is None else b"id: " + key.encode() + b"\n") + extra + lines + b"\n")

    async def finish(self) -> None:
        """End a chunked body."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with RST."""
        raw: Any = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()

    async def left(self) -> bool:
        """Wait until the client closes the connection; true where it did."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read(1) == b""
        return True


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """Read one request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    body = b""
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif size := int(headers.get("content-length", "0")):
            body = await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request(method, target, headers, body, reader, writer)
