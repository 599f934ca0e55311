"""The one policy about every URL and command that the sidecar uses (wire section 2, Egress)."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from sidecar import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535


@dataclass(frozen=True)
class Origin:
    """Scheme, host (lower case, no brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Spell it as an origin, without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if _DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


class BadURL(ValueError):
    """A URL that no policy could allow; its text says what is wrong and never repeats the URL."""


def parse_url(url: str) -> tuple[Origin, str]:
    """Return a URL's origin and its target (path and query). Raises BadURL."""
    if _CONTROL.search(url):
        raise BadURL("a URL has no blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadURL("the port is a number from 1 to 65535, and an IPv6 host stands in brackets") from None
    scheme = parts.scheme.lower()
    if scheme in {"ws", "wss"}:
        raise BadURL("WebSocket is no MCP transport: use an http:// or https:// URL")
    if scheme not in _DEFAULT_PORTS:
        raise BadURL("the URL must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise BadURL("the URL must not hold a user name or password: use auth or headers")
    if not parts.hostname:
        raise BadURL("the URL has no host")
    if port is None:
        port = _DEFAULT_PORTS[scheme]
    if not 0 < port <= _LAST_PORT:
        raise BadURL("the port is a number from 1 to 65535")
    try:
        host = _ascii_host(parts.hostname)
    except UnicodeError:
        raise BadURL("the host is not a valid name") from None
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    return Origin(scheme, host, port), target


def _ascii_host(host: str) -> str:
    host = host.lower().rstrip(".") or host
    return host if host.isascii() else host.encode("idna").decode("ascii")


def plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, where it does (mapped, NAT64, 6to4)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address


@dataclass(frozen=True)
class EgressPolicy:
    """Which hosts, addresses and commands may be used. Patterns are globs over lower-case host names."""

    allow_hosts: tuple[str, ...] | None = None
    deny_hosts: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    allow_http: tuple[str, ...] = ()
    allow_commands: tuple[str, ...] | None = None
    trust_connect_origin: bool = True
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False, default=())
    _private_hosts: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Sort `allow_private` into networks and host globs."""
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        hosts: list[str] = []
        for entry in self.allow_private:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                hosts.append(entry.lower())
        object.__setattr__(self, "_networks", tuple(networks))
        object.__setattr__(self, "_private_hosts", tuple(hosts))

    def check_origin(self, origin: Origin, *, from_host: bool) -> None:
        """Refuse a URL by its scheme and host; `from_host` says that the host itself gave it. Raises AuthPolicy."""
        host = origin.host
        if _matches(host, self.deny_hosts):
            raise _refused(f"the host {host} is named in egress.denyHosts")
        if self.allow_hosts is not None and not _matches(host, self.allow_hosts):
            raise _refused(f"the host {host} is not in egress.allowHosts")
        trusted = from_host and self.trust_connect_origin
        if origin.scheme == "http" and not trusted and not _matches(host, self.allow_http):
            raise _refused(f"plain http to {host} needs egress.allowHttp")
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            return
        self.check_address(host, literal, from_host=from_host)

    def check_address(self, host: str, address: Address, *, from_host: bool) -> None:
        """Refuse an address that `host` resolved to. Raises AuthPolicy."""
        real = plain(address)
        if real.is_global and not real.is_multicast:
            return
        if any(real in network for network in self._networks if network.version == real.version):
            return
        if real.is_link_local:
            # Cloud metadata services live here: a name or an origin never implies them.
            raise _refused(f"{host} leads to a link-local address: that needs its network in egress.allowPrivate")
        if _matches(host, self._private_hosts) or (from_host and self.trust_connect_origin):
            return
        raise _refused(f"{host} leads to a private address: that needs egress.allowPrivate")

    def check_command(self, path: str) -> None:
        """Refuse a command by its path. Raises AuthPolicy."""
        if self.allow_commands is not None and not any(fnmatch.fnmatchcase(path, glob) for glob in self.allow_commands):
            raise _refused("this command is not in egress.allowCommands")


def _matches(host: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(host, glob.lower().strip("[]")) for glob in globs)


def _refused(why: str) -> errors.AuthPolicy:
    return errors.AuthPolicy(f"refused by the egress policy: {why}", rule="egress")
