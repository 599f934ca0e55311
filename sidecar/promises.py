"""What the host promises to answer: the process's promises, and one connection's part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

ASKED: Final = ("elicitation", "sampling", "roots")
"""What servers may ask, and are told of."""


def plain(promises: Mapping[str, Any]) -> dict[str, Any]:
    """Return promises without the members that are null."""
    return {
        name: {part: value for part, value in promise.items() if value is not None}
        for name, promise in promises.items()
        if promise is not None
    }


def modes(elicitation: Mapping[str, Any]) -> set[str]:
    """Return the elicitation modes of a promise; one that names none promises forms."""
    return {mode for mode in ("form", "url") if elicitation.get(mode) is not None} or {"form"}


def narrowed(given: Mapping[str, Any], promised: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection's promises. Raises InvalidParams for more than the host promised."""
    found = plain(given)
    have = plain(promised)
    for name, promise in found.items():
        if name not in have:
            raise _wider(f"/capabilities/{name}")
        if name == "elicitation":
            for mode in sorted(modes(promise) - modes(have[name])):
                raise _wider(f"/capabilities/elicitation/{mode}")
            continue
        for part, value in promise.items():
            if name in ASKED and value is not False and not (part in have[name] and have[name][part] is not False):
                raise _wider(f"/capabilities/{name}/{part}")
    return found


def _wider(path: str) -> errors.InvalidParams:
    return errors.InvalidParams(f"{path}: the host did not promise this in initialize", path=path)
