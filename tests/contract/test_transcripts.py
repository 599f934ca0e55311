"""Each transcript is played against the real process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .play import Player
from .talk import Talk
from .transcript import files, load

if TYPE_CHECKING:
    from pathlib import Path

PATHS = [path for path in files() if load(path).only in {None, "python"}]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_sidecar_keeps_to_the_transcript(path: Path) -> None:
    """Every line comes as written, the process exits as written, and no server is left."""
    with Talk() as sidecar:
        Player(load(path), sidecar).play()
