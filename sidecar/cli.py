"""The command line (wire section 7)."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Mapping
from typing import Final

from sidecar import __version__, early, engine
from sidecar.serve import Process
from sidecar.telemetry import logs
from sidecar.telemetry.redact import RedactingFilter

USAGE_EXIT: Final = 2
USAGE: Final = """\
usage: mcp-sidecar [serve] [--log-level LEVEL] [--verbose]
       mcp-sidecar call METHOD [JSON] [--server NAME] [--url URL | --command "..."] [--header 'N: V']
       mcp-sidecar --version | --help

  serve    speak the wire on stdin and stdout: one JSON-RPC object a line (the default)
  call     send one request and print its result as indented JSON

options:
  --log-level LEVEL   debug, info, warning or error (default: info); also FASTMCP_LOG_LEVEL
  --verbose           the same as --log-level debug; also FASTMCP_DEBUG=1

Try it:
  printf '{"jsonrpc":"2.0","id":1,"method":"ping"}\\n' | mcp-sidecar
  mcp-sidecar call tools/list --command "npx -y @modelcontextprotocol/server-everything"
  mcp-sidecar call tools/call '{"name":"echo","arguments":{"message":"hi"}}' --url http://localhost:3001/mcp
  mcp-sidecar call sidecar/health

The answer is a line with the same id: a "result", or an "error" whose "code" says what to do.
"""


class UsageError(Exception):
    """The words of the command line do not fit."""


class Options:
    """The words of the command line, read."""

    def __init__(self) -> None:
        """Start from the defaults."""
        self.command = "serve"
        self.words: list[str] = []
        self.level: str | None = None
        self.verbose = False
        self.server: str | None = None
        self.url: str | None = None
        self.child: str | None = None
        self.headers: list[str] = []


_VALUES: Final = {"--log-level": "level", "--server": "server", "--url": "url", "--command": "child"}


def parse(argv: list[str]) -> Options:
    """Read the words. Raises UsageError."""
    options = Options()
    words = list(argv)
    if words and words[0] in {"serve", "call"}:
        options.command = words.pop(0)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word == "--verbose":
            options.verbose = True
        elif name in _VALUES or name == "--header":
            if not equals:
                if not words:
                    raise UsageError(f"{name} needs a value")
                value = words.pop(0)
            if name == "--header":
                options.headers.append(value)
            else:
                setattr(options, _VALUES[name], value)
        elif word.startswith("-") and word != "-":
            raise UsageError(f"unknown option {word}")
        else:
            options.words.append(word)
    _check(options)
    return options


def _check(options: Options) -> None:
    if options.level is not None and logs.parse_level(options.level) is None:
        raise UsageError("--log-level is debug, info, warning or error")
    if options.command == "serve":
        if options.words:
            raise UsageError(f"unknown command {options.words[0]}: there are serve and call")
        if options.url or options.child or options.server or options.headers:
            raise UsageError("--server, --url, --command and --header belong to call")
    elif not 1 <= len(options.words) <= 2:  # noqa: PLR2004 - METHOD and JSON
        raise UsageError("call takes a METHOD and, if it has params, one JSON object")
    elif options.url is not None and options.child is not None:
        raise UsageError("give --url or --command, not both")


def log_level(options: Options, environ: Mapping[str, str]) -> int:
    """Return the level that the command line or the environment asks for; nonsense there is ignored."""
    if options.level is not None:
        return logs.LEVELS[options.level.strip().lower()]
    debug = environ.get("FASTMCP_DEBUG", "").strip().lower() in {"1", "true", "yes", "on"}
    if options.verbose or debug:
        return logs.LEVELS["debug"]
    return logs.parse_level(environ.get("FASTMCP_LOG_LEVEL", "")) or logs.LEVELS["info"]


def run(argv: list[str], wire: tuple[int, int] | None, parent: int) -> int:
    """Run the program and return its exit code."""
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(USAGE)
        return 0
    if argv == ["--version"]:
        found = engine.versions()
        sys.stdout.write(f"mcp-sidecar {__version__} (fastmcp {found['fastmcp']}, mcp {found['mcp']}, "
                         f"python {found['python']})\n")
        return 0
    try:
        options = parse(argv)
    except UsageError as error:
        sys.stderr.write(f"mcp-sidecar: {error}\n\n{USAGE}")
        return USAGE_EXIT
    if sys.platform == "win32":
        sys.stderr.write("mcp-sidecar: Windows is not supported yet: use Linux or macOS\n")
        return USAGE_EXIT
    environ = dict(os.environ)
    engine.prepare_environment()
    handler = logs.configure(log_level(options, environ))
    handler.addFilter(RedactingFilter())
    try:
        if options.command == "call":
            from sidecar.call import call  # noqa: PLC0415 - only this command needs it

            return asyncio.run(call(options, environ, parent))
        assert wire is not None  # noqa: S101 - __main__ claims it for serve
        return asyncio.run(_serve(wire, environ, parent))
    finally:
        handler.close()


async def _serve(wire: tuple[int, int], environ: Mapping[str, str], parent: int) -> int:
    gc.set_threshold(50_000, 20, 50)  # frames are short-lived and hold no cycles
    process = Process(*wire, agreement=early.Agreement(), environ=environ, parent=parent)
    return await process.run()
