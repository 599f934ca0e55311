"""One credential, shared by all addresses of its owner: loaded once, renewed by one at a time, written before used.

No lock is held while an MCP request runs. Only `invalid_grant` ends a credential; whatever else goes wrong at the
authorization server keeps it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sidecar import errors
from sidecar.auth import dpop
from sidecar.auth.grants import obtain
from sidecar.auth.record import Record, record_of
from sidecar.auth.registration import present
from sidecar.auth.tokens import OAuthFailure, TokenEndpoint
from sidecar.auth.world import audit
from sidecar.telemetry.redact import SECRETS
from sidecar.transports.faults import copy_error
from sidecar.vault import Conflict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.fetch import Fetcher
    from sidecar.auth.record import Tokens
    from sidecar.auth.settings import Settings
    from sidecar.auth.world import Owner, World
    from sidecar.vault import Key

logger: Final = logging.getLogger(__name__)

_COOL_SECONDS: Final = 5.0
"""Between two attempts to renew a token that is still good."""
_FLIGHT_SECONDS: Final = 30.0
_STORE_FAULTS: Final = (errors.StoreLocked, errors.StoreUnavailable, errors.StoreCorrupt, errors.StoreWriteFailed)


class Dead(Exception):
    """No grant is honoured: somebody must log in. `cause` says why the former one ended, where that is known."""

    def __init__(self, cause: errors.SidecarError | None = None) -> None:
        """Keep the reason."""
        super().__init__("no usable grant")
        self.cause = cause


class Credential:
    """The tokens of one owner at one server."""

    def __init__(self, settings: Settings, owner: Owner, world: World, server: str) -> None:
        """Know nothing yet; the vault is asked at the first use."""
        self.settings = settings
        self.owner = owner
        self.world = world
        self.fetcher: Fetcher
        self.server = server
        self.record: Record | None = None
        self.key: Key = world.vault.key(
            "credential",
            owner.kind,
            owner.tenant,
            owner.user,
            settings.server_url,
            settings.identity(),
            scope=owner.scope(),
            server=server,
        )
        self.asker: dict[str, Any] = {"server": server, "scope": owner.scope()}
        """The address that asked last, in the words of a question to the host."""
        self.dead: errors.SidecarError | None = None
        """What ended the last grant."""
        self.login_token: str | None = None
        """The access token of the last login, until the server has accepted one."""
        self.stale_client = False
        """Whether the authorization server no longer knows our registration."""
        self.proven: str | None = None
        """The access token that the server has accepted."""
        self.refused: str | None = None
        """The access token that the server has refused for good."""
        self.proof_key: dpop.Key | None = None
        self._version: str | None = None
        self._unwritten = False
        self._loading: asyncio.Task[None] | None = None
        self._loaded = False
        self._renewing: asyncio.Task[None] | None = None
        self._cool_until = 0.0
        self._secrets: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()

    @property
    def tokens(self) -> Tokens | None:
        """The tokens, as far as they are known without asking anybody."""
        return self.record.tokens if self.record is not None else None

    @property
    def stored_in(self) -> str:
        """Where the tokens rest: the kind of vault, or `memory` where that could not be written."""
        return "memory" if self._unwritten else self.world.vault.kind

    # -- the vault --------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the vault once. Raises StoreLocked, StoreUnavailable or StoreCorrupt; the next use tries again."""
        if self._loaded:
            return
        if self._loading is None:
            self._loading = self._loop.create_task(self.reload())
            self._loading.add_done_callback(self._loading_done)
        try:
            await asyncio.shield(self._loading)
        except errors.SidecarError as error:
            raise copy_error(error, "no") from None

    def _loading_done(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        if not task.cancelled():
            task.exception()  # seen, also where its caller has left

    async def reload(self) -> None:
        """Read the vault: another process may have written."""
        found = await self.world.vault.load(self.key)
        self._loaded = True
        if found is None:
            if not self._unwritten:
                self._adopt(None, None)
            self._version = None
        elif found[1] != self._version or not self._unwritten:
            # A pair that could not be written is newer than what stands there, unless somebody wrote after us.
            try:
                record = record_of(found[0])
            except ValueError:
                raise errors.StoreCorrupt("the credential has a shape that this version does not know") from None
            self._unwritten = False
            self._adopt(record, found[1])

    def _adopt(self, record: Record | None, version: str | None) -> None:
        secrets = record.secrets if record is not None else ()
        SECRETS.add(*secrets)
        SECRETS.discard(*self._secrets)
        self._secrets = secrets
        pem = record.dpop_pem if record is not None else None
        if pem != (self.record.dpop_pem if self.record is not None else None):
            self.proof_key = dpop.Key(pem) if pem is not None else None
        self.record, self._version = record, version
        if record is not None and record.tokens is not None:
            self.dead = None

    async def store(self, record: Record) -> None:
        """Write a record, then use it; where it cannot be written it is used all the same, and the host is told."""
        try:
            await self.write(record)
        except _STORE_FAULTS as error:
            self._unwritten = True
            self._adopt(record, self._version)
            logger.warning("a credential is kept in memory alone: %s", error.message)
            body = {"backend": self.world.vault.kind, "error": error.to_wire()}
            self.world.notices.tell("store/degraded", body)

    async def write(self, record: Record) -> None:
        """Write a record by compare-and-swap and use it. Raises StoreWriteFailed, StoreLocked or StoreUnavailable."""
        for _ in range(3):
            try:
                version = await self.world.vault.save(self.key, record.to_json(), self._version)
            except Conflict:
                # Somebody else wrote meanwhile: a later login wins, otherwise what we have is the newest.
                self._unwritten = False
                await self.reload()
                if self.record is not None and self.record.generation > record.generation:
                    return
            else:
                self._loaded, self._unwritten = True, False
                self._adopt(record, version)
                return
        raise errors.StoreUnavailable("the credential changes too often", backend=self.world.vault.kind)

    async def forget(self) -> None:
        """Delete the record, in the vault first."""
        await self.world.vault.delete(self.key)
        self.drop()

    def drop(self) -> None:
        """Forget what is in memory."""
        self._unwritten = False
        self._loaded = False
        self.dead = None
        self.proven = self.refused = self.login_token = None
        self._adopt(None, None)

    # -- new tokens -------------------------------------------------------------------------------------------

    def renew_soon(self) -> None:
        """Renew a token that is still good beside the calls that use it."""
        if self._renewing is None and self._loop.time() >= self._cool_until:
            self._cool_until = self._loop.time() + _COOL_SECONDS
            self._begin_renewal(None, None, ())

    async def renew(
        self, used: str | None, challenge: Mapping[str, str] | None = None, more: tuple[str, ...] = ()
    ) -> None:
        """Get other tokens than `used`, which are on their way for somebody else perhaps.

        `challenge` is what the server said to `used`; `more` are scopes that it needs too. Raises Dead where a login
        is needed, AuthTransient where the authorization server is ill, and what a vault raises.
        """
        while True:
            if self._renewing is None:
                self._begin_renewal(used, challenge, more)
                mine = True
            else:
                mine = False
            assert self._renewing is not None
            try:
                await asyncio.shield(self._renewing)
            except errors.SidecarError as error:
                raise copy_error(error, "no") from None  # each waiter's own: an error carries its address
            tokens = self.tokens
            if mine or (tokens is not None and tokens.access != used and not more):
                return

    def _begin_renewal(self, used: str | None, challenge: Mapping[str, str] | None, more: tuple[str, ...]) -> None:
        # A task of its own: whoever waits may be cancelled, but a rotation that was begun is brought to its end.
        self._renewing = self._loop.create_task(self._renew(used, challenge, more))
        self._renewing.add_done_callback(self._renewal_done)

    def _renewal_done(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Dead):
            logger.info("a token was not renewed: %s", error, extra=self._label)

    @property
    def _label(self) -> dict[str, Any]:
        return {"server": self.server, "scope": self.owner.scope()}

    async def _renew(self, used: str | None, challenge: Mapping[str, str] | None, more: tuple[str, ...]) -> None:
        try:
            async with self.world.vault.single_flight(self.key, _FLIGHT_SECONDS):
                await self._renew_alone(used, challenge, more)
        except TimeoutError:
            raise errors.AuthTransient("another process renews this token and does not come to an end") from None
        except errors.StoreWriteFailed as error:
            # Where nothing can be written there is no lock either; in this process we are alone all the same.
            logger.debug("no lock between processes: %s", error.message)
            await self._renew_alone(used, challenge, more)

    async def _renew_alone(self, used: str | None, challenge: Mapping[str, str] | None, more: tuple[str, ...]) -> None:
        await self.reload()
        record = self.record
        tokens = self.tokens
        if tokens is not None and not more and tokens.access != used and not tokens.expiring():
            return  # somebody else has done it
        if record is not None and tokens is not None and tokens.refresh is not None and not more:
            await self._refresh(record, tokens)
        elif self.settings.personal:
            raise Dead(self.dead)
        else:
            asked = challenge if challenge is not None else {}
            fresh = await obtain(self, asked, more, anew=challenge is not None)
            await self.store(fresh)
            audit.info("a token was obtained (%s)", self.settings.grant, extra=self._label)

    async def _refresh(self, record: Record, tokens: Tokens) -> None:
        assert tokens.refresh is not None
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
        if record.authority.resource is not None:
            form["resource"] = record.authority.resource
        client = present(self.settings, record.authority, record.client)
        endpoint = TokenEndpoint(self.settings, record.authority, client, self.fetcher, self.proof_key)
        try:
            fresh = await endpoint.ask(form, previous=tokens)
        except OAuthFailure as failure:
            error = failure.as_error()
            if not isinstance(error, errors.GrantRevoked):
                self.stale_client = failure.code in {"invalid_client", "unauthorized_client"}
                raise error from None
            await self._died(record, tokens, error)
        else:
            await self.store(record.with_tokens(fresh))
            audit.info("a token was refreshed", extra=self._label)

    async def _died(self, record: Record, tokens: Tokens, error: errors.GrantRevoked) -> None:
        """Forget tokens that are dead, unless another process has newer ones. Raises Dead."""
        await self.reload()
        if self.tokens is not None and self.tokens.refresh != tokens.refresh:
            return
        audit.info("the grant is no longer honoured (invalid_grant)", extra=self._label)
        await self.store(replace(record, tokens=None))
        self.dead = error
        if self.settings.personal:
            raise Dead(error)
        raise error

    async def aclose(self) -> None:
        """Let a renewal that runs come to its end, for a moment, and forget the secrets."""
        if self._renewing is not None:
            await asyncio.wait([self._renewing], timeout=2.0)
        for task in (self._renewing, self._loading):
            if task is not None:
                task.cancel()
        SECRETS.discard(*self._secrets)
        self._secrets = ()
