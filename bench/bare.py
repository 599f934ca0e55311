"""Drives a bare `fastmcp.Client`, the yardstick of the Python side; speaks as `bench/go/drive.go` does.

What a careful user of FastMCP would write: one client a server, one TLS context for all, `call_tool_mcp`.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

PATIENCE = 60.0
ARGUMENTS = {"message": "hello"}

Command = dict[str, Any]
Work = Callable[[], Awaitable[Any]]


class Bare:
    """The sessions of this process."""

    def __init__(self) -> None:
        """Begin without any."""
        self.sessions: dict[str, Client[Any]] = {}
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.blocked: asyncio.Task[Any] | None = None

    def context(self, ca: str) -> ssl.SSLContext:
        """Return the one TLS context for this authority; empty is the system's."""
        if ca not in self.contexts:
            self.contexts[ca] = ssl.create_default_context(cafile=ca or None)
        return self.contexts[ca]

    def client(self, command: Command) -> Client[Any]:
        """Return a client that is not connected."""
        where = command["transport"]
        transport: Any
        if where.get("url"):
            transport = StreamableHttpTransport(where["url"], verify=self.context(where.get("ca", "")))
        else:
            program, *arguments = where["command"]
            transport = StdioTransport(program, arguments, keep_alive=False)
        return Client(transport, mode="legacy" if command["era"] == "legacy" else "auto")

    async def do(self, command: Command) -> dict[str, Any]:
        """Do what one line says."""
        what = command["do"]
        name = command.get("name", "")
        if what == "pids":
            return {"pids": {"client": os.getpid()}}
        if what == "connect":
            client = self.client(command)
            await client.__aenter__()  # type: ignore[no-untyped-call]  # FastMCP leaves it untyped
            self.sessions[name] = client
            return {}
        if what == "disconnect":
            await self.sessions.pop(name).close()  # type: ignore[no-untyped-call]  # FastMCP leaves it untyped
            return {}
        if what == "calls":
            session = self.sessions[name]
            return await repeat(command, lambda: session.call_tool_mcp("echo", ARGUMENTS))
        if what == "big":
            session = self.sessions[name]
            return await repeat(command, lambda: session.call_tool_mcp("big", {"size": command["size"]}))
        if what == "cycle":
            return await repeat(command, lambda: self.cycle(command))
        raise ValueError(f"unknown command {what}")

    async def cycle(self, command: Command) -> None:
        """Live a whole connection: connect, one call, close."""
        async with self.client(command) as client:
            await client.call_tool_mcp("echo", ARGUMENTS)


async def repeat(command: Command, work: Work) -> dict[str, Any]:
    """Do something until the seconds are over or `count` is reached, `flight` at once, and return the figures."""
    flight = max(1, command.get("flight", 1))
    count = command.get("count", 0)
    taken: list[float] = []
    began = time.perf_counter()
    end = began + command.get("seconds", 0)

    async def worker(number: int) -> None:
        done = 0
        while done * flight + number < count if count else time.perf_counter() < end:
            before = time.perf_counter()
            async with asyncio.timeout(PATIENCE):
                await work()
            taken.append(time.perf_counter() - before)
            done += 1

    await asyncio.gather(*(worker(number) for number in range(flight)))
    wall = time.perf_counter() - began
    taken.sort()
    return {
        "calls": len(taken),
        "wall": wall,
        "p50": taken[len(taken) // 2],
        "p99": taken[min(len(taken) - 1, int(len(taken) * 0.99))],
    }


async def main() -> None:
    """Serve the workbench until it closes the pipe."""
    bare = Bare()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        try:
            answer = await bare.do(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it was, the workbench is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for client in bare.sessions.values():
        await client.close()  # type: ignore[no-untyped-call]  # FastMCP leaves it untyped


if __name__ == "__main__":
    asyncio.run(main())
