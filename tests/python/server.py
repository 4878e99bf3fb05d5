"""A Python Callosum server for the tests of Rust connectors.

Prints `listening on ENDPOINT` when ready. Ends with exit code 0 when standard input closes or on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import zmq
from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.ordering import (
    AbstractAsyncScheduler,
    ExitOrderedAsyncScheduler,
    KeySerializedAsyncScheduler,
)
from callosum.rpc import Peer, RPCMessage

from common import (
    CODECS,
    Handler,
    add_curve_arguments,
    arguments,
    codec,
    compress_everything,
    server_authenticator,
    stdin_lines,
)

SCHEDULERS: dict[str, Callable[[], AbstractAsyncScheduler]] = {
    "exit": ExitOrderedAsyncScheduler,
    "serialized": KeySerializedAsyncScheduler,
}


class Service:
    """The methods, and how often each was run and cancelled."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.cancelled_handlers = 0

    async def echo(self, request: RPCMessage) -> dict[str, Any]:
        return {"received": arguments(request)["sent"]}

    async def echo_raw(self, request: RPCMessage) -> Any:
        return request.body

    async def add(self, request: RPCMessage) -> dict[str, Any]:
        args = arguments(request)
        return {"result": args["a"] + args["b"]}

    async def delay(self, request: RPCMessage) -> dict[str, Any]:
        seconds = arguments(request)["seconds"]
        await asyncio.sleep(seconds)
        return {"waited": seconds}

    async def error(self, request: RPCMessage) -> Any:
        return 1 / 0

    async def count(self, request: RPCMessage) -> dict[str, int]:
        return dict(self.counts)

    async def cancelled(self, request: RPCMessage) -> int:
        return self.cancelled_handlers

    def counted(self, name: str, handler: Handler) -> Handler:
        async def run(request: RPCMessage) -> Any:
            self.counts[name] += 1
            try:
                return await handler(request)
            except asyncio.CancelledError:
                self.cancelled_handlers += 1
                raise

        return run

    def register(self, peer: Peer) -> None:
        for name in ("echo", "echo_raw", "add", "delay", "error", "count", "cancelled"):
            peer.handle_function(name, self.counted(name, getattr(self, name)))


async def until_told_to_end() -> None:
    """Returns when standard input closes or on SIGTERM."""
    lines = stdin_lines()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lines.put_nowait, None)
    while await lines.get() is not None:
        pass


async def serve(args: argparse.Namespace) -> None:
    serializer, deserializer = codec(args.codec)
    peer = Peer(
        bind=ZeroMQAddress(args.bind),
        transport=ZeroMQRPCTransport,
        authenticator=server_authenticator(args),
        scheduler=SCHEDULERS[args.ordering](),
        serializer=serializer,
        deserializer=deserializer,
    )
    Service().register(peer)
    async with peer:
        socket = cast(ZeroMQRPCTransport, peer._transport)._sock
        assert socket is not None, "open while its peer is"
        # Callosum's ZAP server is a task that begins only now; libzmq admits everyone as long as there is none.
        await asyncio.sleep(0)
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        print(f"listening on {endpoint}", flush=True)
        await until_told_to_end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", default="tcp://127.0.0.1:*", metavar="ENDPOINT")
    parser.add_argument("--codec", choices=CODECS, default="json")
    parser.add_argument("--ordering", choices=sorted(SCHEDULERS), default="exit")
    parser.add_argument("--compress", action="store_true", help="send zip bodies")
    add_curve_arguments(parser, "--allow", repeated=True)
    args = parser.parse_args()
    if args.compress:
        compress_everything()
    asyncio.run(serve(args))


if __name__ == "__main__":
    main()
