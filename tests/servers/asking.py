"""A FastMCP server on stdio whose tool asks the person in the way of the older eras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastmcp import Context, FastMCP

mcp: FastMCP = FastMCP("asking")


@dataclass
class Order:
    """What is ordered."""

    drink: Literal["tea", "coffee"]
    cups: int = 2


@mcp.tool
async def order(ctx: Context) -> str:
    """Ask what to bring."""
    answer = await ctx.elicit("What may I bring?", response_type=Order)
    return f"{answer.data.cups} {answer.data.drink}" if answer.action == "accept" else answer.action


if __name__ == "__main__":
    mcp.run(show_banner=False)
