"""An odd or hostile server for Rust connectors: a plain ZeroMQ ROUTER that speaks dialect 1 in JSON.

Prints `listening on ENDPOINT` when ready; ends with exit code 0 when standard input closes.

    echo {"sent": x}    junk first, none of which answers the call, then the right RESULT, twice
    report {}           without junk: how often what came: {"PING": n, "PONG", "OTHER", "FUNCTION", "RESULT", …}
                        and "junk", the number of messages of junk sent before each answer of `echo`
    broken {"how": h}   a reply to the right id that can't be read; `broken` with {"how": null} -> the list of h
    silent {}           no answer, ever
    gone {}             the server closes its socket and ends with exit code 0
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import zmq

import wire
from wire import EMPTY_META, ERROR, FAILURE, RESULT, Junk

NAMES = {1: "FUNCTION", 2: "RESULT", 3: "FAILURE", 4: "ERROR", 5: "CANCEL", 6: "CANCELLED"}
# Far from the ids of a connector that counts its calls from 0.
FOREIGN_SEQ = 3_000_000_000

Message = dict[str, Any]


def near_misses(call: Message) -> Iterator[list[bytes]]:
    """Replies that differ from the right one only in the id: no call has it."""
    seq, method, key = call["seq"], call["meth"], call["okey"]
    other_type = key.encode() if isinstance(key, str) else key.decode("utf-8", "replace")
    for msgtype in (RESULT, FAILURE, ERROR, wire.CANCELLED):
        yield wire.reply(msgtype, FOREIGN_SEQ, method, key)
        yield wire.reply(msgtype, seq, method + "x", key)
        yield wire.reply(msgtype, seq, "", key)
        yield wire.reply(msgtype, seq, method, other_type)
        yield wire.reply(msgtype, seq, method, b"another key")


def junk(call: Message) -> list[list[bytes]]:
    """Nothing of it may end `call`, nor any other."""
    reply_body = wire.json_body({"received": "junk"}, EMPTY_META)
    items: list[Junk] = [
        *wire.odd_frames(),
        *wire.pings(),
        *wire.broken_headers(RESULT, FOREIGN_SEQ, reply_body),
        *wire.broken_fields(RESULT, FOREIGN_SEQ, reply_body),
        *wire.broken_bodies(RESULT, FOREIGN_SEQ, reply_body, "any"),
        *wire.stray_replies(FOREIGN_SEQ),
        Junk("a call", [wire.function(FOREIGN_SEQ, "junk", "no such method")]),
    ]
    return [*near_misses(call), *(message for item in items for message in item.messages)]


def broken_replies(call: Message) -> dict[str, list[bytes]]:
    """Replies to the right id that end the call with an error, if anything."""
    fields = {name: call[name] for name in ("meth", "okey", "seq")}
    good = wire.json_body({"received": "junk"}, EMPTY_META)

    def answer(msgtype: int, body: bytes, zipped: bool = False) -> list[bytes]:
        return wire.upper({"type": msgtype} | fields | {"zip": zipped}, body)

    return {
        "empty": answer(RESULT, b""),
        "truncated": answer(RESULT, good[:-1]),
        "trailing": answer(RESULT, good + b"\xc1"),
        "not a map": answer(RESULT, b"\x90"),
        "no body": answer(RESULT, wire.pack({"meta": EMPTY_META})),
        "body is int": answer(RESULT, wire.body_frame(1, EMPTY_META)),
        "huge array": answer(RESULT, wire.HUGE["array32"]),
        "depth bomb": answer(RESULT, wire.DEPTH_BOMB),
        "not JSON": answer(RESULT, wire.body_frame(b"\xff{", EMPTY_META)),
        "zip garbage": answer(RESULT, b"\xff\xfe\xfd garbage", True),
        "zip 4 GiB": answer(RESULT, wire.SNAPPY_4_GIB, True),
        "failure without metadata": answer(FAILURE, wire.body_frame(None)),
        "failure of two": answer(FAILURE, wire.body_frame(None, wire.pack(["a", "b"]))),
        "failure of ints": answer(FAILURE, wire.body_frame(None, wire.pack([1, 2, 3]))),
        "error with garbage": answer(ERROR, wire.body_frame(None, b"\xc1junk")),
    }


class Server:
    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.counts: Counter[str] = Counter()
        self.gone = False

    def send(self, peer: bytes, frames: list[bytes]) -> None:
        self.socket.send_multipart([peer, *frames])

    def result(self, peer: bytes, call: Message, value: Any) -> None:
        fields = {"type": RESULT} | {name: call[name] for name in ("meth", "okey", "seq", "zip")}
        self.send(peer, wire.upper(fields | {"zip": False}, wire.json_body(value, EMPTY_META)))

    def echo(self, peer: bytes, call: Message, args: Message) -> None:
        messages = junk(call)
        self.counts["junk"] = len(messages)
        for message in messages:
            self.send(peer, message)
        for _ in range(2):
            self.result(peer, call, {"received": args["sent"]})

    def broken(self, peer: bytes, call: Message, args: Message) -> None:
        replies = broken_replies(call)
        if args["how"] is None:
            self.result(peer, call, list(replies))
        else:
            self.send(peer, replies[args["how"]])

    def call(self, peer: bytes, call: Message) -> None:
        args = json.loads(call["body"])
        match call["meth"]:
            case "echo":
                self.echo(peer, call, args)
            case "report":
                self.result(peer, call, dict(self.counts))
            case "broken":
                self.broken(peer, call, args)
            case "gone":
                self.gone = True

    def take(self, peer: bytes, frames: list[bytes]) -> None:
        marker, header, body = frames
        if marker == b"UPPER":
            call = wire.unpack(header) | wire.unpack(body)
            self.counts[NAMES[call["type"]]] += 1
            if call["type"] == wire.FUNCTION:
                self.call(peer, call)
        elif marker == b"PING":
            self.counts["PING"] += 1
            self.send(peer, [b"PONG", header, body])
        else:
            self.counts["PONG" if marker == b"PONG" else "OTHER"] += 1

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while not self.gone:
            ready = dict(poller.poll())
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                return
            if self.socket in ready:
                peer, *frames = self.socket.recv_multipart()
                self.take(peer, frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bind", default="tcp://127.0.0.1:*", metavar="ENDPOINT")
    args = parser.parse_args()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        # A junk list is longer than the default of 1,000 messages, past which a ROUTER drops.
        socket.sndhwm = 0
        socket.bind(args.bind)
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        print(f"listening on {endpoint}", flush=True)
        Server(socket).run()


if __name__ == "__main__":
    main()
