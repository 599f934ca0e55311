"""All logins of the process: one credential for all addresses of its owner, and the methods that speak of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from sidecar import errors
from sidecar.auth.credential import Credential
from sidecar.auth.fetch import Fetcher
from sidecar.auth.host import HostSeat
from sidecar.auth.login import Login, exchange
from sidecar.auth.pending import Shelf
from sidecar.auth.revoke import revoke
from sidecar.auth.seat import Seat
from sidecar.auth.tokens import is_plain
from sidecar.auth.urls import Gate
from sidecar.auth.world import Owner, audit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.pending import Pending
    from sidecar.auth.record import Record
    from sidecar.auth.settings import Settings
    from sidecar.auth.world import Address, World
    from sidecar.config import ServerConfig

_LONGEST_CODE: Final = 8192
_FINISH_SECONDS: Final = 2.0
_REVOKE_SECONDS: Final = 4.0


class Book:
    """The credentials of all owners. Credentials of two owners never meet."""

    def __init__(self, world: World) -> None:
        """Know none; the vault is asked when a server wants one."""
        self.world = world
        self._shelf = Shelf(world.vault)
        self._logins: dict[bytes, Login] = {}
        self._users: dict[bytes, set[Seat]] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._closing = False

    # -- addresses --------------------------------------------------------------------------------------------

    def take_seat(self, address: Address, config: ServerConfig) -> Seat | HostSeat | None:
        """Return what puts tokens on the requests of an address; None where its headers are fixed."""
        if config.auth == "host":
            return HostSeat(address, self.world, self.give_up)
        if config.oauth is None:
            return None
        settings = config.oauth.completed(self.world.environ)
        login = self._login(settings, Owner.of(address.scope, settings.owner), address.name, config.tls)
        seat = Seat(address, config.transport, login, self.give_up)
        self._users.setdefault(login.credential.key.name, set()).add(seat)
        return seat

    def _login(self, settings: Settings, owner: Owner, server: str, tls: Mapping[str, Any] | None) -> Login:
        credential = Credential(settings, owner, self.world, server)
        login = self._logins.get(credential.key.name)
        if login is None:
            gate = Gate(self.world.policy, settings.server_url)
            credential.fetcher = Fetcher(gate, tls or {"caFile": settings.tls_ca}, settings.proxy)
            login = self._logins[credential.key.name] = Login(credential, self._shelf, self._returned)
        else:
            login.credential.settings = settings  # the newest secret of the client is the one that counts
        return login

    async def give_up(self, seat: Seat | HostSeat) -> None:
        """Take back a seat; with the last one its credential is dropped from memory."""
        if self._closing:
            return  # what waits for a person goes on in the next process
        await seat.leave()
        if isinstance(seat, Seat):
            self._users.get(seat.credential.key.name, set()).discard(seat)
            await self._drop_unused(seat.login)

    async def _drop_unused(self, login: Login) -> None:
        name = login.credential.key.name
        if not self._users.get(name) and login.pending is None and self._logins.get(name) is login:
            self._users.pop(name, None)
            del self._logins[name]
            await login.aclose()
            await login.credential.aclose()

    def begin_closing(self) -> None:
        """Leave the logins that wait where they are: the process ends."""
        self._closing = True

    # -- the end of a login -----------------------------------------------------------------------------------

    async def complete(self, parts: Mapping[str, str], scope: Mapping[str, str]) -> Pending:
        """Serve `auth/complete`: store the tokens, let the addresses go on, and return the login that it was.

        Raises AuthPolicy with rule `state` for what is foreign, unknown, used or late, which touches no login.
        """
        state = parts.get("state", "")
        found = await self._shelf.find(state) if is_plain(state) else None
        if found is None:
            raise _no_such_login()
        pending, version = found
        if Owner.of(scope, pending.settings.owner) != _owner(pending):
            raise _no_such_login()
        if pending.late():
            await self._shelf.withdraw(pending)
            raise _no_such_login()
        if not await self._shelf.take(pending, version):
            raise _no_such_login()
        # A task of its own: the login is used up now, so it is brought to its end whoever still waits for it.
        task = asyncio.get_running_loop().create_task(self._finish(pending, parts))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)
        return pending

    async def _finish(self, pending: Pending, parts: Mapping[str, str]) -> None:
        login = self._login(pending.settings, _owner(pending), pending.server, None)
        try:
            check_issuer(pending, parts.get("iss"))
            if "error" in parts:
                raise _denied(parts)
            code = parts.get("code", "")
            if not is_plain(code) or len(code) > _LONGEST_CODE:
                raise errors.AuthDenied("the redirect brought no code")
            tokens = await exchange(pending, login.credential, code)
            with contextlib.suppress(errors.SidecarError):
                await login.credential.reload()  # what cannot be read is replaced, or stays beside in memory
            await login.succeeded(pending, tokens)
        except errors.SidecarError as error:
            login.failed(pending, error)
            raise
        finally:
            await self._drop_unused(login)

    async def _returned(self, pending: Pending, parts: Mapping[str, str]) -> None:
        """Take what a loopback redirect brought."""
        await self.complete(parts, {"tenant": pending.tenant, "user": pending.user})

    # -- what the methods ask ---------------------------------------------------------------------------------

    async def revoke(self, seat: Seat | HostSeat) -> bool:
        """Revoke and forget the credential of an address; tell whether the authorization server confirmed it."""
        if not isinstance(seat, Seat):
            seat.forget()
            seat.address.reset()
            return False
        credential = seat.credential
        with contextlib.suppress(errors.StoreCorrupt):  # what cannot be read can still be forgotten
            await credential.reload()
        await seat.login.cancel()
        try:
            async with asyncio.timeout(_REVOKE_SECONDS):
                done = await revoke(credential)
        except TimeoutError:
            done = False
        await credential.forget()
        label = {"server": seat.address.name, "scope": credential.owner.scope()}
        audit.info("a login was revoked (%s at its server)", "confirmed" if done else "not confirmed", extra=label)
        for address in self.sharers(seat):
            address.reset()
        return done

    async def take_over(self, seat: Seat, record: Record) -> None:
        """Serve `auth/import`: store what the host hands over, and let the addresses go on. Raises StoreWriteFailed."""
        with contextlib.suppress(errors.StoreCorrupt):  # what cannot be read is replaced
            await seat.credential.load()
        await seat.credential.write(record)
        label = {"server": seat.address.name, "scope": seat.credential.owner.scope()}
        audit.info("a login was imported", extra=label)
        await seat.login.cancel()
        for address in self.sharers(seat):
            if address.state in {"authorizing", "failed"}:
                address.authorized()

    def sharers(self, seat: Seat | HostSeat) -> list[Address]:
        """Return the addresses that use the same credential, this one included."""
        if not isinstance(seat, Seat):
            return [seat.address]
        return [other.address for other in self._users.get(seat.credential.key.name, {seat})]

    async def aclose(self) -> None:
        """Stop in this process; what rests in the vault waits for the next one."""
        if self._finishing:
            await asyncio.wait(list(self._finishing), timeout=_FINISH_SECONDS)
        for login in list(self._logins.values()):
            await login.aclose()
            await login.credential.aclose()
        self._logins.clear()
        self._users.clear()
        self._shelf.close()


def _owner(pending: Pending) -> Owner:
    return Owner(pending.tenant, pending.user, pending.settings.owner)


def _no_such_login() -> errors.AuthPolicy:
    text = "no login waits for this state: it is foreign, unknown, used or late"
    return errors.AuthPolicy(text, rule="state")


def _denied(parts: Mapping[str, str]) -> errors.AuthDenied:
    from sidecar.auth.registration import oauth_error

    code = oauth_error(dict(parts))
    return errors.AuthDenied(f"the login was refused ({code or 'unknown error'})", oauthError=code)


def check_issuer(pending: Pending, iss: str | None) -> None:
    """Compare the `iss` of a redirect with the issuer of the login (RFC 9207). Raises AuthPolicy."""
    authority = pending.authority
    known = authority.discovered or pending.settings.issuer is not None
    if iss is None:
        if authority.sends_iss:
            text = "the redirect names no issuer, though the authorization server promised that it would"
            raise errors.AuthPolicy(text, rule="issuer")
    elif iss != authority.issuer and (known or iss != authority.issuer + "/"):
        raise errors.AuthPolicy("the redirect comes from another issuer than the login began with", rule="issuer")


def callback_parts(url: str) -> dict[str, str]:
    """Return the parameters of a callback URL; of repeated ones the first counts, and a repeated state is none."""
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return {}
    parts: dict[str, str] = {}
    for name, value in pairs:
        if name in parts and name in {"state", "code", "iss"}:
            parts["state"] = ""
        parts.setdefault(name, value)
    return parts
