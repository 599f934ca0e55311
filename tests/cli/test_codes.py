"""Every error code of this version is produced by some test."""

from __future__ import annotations

import re

import pytest

from sidecar.errors import ALL_ERRORS, GO_ONLY
from tests.harness import ROOT

LATER: dict[int, str] = {}
"""Codes that nothing produces yet, and what will."""
STANDARD = {-32700, -32600, -32601, -32602, -32603}


def expected() -> set[int]:
    """Return the codes that stand in a test as an expected one."""
    text = "\n".join(
        path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.name != "test_codes.py"
    )
    return {int(code) for code in re.findall(r"(?<![\w.])(1[0-5]\d\d)(?=[,)\]])", text)}


@pytest.mark.parametrize("code", [error.code for error in ALL_ERRORS if error.code not in GO_ONLY])
def test_code_is_expected_by_a_test_unless_it_comes_later(code: int) -> None:
    assert (code in expected()) is (code not in LATER), LATER.get(code, "no test expects it")


def test_no_code_of_ours_can_be_taken_for_one_of_json_rpc() -> None:
    codes = [error.code for error in ALL_ERRORS]
    assert len(codes) == len(set(codes))
    assert all(1000 <= code < 2000 for code in codes)
