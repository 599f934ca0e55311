"""Large lines that wait for their turn on a slow pipe, each in the lane of its sender. Knows no MCP and no JSON."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Parts = tuple[bytes | memoryview, ...]


class Lanes:
    """Lines by lane: each lane's oldest in turn, and first a lane that has not waited yet."""

    def __init__(self, high: int) -> None:
        """Tell `on_pressure` of a lane that holds more than `high` bytes, and again when it is half of that."""
        self.size = 0
        """Bytes in all lanes."""
        self.on_pressure: Callable[[Hashable, bool], None] | None = None
        self._high = high
        self._lines: OrderedDict[Hashable, deque[Parts]] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._pressed: set[Hashable] = set()

    def __bool__(self) -> bool:
        """Tell whether a line waits."""
        return bool(self._lines)

    def put(self, lane: Hashable, parts: Parts) -> None:
        """Have a line wait."""
        if lane in self._lines:
            self._lines[lane].append(parts)
        else:
            self._lines[lane] = deque([parts])
            self._lines.move_to_end(lane, last=False)
        size = sum(map(len, parts))
        self.size += size
        have = self._sizes[lane] = self._sizes.get(lane, 0) + size
        if have > self._high and lane not in self._pressed:
            self._pressed.add(lane)
            self._tell(lane, pressed=True)

    def take(self) -> Parts:
        """Return the next line."""
        lane, lines = self._lines.popitem(last=False)
        parts = lines.popleft()
        size = sum(map(len, parts))
        self.size -= size
        self._sizes[lane] -= size
        if lane in self._pressed and self._sizes[lane] <= self._high // 2:
            self._pressed.discard(lane)
            self._tell(lane, pressed=False)
        if lines:
            self._lines[lane] = lines
        else:
            del self._sizes[lane]
        return parts

    def clear(self) -> None:
        """Drop every line."""
        self.size = 0
        self._lines.clear()
        self._sizes.clear()
        self._pressed.clear()

    def _tell(self, lane: Hashable, *, pressed: bool) -> None:
        if self.on_pressure is not None:
            self.on_pressure(lane, pressed)
