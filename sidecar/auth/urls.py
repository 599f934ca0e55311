"""The URLs of logins: how one is formed, and where it leads, before anything is done with it (wire section 6, 1306)."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from sidecar import errors
from sidecar.auth.egress import BadURL, Origin, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.auth.egress import EgressPolicy

_ALLOWED: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+\Z")
"""The characters that RFC 3986 gives a URL; a quote or an angle bracket is none of them."""
_LONGEST: Final = 4096
_RESOLVE_SECONDS: Final = 2.0
OAUTH_NAMES: Final = frozenset(
    {
        "assertion",
        "audience_token",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "code",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "device_code",
        "dpop_jkt",
        "grant_type",
        "nonce",
        "redirect_uri",
        "refresh_token",
        "request",
        "request_uri",
        "resource",
        "response_mode",
        "response_type",
        "scope",
        "state",
        "token",
        "token_type_hint",
    }
)
"""Names that the flow itself sets: neither a server's URL nor `extraParams` may bring them."""


def well_formed(url: str, what: str, *, query: bool = True) -> Origin:
    """Return a URL's origin. Raises AuthPolicy with rule `scheme`; the URL itself is never repeated."""
    if len(url) > _LONGEST:
        raise _scheme(what, "is longer than 4096 characters")
    if not _ALLOWED.match(url):
        raise _scheme(what, "has characters that a URL cannot have")
    try:
        origin, _ = parse_url(url)
        parts = urlsplit(url)
        names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    except BadURL as error:
        raise _scheme(what, f"is refused: {error}") from None
    except ValueError:
        raise _scheme(what, "is malformed") from None
    if "#" in url:
        raise _scheme(what, "has a fragment")
    if parts.query and not query:
        raise _scheme(what, "has a query")
    if names & OAUTH_NAMES:
        raise _scheme(what, "brings OAuth parameters of its own")
    return origin


def _scheme(what: str, why: str) -> errors.AuthPolicy:
    return errors.AuthPolicy(f"the {what} {why}", rule="scheme")


class Gate:
    """One policy for the URLs around one MCP server: only that server's own origin has the host's trust."""

    def __init__(self, policy: Callable[[], EgressPolicy], server_url: str) -> None:
        """Trust the origin of `server_url` as far as the policy trusts what the host itself connects to.

        `policy` returns the one in force: `initialize` may come after the first addresses.
        """
        self._policy = policy
        self.server = parse_url(server_url)[0]

    @property
    def policy(self) -> EgressPolicy:
        """The policy in force."""
        return self._policy()

    def trusts(self, origin: Origin) -> bool:
        """Tell whether the host itself named this origin."""
        return origin == self.server

    def check(self, url: str, what: str, *, query: bool = True) -> Origin:
        """Refuse a URL that is formed or leads where it must not. Raises AuthPolicy."""
        origin = well_formed(url, what, query=query)
        self.policy.check_origin(origin, from_host=self.trusts(origin))
        _refuse_odd_number(origin, what)
        return origin

    async def check_resolved(self, origins: Iterable[Origin]) -> None:
        """Refuse origins whose names lead to refused addresses already now. Raises AuthPolicy.

        A name that cannot be resolved here is left to whoever contacts it: our own requests check every address again
        when they connect.
        """
        hosts = {(origin.host, origin.port, self.trusts(origin)) for origin in origins}
        await asyncio.gather(*(self._check_host(*host) for host in hosts))

    async def _check_host(self, host: str, port: int, trusted: bool) -> None:
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            return
        for *_, address in found:
            literal = ipaddress.ip_address(str(address[0]).partition("%")[0])
            self.policy.check_address(host, literal, from_host=trusted)


_NUMBER: Final = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}\Z")


def _refuse_odd_number(origin: Origin, what: str) -> None:
    """Refuse spellings that a resolver reads as an IPv4 address but that are none in a URL (0x7f000001, 2130706433)."""
    if _NUMBER.match(origin.host):
        try:
            ipaddress.ip_address(origin.host)
        except ValueError:
            text = f"refused by the egress policy: the host of the {what} is an oddly spelled address"
            raise errors.AuthPolicy(text, rule="egress") from None
