"""Server-sent events as a parser of bytes: linear, capped, and nothing decoded that is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_SLACK: Final = 1024
_ENDS: Final = 4096


class Event:
    """One event: its type, data, id, and the reconnection time in milliseconds where one was set."""

    __slots__ = ("data", "head", "id", "oversize", "retry", "tail", "type")

    def __init__(self) -> None:
        """Start empty."""
        self.type = b"message"
        self.data: bytes | None = None
        self.id: bytes | None = None
        self.retry: int | None = None
        self.oversize = 0
        """Bytes seen of data over the cap; 0 where it fits."""
        self.head = b""
        """The first 4 kB of data over the cap, and `tail` the last: its id may stand there."""
        self.tail = b""


class EventParser:
    """Feed it chunks; it yields events. Data over `limit` bytes is dropped and counted, the stream goes on."""

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes of one event's data."""
        self.limit = limit
        self._line: list[bytes] = []
        self._line_size = 0
        self._event = Event()
        self._data: bytes | bytearray = b""
        self._lines = 0
        self._data_size = 0
        self._touched = False
        self._after_cr = False
        self._first = True
        self._cut = False
        self._tail = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        start = 0
        while (stop := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:stop])
            start = stop + 1
            event = self._end_line()
            if event is not None:
                yield event
        if start < len(chunk):
            self._keep(chunk[start:] if start else chunk)

    def _keep(self, part: bytes) -> None:
        self._line_size += len(part)
        if self._line_size <= self.limit + _LINE_SLACK:
            self._line.append(part)
        else:
            # Keep the ends: the field's name decides what is reported, an id may stand in either.
            whole = b"".join((*self._line, part))
            self._tail = (self._tail + whole)[-_ENDS:]
            self._line = [whole[:_ENDS]] if not self._cut else self._line
            self._cut = True

    def _end_line(self) -> Event | None:
        size = self._line_size
        line = self._line[0] if len(self._line) == 1 else b"".join(self._line)
        tail = self._tail if self._cut else line[-_ENDS:]
        self._line.clear()
        self._line_size = 0
        self._cut, self._tail = False, b""
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not size:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._add_data(value, size, tail)
        elif size > self.limit + _LINE_SLACK or not name:
            return None  # an oversized other field, or a comment
        elif name == b"event":
            self._event.type = value
            self._touched = True
        elif name == b"id" and b"\0" not in value:
            self._event.id = value
            self._touched = True
        elif name == b"retry" and value.isdigit():
            self._event.retry = int(value[:15])
            self._touched = True
        return None

    def _add_data(self, value: bytes, size: int, tail: bytes) -> None:
        self._touched = True
        if self._event.data is None:
            self._event.data = b""
        self._data_size += max(len(value), size - len(b"data: ")) + 1
        if self._data_size - 1 > self.limit or self._event.oversize:
            if not self._event.oversize:
                self._event.head = bytes(self._data[:_ENDS] + value[:_ENDS])[:_ENDS]
            self._event.oversize = self._data_size - 1
            self._event.tail = tail
            self._data = b""
        elif not self._lines:
            self._data = value
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += value
        self._lines += 1

    def _dispatch(self) -> Event | None:
        if not self._touched:
            return None
        event = self._event
        if event.data is not None:
            event.data = bytes(self._data)
        self._event = Event()
        self._data = b""
        self._lines = 0
        self._data_size = 0
        self._touched = False
        return event
