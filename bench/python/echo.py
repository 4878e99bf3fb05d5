"""Python Callosum's echo server, and the same load that `load.rs` makes.

echo.py serve: prints the port and serves until stdin ends.
echo.py load ADDRESS --in-flight N --body-bytes N --connections N --warm-up-ms N --window-ms N: prints a sample as JSON.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter

import zmq
from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.rpc import Peer


def raw(body):
    return body


def make_peer(**kwargs):
    return Peer(transport=ZeroMQRPCTransport, serializer=raw, deserializer=raw, authenticator=None, **kwargs)


async def echo(request):
    return request.body


async def serve():
    peer = make_peer(bind=ZeroMQAddress("tcp://127.0.0.1:*"))
    peer.handle_function("echo", echo)
    async with peer:
        # Callosum has no way to ask for the port that the system has chosen.
        endpoint = peer._connection.transport._sock.getsockopt(zmq.LAST_ENDPOINT)
        print(endpoint.rstrip(b"\0").decode().rsplit(":", 1)[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


def looks_like(a, b):
    length = len(b)
    return len(a) == length and all(
        a[i : i + 8] == b[i : i + 8] for i in (0, length // 2, max(0, length - 8))
    )


async def call_after_call(peer, body, opens, closes):
    latencies = []
    while True:
        begun = time.perf_counter_ns()
        echoed = await peer.invoke("echo", body)
        ended = time.perf_counter_ns()
        if ended >= closes:
            return latencies
        if ended >= opens:
            intact = looks_like(echoed, body)
            latencies.append(ended - begun)
        else:
            intact = echoed == body
        if not intact:
            raise ValueError("a body came back changed")


async def load(args):
    total_s = (args.warm_up_ms + args.window_ms) / 1000
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(total_s + 30):
        address = ZeroMQAddress(f"tcp://{args.address}")
        peers = [await stack.enter_async_context(make_peer(connect=address)) for _ in range(args.connections)]
        bodies = [random.Random(n).randbytes(args.body_bytes) for n in range(args.in_flight)]
        opens = time.perf_counter_ns() + args.warm_up_ms * 1_000_000
        closes = opens + args.window_ms * 1_000_000
        tasks = [
            call_after_call(peers[n % len(peers)], body, opens, closes) for n, body in enumerate(bodies)
        ]
        results = await asyncio.gather(*tasks)
    latency_ns = Counter(nanos for latencies in results for nanos in latencies)
    json.dump({"seconds": args.window_ms / 1000, "latency_ns": latency_ns}, sys.stdout)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    load_parser = commands.add_parser("load")
    load_parser.add_argument("address")
    for name in ("--in-flight", "--body-bytes", "--connections", "--warm-up-ms", "--window-ms"):
        load_parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()
    asyncio.run(serve() if args.command == "serve" else load(args))


if __name__ == "__main__":
    main()
