"""One message to a server with what every request of its era carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.ops.payload import build, modern_headers
from sidecar.transports.channel import Steps, Track

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from sidecar.connection import Connection, Link
    from sidecar.transports.faults import Payload

LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"


def stamp(
    connection: Connection,
    link: Link,
    method: str,
    params: Mapping[str, msgspec.Raw],
    headers: Mapping[str, str] | None = None,
) -> tuple[dict[str, bytes], dict[str, str] | None]:
    """Return the members of `_meta` and the headers of a request."""
    if not link.agreed.modern:
        return {}, dict(headers) if headers else None
    meta = dict(link.agreed.meta)
    if connection.desired.log_level is not None:
        meta[LOG_LEVEL] = connection.desired.log_level
    return meta, {**(headers or {}), **modern_headers(link, method, params)}


async def send(
    connection: Connection,
    link: Link,
    method: str,
    params: Mapping[str, msgspec.Raw],
    track: Track | None = None,
    headers: Mapping[str, str] | None = None,
) -> Payload:
    """Send a request that is no call of the host's own, or a later message of one, and return its result."""
    meta, stamped = stamp(connection, link, method, params, headers)
    track = track if track is not None else Steps()
    return await link.channel.request(method, build(params, meta), track, headers=stamped)
