"""The command line (wire section 7)."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar import __version__, early, engine
from sidecar.hardening import no_core_dumps
from sidecar.serve import Process
from sidecar.stdio import claim
from sidecar.telemetry import logs
from sidecar.telemetry.redact import RedactingFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

logger: Final = logging.getLogger(__name__)

USAGE_EXIT: Final = 2
VAULTS: Final = ("auto", "keyring", "file", "memory", "host", "redis")
EXAMPLES: Final = """\
examples:
  printf '{"jsonrpc":"2.0","id":1,"method":"ping"}\\n' | mcp-sidecar
  mcp-sidecar call tools/list --command "npx -y @modelcontextprotocol/server-everything"
  mcp-sidecar call tools/call '{"name":"echo","arguments":{"message":"hi"}}' --url http://localhost:3001/mcp
  mcp-sidecar call sidecar/health
  mcp-sidecar --config servers.json call tools/list --server files
  mcp-sidecar doctor

Every answer is one line with the id of its request: a "result", or an "error" whose "code" says what happened,
whose "message" says what to do, and whose "data" says whether the server may have run the call.
"""


@dataclass
class Options:
    """The words of the command line, read."""

    command: str = "serve"
    method: str = ""
    params: str = "{}"
    level: int | None = None
    server: str | None = None
    url: str | None = None
    child: str | None = None
    headers: list[str] = field(default_factory=list)
    config: str | None = None
    vault: str | None = None
    json: bool = False
    shell: str = ""


def parse(argv: list[str]) -> Options:
    """Read the words; ends the program with exit code 2 and a usage text where they do not fit."""
    if not argv or argv == ["serve"]:
        return Options()
    import argparse

    from sidecar.completion import SHELLS

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error; also FASTMCP_LOG_LEVEL")
    common.add_argument("--verbose", action="store_true", help="--log-level debug; also FASTMCP_DEBUG=1")
    common.add_argument("--config", metavar="FILE", help="a JSON file {mcpServers?, vault?, egress?, limits?}")
    common.add_argument("--vault", metavar="TYPE", choices=VAULTS, help=f"where credentials rest: {', '.join(VAULTS)}")
    parser = argparse.ArgumentParser(
        prog="mcp-sidecar",
        description="Many MCP servers for many users, behind one pipe.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="store_true", help="print the versions of what is installed")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    # What stands before the command counts too: a default of the subcommand must not undo it.
    after = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    after.add_argument("--log-level", metavar="LEVEL", help=argparse.SUPPRESS)
    after.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
    after.add_argument("--config", metavar="FILE", help=argparse.SUPPRESS)
    after.add_argument("--vault", metavar="TYPE", choices=VAULTS, help=argparse.SUPPRESS)
    commands.add_parser("serve", parents=[after], help="speak the wire on stdin and stdout (the default)")
    one = commands.add_parser(
        "call",
        parents=[after],
        help="send one request and print its result",
        epilog="exit code: 0 a result, 1 an error or a tool's own failure, 2 words that do not fit",
    )
    one.add_argument("method", metavar="METHOD", help="such as tools/list, tools/call, servers/get, sidecar/health")
    one.add_argument("params", metavar="JSON", nargs="?", default="{}", help="the params, one JSON object")
    one.add_argument("--server", metavar="NAME", help="the server's name (default: cli), or one of --config")
    where = one.add_mutually_exclusive_group()
    where.add_argument("--url", help="connect this URL first (Streamable HTTP; SSE where the path ends in /sse)")
    where.add_argument("--command", dest="child", metavar='"CMD ARGS"', help="start this server first (stdio)")
    one.add_argument("--header", dest="headers", metavar="'N: V'", action="append", default=[], help="an HTTP header")
    inspect = commands.add_parser("doctor", parents=[after], help="say what works here, and how to mend what does not")
    inspect.add_argument("--json", action="store_true", help="print the findings as JSON")
    commands.add_parser("schema", parents=[after], help="print the contract as OpenRPC")
    complete = commands.add_parser("completion", parents=[after], help="print a completion script for the shell")
    complete.add_argument("shell", choices=SHELLS, help="such as: source <(mcp-sidecar completion bash)")
    words = parser.parse_args(argv)
    if words.version:
        return Options(command="version")
    options = Options(command=words.command or "serve")
    for name in ("method", "params", "server", "url", "child", "headers", "config", "vault", "json", "shell"):
        setattr(options, name, getattr(words, name, getattr(options, name)))
    if words.log_level is not None:
        options.level = logs.parse_level(words.log_level)
        if options.level is None:
            parser.error("--log-level is debug, info, warning or error")
    elif words.verbose:
        options.level = logs.LEVELS["debug"]
    return options


def log_level(options: Options, environ: Mapping[str, str]) -> int:
    """Return the level that the command line or the environment asks for; nonsense in the environment is ignored."""
    if options.level is not None:
        return options.level
    if options.command == "doctor":
        return logs.LEVELS["error"]  # its findings are what is read
    if environ.get("FASTMCP_DEBUG", "").strip().lower() in {"1", "true", "yes", "on"}:
        return logs.LEVELS["debug"]
    return logs.parse_level(environ.get("FASTMCP_LOG_LEVEL", "")) or logs.LEVELS["info"]


def run(argv: list[str], wire: tuple[int, int] | None, parent: int) -> int:
    """Run the program and return its exit code."""
    try:
        options = parse(argv)
    except SystemExit as done:  # argparse has said what there is to say
        return int(done.code or 0)
    text = _printed(options)
    if text is not None:
        sys.stdout.write(text)
        return 0
    if sys.platform == "win32":
        sys.stderr.write("mcp-sidecar: Windows is not supported yet: use Linux or macOS\n")
        return USAGE_EXIT
    no_core_dumps()
    environ = dict(os.environ)
    os.environ.pop(early.VAULT_KEY, None)  # no process that we start gets it
    engine.prepare_environment()
    handler = logs.configure(log_level(options, environ))
    handler.addFilter(RedactingFilter())
    try:
        return _work(options, environ, wire, parent)
    finally:
        handler.close()


def _printed(options: Options) -> str | None:
    """Return the text of a command that only prints; None for the others."""
    if options.command == "version":
        found = engine.versions()
        text = f"fastmcp {found['fastmcp']}, mcp {found['mcp']}, python {found['python']}"
        return f"mcp-sidecar {__version__} ({text})\n"
    if options.command in {"schema", "completion"}:
        from sidecar import completion

        if options.command == "schema":
            return completion.schema()
        return completion.script(options.shell, tuple(logs.LEVELS), VAULTS)
    return None


def _work(options: Options, environ: Mapping[str, str], wire: tuple[int, int] | None, parent: int) -> int:
    agreement, faults = agree(options, environ)
    if options.command == "call":
        from sidecar.call import call

        return asyncio.run(call(options, agreement, faults, environ, parent))
    if options.command == "doctor":
        from sidecar.doctor import doctor

        return asyncio.run(doctor(agreement, faults, environ, parent, as_json=options.json))
    if faults:
        return USAGE_EXIT
    return asyncio.run(_serve(wire if wire is not None else claim(), agreement, environ, parent))


def agree(options: Options, environ: Mapping[str, str]) -> tuple[early.Agreement, list[dict[str, Any]]]:
    """Return what the words and the configuration file ask for, and every fault of the file, logged as well."""
    settings: dict[str, Any] = {}
    faults: list[dict[str, Any]] = []
    if options.config is not None:
        from sidecar.settings import load  # the models that check it cost time

        found = load(options.config, environ)
        for fault in found.faults:
            faults.append(fault.to_wire())
            logger.error("%s: %s", options.config, faults[-1]["message"].removeprefix("params: "))
        settings = {name: getattr(found, name) for name in ("servers", "vault", "egress", "limits")}
    agreement = early.Agreement(**settings)
    if options.vault is not None:
        agreement.prefer_vault(options.vault)
    return agreement, faults


async def _serve(wire: tuple[int, int], agreement: early.Agreement, environ: Mapping[str, str], parent: int) -> int:
    gc.set_threshold(50_000, 20, 50)  # frames are short-lived and hold no cycles
    process = Process(*wire, agreement=agreement, environ=environ, parent=parent)
    return await process.run()
