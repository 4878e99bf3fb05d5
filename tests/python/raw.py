"""Garbage between good calls: a plain ZeroMQ DEALER against a Callosum server that has `echo` in JSON.

After each piece of junk one good call is made, which must be answered rightly and in time. The report, one
JSON object on standard output:

    sent, good    pieces of junk sent; good calls answered
    bad           [{"item", "why"}]: whatever should not have happened
    errors        {item: name of the error}: junk that was answered with ERROR
    failures      the same for FAILURE
    results       junk that was answered with RESULT
    disconnects   junk after which the server cut the connection

Exit code 0 when nothing is bad.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

import wire
from common import add_curve_arguments
from wire import FUNCTION, Junk

# Ids of junk start here, so that an answer shows what it belongs to; good calls count from 1.
JUNK_SEQ = 1_000_000
# So many good calls without an answer mean that the server is deaf.
LOST_CALLS = 3


def good_key(sequence: int) -> str | bytes:
    return ("", "größe", b"", b"\xff")[sequence % 4]


class Attacker:
    def __init__(self, context: zmq.Context[Any], args: argparse.Namespace) -> None:
        self.timeout: float = args.timeout
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        if args.curve_public is not None:
            self.socket.curve_publickey = args.curve_public.encode()
            self.socket.curve_secretkey = args.curve_secret.encode()
            self.socket.curve_serverkey = args.server_key.encode()
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(args.connect)
        self.good_seq = itertools.count(1)
        self.current = "handshake"
        self.by_seq: dict[int, str] = {}
        # The types of the replies to each id.
        self.answered: defaultdict[int, set[int]] = defaultdict(set)
        self.pongs: list[list[bytes]] = []
        self.good = 0
        self.lost = 0
        self.bad: list[dict[str, str]] = []
        self.errors: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.results: list[str] = []
        self.disconnects: list[str] = []

    def complain(self, why: str) -> None:
        self.bad.append({"item": self.current, "why": why})

    def verify(self, message: dict[str, Any]) -> None:
        """Looks into the answer to a good call."""
        sequence = message["seq"]
        wanted = ("echo", good_key(sequence), {"received": sequence})
        if (message["meth"], message["okey"], json.loads(message["body"])) != wanted:
            self.complain(f"wrong answer to a good call: {message!r}")

    def take(self, frames: list[bytes]) -> None:
        """Books one message."""
        if len(frames) == 3 and frames[0] == b"PONG":
            self.pongs.append(frames)
            return
        try:
            marker, header, body = frames
            message = wire.unpack(header) | wire.unpack(body)
            sequence, msgtype = message["seq"], message["type"]
        except Exception as error:
            self.complain(f"unreadable answer {frames!r}: {error!r}")
            return
        self.answered[sequence].add(msgtype)
        item = self.by_seq.get(sequence, self.current)
        if msgtype in (wire.ERROR, wire.FAILURE):
            book = self.errors if msgtype == wire.ERROR else self.failures
            book[item] = wire.unpack(message["meta"])[0]
        elif msgtype == wire.RESULT and sequence >= JUNK_SEQ:
            self.results.append(item)
        elif msgtype == wire.RESULT:
            self.verify(message)

    def until(self, done: Callable[[], bool]) -> bool:
        """Reads until `done`, for as long as a good call may take."""
        deadline = time.monotonic() + self.timeout
        while not done():
            left = deadline - time.monotonic()
            if left <= 0 or not self.socket.poll(left * 1000):
                return done()
            self.take(self.socket.recv_multipart())
        return True

    def good_call(self) -> None:
        sequence = next(self.good_seq)
        self.socket.send_multipart(wire.function(sequence, sequence, key=good_key(sequence)))
        if not self.until(lambda: bool(self.answered[sequence])):
            self.complain("the good call after it was not answered")
            self.lost += 1
        elif self.answered[sequence] != {wire.RESULT}:
            self.complain(f"the good call after it got types {self.answered[sequence]}")
        else:
            self.good += 1

    def check_answer(self, item: Junk, sequence: int) -> None:
        if item.expect == "pong":
            wanted = [[b"PONG", *message[1:]] for message in item.messages]
            if not self.until(lambda: len(self.pongs) >= len(wanted)) or self.pongs != wanted:
                self.complain(f"expected {wanted!r}, got {self.pongs!r}")
        elif item.expect != "any":
            right = {wire.RESULT} if item.expect == "result" else {wire.FAILURE, wire.ERROR}
            if not self.until(lambda: bool(self.answered[sequence] & right)):
                self.complain(f"expected {item.expect}, got types {self.answered[sequence]}")

    def note_disconnects(self) -> None:
        while self.monitor.poll(0):
            recv_monitor_message(self.monitor)
            self.disconnects.append(self.current)

    def attack(self, item: Junk, sequence: int) -> None:
        self.current = item.name
        self.by_seq[sequence] = item.name
        self.pongs.clear()
        for message in item.messages:
            self.socket.send_multipart(message)
        self.good_call()
        self.check_answer(item, sequence)
        self.note_disconnects()


def duplicates(seq: int) -> Iterator[Junk]:
    call = wire.function(seq, "twice")
    yield Junk("an id twice", [call, call])
    yield Junk("an id ten times", [call] * 10)
    yield Junk("an id twice, other keys", [call, wire.function(seq, "twice", key="k")])
    cancel = wire.reply(wire.CANCEL, seq)
    yield Junk("CANCEL before its call", [cancel, call], "result")
    yield Junk("CANCEL twice after its call", [call, cancel, cancel])
    yield Junk("1,000 CANCELs of nothing", [cancel] * 1000)


def unknown_calls(seq: int) -> Iterator[Junk]:
    for method in ("", "nope", "größe.🚀", "m" * 60_000):
        yield Junk(f"unknown method {method[:8]!r}", [wire.function(seq, 0, method)], "refused")
    # A header over 64 KiB is not read, so nobody knows what to answer to.
    yield Junk("method of 70,000 bytes", [wire.function(seq, 0, "m" * 70_000)])
    header = wire.header_fields(FUNCTION, seq)
    payloads: dict[str, Any] = {
        "not JSON": b"\xff{",
        "half JSON": b'{"sent": ',
        "empty": b"",
        "deep": b"[" * 100_000,
    }
    for name, payload in payloads.items():
        frame = wire.upper(header, wire.body_frame(payload))
        yield Junk(f"payload {name}", [frame], "refused")
    text = wire.upper(header, wire.body_frame('{"sent": "as text"}'))
    yield Junk("payload as text", [text], "result")


def junk(numbers: Iterator[int]) -> Iterator[tuple[Junk, int]]:
    """All of it, each with an id of its own."""
    body = wire.json_body({"sent": 0})
    sources: list[Callable[[int], Iterator[Junk]]] = [
        lambda seq: wire.odd_frames(),
        lambda seq: wire.pings(),
        lambda seq: wire.broken_headers(FUNCTION, seq, body),
        lambda seq: wire.broken_fields(FUNCTION, seq, body),
        lambda seq: wire.broken_bodies(FUNCTION, seq, body, "refused"),
        lambda seq: wire.other_encodings(FUNCTION, seq, body, "result"),
        wire.stray_replies,
        duplicates,
        unknown_calls,
    ]
    for source in sources:
        for index in range(len(list(source(0)))):
            seq = next(numbers)
            yield list(source(seq))[index], seq


def attack(args: argparse.Namespace) -> dict[str, Any]:
    with zmq.Context() as context:
        attacker = Attacker(context, args)
        attacker.good_call()
        sent = 0
        for item, sequence in junk(itertools.count(JUNK_SEQ)):
            attacker.attack(item, sequence)
            sent += 1
            if attacker.lost == LOST_CALLS:
                attacker.complain("gave up: the server no longer answers")
                break
        attacker.socket.disable_monitor()
        attacker.monitor.close(linger=0)
        attacker.socket.close()
    return {
        "sent": sent,
        # Without the call that came first, so that it equals `sent` when all is well.
        "good": attacker.good - 1,
        "bad": attacker.bad,
        "errors": attacker.errors,
        "failures": attacker.failures,
        "results": attacker.results,
        "disconnects": attacker.disconnects,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connect", required=True, metavar="ENDPOINT")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for a good call")
    add_curve_arguments(parser, "--server-key", repeated=False)
    args = parser.parse_args()
    report = attack(args)
    print(json.dumps(report))
    return 1 if report["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
