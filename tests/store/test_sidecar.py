"""The vault behind the real sidecar: what a host sees of it, over starts, tenants, and stores that fail."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answer, Json
from tests.conftest import Start
from tests.harness import PROGRAM, Sidecar
from tests.programs import raw

from .servers import KeepingHost, RedisServer
from .session import Session
from .stores import KEY, OTHER_KEY

pytestmark = pytest.mark.usefixtures("servers")

EGRESS: Json = {"allowPrivate": ["127.0.0.0/8"], "allowHttp": ["127.0.0.1"]}
NOBODY = "http://127.0.0.1:9"
"""Where no server is: importing a login needs none."""
TEXT = base64.b64encode(KEY).decode()
SECRETS = ("at-of-", "rt-of-")


def hello(sidecar: Sidecar, vault: Json | None, **capabilities: Any) -> Sidecar:
    """Say hello with a vault."""
    params: Json = {"protocolVersion": 1, "host": {"name": "t", "version": "1"}, "egress": EGRESS}
    if vault is not None:
        params["vault"] = vault
    sidecar.call("initialize", {**params, "capabilities": capabilities}).result  # noqa: B018 - fails on an error
    return sidecar


def remember(sidecar: Sidecar, scope: Json, server: str = "s") -> None:
    """Make an address known whose server nobody contacts."""
    auth = {"type": "oauth", "clientId": "client", "redirect": {"mode": "host", "uri": f"{NOBODY}/callback"}}
    sidecar.connect(server, {"type": "http", "url": f"{NOBODY}/mcp"}, scope=scope, auth=auth, lazy=True)


def give(sidecar: Sidecar, scope: Json, server: str = "s") -> Answer:
    """Hand a login over, as a host that holds one already."""
    remember(sidecar, scope, server)
    who = scope.get("tenant", "nobody")
    tokens = {"accessToken": f"at-of-{who}", "refreshToken": f"rt-of-{who}", "scope": f"for-{len(who)}"}
    params = {"server": server, "scope": scope, "tokens": tokens, "issuer": NOBODY, "tokenEndpoint": f"{NOBODY}/token"}
    return sidecar.call("auth/import", params)


def status(sidecar: Sidecar, scope: Json, server: str = "s") -> Answer:
    """Ask for the login of an address, made known first."""
    remember(sidecar, scope, server)
    return sidecar.call("auth/status", {"server": server, "scope": scope})


def held(answer: Answer, kind: str) -> None:
    """Check that the one login is there."""
    (credential,) = answer.result["credentials"]
    assert credential["refreshable"]
    assert credential["storedIn"] == kind
    assert credential["issuer"] == NOBODY
    for secret in SECRETS:
        assert secret.encode() not in answer.line


def health(sidecar: Sidecar) -> Json:
    """Return the vault's health, checked against the status of the process."""
    told: Json = sidecar.call("sidecar/health").result
    if told["status"] != "starting":
        assert (told["status"] == "degraded") is (told["vault"]["state"] in {"locked", "unavailable"})
    vault: Json = told["vault"]
    return vault


A: Json = {"tenant": "acme", "user": "u"}
B: Json = {"tenant": "acme__x", "user": "u"}


