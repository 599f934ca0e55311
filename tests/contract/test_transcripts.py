"""Each transcript is played against the real process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.wire import LOG_LEVELS

from .play import Player
from .talk import Talk
from .transcript import TIME, files, load

if TYPE_CHECKING:
    from pathlib import Path

LOG_KEYS = {"time", "level", "msg", "logger", "server", "scope", "corr"}
PATHS = [path for path in files() if load(path).only in {None, "python"}]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_sidecar_keeps_to_the_transcript(path: Path) -> None:
    """Every line comes as written, the process exits as written, and no server is left."""
    with Talk() as sidecar:
        Player(load(path), sidecar).play()
    check_log(sidecar)


def check_log(sidecar: Talk) -> None:
    """Every line of stderr is a log line of the contract, and none tells of a fault of the sidecar itself."""
    for line in sidecar.logs():
        assert TIME.fullmatch(line["time"])
        assert line["level"] in LOG_LEVELS
        assert line["level"] != "error", line
        assert isinstance(line["msg"], str)
        assert line.keys() <= LOG_KEYS, line
