"""The daily handles of connections: change one, try one, take over those of a desktop client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sidecar import config, wire
from sidecar.methods.common import arm, params_of, scope_of

if TYPE_CHECKING:
    from sidecar.hub import Hub
    from sidecar.ops import Operations
    from sidecar.request import Outcome, Request
    from sidecar.rpc import Handler
    from sidecar.serve import Process


class WorkbenchMethods:
    """Serves `servers/update`, `servers/test` and `servers/import`."""

    def __init__(self, process: Process, hub: Hub, operations: Operations) -> None:
        """Change the connections of `hub`."""
        self._process = process
        self._hub = hub
        self._operations = operations

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {"servers/update": self.update}

    def update(self, request: Request) -> Outcome:
        """Serve `servers/update`: what it changes holds for the next line already."""
        params = params_of(wire.UpdateParams, request)
        scope = scope_of(params.scope)
        connection = self._hub.find(scope, params.server)
        arm(request, params.timeout_ms, params.server, scope)
        self._hub.update(connection, config.updated(connection.config, params, self._process.agreement.client))
        self._operations.tools.policy_changed(connection)
        return msgspec.json.encode(connection.info())
