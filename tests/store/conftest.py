"""Real stores for the tests of the vault."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.vault import Vault
from sidecar.vault.file import FileVault
from sidecar.vault.folder import Folder
from sidecar.vault.host import HostVault
from sidecar.vault.keyring import KeyringVault
from sidecar.vault.memory import MemoryVault
from sidecar.vault.redis import RedisVault
from sidecar.vault.worker import Worker

from .servers import KeepingHost, RedisServer
from .session import Session

SHARED = (
    "file",
    pytest.param("redis", marks=pytest.mark.needs("redis-server")),
    pytest.param("keyring", marks=pytest.mark.needs("dbus-run-session", "gnome-keyring-daemon")),
)
"""Stores that let one process at a time do a work."""
STORES = ("memory", "host", *SHARED)
Open = Callable[[], Vault]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a Redis server that the tests of a module share."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Return a session with an open keyring that the tests of a module share."""
    # A path of the bus and the keyring's socket must be short.
    home = Path("/tmp") / f"keyring-{id(object())}"
    try:
        with Session(home) as running:
            yield running
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> None:
    """Start what this machine has of the servers, before the first test counts its processes."""
    for program, fixture in (("redis-server", "redis"), ("gnome-keyring-daemon", "session")):
        if shutil.which(program) is not None:
            request.getfixturevalue(fixture)


@pytest.fixture
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens one and the same store of the kind `request.param`, each time as another process would."""
    kind = request.param
    kept = MemoryVault() if kind == "memory" else None
    host = KeepingHost() if kind == "host" else None

    def begin() -> Vault:
        if kept is not None:
            return kept
        if host is not None:
            return HostVault(host)
        folder = Folder(str(tmp_path / "vault"), kind)
        if kind == "file":
            return FileVault(folder, Worker("disk"))
        if kind == "redis":
            return RedisVault(request.getfixturevalue("redis").url)
        env = request.getfixturevalue("session").env
        return KeyringVault(env, folder, Worker("keyring"), Worker("disk"))

    return begin
