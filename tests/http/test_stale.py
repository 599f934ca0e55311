"""A connection that the server has closed while it was idle: noticed before the first byte of a request."""

from __future__ import annotations

import asyncio
import socket

import httpcore2
import pytest

from sidecar.transports.net import SENDING, Sending, Stream


@pytest.mark.parametrize("used", [True, False], ids=["used-before", "new"])
def test_end_that_the_loop_has_not_seen_yet_is_noticed_before_anything_is_written(used: bool) -> None:
    async def main() -> tuple[bool, bytes]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
            _, stream = await asyncio.get_running_loop().create_connection(Stream, sock=near)
            SENDING.set(Sending())
            if used:
                await stream.write(b"first request")
                assert far.recv(100) == b"first request"
            far.shutdown(socket.SHUT_WR)  # the loop does not run between here and the write
            sending = Sending()
            SENDING.set(sending)
            if used:
                with pytest.raises(httpcore2.WriteError):
                    await stream.write(b"second request")
            else:
                await stream.write(b"second request")
            far.setblocking(False)
            try:
                text = far.recv(100)
            except BlockingIOError:
                text = b""
            await stream.aclose()
            far.close()
            await asyncio.sleep(0)
            return sending.stale, text

    assert asyncio.run(main()) == ((True, b"") if used else (False, b"second request"))
