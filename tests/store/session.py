"""A desktop session of the tests' own: a real bus and a real gnome-keyring, in a home of their own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from jeepney.bus_messages import message_bus
from jeepney.io.blocking import Proxy, open_dbus_connection
from secretstorage.defines import SS_PATH, SS_PREFIX
from secretstorage.util import DBusAddressWrapper, format_secret, open_session

from sidecar import errors
from sidecar.vault.secret_service import SecretService
from tests.harness import PATIENCE

PASSWORD = b"tests"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class Session:
    """`dbus-run-session` with what the state asks for.

    `absent`: nothing on the bus can keep secrets; `empty`: a keyring without a collection, started by the bus;
    `unlocked`: a keyring with its login collection open.
    """

    def __init__(self, home: Path, state: str = "unlocked") -> None:
        """Start it under `home`."""
        self.home = home
        runtime = home / "run"
        for folder in (home, runtime):
            folder.mkdir(0o700, parents=True, exist_ok=True)
        self.env = {
            **os.environ,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_DATA_HOME": str(home / "data"),
        }
        self.env.pop("DBUS_SESSION_BUS_ADDRESS", None)
        words = []
        if state == "absent":  # a bus that starts nothing by itself
            (home / "bus.conf").write_text(BUS, encoding="ascii")
            words = ["--config-file", str(home / "bus.conf")]
        self._bus = subprocess.Popen(
            ["dbus-run-session", *words, "--", "sh", "-c", 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec cat'],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._bus.stdout is not None
        assert select.select([self._bus.stdout], [], [], PATIENCE)[0], "no bus in time"
        self.env["DBUS_SESSION_BUS_ADDRESS"] = self._bus.stdout.readline().decode().strip()
        self._keyring: subprocess.Popen[bytes] | None = None
        if state == "unlocked":
            self.start_keyring()

    def start_keyring(self) -> None:
        """Start the keyring and open its login collection."""
        self._keyring = subprocess.Popen(
            ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._keyring.stdin is not None
        self._keyring.stdin.write(PASSWORD)
        self._keyring.stdin.close()
        self._wait_open()

    def _wait_open(self) -> None:
        end = time.monotonic() + PATIENCE
        with contextlib.closing(open_dbus_connection(self.env["DBUS_SESSION_BUS_ADDRESS"])) as bus:
            while not Proxy(message_bus, bus).NameHasOwner("org.freedesktop.secrets")[0]:
                # Asked like this, the bus does not start a keyring of its own.
                assert time.monotonic() < end, "no keyring in time"
                time.sleep(0.01)  # a keyring that starts is asked for again
        while True:
            try:
                with self.keyring() as keyring:
                    keyring.probe(end)
            except errors.SidecarError:
                assert time.monotonic() < end, "no keyring in time"
                time.sleep(0.05)  # the same
            else:
                return

    @contextlib.contextmanager
    def keyring(self) -> Iterator[SecretService]:
        """Return a way to the keyring of the tests' own."""
        with contextlib.closing(SecretService(self.env)) as keyring:
            yield keyring

    def lock(self) -> None:
        """Lock the collection, as a session does that ends."""
        with self.keyring() as keyring:
            keyring._collection(time.monotonic() + PATIENCE).lock()

    def unlock(self) -> None:
        """Open the collection again with its password, as a login does."""
        with contextlib.closing(open_dbus_connection(self.env["DBUS_SESSION_BUS_ADDRESS"])) as bus:
            service = DBusAddressWrapper(SS_PATH, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface", bus)
            secret = format_secret(open_session(bus), PASSWORD, "text/plain")
            (collection,) = DBusAddressWrapper(SS_PATH, SS_PREFIX + "Service", bus).call("ReadAlias", "s", "default")
            service.call("UnlockWithMasterPassword", "o(oayays)", collection, secret)

    def stop(self) -> None:
        """Hang the keyring."""
        assert self._keyring is not None
        self._keyring.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._keyring is not None
        self._keyring.send_signal(signal.SIGCONT)

    def end_keyring(self) -> None:
        """Kill the keyring, for good where the bus was told of none."""
        if self._keyring is not None:
            self._keyring.kill()
            self._keyring.wait(PATIENCE)
            self._keyring = None

    def items(self) -> list[tuple[str, bytes]]:
        """Return what the keyring holds of ours: what can be read without its secret, and that."""
        with self.keyring() as keyring:
            found = keyring._collection(time.monotonic() + PATIENCE).search_items({"application": "mcp-sidecar"})
            return [(item.get_label() + str(item.get_attributes()), item.get_secret()) for item in found]

    def close(self) -> None:
        """End everything."""
        self.end_keyring()
        assert self._bus.stdin is not None
        assert self._bus.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._bus.stdin.close()
        try:
            self._bus.wait(PATIENCE)
        finally:
            self._bus.kill()
            self._bus.stdout.close()

    def __enter__(self) -> Self:
        """Return the running session."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()
