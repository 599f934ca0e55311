"""The pages of docs/: every block is executed, every table of settings compared with the models."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import errors, wire
from sidecar.advice import ADVICE
from tests.harness import PATIENCE, ROOT

from .exact import loads
from .play import Player
from .talk import Talk
from .test_docs import Block, blocks
from .transcript import Matcher, parse

PAGES = sorted((ROOT / "docs").glob("*.md"))
SETTINGS = ROOT / "docs" / "settings.md"
OUTPUTS = ("json output", "jsonl output", "text output")
FILE = re.compile(r"\w+ file=([\w.-]+)\Z")


def check_output(expected: Block, got: str) -> None:
    """Compare what a command printed with the block behind it; `…` stands for whatever comes."""
    if expected.info == "text output":
        pattern = re.escape(expected.text).replace("…", ".*")
        assert re.fullmatch(pattern, got), got
        return
    text = re.sub(r'"…": ?"…"', '"...":"$any"', expected.text).replace('"…"', '"$text"')
    patterns = [loads(text)] if expected.info == "json output" else [loads(line) for line in text.splitlines()]
    values = [loads(got)] if expected.info == "json output" else [loads(line) for line in got.splitlines()]
    assert len(values) == len(patterns), got
    for pattern, value in zip(patterns, values, strict=True):
        Matcher().match(pattern, value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_is_executed(page: Path, tmp_path: Path) -> None:
    """Files are written, commands run and compared with what follows, transcripts played; nothing else may be there."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MCP_", "FASTMCP_", "XDG_"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    printed: str | None = None
    for block in blocks(page, ""):
        if block.info in OUTPUTS:
            assert printed is not None, f"line {block.line}: no command stands before it"
            check_output(block, printed)
            printed = None
        elif block.info == "sh run":
            done = subprocess.run(
                ["bash", "-uc", block.text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                timeout=2 * PATIENCE,
                check=False,
            )
            printed = done.stdout.decode()
        elif block.info == "jsonl transcript":
            with Talk() as sidecar:
                Player(parse(block.text), sidecar).play()
        else:
            named = FILE.match(block.info)
            assert named is not None, f"line {block.line}: nothing executes {block.info!r}"
            json.loads(block.text)
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")


def test_no_page_hides_a_block_from_the_tests() -> None:
    """Every fence says what it is."""
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(fences[::2]), page.name
        assert not any(fences[1::2]), page.name


@pytest.mark.parametrize(
    "model",
    [wire.ProcessLimits, wire.Egress, wire.VaultConfig, wire.ServerLimits, wire.Timeouts, wire.ToolPolicy],
    ids=lambda model: model.__name__,
)
def test_table_of_settings_is_that_of_the_model(model: type[wire.Wire]) -> None:
    """Each table names the members of its model, and the numbers that are their defaults."""
    text = SETTINGS.read_text(encoding="utf-8")
    name = model.__name__
    table = text[text.index(f"<!-- {name}: begin -->") : text.index(f"<!-- {name}: end -->")]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", "\n".join(table.splitlines()[3:]), re.MULTILINE))
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert rows.keys() == fields.keys()
    for key, field in fields.items():
        if isinstance(field.default, int):
            assert rows[key] == str(field.default), key


def test_every_code_has_its_advice() -> None:
    """A new code fails here until somebody says what to do about it."""
    standard = {errors.PARSE_ERROR, errors.INVALID_REQUEST, errors.METHOD_NOT_FOUND, errors.INVALID_PARAMS}
    assert ADVICE.keys() == {error.code for error in errors.ALL_ERRORS} | standard | {errors.INTERNAL_ERROR}
    assert all(text.endswith((".", "?")) for text in ADVICE.values())
