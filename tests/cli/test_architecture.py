"""Imports point down; the wire's layers know no MCP; the first answers come before the engine."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT

PACKAGE = ROOT / "sidecar"
LAYERS = (
    ("__main__",),
    ("cli",),
    ("doctor",),
    ("serve", "call"),
    ("methods", "ops"),
    ("hub",),
    ("connection", "opening", "serverinfo", "link", "recovery"),
    ("callbacks", "inbox", "checks", "transports", "auth", "engine", "config", "desktop", "settings"),
    ("promises",),
    ("vault",),
    ("errors", "wire_start", "telemetry", "hardening", "advice"),
    ("wire",),
)
"""From the top; a module may import its own layer and those below it."""
FREE_OF_MCP = ("rpc.py", "stdio.py", "frames.py", "lanes.py")
EARLY = ("stdio", "rpc", "frames", "lanes")
LIGHT = {"msgspec", "orjson", "sidecar"} | set(sys.stdlib_module_names)
MAX_LINES = 400


def sources() -> list[Path]:
    """Return all source files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, deferred: bool = True) -> set[str]:
    """Return the modules a file imports, those inside functions too unless `deferred` is false."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    nodes = ast.walk(tree) if deferred else iter(tree.body)
    found = set()
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "sidecar" else {node.module}
            )
    return found


def layer(module: str) -> int | None:
    """Return the layer of a module of ours; None for one that the list does not name."""
    top = module.removeprefix("sidecar.").split(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = layer(str(path.relative_to(PACKAGE)).removesuffix(".py").replace("/", "."))
    for module in imports(path):
        if module.startswith("sidecar.") and own is not None:
            below = layer(module)
            assert below is None or below >= own, f"{path.name} imports {module}, which stands above it"


@pytest.mark.parametrize("name", FREE_OF_MCP)
def test_wire_layers_know_no_mcp(name: str) -> None:
    for module in imports(PACKAGE / name):
        top = module.split(".")[0]
        assert top in LIGHT, f"{name} imports {module}"
        assert layer(module) is None or module == "sidecar.errors", f"{name} imports {module}"
    text = (PACKAGE / name).read_text()
    for word in ("tools/", "resources/", "prompts/", "fastmcp", "mcp_types"):
        assert word not in text, f"{name} speaks of {word}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_has_one_job(path: Path) -> None:
    if path.name not in {"wire.py", "wire_start.py"}:  # one list of what crosses; generated
        assert len(path.read_text().splitlines()) <= MAX_LINES


def test_first_answers_come_before_the_engine_and_pydantic() -> None:
    # The import of either is refused: the answers must come all the same.
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydantic", "fastmcp", "mcp", "mcp_types", "httpx2", "httpcore2"):
            import threading, time
            threading.Event().wait(3600)
sys.meta_path.insert(0, Refuse())
from sidecar.__main__ import main
sys.argv[1:] = []
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, bufsize=0
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        params = b'{"protocolVersion":1,"host":{"name":"t","version":"1"}}'
        hello = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":%s}\n' % params
        process.stdin.write(hello + b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
        text = b""
        while text.count(b"\n") < 2:
            chunk = process.stdout.read(1 << 16)
            assert chunk, text
            text += chunk
        process.kill()
    assert b'"id":1,"result"' in text
    assert b'"id":2,"result":{}' in text


@pytest.mark.parametrize("name", EARLY)
def test_early_module_imports_only_what_is_light(name: str) -> None:
    heavy = ("pydantic", "fastmcp", "mcp", "anyio", "httpx2")
    code = f"import sys, sidecar.{name}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, cwd=ROOT, check=True)
    assert done.stdout == b"[]\n"
