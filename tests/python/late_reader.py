"""A plain ZeroMQ socket that speaks dialect 1, makes a call, and reads nothing that follows until it is told to.

    late_reader.py --connect ENDPOINT     a DEALER
    late_reader.py --bind ENDPOINT        a ROUTER; prints `listening on ENDPOINT`

Prints `called` once the call has been sent. Told so by a line on standard input, it reads, and prints the marker of each
message and, for an UPPER, the type: `PING`, `UPPER 2`. Ends with exit code 0 after a RESULT, with 1 if none comes in a minute.
"""

from __future__ import annotations

import argparse
import sys

import zmq

import wire

PATIENCE = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--connect", metavar="ENDPOINT")
    ends.add_argument("--bind", metavar="ENDPOINT")
    args = parser.parse_args()
    with zmq.Context() as context, context.socket(zmq.ROUTER if args.bind else zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = PATIENCE
        if args.bind:
            socket.bind(args.bind)
            print(f"listening on {socket.getsockopt_string(zmq.LAST_ENDPOINT)}", flush=True)
            # Nothing but an echo is expected of a binder of dialect 1.
            peer, _, header, body = socket.recv_multipart()
            to = [peer]
            socket.send_multipart([*to, b"PONG", header, body])
        else:
            socket.connect(args.connect)
            to = []
            socket.send_multipart([b"PING", b"", b""])
            assert socket.recv_multipart() == [b"PONG", b"", b""]
        socket.send_multipart([*to, *wire.function(0, "x", "late")])
        print("called", flush=True)
        sys.stdin.readline()
        while True:
            marker, header, _ = socket.recv_multipart()[len(to) :]
            kind = wire.unpack(header)["type"] if marker == b"UPPER" else ""
            print(marker.decode(), kind, flush=True)
            if kind == wire.RESULT:
                return


if __name__ == "__main__":
    main()
