"""Compressed bodies: taken apart in slices of bounded size, so that no bomb holds memory or the loop."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_INFLATE_SLICE: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"


class Inflater:
    """Decompresses gzip and zlib streams in slices of bounded size."""

    def __init__(self) -> None:
        """Begin before the first byte."""
        self.after = 0
        """Bytes that came after the end; they are no part of the body."""
        self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def ended(self) -> bool:
        """Whether the stream is whole."""
        return self._zlib.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` brings. Raises zlib.error."""
        rest = chunk
        while not self.ended():
            part = self._zlib.decompress(rest, _INFLATE_SLICE)
            yield part
            rest = self._zlib.unconsumed_tail
            if self.ended() and self._zlib.unused_data[:2] == _GZIP:  # RFC 1952 allows members in a row
                rest = self._zlib.unused_data
                self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            elif not rest and len(part) < _INFLATE_SLICE:
                return
        self.after += len(chunk)
