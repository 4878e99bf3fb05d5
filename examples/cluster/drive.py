"""Drives the agents of the example through Python Callosum.

    python drive.py MANAGER PUBLIC_KEY SECRET_KEY MANAGER_PUBLIC_KEY NODE SERVICE

The keys are names of files with one line of Z85, as `callosum keygen` writes them. Python speaks dialect 1, which has no streams: it does
all that the tour in Rust does but upload an image and read logs, and starts an image that is there.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from callosum.auth import AbstractClientAuthenticator, Identity
from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.rpc import Peer, RPCUserError


class Operator(AbstractClientAuthenticator):
    """CURVE: a key pair of its own, and the manager's public key."""

    def __init__(self, public_key: str, secret_key: str, manager_key: str) -> None:
        self.public_key, self.secret_key, self.manager_key = (
            Path(key).read_text().strip().encode() for key in (public_key, secret_key, manager_key)
        )

    async def server_public_key(self) -> bytes:
        return self.manager_key

    async def client_identity(self) -> Identity:
        return Identity("cluster", self.secret_key)

    async def client_public_key(self) -> bytes:
        return self.public_key


async def main(manager: str, public_key: str, secret_key: str, manager_key: str, node: str, service: str) -> None:
    peer = Peer(
        connect=ZeroMQAddress(manager),
        transport=ZeroMQRPCTransport,
        authenticator=Operator(public_key, secret_key, manager_key),
        serializer=lambda value: json.dumps(value).encode(),
        deserializer=json.loads,
    )
    container = f"{node}/from-python"

    async def call(method: str, key: str | None = None, **arguments: Any) -> Any:
        return await peer.invoke(method, arguments, order_key=key, invoke_timeout=20.0)

    async with peer:
        print("nodes:", *await call("Fleet.nodes"))
        await call("Containers.start", container, container=container, image="hello")
        print("started", container)
        try:
            await call("Containers.start", container, container=container, image="hello")
        except RPCUserError as error:
            print(f"{error.name}: {error.repr}")
        # Both at once: they have the same key, so that the agent has stopped it before it deletes it.
        await asyncio.gather(
            call("Containers.stop", container, container=container),
            call("Containers.delete", container, container=container),
        )
        print("stopped and deleted", container)
        address = await call("Fleet.forward", node, node=node, target=service)
        reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        print("the service says", (await reader.read()).decode())
        writer.close()


asyncio.run(main(*sys.argv[1:]))
