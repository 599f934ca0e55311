"""The checker: a process of its own that does what a server's schemas ask for, and may be killed in the middle of it.

Run as a program (`python -I worker.py`). It reads a line for each job and writes a line for its outcome; one job at a
time. Each job names how much processor time it may use: past that the kernel ends the process with SIGPROF, whatever
the code in it is doing, and that is the outcome. Nothing is ever fetched: a reference that leads out of the schema
cannot be followed.

In: `{"id", "op": "check", "key", "schema"?, "value", "cpu"}` or `{"id", "op": "digest", "tools", "cpu"}`. Out:
`{"id", "ok": true}`, `{"id", "unknown": true}` (send the schema too), `{"id", "path", "why", "budget"?}`, or
`{"id", "tools": [[hash, [path of an invisible character]]]}`.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from sidecar.checks.definitions import digest, invisible

SCHEMA_BYTES: Final = 256 * 1024
SCHEMA_DEPTH: Final = 32
SUBSCHEMAS: Final = 2000
_CACHED: Final = 512
_MEMORY: Final = 2 << 30
_IN_OBJECT: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
_IN_ARRAY: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_ITSELF: Final = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)


class Job(msgspec.Struct):
    """One line of the sidecar."""

    id: int
    op: str
    cpu: float
    key: str = ""
    schema: msgspec.Raw = msgspec.Raw()
    value: msgspec.Raw = msgspec.Raw()
    tools: list[msgspec.Raw] = []


class Refused(Exception):
    """A schema that is not even tried."""


def size_of(schema: Any) -> None:
    """Count a schema's subschemas. Raises Refused past the limits."""
    count = 0
    waiting = [(schema, 1)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > SCHEMA_DEPTH:
            raise Refused(f"the schema is deeper than {SCHEMA_DEPTH} subschemas")
        if count > SUBSCHEMAS:
            raise Refused(f"the schema has more than {SUBSCHEMAS} subschemas")
        if not isinstance(node, dict):
            continue
        for name, value in node.items():
            if name in _IN_OBJECT and isinstance(value, dict):
                waiting += [(inner, depth + 1) for inner in value.values()]
            elif name in _IN_ARRAY and isinstance(value, list):
                waiting += [(inner, depth + 1) for inner in value]
            elif name in _ITSELF:
                waiting.append((value, depth + 1))


class Checker:
    """Compiled schemas, and one job after the other."""

    def __init__(self) -> None:
        """Know no schema."""
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def run(self, job: Job) -> dict[str, Any]:
        """Return the outcome of a job."""
        if job.op == "digest":
            with_budget(job.cpu)
            return {"tools": [[digest(tool), invisible(tool)] for tool in job.tools]}
        return self._check(job)

    def _check(self, job: Job) -> dict[str, Any]:
        value = msgspec.json.decode(job.value)
        validator = self._compiled.get(job.key)
        if validator is None and not bytes(job.schema):
            return {"unknown": True}
        with_budget(job.cpu)
        if validator is None:
            try:
                validator = self._compile(bytes(job.schema))
            except Refused as refusal:
                return {"path": "", "why": str(refusal), "budget": True}
            except Exception:
                return {"path": "", "why": "the schema cannot be used: it is invalid, or refers to another document"}
            self._compiled[job.key] = validator
            if len(self._compiled) > _CACHED:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(job.key)
        if validator.is_valid(value):
            return {"ok": True}
        fault = next(iter(validator.iter_errors(value)))
        path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in fault.instance_path)
        keyword = next((part for part in reversed(fault.schema_path) if isinstance(part, str)), "false")
        return {"path": path[:1000], "why": f"keyword {keyword[:100]!r}"}

    def _compile(self, text: bytes) -> Any:
        import jsonschema_rs

        if len(text) > SCHEMA_BYTES:
            raise Refused(f"the schema is longer than {SCHEMA_BYTES} bytes")
        schema = msgspec.json.decode(text)
        size_of(schema)
        return jsonschema_rs.validator_for(schema, offline=True, mask="value")


def with_budget(seconds: float) -> None:
    """Have the kernel end this process after so much more processor time; 0 takes that back."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import jsonschema_rs  # noqa: F401 - loaded before the first job counts its time

    checker = Checker()
    decode = msgspec.json.Decoder(Job).decode
    out = sys.stdout.buffer
    out.write(b'{"id":0,"ok":true}\n')
    out.flush()
    for line in sys.stdin.buffer:
        job = decode(line)
        outcome = checker.run(job)
        with_budget(0)
        out.write(msgspec.json.encode({"id": job.id, **outcome}) + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
