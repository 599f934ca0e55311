"""One answer of the sidecar, as a test looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

Json = dict[str, Any]


class _Members(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_members = msgspec.json.Decoder(_Members).decode


@dataclass
class Answer:
    """One answer: its line, its members, and when it came (monotonic seconds)."""

    line: bytes
    body: Json
    at: float

    @property
    def result(self) -> Any:
        """The result; fails the test where the answer is an error."""
        assert "result" in self.body, f"an error instead of a result: {self.line[:2000]!r}"
        return self.body["result"]

    @property
    def bytes(self) -> bytes:
        """The result as the bytes that came."""
        assert "result" in self.body, f"an error instead of a result: {self.line[:2000]!r}"
        return bytes(_members(self.line).result)

    @property
    def error(self) -> Json:
        """The error object; fails the test where the answer is a result."""
        assert "error" in self.body, f"a result instead of an error: {self.line[:2000]!r}"
        error: Json = self.body["error"]
        return error

    @property
    def code(self) -> int:
        """The code of the error."""
        return int(self.error["code"])

    @property
    def data(self) -> Json:
        """The data of the error, empty where there is none."""
        data: Json = self.error.get("data") or {}
        return data

    def is_error(self, code: int, **data: Any) -> Json:
        """Check code, the members that every error of ours has, and the given members of data; return data."""
        assert self.code == code, self.line[:2000]
        assert self.error["message"]
        found = self.data
        if 1000 <= code < 2000:
            assert {"kind", "delivered", "retry"} <= found.keys(), self.line[:2000]
        for key, value in data.items():
            assert found.get(key) == value, f"{key}: {found.get(key)!r}, not {value!r}: {self.line[:2000]!r}"
        return found
