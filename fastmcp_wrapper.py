#!/usr/bin/env python3
"""Start mcp-sidecar from any folder: the same program as `mcp-sidecar` and `python -m sidecar`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - before any import that costs time

from sidecar.__main__ import main  # noqa: E402 - the folder above must be importable first

if __name__ == "__main__":
    main()
