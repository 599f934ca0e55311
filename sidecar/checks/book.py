"""What is known of the tools of one address: hashes, pins, output schemas, warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors, frames
from sidecar.checks.definitions import difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from sidecar import wire
    from sidecar.checks.pool import Digest

_WARNINGS_MAX: Final = 200


@dataclass
class Change:
    """A pinned tool that is not what it was: `catalog/toolChanged`."""

    tool: str
    old_hash: str | None
    new_hash: str | None
    diff: list[dict[str, Any]] | None


@dataclass
class ToolBook:
    """The tools of one address, over all its links."""

    first: dict[str, str] | None = None
    """The hashes of the first whole list: the pins where the host gives none."""
    hashes: dict[str, str] = field(default_factory=dict)
    schemas: dict[str, bytes] = field(default_factory=dict)
    """The output schema of each tool that has one."""
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Tool -> JSON pointers to invisible characters in it."""
    _definitions: dict[str, bytes] = field(default_factory=dict)
    """Definitions as they were pinned, to tell what has changed; kept only where tools are pinned."""
    _told: dict[str, str | None] = field(default_factory=dict)
    """Tool -> the hash that the host has been told of."""

    def pins(self, policy: wire.ToolPolicy | None) -> Mapping[str, str] | None:
        """Return the pins in force; None where tools are not pinned, or nothing has been seen yet."""
        if policy is None or policy.pin in {None, "off"}:
            return None
        return policy.pins if policy.pins is not None else self.first

    def learn(
        self,
        policy: wire.ToolPolicy | None,
        tools: Sequence[tuple[str, msgspec.Raw]],
        digests: Sequence[Digest],
        *,
        whole: bool,
    ) -> list[Change]:
        """Take a list, or a page of one, and return what the host must be told."""
        if whole:
            self.hashes.clear()
            self.schemas.clear()
            self.warnings.clear()
        for (name, tool), digest in zip(tools, digests, strict=True):
            self.hashes[name] = digest.hash
            schema = frames.member(tool, "outputSchema")
            if schema is not None and frames.first(schema) in {b"{", b"t", b"f"}:
                self.schemas[name] = bytes(schema)
            else:
                self.schemas.pop(name, None)
            if digest.hidden:
                self.warnings[name] = digest.hidden
            else:
                self.warnings.pop(name, None)
        if policy is None or policy.pin in {None, "off"}:
            return []
        if self.first is None and whole:
            self.first = dict(self.hashes)
        pins = self.pins(policy)
        if pins is None:
            return []
        seen = {name: bytes(tool) for name, tool in tools}
        names = [*pins, *(name for name in self.hashes if name not in pins)] if whole else list(seen)
        changes = [change for name in names if (change := self._change(name, pins, seen)) is not None]
        for name, text in seen.items():
            if pins.get(name) == self.hashes[name]:
                self._definitions[name] = text
        return changes

    def _change(self, name: str, pins: Mapping[str, str], seen: Mapping[str, bytes]) -> Change | None:
        old, new = pins.get(name), self.hashes.get(name)
        if old == new:
            self._told.pop(name, None)
            return None
        if name in self._told and self._told[name] == new:
            return None
        self._told[name] = new
        return Change(name, old, new, difference(self._definitions.get(name), seen.get(name)))

    def check(self, policy: wire.ToolPolicy, name: str) -> None:
        """Refuse a tool that is not as it was pinned. Raises ToolChanged."""
        pins = self.pins(policy) or {}
        old, new = pins.get(name), self.hashes.get(name)
        if old == new:
            return
        what = "is new since" if old is None else "is gone since" if new is None else "has changed since"
        raise errors.ToolChanged(
            f"the tool {name[:200]!r} {what} its definition was pinned: approve it with servers/update",
            tool=name,
            oldHash=old,
            newHash=new,
        )

    def info(self, policy: wire.ToolPolicy | None) -> dict[str, Any]:
        """Return the members of `ServerInfo`."""
        body: dict[str, Any] = {}
        pins = self.pins(policy)
        if pins is not None:
            body["pins"] = dict(pins)
        if self.warnings:
            found = [
                {"tool": tool, "kind": "invisibleUnicode", "path": path}
                for tool, paths in self.warnings.items()
                for path in paths
            ]
            body["warnings"] = found[:_WARNINGS_MAX]
        return body
