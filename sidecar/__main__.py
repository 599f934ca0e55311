"""The program: `mcp-sidecar`, `python -m sidecar` and `fastmcp_wrapper.py`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; never returns."""
    argv = sys.argv[1:]
    parent = os.getppid()
    wire = None
    if not {"call", "doctor", "schema", "completion", "-h", "--help", "--version"} & set(argv):
        # Before anything else is imported: whatever prints later must not reach the wire.
        from sidecar.stdio import claim

        wire = claim()
    try:
        from sidecar.cli import run
    except ModuleNotFoundError as error:
        # Said before anything of ours can say it better: nothing but the standard library is there.
        text = f"mcp-sidecar: the package {error.name} is missing: run make setup, or pip install . in the checkout\n"
        sys.stderr.write(text)
        sys.exit(1)
    try:
        code = run(argv, wire, parent)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 1  # whoever read what was printed has read enough
    # Threads that import or log may still run; nothing they do is worth waiting for.
    os._exit(code)


if __name__ == "__main__":
    main()
