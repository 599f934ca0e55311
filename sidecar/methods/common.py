"""What the methods share: params as models, scopes as keys, deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar import config, wire
from sidecar.frames import view
from sidecar.hub import ScopeKey, scope_body, scope_key
from sidecar.request import seconds_of

if TYPE_CHECKING:
    from sidecar.request import Request

DEFAULT_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 30.0


def params_of(model: type[config.M], request: Request) -> config.M:
    """Return the params of a request as a model. Raises InvalidParams."""
    return config.validate(model, bytes(view(request.params)))


def scope_of(scope: wire.Scope | None) -> ScopeKey:
    """Return a scope as its key."""
    return scope_key(scope.model_dump()) if scope is not None else ("", "", "")


def arm(
    request: Request, timeout_ms: int | None, server: str, scope: ScopeKey, default: float = DEFAULT_SECONDS
) -> None:
    """Give a request its address and its deadline."""
    request.address = (server, scope_body(scope))
    request.arm(seconds_of(timeout_ms) if timeout_ms is not None else default)
