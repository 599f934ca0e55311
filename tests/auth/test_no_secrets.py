"""No secret that the sidecar ever sees stands in a log line, an error, a command line or an environment (bar 41)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tests.answers import Json
from tests.auth.test_grants import PEM, answer_host
from tests.auth.test_refresh import files
from tests.auth.world import World, begin, complete, log_in, oauth, query_of
from tests.conftest import Start
from tests.programs import raw


def secrets_of(world: World, authorizations: list[Json]) -> set[str]:
    """Return every secret that this world has seen or made."""
    found: set[str] = set()
    for entry in world.log():
        form: dict[str, str] = entry.get("form") or {}
        found |= {
            form[name]
            for name in ("code", "code_verifier", "refresh_token", "client_secret", "client_assertion", "assertion")
            if name in form
        }
        found.add((entry.get("authorization") or "").rpartition(" ")[2])
    for authorization in authorizations:
        found.add(authorization["state"])
    return {text for text in found if len(text) >= 8}


def test_no_secret_leaves_the_sidecar(start: Start, world: World, tmp_path: Path) -> None:
    """Log in, refresh, fail, step up, revoke at the most talkative level, and look everywhere."""
    sidecar = begin(
        start("--log-level", "debug", env={"MCP_SIDECAR_CANARY": "x"}),
        {"tokens": {}, "assertions": {}},
        vault=files(tmp_path),
    )
    shown: list[Json] = []
    answers: list[bytes] = []

    def call(method: str, params: Json) -> Any:
        answer = sidecar.call(method, params)
        answers.append(answer.line)
        return answer

    secret = "pre-registered-canary-secret"
    auth = oauth(clientId="mine", clientSecret=secret)
    info = call("servers/connect", {"server": "a", "transport": world.transport(), "auth": auth}).result
    shown.append(info["authorization"])
    callback = log_in(info["authorization"]["url"])
    call("auth/complete", {"callbackUrl": callback.replace(info["authorization"]["state"], "wrong-state-value")})
    complete(sidecar, callback).result  # noqa: B018 - fails where it is an error
    call("auth/complete", {"callbackUrl": callback}).is_error(1306, rule="state")
    sidecar.wait(lambda: sidecar.states("a")[-1] == "ready", "ready")
    world.set(do="expire")
    call("tools/call", {"server": "a", "name": "echo", "arguments": {}}).result  # noqa: B018 - fails on an error
    for fault in ({"status": 500, "body": "x"}, {"status": 400, "body": "rt-"}, "reset"):
        world.set(do="expire", token_fault=fault)
        call("tools/call", {"server": "a", "name": "echo", "arguments": {}}).is_error(1304)
    world.set(token_fault=None)
    shown.append(
        call("tools/call", {"server": "a", "name": "echo", "arguments": {"scope": "write"}}).is_error(1301)[
            "authorization"
        ]
    )
    private = {
        "type": "oauth",
        "grant": "client_credentials",
        "clientId": "svc",
        "privateKey": {"pem": PEM, "algorithm": "ES256"},
    }
    call("servers/connect", {"server": "b", "transport": world.transport(), "auth": private}).result  # noqa: B018 - fails
    bearer = {"type": "oauth", "grant": "jwt_bearer", "clientId": "wif"}
    key = sidecar.request("servers/connect", {"server": "c", "transport": world.transport(), "auth": bearer})
    answer_host(sidecar, "assertions/create", {"assertion": "assertion-canary-of-the-host"})
    sidecar.answer(key).result  # noqa: B018 - fails where it is an error
    key = sidecar.request("servers/connect", {"server": "d", "transport": world.transport(), "auth": {"type": "host"}})
    answer_host(sidecar, "tokens/get", {"accessToken": "token-canary-of-the-host"})
    sidecar.wait(lambda: len([b for b in sidecar.calls if b["method"] == "tokens/get"]) > 1, "a second question")
    answer_host(sidecar, "tokens/get", {"accessToken": "token-canary-of-the-host"}, 2)
    sidecar.answer(key).is_error(1302)
    call("servers/connect", {"server": "child", "transport": raw()}).result  # noqa: B018 - fails where it is an error
    call("auth/status", {"server": "a"}).result  # noqa: B018 - fails where it is an error

    secrets = secrets_of(world, shown) | {secret, "assertion-canary-of-the-host", "token-canary-of-the-host"}
    secrets |= {PEM.splitlines()[1]}
    states = {authorization["state"] for authorization in shown}
    assert len(secrets) > 10
    for process in (sidecar.handle, *sidecar.tree()):
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert [each for each in secrets if each.encode() in text] == []
            assert name == "cmdline" or process.pid == sidecar.process.pid or b"MCP_SIDECAR_CANARY" not in text
        assert re.search(r"Max core file size\s+0\s+0\s", Path(f"/proc/{process.pid}/limits").read_text())
    call("auth/revoke", {"server": "a"}).result  # noqa: B018 - fails where it is an error
    sidecar.close()
    assert [each for each in secrets if each.encode() in sidecar.stderr] == []
    for line in answers:
        # The state is the host's: it stands in the Authorization, and nowhere else.
        assert [each for each in secrets - states if each.encode() in line] == []
    stored = b"".join(path.read_bytes() for path in (tmp_path / "vault").rglob("*") if path.is_file())
    assert [each for each in secrets if each.encode() in stored] == []
    assert all(query_of(authorization["url"])["state"] in states for authorization in shown)
    modes = {path: path.stat().st_mode & 0o077 for path in (tmp_path / "vault").rglob("*")}
    assert not any(modes.values()), modes
    assert os.stat(tmp_path / "key").st_mode & 0o077 == 0  # noqa: PTH116 - one look at the mode
