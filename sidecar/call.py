"""`mcp-sidecar call`: one request from a shell, over the same wire that a host speaks, inside one process."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from sidecar import frames
from sidecar.serve import Process
from sidecar.stdio import LineReader, LineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar import early
    from sidecar.cli import Options

DEFAULT_SERVER: Final = "cli"
_PROCESS: Final = ("initialize", "ping", "shutdown")
_PREFIX: Final = ("sidecar/", "servers/list", "servers/import", "auth/complete", "catalog/")
"""What speaks of no server."""
_TAKE_A_TRANSPORT: Final = frozenset({"servers/connect", "servers/test"})


class Failed(Exception):
    """A request was answered with an error; `body` is the error object."""

    def __init__(self, body: Any) -> None:
        """Keep the error object."""
        super().__init__("failed")
        self.body = body


class _Host:
    """The host's half of the wire, as small as it can be."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._waiting: dict[int, asyncio.Future[frames.Envelope]] = {}
        self._last = 0
        self._writer = LineWriter(write_fd, lambda _: None)
        self._reader = LineReader(read_fd, self, 1 << 30)
        self._reader.start()

    def line(self, line: bytes) -> None:
        envelope = frames.decode(line)
        if envelope.method is frames.ABSENT:
            waiter = self._waiting.pop(int(bytes(envelope.id)), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(envelope)

    def too_long(self, head: bytes, tail: bytes, size: int) -> None:
        """Never told: no answer is over this limit."""

    def end(self, error: OSError | None) -> None:
        """Never told: both ends are ours."""

    async def request(self, method: str, params: bytes) -> bytes:
        """Send a request and return its result. Raises Failed."""
        self._last += 1
        number = self._last
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        head = b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":' % (number, frames.quote(method))
        self._writer.write(head, params, b"}\n")
        envelope = await waiter
        if envelope.error is not frames.ABSENT:
            raise Failed(msgspec.json.decode(envelope.error))
        return bytes(envelope.result)


class Loop:
    """A sidecar inside this process, with both ends of its wire: `async with` gives what sends requests to it."""

    def __init__(self, agreement: early.Agreement, environ: Mapping[str, str], parent: int) -> None:
        """Prepare; nothing is opened."""
        self._agreement = agreement
        self._environ = environ
        self._parent = parent

    async def __aenter__(self) -> Self:
        """Start it."""
        host_read, wire_out = os.pipe()
        wire_in, self._host_write = os.pipe()
        process = Process(wire_in, wire_out, agreement=self._agreement, environ=self._environ, parent=self._parent)
        self._running = asyncio.create_task(process.run())
        self._host = _Host(host_read, self._host_write)
        return self

    async def request(self, method: str, params: bytes) -> bytes:
        """Send a request and return its result. Raises Failed."""
        return await self._host.request(method, params)

    async def __aexit__(self, *_: object) -> None:
        """End its input: it drains and closes everything."""
        os.close(self._host_write)
        await self._running


async def call(
    options: Options,
    agreement: early.Agreement,
    faults: list[dict[str, Any]],
    environ: Mapping[str, str],
    parent: int,
) -> int:
    """Send the request that the words ask for; return 0 for a result, 1 for an error or `isError`, 2 for bad words.

    `faults` are those of the configuration file: with any of them nothing is sent.
    """
    if faults:
        text = f"{options.config}: {len(faults)} faults" if len(faults) > 1 else f"{options.config}: a fault"
        return _complain({"code": -32602, "message": text, "data": {"errors": faults}}, 2)
    try:
        config = _transport(options)
        params = _params(options, config)
    except ValueError as error:
        return _complain({"code": -32602, "message": str(error)}, 2)
    try:
        async with Loop(agreement, environ, parent) as host:
            if config is not None and options.method not in _TAKE_A_TRANSPORT:
                await host.request("servers/connect", config)
            result = await host.request(options.method, params)
    except Failed as failed:
        return _complain(failed.body, 1)
    sys.stdout.write(msgspec.json.format(result, indent=2).decode() + "\n")
    failed_tool = frames.member(msgspec.Raw(result), "isError")
    return 1 if failed_tool is not None and bytes(failed_tool) == b"true" else 0


def _complain(body: Any, code: int) -> int:
    sys.stderr.flush()
    sys.stderr.write(json.dumps(body) + "\n")
    return code


def _params(options: Options, config: bytes | None) -> bytes:
    try:
        parts = frames.members(options.params.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("JSON: give the params as one JSON object") from None
    method = options.method
    if config is not None and method in _TAKE_A_TRANSPORT:
        parts = {**frames.members(config), **parts}
    nobody = method in _PROCESS or method.startswith(_PREFIX) or (method == "auth/status" and options.server is None)
    if not nobody:
        parts.setdefault("server", msgspec.Raw(frames.quote(options.server or DEFAULT_SERVER)))
    return msgspec.json.encode(parts)


def _transport(options: Options) -> bytes | None:
    """Return the params of `servers/connect`, or None where no server is named by URL or command."""
    transport: dict[str, Any]
    if options.url is not None:
        headers = {}
        for header in options.headers:
            name, colon, value = header.partition(":")
            if not colon:
                raise ValueError("--header is 'Name: value'")
            headers[name.strip()] = value.strip()
        kind = "sse" if options.url.partition("?")[0].endswith("/sse") else "http"
        transport = {"type": kind, "url": options.url, "headers": headers}
    elif options.child is not None:
        words = shlex.split(options.child)
        if not words:
            raise ValueError("--command is empty")
        if options.headers:
            raise ValueError("--header goes with --url")
        transport = {"type": "stdio", "command": words[0], "args": words[1:], "cwd": str(Path.cwd())}
    else:
        return None
    return msgspec.json.encode({"server": options.server or DEFAULT_SERVER, "transport": transport})
