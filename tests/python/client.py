"""A Python Callosum client for the tests of Rust binders, driven over standard input.

Prints `ready` after the handshake, then reads one JSON command a line and prints one JSON answer a line, in
the same order. Commands run one after the other; with `--serve`, calls from the binder are served meanwhile.
An object `{"hex": "…"}` stands for bytes, in commands as in answers.

    {"op": "call", "method", "body", "key": text|null, "timeout": seconds|null} -> {"ok": result}
    {"op": "many", "n", "method": "echo", "keys": number of keys|null, "body", "expect", "timeout"}
        -> {"ok": {"good": n, "bad": 0, "errors": []}}
    {"op": "cancel", "method", "body", "key", "after": seconds|null, "wait": seconds}
        -> {"ok": {"cancelled": bool, "answer": "CANCELLED"|"RESULT"|…|null}}
    {"op": "large", "bytes": n, "method", "timeout"} -> {"ok": {"bytes": n, "sha256": hex}}
    {"op": "quit"} -> {"ok": null}

A failed command is answered with {"error": {"kind", "name", "repr", "traceback"}}, where the kind is `failure`
(the handler), `error` (Callosum on the other side), `timeout`, `cancelled` (by the other side) or `local`.
`answer` is what came for the cancelled call within `wait` seconds after it was cancelled. It is cancelled
after `after` seconds or, where that is null, when one more line has come, whatever is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import traceback
from typing import Any

from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.ordering import AsyncResolver
from callosum.rpc import Peer, RPCInternalError, RPCMessage, RPCUserError

from common import (
    CODECS,
    add_curve_arguments,
    arguments,
    client_authenticator,
    codec,
    compress_everything,
    stdin_lines,
)

Json = dict[str, Any]


class WatchedResolver(AsyncResolver):
    """Keeps what was answered to a call that its caller no longer waits for."""

    __slots__ = ("watched",)

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[Any, asyncio.Future[str]] = {}

    def resolve(self, request_id: Any, result: Any) -> None:
        watch = self.watched.get(request_id)
        if watch is not None and not watch.done():
            watch.set_result(result.msgtype.name)
        super().resolve(request_id, result)


def bytes_in(value: Any) -> Any:
    """Replaces `{"hex": …}` by bytes."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: bytes_in(item) for key, item in value.items()}
    return [bytes_in(item) for item in value] if isinstance(value, list) else value


