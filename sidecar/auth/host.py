"""Auth `host`: the tokens are the host's own; the sidecar asks for one, uses it, and asks again when it is refused."""

from __future__ import annotations

import asyncio
import datetime
import re
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import errors
from sidecar.auth.record import time_text
from sidecar.auth.tokens import is_plain
from sidecar.callbacks import HostRefused
from sidecar.telemetry.redact import SECRETS
from sidecar.transports.faults import copy_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.seat import Release
    from sidecar.auth.world import Address, World
    from sidecar.transports.client import Reply

_ASK_SECONDS: Final = 300.0
_MARGIN: Final = 30.0
_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}\Z")


class HostSeat:
    """The credentials of one address whose tokens its host keeps."""

    def __init__(self, address: Address, world: World, release: Release) -> None:
        """Ask nothing yet; `release` takes the seat back."""
        self._release = release
        self.address = address
        self._world = world
        self._token: str | None = None
        self._header: dict[str, str] = {}
        self._expires: float | None = None
        self._asked_in_vain = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._refused = False
        self.quiet = False
        """Of no meaning here: this kind never asks a person."""

    async def headers(self, method: str, url: str) -> dict[str, str]:
        """Return the host's token, asking for one where there is none or it ends soon."""
        del method, url
        if self._token is None:
            await self._ask("missing")
        elif self._expires is not None and time.time() >= self._expires - _MARGIN:
            if time.time() >= self._expires:
                await self._ask("expiring")
            elif time.time() >= self._asked_in_vain:
                self._asked_in_vain = time.time() + _MARGIN / 4
                self._begin("expiring")
        return self._header

    async def rejected(self, reply: Reply, url: str, sent: Mapping[str, str], replays: int) -> bool:
        """Ask once for another token after a 401."""
        del url
        if reply.status != 401:
            return False
        if replays:
            self._refused = True
            return False
        if self._header.get("authorization") == sent.get("authorization"):
            await self._ask("rejected")
        return True

    def accepted(self, sent: Mapping[str, str]) -> None:
        """Note that the token is good."""
        del sent
        self._refused = False

    async def _ask(self, reason: str) -> None:
        """Get another token. Raises AuthTransient where the host gives none."""
        try:
            await asyncio.shield(self._begin(reason))
        except errors.SidecarError as error:
            raise copy_error(error, "no") from None

    def _begin(self, reason: str) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._fetch(reason))
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it

    async def _fetch(self, reason: str) -> None:
        question = {"server": self.address.name, "scope": self.address.scope, "reason": reason}
        try:
            raw = await self._world.host.ask("tokens/get", question, _ASK_SECONDS)
            found = msgspec.json.decode(raw)
        except (HostRefused, TimeoutError, msgspec.DecodeError):
            raise errors.AuthTransient("the host gave no token") from None
        body: dict[str, Any] = found if isinstance(found, dict) else {}
        token, kind, ends = body.get("accessToken"), body.get("tokenType"), body.get("expiresAt")
        kind = "Bearer" if kind is None else kind
        expires = _moment(ends) if ends is not None else None
        sound = is_plain(token) and isinstance(kind, str) and _TYPE.match(kind)
        if not sound or (ends is not None and expires is None):
            raise errors.AuthTransient("the host's answer to tokens/get has not the form of a token")
        self.forget()
        self._token, self._expires = str(token), expires
        SECRETS.add(self._token)
        scheme = "Bearer" if kind.lower() == "bearer" else kind
        self._header = {"authorization": f"{scheme} {self._token}"}

    def forget(self) -> None:
        """Drop the token: the next request asks again."""
        if self._token is not None:
            SECRETS.discard(self._token)
        self._token, self._header = None, {}

    async def release(self) -> None:
        """Give the seat back: the address is gone."""
        await self._release(self)

    async def leave(self) -> None:
        """Drop the token; the address is gone."""
        if self._asking is not None:
            self._asking.cancel()
        self.forget()

    def info(self) -> dict[str, Any]:
        """Return the `auth` of the `ServerInfo`."""
        state = "none"
        if self._refused:
            state = "dead"
        elif self._token is not None:
            over = self._expires is not None and time.time() >= self._expires
            state = "expired" if over else "valid"
        body: dict[str, Any] = {"type": "host", "state": state}
        if self._token is not None and self._expires is not None:
            body["expiresAt"] = time_text(self._expires)
        return body


def _moment(text: Any) -> float | None:
    """Return an RFC 3339 time as seconds, or None."""
    if not isinstance(text, str) or len(text) > 64:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
