"""The few HTTP requests of a login: checked addresses, 10 s, 64 kB, and no redirect but in discovery."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urljoin

import msgspec

from sidecar import errors
from sidecar.transports.client import HTTPClient, Oversize, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.egress import Origin
    from sidecar.auth.urls import Gate

SECONDS: Final = 10.0
MAX_BODY: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 3
_PAUSES: Final = (0.1, 0.3)


@dataclass
class Answer:
    """A response that was read to its end; `body` is None where it is over 64 kB."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    challenges: list[str]

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json_object(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, or None for anything else."""
        if self.body is None:
            return None
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


class Fetcher:
    """Sends the requests around one MCP server."""

    def __init__(self, gate: Gate, tls: Mapping[str, object] | None = None, proxy: str | None = None) -> None:
        """Use the server's TLS settings for its own origin, and its `caFile` and proxy for every other one."""
        self.gate = gate
        self._tls = {name: value for name, value in (tls or {}).items() if value is not None}
        self._proxy = proxy

    def _client(self, url: str, origin: Origin) -> HTTPClient:
        trusted = self.gate.trusts(origin)
        tls = self._tls if trusted else {name: self._tls[name] for name in ("caFile",) if self._tls.get(name)}
        return HTTPClient(url, self.gate.policy, tls=tls, proxy=self._proxy, from_host=trusted, follow=False)

    async def get(self, url: str, what: str) -> Answer:
        """Read metadata; up to three redirects under the same policy. Raises AuthPolicy, AuthTransient, BadMetadata."""
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._once("GET", url, what, {"accept": "application/json"}, b"")
            if answer.status not in _REDIRECTS:
                return answer
            location = answer.headers.get("location", "")
            url = urljoin(url, location).partition("#")[0]
        raise errors.BadMetadata(f"the {what} redirects too often", reason="too many redirects")

    async def post(self, url: str, what: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post to an endpoint. Raises AuthPolicy, AuthTransient and RedirectRefused, which is never followed."""
        answer = await self._once("POST", url, what, {"accept": "application/json", **headers}, body)
        if answer.status in _REDIRECTS:
            origin = str(self.gate.check(url, what))
            raise errors.RedirectRefused(f"the {what} redirects, which is not followed", origin=origin)
        return answer

    async def form(self, url: str, what: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Post a form."""
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await self.post(url, what, urlencode(form).encode(), {**kind, **headers})

    async def probe(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the MCP server a request without credentials, for the challenge that it answers with."""
        return await self._once("POST", url, "server", headers, body)

    async def _once(self, method: str, url: str, what: str, headers: Mapping[str, str], body: bytes) -> Answer:
        origin = self.gate.check(url, what)
        client = self._client(url, origin)
        try:
            async with asyncio.timeout(SECONDS):
                reply = await _sent(client, method, headers, body)
                try:
                    return await _read(reply, client)
                finally:
                    await reply.aclose()
        except TimeoutError:
            raise errors.AuthTransient(f"the {what} did not answer in {SECONDS:g} s") from None
        except (errors.ConnectFailed, errors.TLSFailed, errors.ConnectionLost) as error:
            raise errors.AuthTransient(f"the {what} cannot be reached: {error.message}") from None
        finally:
            await client.aclose()


async def _sent(client: HTTPClient, method: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Send a request; where nobody could be reached nothing was sent, so it is tried again, for less than a second."""
    whole = {"accept-encoding": "gzip, deflate", **headers}
    for pause in _PAUSES:
        try:
            return await client.send(method, whole, body)
        except errors.ConnectFailed as error:
            if error.extra.get("phase") == "dns":
                raise
            await asyncio.sleep(pause)
    return await client.send(method, whole, body)


async def _read(reply: Reply, client: HTTPClient) -> Answer:
    body: bytes | None
    try:
        body = await reply.body(MAX_BODY)
    except Oversize:
        body = None
    except errors.SidecarError:
        raise
    except Exception as error:
        raise client.broken(error, "maybe") from None
    return Answer(reply.status, reply.headers, body, reply.all("www-authenticate"))
