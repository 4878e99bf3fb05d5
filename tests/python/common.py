"""What the Python Callosum peers of the tests share: codecs, compression and standard input."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from callosum.abc import RawHeaderBody
from callosum.auth import (
    AbstractClientAuthenticator,
    AbstractServerAuthenticator,
    AuthResult,
    Credential,
    Identity,
)
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


DOMAIN = "callosum-tests"


class ServerAuthenticator(AbstractServerAuthenticator):
    """Admits the public keys that it was given."""

    def __init__(self, public_key: bytes, secret_key: bytes, allowed: dict[bytes, str]) -> None:
        self.keys = (public_key, secret_key)
        self.allowed = allowed

    async def server_identity(self) -> Identity:
        return Identity(DOMAIN, self.keys[1])

    async def server_public_key(self) -> bytes:
        return self.keys[0]

    async def check_client(self, creds: Credential) -> AuthResult:
        user_id = self.allowed.get(creds.public_key) if creds.domain == DOMAIN else None
        return AuthResult(success=user_id is not None, user_id=user_id)


class ClientAuthenticator(AbstractClientAuthenticator):
    def __init__(self, public_key: bytes, secret_key: bytes, server_key: bytes) -> None:
        self.keys = (public_key, secret_key)
        self.server_key = server_key

    async def server_public_key(self) -> bytes:
        return self.server_key

    async def client_identity(self) -> Identity:
        return Identity(DOMAIN, self.keys[1])

    async def client_public_key(self) -> bytes:
        return self.keys[0]


def add_curve_arguments(parser: argparse.ArgumentParser, other: str, repeated: bool) -> None:
    """`--curve-public`, `--curve-secret`, and the option that says who may be on the other side. All are Z85, which may
    begin with a hyphen: write `--curve-public=KEY`."""
    parser.add_argument("--curve-public", metavar="KEY", help="speak CURVE, with this key and --curve-secret")
    parser.add_argument("--curve-secret", metavar="KEY")
    default = [] if repeated else None
    parser.add_argument(other, metavar="KEY", action="append" if repeated else "store", default=default)


def server_authenticator(args: argparse.Namespace) -> ServerAuthenticator | None:
    if args.curve_public is None:
        return None
    allowed = {key.encode(): f"user-{number}" for number, key in enumerate(args.allow)}
    return ServerAuthenticator(args.curve_public.encode(), args.curve_secret.encode(), allowed)


def client_authenticator(args: argparse.Namespace) -> ClientAuthenticator | None:
    if args.curve_public is None:
        return None
    return ClientAuthenticator(
        args.curve_public.encode(), args.curve_secret.encode(), args.server_key.encode()
    )
