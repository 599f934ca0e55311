"""The end of a login in a real browser: what the person reads there."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.auth.world import World, oauth
from tests.harness import Sidecar

BROWSER = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-background-networking",
    "--no-first-run",
)
SECONDS = 45.0


def read(url: str, profile: Path) -> str:
    """Open a URL in a browser of its own and return the page that it ends at."""
    command = [*BROWSER, f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", url]
    environ = os.environ | {"HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, env=environ
    ) as process:
        try:
            return process.communicate(timeout=SECONDS)[0].decode()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.needs("chromium")
def test_a_browser_shows_that_the_login_is_complete(shared: Sidecar, server: str, world: World, tmp_path: Path) -> None:
    auth = oauth(redirect={"mode": "loopback"})
    url = shared.connect(server, world.transport(), auth=auth)["authorization"]["url"]
    page = read(url, tmp_path / "profile")
    assert "<h1>You are logged in</h1>" in page
    assert "You can close this window" in page
    shared.wait(lambda: shared.states(server)[-1] == "ready", "ready")
    assert shared.tool(server, "echo", {}).result
