"""Prepared bytes that a faithful sidecar must not change; the servers send them, the tests compare them."""

from __future__ import annotations

RESULT = (
    rb'{"isError":false,"vendor":{"k":null,"":[]},"content":[{"type":"hologram","frames":[1,2,3],"unknown":null},'
    rb'{"text":"a\u00e9 \ud83d\ude00 \/ \" \\ \u0000 \u2028 ","type":"text",'
    rb'"annotations":{"audience":null,"x-y":1.0}}],'
    b'"structuredContent":{"z":1,"a":2,"text":"\xc3\xa9\xf0\x9f\x98\x80","big":18446744073709551616,'
    b'"neg":-9223372036854775809,"long":123456789012345678901234567890,"one":1.0,"exp":1E+2,"zero":-0,"fine":0.10,'
    b'"tiny":1e-400,"dup":1,"dup":2,"null":null,"empty":{},"list":[ 1 , 2.50 , [] ]},"_meta":{"vendor/x":null,"n":1.0}}'
)
"""A result with unknown fields and types, numbers no double holds, nulls, duplicate keys, odd spellings."""

BROKEN_LINES = RESULT.replace(b',"', b',\r\n "').replace(b":{", b":\n{")
"""The same value with line breaks between tokens, as a JSON body may have them."""

ARGUMENTS = (
    rb'{"z":null,"a":1.0,"big":18446744073709551616,"neg":-9223372036854775809,"text":"  \u00e9 \ud83d\ude00 ",'
    b'"utf8":"\xc3\xa9\xf0\x9f\x98\x80","nested":{"":null,"list":[null,1E+2,-0,0.10,{}]},"e":1e-400,"empty":""}'
)
"""Arguments with nulls, numbers no double holds, blanks at both ends of a text, odd spellings."""

META = b'{"vendor/trace":null,"vendor/n":1.0,"vendor/big":18446744073709551616}'
"""A host's own `_meta`."""


def one_line(text: bytes) -> bytes:
    """Return the bytes as they may stand in one line: each line break byte is a blank."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def big(size: int) -> bytes:
    """Return a structured result of at least `size` bytes, made of rows of numbers and texts."""
    row = b'{"id":%d,"name":"row number %d","value":1.50,"tags":["a","b"],"ok":true,"none":null}'
    rows: list[bytes] = []
    total = 0
    while total < size:
        rows.append(row % (len(rows), len(rows)))
        total += len(rows[-1]) + 1
    return b'{"content":[],"structuredContent":{"rows":[' + b",".join(rows) + b"]}}"
