"""The emitters of `proto/generate.py`: each renders one reader's form of the contract."""

from pathlib import Path
from typing import Final

MODULE_FILE: Final = Path(__file__).resolve().parents[2] / "go-client" / "go.mod"
"""The one place where the path of the Go module stands."""
