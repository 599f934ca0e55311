"""A real Redis server on loopback, and a host that keeps credentials."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.answers import Json
from tests.harness import PATIENCE


class RedisServer:
    """`redis-server` on a port of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it; what it keeps goes to `folder`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                str(folder),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + PATIENCE
        while b"PONG" not in self.ask("PING") and b"NOAUTH" not in self.ask("PING"):
            assert time.monotonic() < end, "no Redis server in time"
            time.sleep(0.02)  # a server that starts tells nobody: it is asked again

    def ask(self, *words: str | bytes) -> bytes:
        """Send a command and return the first bytes of the answer as they came; nothing where no server is."""
        raw = [word.encode() if isinstance(word, str) else word for word in words]
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
                parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)
                connection.sendall(b"*%d\r\n%b" % (len(raw), parts))
                return connection.recv(1 << 16)
        except ConnectionRefusedError:
            return b""

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()


class Refused(Exception):  # noqa: N818 - as the sidecar names it
    """The host said no."""

    code = -32601


class KeepingHost:
    """A host that keeps credentials in a dictionary and compares versions, as wire section 5 says."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.entries: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[str, Json, float]] = []
        self.answer: bytes | None = None
        """Said instead of the truth."""
        self.refuses = False
        self._count = 0

    def promises(self, name: str) -> bool:
        """Promise to keep credentials."""
        return name == "credentials"

    async def ask(self, method: str, params: dict[str, Any], seconds: float) -> bytes:
        """Answer a request."""
        self.asked.append((method, params, seconds))
        if self.refuses:
            raise Refused
        return self.answer if self.answer is not None else json.dumps(self.serve(method, params)).encode()

    def serve(self, method: str, params: Json) -> Json:
        """Do what a request asks for."""
        key = params["key"]
        value, version = self.entries.get(key, (None, None))
        if method == "credentials/get":
            return {"value": value, "version": version}
        if method == "credentials/put":
            base64.b64decode(params["value"], validate=True)
            if params["ifVersion"] != version:
                return {"ok": False, "version": version, "value": value}
            self._count += 1
            self.entries[key] = (params["value"], f"v{self._count}")
            return {"ok": True, "version": f"v{self._count}"}
        assert method == "credentials/delete"
        if params.get("ifVersion", version) == version:
            self.entries.pop(key, None)
        return {}
