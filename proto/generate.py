#!/usr/bin/env python3
"""Render the contract to the forms its readers need, or check that the committed files still say the same.

The source is `sidecar/wire.py` and `sidecar/errors.py`, and for MCP payloads the models of the installed
`mcp_types` package. `generate.py` writes, `generate.py --check` compares and exits 1 on drift.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from emit import errorsmd, golang, mcptypes, openrpc  # noqa: E402  the two folders must be importable first

COMMAND = ".venv/bin/python proto/generate.py"
DIFF_LINES = 20


def render() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    files = {
        "proto/openrpc.json": openrpc.render(),
        "sidecar/openrpc.json": openrpc.render(),
        "proto/errors.md": errorsmd.render(),
        "docs/errors.md": errorsmd.guide(),
        "go-client/wire_gen.go": golang.render_wire(),
        "go-client/errors_gen.go": golang.render_errors(),
        "go-client/mcp/mcp_gen.go": mcptypes.render_types(),
        "go-client/mcp/decode_gen.go": mcptypes.render_decoders(),
    }
    if importlib.util.find_spec("emit.start") is not None:
        files["sidecar/wire_start.py"] = importlib.import_module("emit.start").render()
    return files


def drifted(files: dict[str, str]) -> list[str]:
    """Return the paths whose committed text differs, with the first lines of each difference on stderr."""
    stale = []
    for path, text in files.items():
        target = ROOT / path
        have = target.read_text(encoding="utf-8") if target.exists() else ""
        if have == text:
            continue
        stale.append(path)
        diff = difflib.unified_diff(
            have.splitlines(), text.splitlines(), f"{path} (committed)", "generated", lineterm=""
        )
        sys.stderr.write("\n".join(list(diff)[:DIFF_LINES]) + "\n")
    return stale


def main() -> int:
    """Write the files, or compare them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when a file drifts")
    args = parser.parse_args()
    files = render()
    if args.check:
        stale = drifted(files)
        if stale:
            sys.stderr.write(f"drift in {', '.join(stale)}: run `{COMMAND}` and commit the result\n")
            return 1
        return 0
    for path, text in files.items():
        target = ROOT / path
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
