"""The certified authorization server as a running program, and the browser of the person who logs in there."""

from __future__ import annotations

import http.cookiejar
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from typing import Any, Self
from urllib.parse import urljoin

from tests.answers import Json
from tests.auth.world import REDIRECT
from tests.harness import PATIENCE, ROOT
from tests.programs import _first_line

PROGRAM = str(ROOT / "tests" / "servers" / "oidc.mjs")


def node() -> str:
    """Return the Node.js to use: the pinned one, where it was installed."""
    pinned = next((ROOT / "node_modules").glob("node-linux-*/bin/node"), None)
    return str(pinned) if pinned is not None else str(shutil.which("node"))


class Oidc:
    """One process of it; it ends when its standard input does."""

    def __init__(self) -> None:
        """Start it and wait for its port."""
        self.process = subprocess.Popen(
            [node(), PROGRAM],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.origin = f"http://127.0.0.1:{int(_first_line(self.process.stdout.fileno()))}"

    def transport(self) -> Json:
        """Return the transport of the MCP server."""
        return {"type": "http", "url": f"{self.origin}/mcp"}

    def get(self, path: str) -> Json:
        """Ask the program itself."""
        with urllib.request.urlopen(self.origin + path, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
            body: Json = json.load(answer)
            return body

    @property
    def stats(self) -> Json:
        """What has happened so far."""
        return self.get("/stats")

    def __enter__(self) -> Self:
        """Return the running program."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def browse(url: str) -> str:
    """Log in as a person does and return where the browser is sent at last."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(_NoRedirect, cookies)
    for _ in range(20):
        try:
            with opener.open(url, timeout=PATIENCE) as answer:
                raise AssertionError(f"a page instead of a redirect: {answer.read()[:500]!r}")
        except urllib.error.HTTPError as error:
            error.close()
            assert error.headers["location"], f"HTTP {error.code} at {url[:300]}"  # noqa: PT017 - no test of an exception
            url = urljoin(url, error.headers["location"])
        if url.startswith(REDIRECT) or "127.0.0.1" not in url:
            return url
    raise AssertionError("the login does not end")
