"""`mcp-sidecar doctor`: what is installed, what works here for real, and how to mend what does not."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar import __version__, engine
from sidecar.advice import ADVICE
from sidecar.call import Failed, Loop
from sidecar.probe import answer
from sidecar.vault.doctor import Finding, examine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sidecar.early import Agreement

OLDEST: Final = (3, 11)
_FEW_FILES: Final = 1024
_PIN: Final = re.compile(r"([A-Za-z0-9._-]+)==([^;\s]+)\s*\Z")
_PROBE: Final = str(Path(__file__).with_name("probe.py"))
_POLICY: Final = 1306
_NOT_READY: Final = 1001
_REINSTALL: Final = "make setup, or pip install --force-reinstall mcp-sidecar"


async def doctor(
    agreement: Agreement, faults: list[dict[str, Any]], environ: Mapping[str, str], parent: int, *, as_json: bool
) -> int:
    """Examine everything, print what was found, and return 0 where nothing is broken, else 1."""
    findings = [*_installed(), *_system()]
    findings += [Finding("config", "problem", fault["message"], "mend the file") for fault in faults]
    findings += await _reached(agreement, environ, parent)
    findings += await examine(agreement.vault, environ)
    findings += _commands(agreement, environ)
    well = all(found.state != "problem" for found in findings)
    if as_json:
        checks = [{name: value for name, value in vars_of(found).items() if value is not None} for found in findings]
        sys.stdout.write(json.dumps({"ok": well, "checks": checks}, indent=2) + "\n")
    else:
        for found in findings:
            sys.stdout.write(f"{found.state:<8} {found.name:<10} {found.text}\n")
            if found.mend is not None:
                sys.stdout.write(f"{'':<19} -> {found.mend}\n")
        sys.stdout.write("all is well\n" if well else "something is broken: see the lines that begin with problem\n")
    return 0 if well else 1


def vars_of(found: Finding) -> dict[str, str | None]:
    """Return a finding as it stands in the JSON."""
    return {"name": found.name, "state": found.state, "text": found.text, "mend": found.mend}


def _installed() -> list[Finding]:
    found = engine.versions()
    text = f"mcp-sidecar {__version__}, fastmcp {found['fastmcp']}, mcp {found['mcp']}, python {found['python']}"
    findings = [Finding("program", "ok", f"{text} ({sys.executable})")]
    if sys.version_info < OLDEST:
        findings.append(Finding("python", "problem", "Python is too old", "install Python 3.11 or newer"))
    try:
        wanted = importlib.metadata.requires("mcp-sidecar") or []
    except importlib.metadata.PackageNotFoundError:
        text = "run from a folder, not installed: the versions of its packages cannot be compared"
        return [*findings, Finding("packages", "warning", text, "pip install . in that folder, or make setup")]
    wrong = []
    for requirement in wanted:
        pin = _PIN.match(requirement)
        if pin is None:
            continue
        try:
            have = importlib.metadata.version(pin[1])
        except importlib.metadata.PackageNotFoundError:
            have = "missing"
        if have != pin[2]:
            wrong.append(f"{pin[1]} {have} instead of {pin[2]}")
    if wrong:
        return [*findings, Finding("packages", "problem", ", ".join(wrong), _REINSTALL)]
    return [*findings, Finding("packages", "ok", "as pinned")]


def _system() -> list[Finding]:
    findings = []
    if sys.platform == "linux":
        findings.append(Finding("platform", "ok", f"linux {platform.machine()}, children are guarded as whole trees"))
    else:
        text = f"{sys.platform}: a child that is killed together with its guard may leave processes behind"
        findings.append(Finding("platform", "warning", text, "use Linux where that matters"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = hard == resource.RLIM_INFINITY or hard >= _FEW_FILES
    text = f"up to {'any number of' if hard == resource.RLIM_INFINITY else hard} open files"
    mend = None if many else "raise the hard limit of ulimit -n"
    findings.append(Finding("files", "ok" if many else "warning", text, mend))
    return findings


# -- what can be reached ------------------------------------------------------------------------------------------


async def _reached(agreement: Agreement, environ: Mapping[str, str], parent: int) -> list[Finding]:
    """Try a child and a loopback server over the wire, as a host would."""
    async with Loop(agreement, environ, parent) as host:
        command = {"type": "stdio", "command": sys.executable, "args": ["-I", "-S", _PROBE]}
        findings = [await _try(host, "child", command, "a stdio server was started, asked and ended")]
        try:
            listener = await asyncio.start_server(_serve, "127.0.0.1", 0)
        except OSError as error:
            text = f"cannot listen on 127.0.0.1 ({error.strerror})"
            return [*findings, Finding("loopback", "problem", text, "bring the loopback interface up")]
        port = listener.sockets[0].getsockname()[1]
        try:
            transport = {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}
            findings.append(
                await _try(host, "loopback", transport, "an HTTP server on 127.0.0.1 was reached and asked")
            )
        finally:
            listener.close()
            await listener.wait_closed()
    return findings


async def _try(host: Loop, name: str, transport: dict[str, Any], well: str) -> Finding:
    params = {"server": f"doctor-{name}", "transport": transport, "protocol": "legacy", "timeoutMs": 20_000}
    try:
        result = msgspec.json.decode(await host.request("servers/test", msgspec.json.encode(params)))
    except Failed as failed:
        error = failed.body
    else:
        if result["ok"]:
            taken = sum(result["timings"].values())
            return Finding(name, "ok", f"{well}, in {taken} ms")
        error = result["error"]
    if error["code"] == _POLICY:
        return Finding(name, "warning", error["message"], "none, if your settings mean it so")
    mend = _REINSTALL if error["code"] == _NOT_READY else ADVICE[error["code"]]
    return Finding(name, "problem", f"{error['message']} ({error['code']})", mend)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection of the sidecar's HTTP client."""
    try:
        async for body in _bodies(reader):
            said = answer(json.loads(body)) if body else None
            text = json.dumps(said).encode() if said is not None else b""
            status = b"200 OK" if said is not None else b"202 Accepted"
            head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (status, len(text)) + text)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def _bodies(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"\r\ncontent-length: *(\d+)", head)
        yield await reader.readexactly(int(length[1]) if length else 0)


def _commands(agreement: Agreement, environ: Mapping[str, str]) -> list[Finding]:
    """Say whether the programs of the configured servers are there."""
    findings = []
    for params in agreement.servers:
        command = getattr(params.transport, "command", None)
        if command is None:
            continue
        where = shutil.which(command, path=environ.get("PATH", os.defpath))
        if where is None:
            text = f"the command {command!r} of server {params.server!r} is not found"
            findings.append(Finding("server", "problem", text, ADVICE[1104]))
        else:
            findings.append(Finding("server", "ok", f"{params.server}: {where}"))
    return findings