def test_nothing_is_touched_before_a_credential_is_used(start: Start, tmp_path: Path) -> None:
    sidecar = hello(start(env={"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}), None)
    sidecar.connect("plain", raw())
    assert health(sidecar) == {"type": "auto", "state": "unused", "why": None}
    assert not (tmp_path / "data").exists()
    maps = Path(f"/proc/{sidecar.process.pid}/task")
    assert len(list(maps.iterdir())) < 30


def test_files_keep_logins_over_starts_and_swapped_ones_are_1403_for_their_owners_alone(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "vault"
    vault = {"type": "file", "path": str(folder)}
    env = {"MCP_SIDECAR_KEY": TEXT}
    first = hello(start(env=env), vault)
    entries = []
    for scope in (A, B, {"tenant": "third"}):
        before = set((folder / "entries").iterdir()) if folder.exists() else set()
        give(first, scope).result  # noqa: B018 - fails on an error
        held(status(first, scope), "file")
        entries.append(max(set((folder / "entries").iterdir()) - before, key=lambda path: path.stat().st_size))
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o600
            for secret in (*SECRETS, "acme", "127.0.0.1"):
                assert secret.encode() not in path.read_bytes() + path.name.encode()
        else:
            assert path.stat().st_mode & 0o777 == 0o700
    first.close()
    one, two, _ = (path.read_bytes() for path in entries)
    entries[0].write_bytes(two)
    entries[1].write_bytes(one)
    second = hello(start(env=env), vault)
    for scope in (A, B):
        told = status(second, scope)
        told.is_error(1403, kind="StoreCorrupt", retry="reauth", delivered="no")
        for secret in SECRETS:
            assert secret.encode() not in told.line
    held(status(second, {"tenant": "third"}), "file")
    assert status(second, {"tenant": "nobody"}).result["credentials"] == []
    assert health(second)["state"] == "ready"
    give(second, A).result  # noqa: B018 - a new login mends the entry
    held(status(second, A), "file")
    assert second.call("auth/revoke", {"server": "s", "scope": B}).result == {"revokedAtServer": False}
    assert status(second, B).result["credentials"] == []
    second.close()
    other = hello(start(env={"MCP_SIDECAR_KEY": base64.b64encode(OTHER_KEY).decode()}), vault)
    status(other, A).is_error(1403)


def test_key_of_the_vault_reaches_no_child_and_no_log(start: Start, tmp_path: Path) -> None:
    env = {"MCP_SIDECAR_KEY": TEXT}
    sidecar = hello(start("--verbose", env=env), {"type": "file", "path": str(tmp_path / "v")})
    sidecar.connect("child", raw(inheritEnv=["MCP_SIDECAR_KEY", "HOME"]))
    give(sidecar, A).result  # noqa: B018 - fails on an error
    children = sidecar.tree()
    assert children
    for child in children:
        assert TEXT.encode() not in Path(f"/proc/{child.pid}/environ").read_bytes()
        assert TEXT.encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes()
    assert TEXT.encode() not in sidecar.stderr
    for secret in SECRETS:
        assert secret.encode() not in sidecar.stderr


@pytest.mark.parametrize(
    ("vault", "env", "words"),
    [
        ({"type": "redis", "url": "redis://127.0.0.1:9/0"}, {}, "MCP_SIDECAR_KEY"),
        ({"type": "redis"}, {"MCP_SIDECAR_KEY": TEXT}, "url"),
        ({"type": "host"}, {"MCP_SIDECAR_KEY": TEXT}, "promise"),
        ({"type": "file"}, {"MCP_SIDECAR_KEY": "rubbish"}, "32 bytes"),
        ({"type": "file", "keyFile": "/etc/passwd"}, {}, "chmod 600"),
    ],
)
def test_vault_that_cannot_be_is_1402_and_seen_before_while_others_never_notice(
    start: Start, vault: Json, env: dict[str, str], words: str
) -> None:
    sidecar = hello(start(env=env), vault)
    assert health(sidecar)["state"] == "unavailable"
    assert words in health(sidecar)["why"]
    assert sidecar.connect("plain", raw())["state"] == "ready"
    told = give(sidecar, A)
    told.is_error(1402, kind="StoreUnavailable", retry="after", backend=vault["type"])
    assert words in told.error["message"]
    status(sidecar, A).is_error(1402)
    assert sidecar.tool("plain", "echo").result


@pytest.mark.needs("unshare", "mount")
@pytest.mark.parametrize(
    ("close", "errno"), [("cp /dev/zero {disk}/filler", "ENOSPC"), ("mount -o remount,ro {disk}", "EROFS")]
)
def test_disk_that_takes_no_login_is_1404_for_the_import_and_leaves_what_it_had(
    start: Start, tmp_path: Path, close: str, errno: str
) -> None:
    disk, closed = tmp_path / "disk", tmp_path / "closed"
    disk.mkdir()
    os.mkfifo(closed)
    # In a mount namespace of its own: a small disk that fills up, or takes no more writes, when the test says so.
    watch = f"(read _ < {closed}; {close.format(disk=disk)}; echo > {closed}) 2>/dev/null"
    script = f'mount -t tmpfs -o size=64k tmpfs {disk} || exit 77; {watch} < /dev/null > /dev/null & exec "$@"'
    wrapped = ("unshare", "-Urm", "sh", "-c", script, "sh", *PROGRAM)
    sidecar = hello(start(program=wrapped, env={"MCP_SIDECAR_KEY": TEXT}), {"type": "file", "path": f"{disk}/vault"})
    give(sidecar, A).result  # noqa: B018 - fails on an error
    closed.write_bytes(b"\n")
    assert closed.read_bytes() == b"\n"
    give(sidecar, B).is_error(1404, kind="StoreWriteFailed", errno=errno, retry="after")
    held(status(sidecar, A), "file")
    assert health(sidecar)["state"] == "unavailable"


@pytest.mark.needs("redis-server")
def test_two_sidecars_share_logins_over_redis(start: Start, redis: RedisServer) -> None:
    env = {"MCP_SIDECAR_KEY": TEXT}
    vault = {"type": "redis", "url": redis.url}
    one, two = (hello(start(env=env), vault) for _ in range(2))
    assert status(two, A).result["credentials"] == []
    give(one, A).result  # noqa: B018 - fails on an error
    held(status(two, A, "again"), "redis")
    assert status(two, B).result["credentials"] == []
    assert one.call("auth/revoke", {"server": "s", "scope": A}).result == {"revokedAtServer": False}


@pytest.mark.needs("dbus-run-session", "gnome-keyring-daemon")
def test_keyring_that_is_locked_or_hangs_is_told_and_begins_no_login(start: Start, session: Session) -> None:
    env = session.env
    first = hello(start(env=env), {"type": "keyring"})
    give(first, A).result  # noqa: B018 - fails on an error
    held(status(first, A), "keyring")
    first.close()
    session.lock()
    second = hello(start(env=env), {"type": "keyring"})
    status(second, A).is_error(1401, kind="StoreLocked", retry="user", backend="keyring")
    assert health(second)["state"] == "locked"
    failed = second.call("tools/list", {"server": "s", "scope": A})
    failed.is_error(1401, delivered="no")
    session.unlock()
    session.stop()
    try:
        began = time.monotonic()
        key = second.request("auth/status", {"server": "s", "scope": A})
        slowest = 0.0
        while key not in second.answers:
            asked = time.monotonic()
            second.call("ping").result  # noqa: B018 - fails on an error
            slowest = max(slowest, time.monotonic() - asked)
        second.answer(key).is_error(1402, kind="StoreUnavailable", backend="keyring")
        assert time.monotonic() - began <= 3.0
        assert slowest < 0.5
        assert health(second)["state"] == "unavailable"
    finally:
        session.resume()
    held(status(second, A), "keyring")
    assert health(second)["state"] == "ready"
    assert second.told("auth/required") == []
    third = hello(start(env={**env, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}), {"type": "keyring"})
    status(third, A).is_error(1402, backend="keyring")


class Answering:
    """Answers `credentials/*` of a sidecar beside the test."""

    def __init__(self, sidecar: Sidecar, host: KeepingHost) -> None:
        """Begin."""
        self._sidecar = sidecar
        self._host = host
        self._seen = 0
        self._ending = threading.Event()
        self.silent = False
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self._ending.is_set() and not self._sidecar.ended:
            for body in self._sidecar.calls[self._seen :]:
                self._seen += 1
                if "id" in body and body["method"].startswith("credentials/") and not self.silent:
                    self._host.asked.append((body["method"], body["params"], 0.0))
                    result = self._host.serve(body["method"], body["params"])
                    self._sidecar.send({"jsonrpc": "2.0", "id": body["id"], "result": result})
            self._ending.wait(0.005)

    def close(self) -> None:
        """End."""
        self._ending.set()
        self.thread.join()


@pytest.fixture
def answering() -> Iterator[Callable[[Sidecar, KeepingHost], Answering]]:
    """Return what begins to answer for a host; all end with the test."""
    running: list[Answering] = []

    def begin(sidecar: Sidecar, host: KeepingHost) -> Answering:
        running.append(Answering(sidecar, host))
        return running[-1]

    yield begin
    for one in running:
        one.close()


def test_host_keeps_sealed_logins_over_starts_and_its_silence_is_1402(
    start: Start, answering: Callable[[Sidecar, KeepingHost], Answering]
) -> None:
    host = KeepingHost()
    env = {"MCP_SIDECAR_KEY": TEXT}
    first = hello(start(env=env), {"type": "host"}, credentials={})
    answering(first, host)
    give(first, A).result  # noqa: B018 - fails on an error
    held(status(first, A), "host")
    first.close()
    assert host.entries
    for key, (value, _) in host.entries.items():
        for secret in (*SECRETS, "acme", "127.0.0.1"):
            assert secret.encode() not in base64.b64decode(value) + key.encode()
    for _, params, _ in host.asked:
        assert params["scope"] == A
        assert params["server"] == "s"
        assert params["timeoutMs"] == 3000
    second = hello(start(env=env), {"type": "host"}, credentials={})
    asked = answering(second, host)
    held(status(second, A), "host")
    assert status(second, B).result["credentials"] == []
    asked.silent = True
    began = time.monotonic()
    status(second, {"tenant": "other"}).is_error(1402, backend="host")
    assert 2.9 <= time.monotonic() - began <= 3.5
    assert health(second)["state"] == "unavailable"
    asked.silent = False
    give(second, {"tenant": "other"}).result  # noqa: B018 - fails on an error
