"""A few scenarios of the official suite, one of each kind, in every test run; `make conformance` runs them all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness import ROOT

SUITE = str(ROOT / "node_modules/@modelcontextprotocol/conformance/dist/index.js")
pytestmark = pytest.mark.needs(str(ROOT / "node_modules/.bin/node"), SUITE)


@pytest.mark.parametrize(
    "scenario",
    [
        "elicitation-sep1034-client-defaults",
        "sep-2322-client-request-state",
        "http-custom-headers",
        "sep-2640-client-verify-digest",
        "auth/metadata-default",
    ],
)
def test_scenario_of_the_official_suite_passes_by_the_strict_rule(scenario: str) -> None:
    command = [
        sys.executable,
        str(ROOT / "scripts/conformance.py"),
        "--scenario",
        scenario,
        "--out",
        "build/conformance-test",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 scenarios" in done.stdout
