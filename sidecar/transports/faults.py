"""The errors that a server's messages become, and its payloads as the bytes that go to the host."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar import errors, frames
from sidecar.frames import ABSENT

Payload = bytes | memoryview
"""JSON text on its way through; large ones are views of the message they came in."""


def flat(raw: msgspec.Raw, *, breaks: bool) -> Payload:
    """Return JSON text on one line; `breaks` says that its message has line breaks. Nothing else is copied."""
    return frames.one_line(bytes(raw)) if breaks else frames.view(raw)


def copy_error(error: errors.SidecarError, delivered: str) -> errors.SidecarError:
    """Return the same failure for another call."""
    twin = type(error)(error.message, delivered=delivered, retry_after_ms=error.retry_after_ms, **error.extra)
    twin.corr = error.corr
    twin.__cause__ = error.__cause__
    return twin


def bad_peer(reason: str, delivered: str) -> errors.BadPeerMessage:
    """Return the 1502 for a message that broke the protocol."""
    return errors.BadPeerMessage(f"bad message from the server: {reason}", reason=reason, delivered=delivered)


def result_too_large(size: int, limit: int) -> errors.ResultTooLarge:
    """Return the 1006 for a message over `maxResultBytes`."""
    text = f"the result is over maxResultBytes ({limit}); raise limits.maxResultBytes of the server if it is wanted"
    return errors.ResultTooLarge(text, delivered="yes", bytes=size, limit=limit)


def remote_error(raw: msgspec.Raw) -> errors.SidecarError:
    """Return the 1501 for a server's error object, its members verbatim; 1502 where it is malformed."""
    try:
        parts = frames.members(raw)
    except msgspec.DecodeError:
        return bad_peer("the error is not an object", "yes")
    code, message = parts.get("code", ABSENT), frames.text_of(parts.get("message", ABSENT))
    if not frames.is_integer(bytes(code)) or message is None:
        return bad_peer("the error has no integer code or no message", "yes")
    remote: dict[str, Any] = {"code": code, "message": parts["message"]}
    if (data := parts.get("data")) is not None:
        size = len(memoryview(data))
        if size > errors.REMOTE_DATA_LIMIT:
            remote["data"] = {"truncated": True, "bytes": size}
        else:
            remote["data"] = msgspec.Raw(frames.one_line(bytes(data)))
    text = f"the server answered with error {bytes(code).decode()}: {message[:300]}"
    return errors.RemoteError(text, delivered="yes", remote=remote)