def bytes_out(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    raise TypeError(f"not JSON: {value!r}")


def error_answer(error: BaseException) -> Json:
    kinds: list[tuple[type[BaseException], str]] = [
        (RPCUserError, "failure"),
        (RPCInternalError, "error"),
        (TimeoutError, "timeout"),
        (asyncio.CancelledError, "cancelled"),
    ]
    kind = next((name for cls, name in kinds if isinstance(error, cls)), "local")
    if isinstance(error, (RPCUserError, RPCInternalError)):
        name, text, trace = error.name, error.repr, error.traceback
    else:
        name, text = type(error).__name__, repr(error)
        trace = "".join(traceback.format_exception(error))
    return {"error": {"kind": kind, "name": name, "repr": text, "traceback": trace}}


class Client:
    """The commands."""

    def __init__(self, peer: Peer, codec_name: str) -> None:
        self.peer = peer
        self.lines = stdin_lines()
        self.codec_name = codec_name
        self.resolver = WatchedResolver()
        peer._invocation_resolver = self.resolver

    async def invoke(self, command: Json) -> Any:
        return await self.peer.invoke(
            command["method"],
            bytes_in(command.get("body")),
            order_key=command.get("key"),
            invoke_timeout=command.get("timeout"),
        )

    async def call(self, command: Json) -> Any:
        return await self.invoke(command)

    async def many(self, command: Json) -> Json:
        keys = command.get("keys")
        method = command.get("method", "echo")

        async def one(number: int) -> str | None:
            body, expected = command.get("body"), command.get("expect")
            if body is None:
                body, expected = {"sent": number}, {"received": number}
            key = f"key-{number % keys}" if keys else None
            call = {**command, "method": method, "body": body, "key": key}
            try:
                result = await self.invoke(call)
            except Exception as error:
                return repr(error)
            return None if expected is None or result == expected else repr(result)

        results = await asyncio.gather(*(one(number) for number in range(command["n"])))
        errors = [error for error in results if error is not None]
        return {"good": len(results) - len(errors), "bad": len(errors), "errors": errors[:3]}

    async def cancel(self, command: Json) -> Json:
        request_id = (command["method"], command.get("key") or b"", self.peer._client_seq_id)
        watch: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.resolver.watched[request_id] = watch
        task = asyncio.create_task(self.invoke(command))
        if command["after"] is None:
            await self.lines.get()
        else:
            await asyncio.wait({task}, timeout=command["after"])
        task.cancel()
        await asyncio.wait({task})
        await asyncio.wait({watch}, timeout=command.get("wait", 0))
        del self.resolver.watched[request_id]
        return {"cancelled": task.cancelled(), "answer": watch.result() if watch.done() else None}

    async def large(self, command: Json) -> Json:
        size = command["bytes"]
        data = random.Random(size).randbytes(size)
        sent: str | bytes = data.hex()[:size] if self.codec_name == "json" else data
        raw = self.codec_name == "raw"
        method = command.get("method", "echo_raw" if raw else "echo")
        body = sent if raw else {"sent": sent}
        result = await self.peer.invoke(method, body, invoke_timeout=command.get("timeout"))
        received = result if raw else result["received"]
        if digest(received) != digest(sent):
            raise ValueError(f"{len(received)} of {size} came back, or others")
        return {"bytes": len(received), "sha256": digest(received)}

    async def answer(self, command: Json) -> Json:
        operations = {"call": self.call, "many": self.many, "cancel": self.cancel, "large": self.large}
        # In a task of its own: a CANCELLED reply comes out of invoke() as a CancelledError.
        task = asyncio.create_task(operations[command["op"]](command))
        await asyncio.wait({task})
        if task.cancelled():
            return error_answer(asyncio.CancelledError())
        error = task.exception()
        return {"ok": task.result()} if error is None else error_answer(error)


def digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


async def agent_echo(request: RPCMessage) -> Json:
    return {"received": arguments(request)["sent"]}


async def agent_add(request: RPCMessage) -> Json:
    args = arguments(request)
    return {"result": args["a"] + args["b"]}


async def agent_delay(request: RPCMessage) -> Json:
    seconds = arguments(request)["seconds"]
    await asyncio.sleep(seconds)
    return {"waited": seconds}


async def agent_fail(request: RPCMessage) -> Any:
    raise ValueError("this agent can't: ünïcödé")


async def agent_whoami(request: RPCMessage) -> Json:
    key = request.order_key
    return {
        "language": "python",
        "pid": os.getpid(),
        "method": request.method,
        "key": key if isinstance(key, str) else None,
    }


def register(peer: Peer) -> None:
    peer.handle_function("agent.echo", agent_echo)
    # What the example of the engine calls back.
    peer.handle_function("echo", agent_echo)
    peer.handle_function("agent.add", agent_add)
    peer.handle_function("agent.delay", agent_delay)
    peer.handle_function("agent.fail", agent_fail)
    peer.handle_function("agent.whoami", agent_whoami)


async def drive(client: Client) -> None:
    while (line := await client.lines.get()) is not None:
        command = json.loads(line)
        done = command["op"] == "quit"
        answer = {"ok": None} if done else await client.answer(command)
        print(json.dumps(answer, default=bytes_out), flush=True)
        if done:
            break


async def run(args: argparse.Namespace) -> None:
    serializer, deserializer = codec(args.codec)
    peer = Peer(
        connect=ZeroMQAddress(args.connect),
        transport=ZeroMQRPCTransport,
        authenticator=client_authenticator(args),
        transport_opts={"handshake_timeout": args.handshake_timeout},
        serializer=serializer,
        deserializer=deserializer,
    )
    if args.serve:
        register(peer)
    client = Client(peer, args.codec)
    async with peer:
        print("ready", flush=True)
        await drive(client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connect", required=True, metavar="ENDPOINT")
    parser.add_argument("--codec", choices=CODECS, default="json")
    parser.add_argument("--compress", action="store_true", help="send zip bodies")
    parser.add_argument("--serve", action="store_true", help="serve agent.echo, agent.add, …")
    parser.add_argument("--handshake-timeout", type=float, default=30.0, metavar="SECONDS")
    add_curve_arguments(parser, "--server-key", repeated=False)
    args = parser.parse_args()
    if args.compress:
        compress_everything()
    asyncio.run(run(args))


if __name__ == "__main__":
    main()
