"""The FastMCP server that the real servers here serve over their transports."""

from __future__ import annotations

import asyncio
from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_http_headers

MIB = 1024 * 1024


def build(name: str) -> FastMCP:
    """Return a server with a few tools, a resource, a template, a prompt and completion."""
    mcp: FastMCP = FastMCP(name, instructions=f"{name} for tests", version="1.2.3")
    events: list[str] = []
    counts = {"n": 0}

    @mcp.tool
    def echo(value: Any) -> dict[str, Any]:
        """Return the value."""
        return {"value": value}

    @mcp.tool
    def add(a: int, b: int) -> int:
        """Add two integers."""
        return a + b

    @mcp.tool
    async def slow(ctx: Context, steps: int = 3, delay: float = 0.05, name: str = "slow") -> str:
        """Report progress `steps` times with `delay` seconds between, then return."""
        try:
            for step in range(steps):
                await ctx.report_progress(step + 1, steps, f"step {step + 1}")
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            events.append(f"cancelled {name}")
            raise
        return "done"

    @mcp.tool
    def counter() -> int:
        """Count the calls of this tool."""
        counts["n"] += 1
        return counts["n"]

    @mcp.tool
    def happened() -> list[str]:
        """Return what happened to calls of `slow`."""
        return list(events)

    @mcp.tool
    def fail(message: str = "it failed") -> str:
        """Fail as a tool fails."""
        raise ToolError(message)

    @mcp.tool
    def headers() -> dict[str, str]:
        """Return the HTTP headers of this call; empty over stdio."""
        return get_http_headers(include_all=True)

    @mcp.tool
    async def speak(ctx: Context, text: str) -> str:
        """Send a log message, then return."""
        await ctx.info(text)
        return "spoken"

    @mcp.tool
    def large(size: int = MIB) -> str:
        """Return a text of `size` characters."""
        return "x" * size

    @mcp.resource("text://hello", mime_type="text/plain")
    def hello() -> str:
        """Say hello."""
        return "hello"

    @mcp.resource("text://greet/{name}")
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"hello {name}"

    @mcp.prompt
    def about(topic: str) -> str:
        """Ask about a topic."""
        return f"Tell me about {topic}."

    @mcp.completion
    def complete(ref: Any, argument: Any, context: Any) -> list[str]:  # noqa: ARG001 - the shape FastMCP calls
        return [word for word in ("tea", "teapot", "coffee") if word.startswith(argument.value)]

    return mcp
