"""Logins of persons: begun when a server asks, shown to the host, ended by a redirect or a device, or by time.

One login at a time for a credential; every address that waits for it shows the same `Authorization`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from sidecar import errors
from sidecar.auth import dpop
from sidecar.auth.device import poll, request_code
from sidecar.auth.discovery import discover
from sidecar.auth.grants import OFFLINE, require_same_issuer, wanted_scopes
from sidecar.auth.loopback import Loopback
from sidecar.auth.pending import LOGIN_SECONDS, Pending, Shelf
from sidecar.auth.record import Record
from sidecar.auth.registration import identify
from sidecar.auth.tokens import OAuthFailure, TokenEndpoint
from sidecar.auth.world import audit

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.auth.credential import Credential
    from sidecar.auth.record import Authority, Client, Tokens
    from sidecar.auth.seat import Seat

logger: Final = logging.getLogger(__name__)

_SHARED: Final = frozenset({"file", "redis"})
"""Vaults that another process may write while a person is waited for, and that cost little to read."""
_WATCH_SECONDS: Final = 5.0

Finish = Callable[[Pending, Mapping[str, str]], Awaitable[None]]


class Login:
    """The login of one credential: none, or the one that waits."""

    def __init__(self, credential: Credential, shelf: Shelf, finish: Finish) -> None:
        """Nothing waits; `finish` takes what a loopback redirect brought."""
        self.credential = credential
        self.pending: Pending | None = None
        self.waiting: set[Seat] = set()
        self._shelf = shelf
        self._finish = finish
        self._lock = asyncio.Lock()
        self._client: tuple[str, Client] | None = None
        """The registration of a login that was begun, and its issuer."""
        self._timer: asyncio.TimerHandle | None = None
        self._device: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._loopback: Loopback | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # -- beginning --------------------------------------------------------------------------------------------

    async def begin(
        self,
        seat: Seat,
        challenge: Mapping[str, str],
        *,
        more: tuple[str, ...] = (),
        step_up: bool = False,
        flow: str | None = None,
    ) -> Pending:
        """Return the login that this address waits for from now on, the one on its way where it fits.

        Raises what discovery and registration raise, and InsufficientScope.
        """
        async with self._lock:
            pending = self.pending
            if pending is not None and not pending.late() and self._fits(pending, more, flow):
                if pending.step_up and not step_up:
                    self.pending = pending = replace(pending, step_up=False)
            else:
                if pending is not None:
                    # Before the next one: a loopback port has room for one listener.
                    self.pending = None
                    await self._withdraw(pending)
                pending = await self._new(seat, challenge, more, step_up=step_up, flow=flow)
                await self._keep(pending)
                for other in self.waiting - {seat}:
                    other.show(pending)
            self.waiting.add(seat)
            return pending

    @staticmethod
    def _fits(pending: Pending, more: tuple[str, ...], flow: str | None) -> bool:
        kind = "device" if pending.device_code is not None else "redirect"
        return set(more) <= set(pending.scopes) and flow in {None, kind}

    async def _new(
        self, seat: Seat, challenge: Mapping[str, str], more: tuple[str, ...], *, step_up: bool, flow: str | None
    ) -> Pending:
        credential = self.credential
        settings, fetcher, record = credential.settings, credential.fetcher, credential.record
        device = flow == "device" or (flow is None and settings.grant == "device_code")
        authority = await discover(settings, fetcher, challenge)
        require_same_issuer(settings, record, authority)
        if device and authority.device_endpoint is None:
            reason = "device_authorization_endpoint is missing"
            raise errors.BadMetadata("the authorization server has no device flow", reason=reason)
        scopes = wanted_scopes(settings, authority, challenge, record, more)
        loopback, redirect_uri = None, None
        if not device:
            if settings.redirect_mode == "loopback":
                loopback = await Loopback.bind(settings.redirect_port)
                redirect_uri = loopback.uri
            else:
                redirect_uri = settings.redirect_uri
        try:
            client = await self._identify(authority, device=device, redirect_uri=redirect_uri, scopes=scopes)
            pem = (record.dpop_pem if record is not None else None) or dpop.new_key() if settings.dpop else None
            pending = self._draft(seat, authority, client, scopes, redirect_uri, pem, step_up=step_up)
            if device:
                pending = await request_code(pending, fetcher)
            else:
                pending = replace(pending, url=authorization_url(pending))
        except BaseException:
            if loopback is not None:
                await loopback.aclose()
            raise
        self._loopback = loopback
        return pending

    async def _identify(
        self, authority: Authority, *, device: bool, redirect_uri: str | None, scopes: tuple[str, ...]
    ) -> Client:
        credential = self.credential
        record, known = credential.record, None
        if record is not None and record.authority.issuer == authority.issuer and not credential.stale_client:
            known = record.client
        elif self._client is not None and self._client[0] == authority.issuer:
            known = self._client[1]
        client = await identify(
            credential.settings,
            authority,
            credential.fetcher,
            grant="device_code" if device else "authorization_code",
            redirect_uri=redirect_uri,
            scopes=scopes,
            known=known,
        )
        self._client = (authority.issuer, client)
        credential.stale_client = False
        return client

    def _draft(
        self,
        seat: Seat,
        authority: Authority,
        client: Client,
        scopes: tuple[str, ...],
        redirect_uri: str | None,
        pem: str | None,
        *,
        step_up: bool,
    ) -> Pending:
        owner, address = self.credential.owner, seat.address
        return Pending(
            id=secrets.token_urlsafe(12),
            state=secrets.token_urlsafe(32),
            url="",
            expires=time.time() + LOGIN_SECONDS,
            settings=self.credential.settings,
            authority=authority,
            client=client,
            scopes=scopes,
            tenant=owner.tenant,
            user=owner.user,
            server=address.name,
            scope=address.scope,
            transport=seat.transport,
            redirect_uri=redirect_uri,
            verifier=secrets.token_urlsafe(48),
            dpop_pem=pem,
            step_up=step_up,
        )

    async def _keep(self, pending: Pending) -> None:
        """Remember a login, here and in the vault, and wait for its end. Raises StoreLocked or StoreUnavailable."""
        credential = self.credential
        try:
            await self._shelf.put(pending)
        except errors.StoreWriteFailed as error:
            body = {"backend": credential.world.vault.kind, "error": error.to_wire()}
            credential.world.notices.tell("store/degraded", body)
        except BaseException:
            self._stop(pending)
            raise
        self.pending = pending
        self._timer = self._loop.call_later(max(0.0, pending.expires - time.time()), self._expired, pending)
        if pending.device_code is not None:
            self._device = self._loop.create_task(self._poll(pending))
        elif self._loopback is not None:
            self._loopback.serve(pending.state, lambda parts: self._finish(pending, parts))
        if credential.world.vault.kind in _SHARED:
            self._watcher = self._loop.create_task(self._watch(pending))
        audit.info("a login was begun", extra=self._label)

    @property
    def _label(self) -> dict[str, Any]:
        return {"server": self.credential.server, "scope": self.credential.owner.scope()}

    # -- ending -----------------------------------------------------------------------------------------------

    def _expired(self, pending: Pending) -> None:
        error = errors.AuthTimeout("the login was not finished in time: begin it anew with auth/begin")
        self.failed(pending, error)
        self._spawn(self._withdraw(pending))

    async def _poll(self, pending: Pending) -> None:
        """Wait for the person at the other device."""
        try:
            tokens = await poll(pending, self.credential.fetcher)
            await self.succeeded(pending, tokens)
        except errors.SidecarError as error:
            self.failed(pending, error)
        except Exception:
            logger.exception("the device login failed inside the sidecar", extra=self._label)
            self.failed(pending, errors.AuthTransient("internal error of the sidecar"))

    async def _watch(self, pending: Pending) -> None:
        """Go on where another process that shares the vault has logged the same person in."""
        credential = self.credential
        had = credential.record.generation if credential.record is not None else 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            with contextlib.suppress(errors.SidecarError):
                await credential.reload()
            record = credential.record
            if record is not None and record.tokens is not None and record.generation > had:
                self._spawn(self._shelf.withdraw(pending))
                self._go_on(pending)
                return

    async def succeeded(self, pending: Pending, tokens: Tokens) -> None:
        """Store the tokens of a login and let everybody go on who waits for it."""
        credential = self.credential
        old = credential.record
        record = Record(
            authority=pending.authority,
            client=pending.client,
            tokens=tokens,
            requested=pending.scopes,
            dpop_pem=pending.dpop_pem,
            generation=old.generation + 1 if old is not None else 1,
        )
        await credential.store(record)
        credential.login_token = tokens.access
        audit.info("a login was completed", extra=self._label)
        self._go_on(pending)

    def _go_on(self, pending: Pending) -> None:
        """Let everybody go on who waits for a login: there is one."""
        current, self.pending = self.pending, None
        waiting, self.waiting = list(self.waiting), set()
        if current is not None:
            self._stop(current)
            if current.id != pending.id:
                self._spawn(self._withdraw(current))  # begun anew after a restart, and needed no more
        for seat in waiting:
            seat.address.authorized()

    def failed(self, pending: Pending, error: errors.SidecarError) -> None:
        """End a login that came to nothing."""
        audit.info("a login failed (%s)", error.kind, extra=self._label)
        if self.pending is None or self.pending.id != pending.id:
            return
        self.pending = None
        waiting, self.waiting = list(self.waiting), set()
        self._stop(pending)
        if isinstance(error, errors.GrantRevoked | errors.AuthDenied) and not pending.step_up:
            self.credential.dead = error
        for seat in waiting:
            seat.address.login_failed(error)

    def _stop(self, pending: Pending) -> None:
        """Stop what waits for the person."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in (self._device, self._watcher):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._device = self._watcher = None
        loopback, self._loopback = self._loopback, None
        if loopback is not None:
            task = self._loop.create_task(loopback.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._shelf.drop(pending)

    async def _withdraw(self, pending: Pending) -> None:
        self._stop(pending)
        while self._closing:
            await asyncio.wait(list(self._closing))
        try:
            await self._shelf.withdraw(pending)
        except errors.SidecarError as error:
            logger.info("a login that nobody waits for stays in the vault: %s", error.message, extra=self._label)

    async def leave(self, seat: Seat) -> None:
        """Note that an address waits no more; with the last one the login ends."""
        self.waiting.discard(seat)
        pending = self.pending
        if pending is not None and not self.waiting:
            self.pending = None
            await self._withdraw(pending)

    async def cancel(self) -> None:
        """End the login: its credential is revoked."""
        pending, self.pending = self.pending, None
        self.waiting.clear()
        self._client = None
        if pending is not None:
            await self._withdraw(pending)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def aclose(self) -> None:
        """Stop everything in this process; a login that rests in the vault can be completed by the next one."""
        if self.pending is not None:
            self._stop(self.pending)
        if work := [*self._work, *self._closing]:
            await asyncio.wait(work, timeout=2.0)


def authorization_url(pending: Pending) -> str:
    """Return where the person logs in. The sidecar itself never opens or reads it."""
    settings = pending.settings
    assert pending.verifier is not None
    assert pending.redirect_uri is not None
    digest = hashlib.sha256(pending.verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": pending.client.id,
        "redirect_uri": pending.redirect_uri,
        "state": pending.state,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    if pending.scopes:
        query["scope"] = " ".join(pending.scopes)
    if pending.authority.resource is not None:
        query["resource"] = pending.authority.resource
    if OFFLINE in pending.scopes:
        query["prompt"] = "consent"  # OpenID Connect gives no refresh token without it
    if pending.dpop_pem is not None:
        query["dpop_jkt"] = dpop.Key(pending.dpop_pem).thumbprint
    endpoint = str(pending.authority.authorization_endpoint)
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode({**query, **settings.extra_params})


async def exchange(pending: Pending, credential: Credential, code: str) -> Tokens:
    """Return the tokens for the code of a redirect. Raises the failure for the wire."""
    assert pending.verifier is not None
    assert pending.redirect_uri is not None
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": pending.redirect_uri,
        "code_verifier": pending.verifier,
    }
    if pending.authority.resource is not None:
        form["resource"] = pending.authority.resource
    key = dpop.Key(pending.dpop_pem) if pending.dpop_pem is not None else None
    endpoint = TokenEndpoint(pending.settings, pending.authority, pending.client, credential.fetcher, key)
    try:
        return await endpoint.ask(form)
    except OAuthFailure as failure:
        document = pending.client.origin == "document" and failure.code == "invalid_client"
        if document or failure.code == "invalid_client_metadata":
            text = f"the authorization server refused the client metadata document ({failure.code})"
            raise errors.RegistrationFailed(text, oauthError=failure.code) from None
        raise failure.as_error() from None
