"""A Python Callosum peer that speaks Thrift, as a client or as a server of `everything.thrift`.

    thrift_peer.py FILE --bind ENDPOINT | --connect ENDPOINT [--compact] [CURVE arguments]

A server prints `listening on ENDPOINT`, and ends when standard input closes. A client prints `ready`, then reads one JSON command a
line and prints one JSON answer a line:

    {"op": "same", "seed": n, "count": n}  -> {"ok": how many random values came back as they were sent}
    {"op": "call", "method", "args": []}   -> {"ok": result}, or {"error": {"kind", "name", "repr"}}
    {"op": "raw", "body": hex}             -> {"ok": hex}, or an error
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any, cast

import thriftpy2
import zmq
from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.rpc import Peer, RPCInternalError, RPCUserError
from callosum.serialize import noop_deserializer, noop_serializer
from callosum.upper.thrift import ThriftClientAdaptor, ThriftServerAdaptor
from thriftpy2.contrib.aio.protocol.compact import TAsyncCompactProtocol
from thriftpy2.thrift import TException, TType

from common import add_curve_arguments, client_authenticator, server_authenticator, stdin_lines

ALIAS = "store"


def random_text(source: random.Random) -> str:
    return "".join(chr(source.choice((source.randrange(0xD800), source.randrange(0xE000, 0x110000)))) for _ in range(source.randrange(4)))


class Values:
    """Random values of the types of a file."""

    RANGES = {TType.BYTE: 8, TType.I16: 16, TType.I32: 32, TType.I64: 64}

    def __init__(self, thrift: Any, seed: int) -> None:
        self.thrift, self.source = thrift, random.Random(seed)

    def struct(self, kind: Any) -> Any:
        value = kind()
        fields = [field for _, field in sorted(kind.thrift_spec.items())]
        if kind is self.thrift.Either:
            fields = [self.source.choice(fields)]
        for field in fields:
            ttype, name, spec, required = field if len(field) == 4 else (field[0], field[1], None, field[2])
            if required or kind is self.thrift.Either or self.source.random() < 0.5:
                setattr(value, name, self.value(ttype, spec))
        return value

    def value(self, ttype: int, spec: Any) -> Any:
        source = self.source
        if ttype == TType.BOOL:
            return source.random() < 0.5
        if ttype == TType.I32 and spec is not None:
            return source.choice(list(spec._VALUES_TO_NAMES))
        if bits := self.RANGES.get(ttype):
            return source.randrange(-(1 << (bits - 1)), 1 << (bits - 1))
        if ttype == TType.DOUBLE:
            return source.choice((0.0, -1.5, 1e300, source.gauss(0, 1e6), float("inf")))
        if ttype == TType.STRING:
            return random_text(source)
        if ttype == TType.BINARY:
            return b"\xff" + source.randbytes(source.randrange(4))
        if ttype == TType.STRUCT:
            return self.struct(spec)
        count = range(source.randrange(4))
        if ttype == TType.MAP:
            key, value = (self.parts(part) for part in spec)
            return {self.value(*key): self.value(*value) for _ in count}
        items = [self.value(*self.parts(spec)) for _ in count]
        # A set is read as a list, and comes back in the order of Rust's.
        return sorted(set(items)) if ttype == TType.SET else items

    @staticmethod
    def parts(spec: Any) -> tuple[int, Any]:
        return spec if isinstance(spec, tuple) else (spec, None)


class Store:
    """What the server does."""

    def __init__(self, thrift: Any) -> None:
        self.thrift, self.lines = thrift, list[str]()

    async def ping(self, text: str) -> str:
        return f"pong {text}"

    async def same(self, all: Any) -> Any:
        return all

    async def group(self, numbers: list[int], names: list[str]) -> dict[str, list[int]]:
        return {name: numbers for name in names}

    async def fail(self, how: int) -> int:
        if how == 0:
            return 0
        if how == 1:
            raise self.thrift.NotFound(message="größe", code=404)
        if how == 2:
            raise self.thrift.shared.Busy(again=77)
        raise ValueError("how")

    async def nothing(self, how: int) -> None:
        if how:
            raise self.thrift.NotFound(code=how)

    async def silent(self) -> None:
        pass

    async def tell(self, text: str) -> None:
        if text == "fail":
            raise ValueError("fail")
        self.lines.append(text)

    async def told(self) -> list[str]:
        return self.lines

    async def sum(self, a: int, b: int, c: int | None) -> int:
        return a + b + (1000 if c is None else c)

    async def following(self, color: int) -> int:
        return color + 1

    async def reverse(self, data: bytes) -> bytes:
        return data[::-1]

    async def flip(self, flag: bool) -> bool:
        return not flag

    async def half(self, number: float) -> float:
        return number / 2

    async def swap(self, either: Any) -> Any:
        Either = self.thrift.Either
        if either.number is not None:
            return Either(text=str(either.number))
        if either.text is not None:
            return Either(texts=[either.text])
        if either.point is not None:
            return Either(number=either.point.x)
        return Either(point=self.thrift.shared.Point(x=len(either.texts), y=0))


class Compact(TAsyncCompactProtocol):
    """TCompact, in which texts and binaries have one number. thriftpy2 takes it for a binary, and then skips maps with texts."""

    def _get_ttype(self, byte: int) -> int:
        ttype: int = super()._get_ttype(byte)
        return TType.STRING if ttype == TType.BINARY else ttype


async def serve(args: argparse.Namespace, thrift: Any) -> None:
    peer = Peer(
        bind=ZeroMQAddress(args.bind),
        transport=ZeroMQRPCTransport,
        authenticator=server_authenticator(args),
        serializer=noop_serializer,
        deserializer=noop_deserializer,
    )
    adaptor = ThriftServerAdaptor(peer, thrift.Store, Store(thrift))
    if args.compact:
        adaptor._protocol_cls = Compact
    peer.handle_function(ALIAS, adaptor.handle_function)
    async with peer:
        socket = cast(ZeroMQRPCTransport, peer._transport)._sock
        assert socket is not None, "open while its peer is"
        await asyncio.sleep(0)
        print(f"listening on {socket.getsockopt_string(zmq.LAST_ENDPOINT)}", flush=True)
        lines = stdin_lines()
        while await lines.get() is not None:
            pass


class Client:
    def __init__(self, peer: Peer, thrift: Any) -> None:
        self.peer, self.thrift, self.adaptor = peer, thrift, ThriftClientAdaptor(thrift.Store)

    async def same(self, seed: int, count: int) -> int:
        values, good = Values(self.thrift, seed), 0
        for _ in range(count):
            sent = values.struct(self.thrift.Everything)
            came = await self.peer.invoke(ALIAS, self.adaptor.same(sent))
            assert came == sent, f"{sent}\n{came}"
            good += 1
        return good

    async def call(self, method: str, args: list[Any]) -> Any:
        return await self.peer.invoke(ALIAS, getattr(self.adaptor, method)(*args))

    async def raw(self, body: str) -> str:
        return (await self.peer.invoke(ALIAS, bytes.fromhex(body))).hex()

    async def run(self, command: dict[str, Any]) -> Any:
        try:
            return {"ok": await getattr(self, command.pop("op"))(**command)}
        except (RPCUserError, RPCInternalError) as e:
            return {"error": {"kind": type(e).__name__, "name": e.name, "repr": e.repr}}
        except TException as e:
            return {"error": {"kind": "thrift", "name": type(e).__name__, "repr": vars(e)}}
        except Exception as e:
            return {"error": {"kind": "local", "name": type(e).__name__, "repr": repr(e)}}


async def call(args: argparse.Namespace, thrift: Any) -> None:
    peer = Peer(
        connect=ZeroMQAddress(args.connect),
        transport=ZeroMQRPCTransport,
        authenticator=client_authenticator(args),
        serializer=noop_serializer,
        deserializer=noop_deserializer,
        invoke_timeout=30.0,
    )
    async with peer:
        client = Client(peer, thrift)
        if args.compact:
            client.adaptor._protocol_cls = Compact
        print("ready", flush=True)
        lines = stdin_lines()
        while (line := await lines.get()) is not None:
            print(json.dumps(await client.run(json.loads(line)), default=str), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--include", metavar="FOLDER", action="append")
    parser.add_argument("--bind", metavar="ENDPOINT")
    parser.add_argument("--connect", metavar="ENDPOINT")
    parser.add_argument("--compact", action="store_true", help="speak TCompact")
    add_curve_arguments(parser, "--allow", repeated=True)
    parser.add_argument("--server-key", metavar="KEY")
    args = parser.parse_args()
    thrift = thriftpy2.load(args.file, module_name="everything_thrift", include_dirs=args.include)
    asyncio.run(serve(args, thrift) if args.bind else call(args, thrift))


if __name__ == "__main__":
    main()
