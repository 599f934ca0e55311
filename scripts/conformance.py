"""Run the official MCP conformance suite against the sidecar, as a client: one process a scenario, a strict rule.

A scenario has passed when it has the successes that `tests/conformance/expected.json` says, no failure, no warning,
and its client ended by itself with exit 0. The suite's own verdict is weaker: it calls skipped checks a pass, and in
its suite mode looks at no exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
EXPECTED = ROOT / "tests/conformance/expected.json"
FAILURES = ROOT / "tests/conformance/expected-failures.txt"
OUT = ROOT / "build/conformance"
REVISIONS = ("2025-11-25", "2026-07-28")
SECONDS = 60
NODE = 22
"""The oldest Node.js that the suite runs on."""


@dataclass
class Result:
    """What came of one scenario."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    exit_code: int = 0
    seconds: float = 0.0
    why: str = ""

    @property
    def passed(self) -> bool:
        """Whether it passed by our rule."""
        return not self.why


def node() -> str:
    """Return a Node.js that the suite runs on: 22 or newer."""
    for candidate in (ROOT / "node_modules/.bin/node", shutil.which("node")):
        if candidate is None or not Path(candidate).exists():
            continue
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= NODE:
            return str(candidate)
    sys.exit("conformance: the suite needs Node.js 22: run `make setup`")


def driver_command(kind: str) -> str:
    """Return the client that the suite starts."""
    if kind == "python":
        return f"{ROOT}/.venv/bin/python {ROOT}/tests/conformance/driver.py"
    binary = OUT / "go-driver"
    binary.parent.mkdir(parents=True, exist_ok=True)
    go = shutil.which("go")
    if go is None:
        sys.exit("conformance: the Go driver needs Go")
    subprocess.run([go, "build", "-o", str(binary), "./examples/conformance"], cwd=ROOT / "go-client", check=True)
    return str(binary)


def scenarios(runtime: str, *which: str) -> list[str]:
    """Return the names of client scenarios: all, or the scored ones of a revision."""
    listing = [runtime, str(SUITE), "list", *(which or ("--client",))]
    text = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    # An extension has no revision: the suite runs it by its name alone.
    pattern = r"^\s+- (\S+)" if not which else r"^\s+- (\S+)(?=\s|$)(?!.*\[extension\])"
    return re.findall(pattern, text.partition("Client scenarios")[2], re.MULTILINE)


@dataclass
class Suite:
    """The suite with one driver, at the wire of one revision where that is given."""

    runtime: str
    command: str
    out: Path
    expected: dict[str, int]
    revision: str | None = None


def run_one(suite: Suite, name: str) -> Result:
    """Run one scenario in processes of its own."""
    out, command, runtime = suite.out, suite.command, suite.runtime
    folder = out / name.replace("/", "_")
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    result = Result(name)
    arguments = [
        "client",
        "--command",
        command,
        "--scenario",
        name,
        "--timeout",
        str(SECONDS * 1000),
        "-o",
        str(folder),
    ]
    if suite.revision is not None:
        arguments += ["--spec-version", suite.revision]
    environment = os.environ | {"MCP_SIDECAR_COMMAND": str(ROOT / ".venv/bin/mcp-sidecar")}
    try:
        done = subprocess.run(
            [runtime, SUITE, *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS + 30,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        result.why = "it hung"
        return result
    result.seconds = time.monotonic() - began
    result.exit_code = done.returncode
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    for file in folder.rglob("checks.json"):
        for check in json.loads(file.read_text()):
            result.counts[check["status"]] = result.counts.get(check["status"], 0) + 1
    result.why = _why(result, suite.expected.get(name, 1))
    return result


def _why(result: Result, successes: int) -> str:
    bad = [f"{result.counts[status]} {status}" for status in ("FAILURE", "WARNING") if result.counts.get(status)]
    if bad:
        return ", ".join(bad)
    if result.counts.get("SUCCESS", 0) < successes:
        return f"{result.counts.get('SUCCESS', 0)} SUCCESS instead of {successes}"
    return f"exit {result.exit_code}" if result.exit_code else ""


def known_failures() -> set[str]:
    """Return the scenarios that may still fail, by name."""
    lines = FAILURES.read_text().splitlines() if FAILURES.exists() else []
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def run_all(runtime: str, options: argparse.Namespace) -> bool:
    """Run every scenario asked for with one driver, and print the tables."""
    expected: dict[str, int] = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    suite = Suite(runtime, driver_command(options.driver), options.out / options.driver, expected)
    everything = scenarios(runtime)
    good = run_set(suite, options, options.scenario or everything)
    for revision in options.requirements or ():
        extensions = set(everything) - set(scenarios(runtime, "--client"))
        scored = [
            name for name in scenarios(runtime, "--requirements", revision) if name in set(everything) - extensions
        ]
        at = Suite(runtime, suite.command, suite.out / revision, {}, revision)
        good = run_set(at, options, scored) and good
    return good


def run_set(suite: Suite, options: argparse.Namespace, names: list[str]) -> bool:
    """Run scenarios, a few at once, and print the table; tell whether all came out as listed."""
    known = known_failures()
    good = True
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda name: run_one(suite, name), names):
            results.append(result)
            allowed = result.name in known
            good = good and result.passed != allowed
            verdict = "pass" if result.passed else f"FAIL: {result.why}"
            note = (" (listed as a failure: take it off the list)" if result.passed else " (known)") if allowed else ""
            counts = f"{result.counts.get('SUCCESS', 0):3} checks"
            print(f"{result.name:48} {counts} {result.seconds:5.1f} s  {verdict}{note}", flush=True)
    passed = sum(result.passed for result in results)
    checks = sum(result.counts.get("SUCCESS", 0) for result in results)
    where = "all" if suite.revision is None else f"required for {suite.revision}"
    print(
        f"conformance, {options.driver} driver, {where}: {passed} of {len(results)} scenarios, {checks} checks",
        flush=True,
    )
    if options.update and suite.revision is None:
        found = suite.expected | {result.name: result.counts["SUCCESS"] for result in results if result.passed}
        EXPECTED.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n")
    return good


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", choices=("python", "go"), default="python")
    parser.add_argument("--scenario", action="append", help="only this one; may be given again")
    parser.add_argument("--requirements", action="append", choices=REVISIONS, help="also the scored set of a revision")
    parser.add_argument("--out", type=Path, default=OUT, help="where the suite's own reports go")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--update", action="store_true", help="write down the successes of what passed")
    sys.exit(0 if run_all(node(), parser.parse_args()) else 1)


if __name__ == "__main__":
    main()
