"""Each transcript is played against the real process; nothing it started is left behind."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psutil
import pytest

from .play import Player
from .process import Sidecar
from .transcript import files, load

if TYPE_CHECKING:
    from pathlib import Path

PATHS = [path for path in files() if load(path).only in {None, "python"}]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_sidecar_keeps_to_the_transcript(path: Path) -> None:
    """Every line comes as written, the process exits as written, and no server is left."""
    mark = f"transcript-{uuid.uuid4().hex}"
    with Sidecar() as sidecar:
        Player(load(path), sidecar, mark).play()
    assert left_over(mark) == []


def left_over(mark: str) -> list[int]:
    """Return the live processes that carry the mark among their arguments."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if mark in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
