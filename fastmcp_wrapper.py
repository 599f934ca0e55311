#!/usr/bin/env python3
"""Start mcp-sidecar from any folder: the same program as `mcp-sidecar` and `python -m sidecar`.

An interpreter without the packages hands over to the `.venv` beside this file, which `make setup` makes.
"""

import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.join(ROOT, ".venv", "bin", "python")

if importlib.util.find_spec("msgspec") is None or importlib.util.find_spec("fastmcp") is None:
    if not os.access(PYTHON, os.X_OK) or os.environ.get("MCP_SIDECAR_HANDED_OVER"):
        sys.stderr.write("mcp-sidecar: its packages are not installed: run `make setup` or `pip install .`\n")
        sys.exit(1)
    os.environ["MCP_SIDECAR_HANDED_OVER"] = "1"
    os.execv(PYTHON, [PYTHON, os.path.abspath(__file__), *sys.argv[1:]])
os.environ.pop("MCP_SIDECAR_HANDED_OVER", None)

sys.path.insert(0, ROOT)

from sidecar.__main__ import main  # noqa: E402 - its folder must be importable first

if __name__ == "__main__":
    main()
