"""The credentials of one address: what they put on each request, and what they do when the server is not content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar import errors
from sidecar.auth import challenge as challenges
from sidecar.auth.credential import Dead
from sidecar.auth.grants import refuse_beyond
from sidecar.auth.record import time_text
from sidecar.auth.tokens import NONCE_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.auth.credential import Credential
    from sidecar.auth.login import Login
    from sidecar.auth.pending import Pending
    from sidecar.auth.world import Address
    from sidecar.transports.client import Reply

_LAST_REPLAY: Final = 1
_NONCE_REPLAYS: Final = 3


Release = Callable[[Any], Awaitable[None]]


class Credentials(Protocol):
    """What the HTTP client asks about each request of one connection."""

    async def headers(self, method: str, url: str) -> dict[str, str]:
        """Return what goes on this request. Raises 13xx and 14xx, with `delivered: no`."""

    async def rejected(self, reply: Reply, url: str, sent: Mapping[str, str], replays: int) -> bool:
        """Take a 401 or 403; True: send the request once more. `replays` counts how often that was done."""

    def accepted(self, sent: Mapping[str, str]) -> None:
        """Note that the server took what was sent."""

    async def release(self) -> None:
        """Give up: the address is gone."""

    def info(self) -> dict[str, Any]:
        """Return the `auth` of the `ServerInfo`."""


class Seat:
    """One address on a credential that it may share with others."""

    def __init__(self, address: Address, transport: str, login: Login, release: Release) -> None:
        """Use the credential of `login`; `release` takes the seat back."""
        self._release = release
        self.address = address
        self.transport = transport
        self.login = login
        self.credential: Credential = login.credential
        self.challenge: dict[str, str] = {}
        """What the server said last about how to log in."""
        self._bearer: tuple[str, dict[str, str]] = ("", {})
        self._told: str | None = None
        self.quiet = False
        """True for a trial: the host is not told to log anybody in."""

    # -- traffic ----------------------------------------------------------------------------------------------

    async def headers(self, method: str, url: str) -> dict[str, str]:
        """Return the token for a request, a fresh one where that is due."""
        credential = self.credential
        tokens = credential.tokens
        if tokens is None or tokens.expiring():
            await self._prepare()
            tokens = credential.tokens
            if tokens is None:
                return {}  # the server says what it wants
        if tokens.type == "DPoP" and credential.proof_key is not None:
            proof = credential.proof_key.proof(method, url, tokens.access)
            return {"authorization": f"DPoP {tokens.access}", "dpop": proof}
        if self._bearer[0] is not tokens.access:
            self._bearer = (tokens.access, {"authorization": f"Bearer {tokens.access}"})
        return self._bearer[1]

    async def _prepare(self) -> None:
        """Load the credential, and renew it where it is at its end."""
        credential = self.credential
        await credential.load()
        tokens = credential.tokens
        if tokens is None or not tokens.expiring():
            return
        if tokens.refresh is None and credential.settings.personal:
            return  # nothing to renew it with: the server's 401 says when it is over
        if not tokens.expired():
            credential.renew_soon()
            return
        self._ask_as_me()
        try:
            await credential.renew(tokens.access)
        except Dead as dead:
            await self._log_in(dead.cause)

    async def rejected(self, reply: Reply, url: str, sent: Mapping[str, str], replays: int) -> bool:
        """Answer a 401 or 403: with another token, with a login, or not at all."""
        challenge = challenges.bearer(reply.all("www-authenticate"))
        self.challenge = challenge or self.challenge
        credential = self.credential
        used = sent.get("authorization", "").rpartition(" ")[2] or None
        if credential.proof_key is not None and used is not None:
            news = credential.proof_key.note_nonce(url, reply.headers.get("dpop-nonce"))
            if reply.status == 401 and news and challenge.get("error") == NONCE_ERROR and replays < _NONCE_REPLAYS:
                return True
        if challenge.get("error") == "insufficient_scope" and used is not None:
            return await self._step_up(challenge, used, replays)
        if reply.status == 403 or self.address.state in {"idle", "closed"}:
            return False  # nobody uses the address any more: its session is being closed
        self._ask_as_me()
        if replays < _LAST_REPLAY or used is None:
            try:
                return await self._renewed(used, challenge)
            except Dead as dead:
                await self._log_in(dead.cause)
        elif credential.settings.personal and used != credential.login_token:
            await self._log_in(None)
        return False

    async def _renewed(self, used: str | None, challenge: Mapping[str, str]) -> bool:
        """Get another token than the one that was refused; False where there is none to hope for. Raises Dead."""
        credential = self.credential
        await credential.load()
        tokens = credential.tokens
        if tokens is not None and tokens.access != used:
            return True
        if used is not None and used == credential.login_token and credential.proven != used:
            return False  # fresh from a login and refused: another login would end the same way
        if credential.settings.personal and (tokens is None or tokens.refresh is None):
            await credential.reload()  # another process may have logged in
            tokens = credential.tokens
            if tokens is not None and tokens.access != used:
                return True
            credential.refused = used
            raise Dead(credential.dead)
        await credential.renew(used, challenge)
        return True

    async def _step_up(self, challenge: Mapping[str, str], used: str, replays: int) -> bool:
        credential = self.credential
        needed = tuple(challenges.scopes(challenge.get("scope")))
        record = credential.record
        if credential.tokens is not None and credential.tokens.access != used and replays < _LAST_REPLAY:
            return True  # somebody has stepped up meanwhile
        bound = credential.settings.allowed()
        if bound is not None:
            refuse_beyond(bound, needed)
        have = {*record.requested, *record.scopes} if record is not None else set()
        if not needed or have.issuperset(needed) or replays > _LAST_REPLAY:
            return False  # it was asked for already: asking again would not end
        self._ask_as_me()
        if not credential.settings.personal:
            await credential.renew(used, challenge, needed)
            return True
        pending = await self.login.begin(self, challenge, more=needed, step_up=True)
        raise self._required(pending, "more scopes are needed for this: a person must agree")

    def accepted(self, sent: Mapping[str, str]) -> None:
        """Note that the token is good."""
        used = sent.get("authorization", "").rpartition(" ")[2]
        if used != self.credential.proven:
            self.credential.proven = used

    # -- logins -----------------------------------------------------------------------------------------------

    def _ask_as_me(self) -> None:
        self.credential.asker = {"server": self.address.name, "scope": self.address.scope}

    async def _log_in(self, cause: errors.SidecarError | None) -> None:
        """Begin a login and say so. Always raises: AuthRequired, or what the beginning failed with."""
        pending = await self.login.begin(self, self.challenge)
        error = self._required(pending, "a person must log in")
        if cause is not None:
            error.__cause__ = cause
        if self.address.state == "ready":
            self.address.needs_login(error)
        raise error

    def _required(self, pending: Pending, text: str) -> errors.AuthRequired:
        """Return the 1301, and tell the host."""
        authorization = pending.authorization()
        self.notify(pending)
        return errors.AuthRequired(text, authorization=authorization, delivered="no")

    def notify(self, pending: Pending) -> None:
        """Tell the host that somebody must log in; once for each login."""
        if self._told != pending.id and not self.quiet:
            self._told = pending.id
            body = {
                "server": self.address.name,
                "scope": self.address.scope,
                "authorization": pending.authorization(),
            }
            self.credential.world.notices.tell("auth/required", body)

    def show(self, pending: Pending) -> None:
        """Wait for another login than before."""
        if self.address.state == "authorizing":
            self.address.authorization = pending.authorization()
            self.notify(pending)
            self.address.tell()

    async def begin(self, flow: str | None) -> dict[str, Any]:
        """Serve `auth/begin`: return the `Authorization` that this address waits for."""
        credential = self.credential
        await credential.load()
        if not self.challenge:
            self.challenge = await self._probe()
        ready = self.address.state == "ready"
        pending = await self.login.begin(self, self.challenge, step_up=ready, flow=flow)
        self._told = pending.id  # the answer tells it
        authorization = pending.authorization()
        if self.address.state in {"idle", "failed", "authorizing"}:
            error = errors.AuthRequired("a person must log in", authorization=authorization)
            self.address.needs_login(error)
        return authorization

    async def _probe(self) -> dict[str, str]:
        """Ask the server without a token, for its challenge; one that cannot be reached has none."""
        if self.credential.settings.explicit:
            return {}  # nothing is discovered
        headers = {
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        body = b'{"jsonrpc":"2.0","id":0,"method":"ping"}'
        try:
            answer = await self.credential.fetcher.probe(self.credential.settings.server_url, headers, body)
        except errors.AuthTransient:
            return {}
        return challenges.bearer(answer.challenges) if answer.status in {401, 403} else {}

    async def release(self) -> None:
        """Give the seat back: the address is gone."""
        await self._release(self)

    async def leave(self) -> None:
        """Wait for no login any more."""
        await self.login.leave(self)

    def info(self) -> dict[str, Any]:
        """Return the `auth` of the `ServerInfo`."""
        credential = self.credential
        record, tokens = credential.record, credential.tokens
        if tokens is not None:
            over = tokens.expired() or tokens.access == credential.refused
            state = "expired" if over else "valid"
        elif self.login.pending is not None:
            state = "pending"
        else:
            state = "dead" if credential.dead is not None else "none"
        body: dict[str, Any] = {"type": "oauth", "state": state}
        authority = record.authority if record is not None else None
        if authority is None and self.login.pending is not None:
            authority = self.login.pending.authority
        if record is not None and tokens is not None:
            if tokens.expires is not None:
                body["expiresAt"] = time_text(tokens.expires)
            body["scopes"] = list(record.scopes)
        if authority is not None:
            body["issuer"] = authority.issuer
        relaxed = authority.relaxed if authority is not None else tuple(credential.settings.relaxed)
        if relaxed:
            body["relaxed"] = list(relaxed)
        return body
