"""The redirect of a login on this machine: a listener on 127.0.0.1 for one login, whose page says what happened.

It is bound before the redirect URI is built, and nothing that others send to it touches the login.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from sidecar import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

logger: Final = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PATH: Final = "/callback"
_REQUEST_SECONDS: Final = 10.0
_MAX_HEAD: Final = 32 * 1024
_MAX_CLIENTS: Final = 32
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:18px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em}}</style></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""


class Loopback:
    """The listener of one login."""

    def __init__(self, sock: socket.socket) -> None:
        """Own a bound socket; nobody is served yet."""
        self._socket = sock
        self.uri = f"http://{HOST}:{sock.getsockname()[1]}{PATH}"
        self._server: asyncio.Server | None = None
        self._start: asyncio.Task[None] | None = None
        self._state = ""
        self._finish: Callable[[Mapping[str, str]], Awaitable[None]] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._outcome: tuple[str, str] | None = None

    @classmethod
    async def bind(cls, port: int | None) -> Loopback:
        """Return a listener on its port, a free one where none is given. Raises AuthPolicy where it is taken."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, port or 0))
            sock.listen(16)
        except OSError:
            sock.close()
            text = "the port of the loopback redirect is taken: free it, or leave redirect.port out"
            raise errors.AuthPolicy(text, rule="redirect") from None
        return cls(sock)

    def serve(self, state: str, finish: Callable[[Mapping[str, str]], Awaitable[None]]) -> None:
        """Take requests from now on; `finish` gets the parameters of the one with the right state."""
        self._state, self._finish = state, finish
        self._start = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._client, sock=self._socket, limit=_MAX_HEAD)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= _MAX_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, title, text = await self._answer(head)
                body = _PAGE.format(title=title, text=text).encode()
                writer.write(_head(status, len(body)) + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            logger.debug("a request to the loopback redirect was not served: %s", type(error).__name__)
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> tuple[str, str, str]:
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or line[0] != "GET" or urlsplit(line[1]).path != PATH:
            return "404 Not Found", "Nothing here", "This address only takes the end of a login."
        host = next(
            (row[5:].strip() for row in head.decode("latin-1").split("\r\n") if row.lower().startswith("host:")), ""
        )
        if host != urlsplit(self.uri).netloc:
            return "400 Bad Request", "Nothing here", "This address only takes the end of a login."
        parts = dict(parse_qsl(urlsplit(line[1]).query, keep_blank_values=True))
        if not hmac.compare_digest(parts.get("state", "").encode(), self._state.encode()):
            text = "This is not the login that is waited for; nothing was changed. You can close this window."
            return "400 Bad Request", "Not this login", text
        finish, self._finish = self._finish, None
        if finish is None:
            if self._outcome is None:
                self._outcome = ("Already used", "This login was completed before. You can close this window.")
            return "200 OK", *self._outcome
        try:
            await finish(parts)
        except errors.SidecarError as error:
            reason = error.extra.get("oauthError") or error.kind
            self._outcome = ("Login failed", f"The login did not succeed ({reason}). You can close this window.")
            return "400 Bad Request", *self._outcome
        self._outcome = ("You are logged in", "The login is complete. You can close this window.")
        return "200 OK", *self._outcome

    async def aclose(self) -> None:
        """Take no more requests; one that is being answered is brought to its end."""
        if self._start is not None:
            await self._start
        if self._server is not None:
            self._server.close()
        self._socket.close()
        others = [task for task in self._clients if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=1.0)


def _head(status: str, size: int) -> bytes:
    rows = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {size}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
        "Connection: close",
    )
    return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")
