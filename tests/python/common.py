"""What the Python Callosum peers of the tests share: codecs, compression and standard input."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from callosum.abc import RawHeaderBody
from callosum.rpc import RPCMessage
from callosum.serialize import mpackb, munpackb

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[Any], Any]
Handler = Callable[[RPCMessage], Awaitable[Any]]

CODECS = ("json", "msgpack", "raw")


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _raw_bytes(value: Any) -> bytes:
    """Bytes as they are; anything else (a counter, say) as JSON."""
    return value if isinstance(value, bytes) else _json_bytes(value)


def codec(name: str) -> tuple[Serializer, Deserializer]:
    """The serializer and deserializer of a body."""
    pairs: dict[str, tuple[Serializer, Deserializer]] = {
        "json": (_json_bytes, json.loads),
        "msgpack": (mpackb, munpackb),
        "raw": (_raw_bytes, lambda body: body),
    }
    return pairs[name]


def arguments(request: RPCMessage) -> dict[str, Any]:
    """A request's arguments; under the raw codec they are JSON inside the bytes."""
    body = request.body
    if isinstance(body, bytes):
        return json.loads(body) if body else {}
    return body or {}


def compress_everything() -> None:
    """Makes RPCMessage send `zip` bodies, which Peer(compress=True) does not do by itself."""
    plain = RPCMessage.encode

    def encode(self: RPCMessage, serializer: Serializer, compress: bool = True) -> RawHeaderBody:
        return plain(self, serializer, True)

    RPCMessage.encode = encode  # type: ignore[method-assign]


def stdin_lines() -> asyncio.Queue[bytes | None]:
    """Lines of standard input as they come, then None.

    A thread with plain `os.read`: an event loop can't watch every kind of standard input, and a buffered
    reader's lock would abort the interpreter when it exits.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(line: bytes | None) -> None:
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        except RuntimeError:
            pass  # the loop has ended, nobody listens

    def read() -> None:
        rest = b""
        while chunk := os.read(0, 65536):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                put(line)
        put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines
