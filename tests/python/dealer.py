"""Plain ZeroMQ DEALERs under CURVE or without, against a Callosum server that has `whoami`.

With `--twin-public` and `--twin-secret`, two sockets of the same routing id and different keys call in turn; the report on
standard output is what each was told: [[first's answers], [second's answers]]. Without them a single socket calls, and
the report says what became of it: {"answered": bool, "closed": bool}.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import Any

import wire
import zmq
from common import add_curve_arguments
from zmq.utils.monitor import recv_monitor_message

ROUNDS = 20
FAILURES = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


def dealer(context: zmq.Context[Any], server_key: str | None, public: str | None, secret: str | None) -> Any:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.routing_id = b"the same"
    if public is not None and secret is not None and server_key is not None:
        socket.curve_publickey = public.encode()
        socket.curve_secretkey = secret.encode()
        socket.curve_serverkey = server_key.encode()
    return socket


def answer(socket: Any, timeout: float, sequence: int) -> str:
    if not socket.poll(timeout * 1000):
        raise TimeoutError(f"no answer to {sequence}")
    _, header, body = socket.recv_multipart()
    message = wire.unpack(header) | wire.unpack(body)
    assert message["seq"] == sequence, message
    return json.loads(message["body"])


def twins(sockets: list[Any], timeout: float) -> list[list[str]]:
    told: list[list[str]] = [[], []]
    for sequence in range(1, ROUNDS + 1):
        # Both are under way at once, with the same name.
        for socket in sockets:
            socket.send_multipart(wire.function(sequence, sequence, method="whoami"))
        for socket, answers in zip(sockets, told):
            answers.append(answer(socket, timeout, sequence))
    return told


def stranger(socket: Any, endpoint: str, timeout: float) -> dict[str, bool]:
    monitor = socket.get_monitor_socket(FAILURES)
    socket.connect(endpoint)
    # libzmq gives up a connection whose mechanisms don't match, and a DEALER without any has nowhere to put a message. It is
    # refused before it is sent or after, whichever comes first.
    with suppress(zmq.Again):
        socket.send_multipart(wire.function(1, 1, method="whoami"), flags=zmq.NOBLOCK)
    closed = bool(monitor.poll(timeout * 1000)) and bool(recv_monitor_message(monitor))
    return {"answered": bool(socket.poll(0)), "closed": closed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--connect", required=True)
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("--twin-public")
    parser.add_argument("--twin-secret")
    add_curve_arguments(parser, "--server-key", repeated=False)
    args = parser.parse_args()
    with zmq.Context() as context:
        first = dealer(context, args.server_key, args.curve_public, args.curve_secret)
        if args.twin_public is None:
            with first:
                print(json.dumps(stranger(first, args.connect, args.timeout)), flush=True)
                first.disable_monitor()
            return
        with first, dealer(context, args.server_key, args.twin_public, args.twin_secret) as second:
            for socket in (first, second):
                socket.connect(args.connect)
            print(json.dumps(twins([first, second], args.timeout)), flush=True)


if __name__ == "__main__":
    main()
