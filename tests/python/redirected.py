"""Runs a program of upstream's, unmodified, with other addresses than those that it names.

    redirected.py PROGRAM ENDPOINT [CURVE arguments]

Every address becomes ENDPOINT, and every peer is given an authenticator if there are CURVE arguments, as `client.py` and
`server.py` have them. A peer that binds prints `listening on ENDPOINT` once it does, with the port that the system has chosen.
"""

from __future__ import annotations

import argparse
import asyncio
import runpy
import sys
from typing import Any

import zmq
from callosum import rpc
from callosum.lower import zeromq

from common import ClientAuthenticator, ServerAuthenticator, server_authenticator


def authenticator(args: argparse.Namespace, binds: bool) -> ServerAuthenticator | ClientAuthenticator | None:
    if args.curve_public is None:
        return None
    if binds:
        return server_authenticator(args)
    return ClientAuthenticator(args.curve_public.encode(), args.curve_secret.encode(), args.server_key.encode())


class Redirected(rpc.Peer):
    arguments: argparse.Namespace

    def __init__(self, **settings: Any) -> None:
        self.binds = "bind" in settings
        settings["bind" if self.binds else "connect"] = zeromq.ZeroMQAddress(self.arguments.endpoint)
        super().__init__(**settings, authenticator=authenticator(self.arguments, self.binds))

    async def __aenter__(self) -> Any:
        entered = await super().__aenter__()
        if self.binds:
            # Callosum's ZAP server is a task that begins only now; libzmq admits everyone as long as there is none.
            await asyncio.sleep(0)
            endpoint = self._transport._sock.getsockopt_string(zmq.LAST_ENDPOINT)  # type: ignore[attr-defined]
            print(f"listening on {endpoint}", flush=True)
        return entered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("endpoint")
    parser.add_argument("--curve-public", metavar="KEY")
    parser.add_argument("--curve-secret", metavar="KEY")
    parser.add_argument("--allow", metavar="KEY", action="append", default=[])
    parser.add_argument("--server-key", metavar="KEY")
    Redirected.arguments = parser.parse_args()
    rpc.Peer = Redirected  # type: ignore[misc]
    sys.argv = [Redirected.arguments.program]
    runpy.run_path(Redirected.arguments.program, run_name="__main__")


if __name__ == "__main__":
    main()
