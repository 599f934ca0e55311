"""Which tools of a server the host may see and call: the one place that decides (wire section 4, `ToolPolicy`).

Every `tools/call` passes `check_call` before anything is sent or opened, and every list of tools passes `visible`.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import TYPE_CHECKING, Any

from sidecar import errors, frames
from sidecar.config import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from sidecar import wire


def restricts(tools: wire.ToolPolicy | None) -> bool:
    """Say whether a policy hides anything."""
    return tools is not None and (tools.allow is not None or bool(tools.deny))


def check_call(tools: wire.ToolPolicy | None, params: Mapping[str, Any]) -> None:
    """Refuse the call of a tool that the policy denies. Raises ToolDenied, or InvalidParams where no tool is named."""
    if tools is None or not restricts(tools):
        return
    name = frames.text_of(params.get("name", frames.ABSENT))
    if name is None:
        raise invalid("/name", "name the tool: the tool policy of this server must know it")
    if not allows(tools, name):
        raise errors.ToolDenied("the tool policy of this server (tools.allow, tools.deny) denies this tool", tool=name)


def visible(tools: wire.ToolPolicy | None, elements: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """Return the tools of a list that may be seen; one without a name only where every name is allowed."""
    if tools is None or not restricts(tools):
        return elements
    kept = []
    for element in elements:
        name = frames.text_of(frames.member(element, "name") or frames.ABSENT)
        if tools.allow is None if name is None else allows(tools, name):
            kept.append(element)
    return kept


def allows(tools: wire.ToolPolicy, name: str) -> bool:
    """Say whether a name is allowed: `deny` wins, an absent `allow` is everything."""
    if tools.deny and _pattern(tuple(tools.deny)).match(name):
        return False
    return tools.allow is None or _pattern(tuple(tools.allow)).match(name) is not None


@functools.lru_cache(maxsize=1024)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for all globs; of none it matches nothing."""
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")
