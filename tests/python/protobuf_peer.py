"""A Python Callosum peer that speaks Protocol Buffers, driven over standard input: a server and a client in one process.

Prints `listening on ENDPOINT` once it serves and is connected, then reads one JSON command a line, and prints one JSON
answer a line:

    {"method": "package.Service/Method", "request": the message as JSON}
        -> {"ok": the result as JSON}
        -> {"error": {"code", "message", "details": [JSON with "@type"]}}

It ends when standard input does. What types there are, the file of descriptors says that it is given: a FileDescriptorSet.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import zmq
from callosum.lower.zeromq import ZeroMQAddress, ZeroMQRPCTransport
from callosum.ordering import ExitOrderedAsyncScheduler
from callosum.rpc import Peer, RPCMessage, RPCUserError

from common import codec, stdin_lines

try:
    from google.protobuf import descriptor_pb2, json_format
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError, Message
    from google.protobuf.message_factory import GetMessageClass
except ImportError:
    sys.exit("the package protobuf is missing: pip install -r tests/python/requirements.txt")

MARKER = "callosum-data base64 "
# The names of gRPC's codes, by number.
CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
).split()


class StatusError(Exception):
    """A failure with a status. Its class has the name of the code, its representation is the message, and its text, with
    which a traceback ends, the whole status."""

    def __init__(self, status: Message) -> None:
        self.status = status

    def __repr__(self) -> str:
        return self.status.message

    def __str__(self) -> str:
        return MARKER + base64.b64encode(self.status.SerializeToString()).decode()


class Types:
    """Messages by their names."""

    def __init__(self, descriptors: Path) -> None:
        self.pool = DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file:
            self.pool.Add(file)

    def message(self, name: str, /, **fields: Any) -> Message:
        return GetMessageClass(self.pool.FindMessageTypeByName(name))(**fields)

    def parse(self, name: str, data: bytes) -> Message:
        message = self.message(name)
        message.ParseFromString(data)
        return message

    def to_json(self, message: Message) -> Any:
        return json_format.MessageToDict(
            message, preserving_proto_field_name=True, descriptor_pool=self.pool
        )

    def pack(self, message: Message) -> Message:
        packed = self.message("google.protobuf.Any")
        packed.Pack(message)
        return packed

    def raise_status(self, code: str, text: str, *details: Message) -> None:
        status = self.message("google.rpc.Status", code=CODES.index(code), message=text)
        status.details.extend(self.pack(detail) for detail in details)
        raise type(code, (StatusError,), {})(status)

    def status_of(self, error: RPCUserError) -> Json:
        """A failure as a status, details and all."""
        code = CODES.index(error.name) if error.name in CODES else CODES.index("UNKNOWN")
        status = self.message("google.rpc.Status", code=code, message=error.repr)
        if error.traceback.startswith(MARKER):
            status.ParseFromString(base64.b64decode(error.traceback[len(MARKER) :]))
        details = self.to_json(status).get("details", [])
        return {"code": CODES[status.code], "message": status.message, "details": details}


Json = dict[str, Any]
PACKAGE = "tests.agent.v1."


class Agent:
    """What the agent of the tests does, but for streams, which Python Callosum has not."""

    def __init__(self, types: Types) -> None:
        self.types = types

    def read(self, name: str, request: RPCMessage) -> Message:
        try:
            return self.types.parse(PACKAGE + name, bytes(request.body))
        except DecodeError as error:
            self.types.raise_status("INVALID_ARGUMENT", str(error))

    async def start(self, request: RPCMessage) -> bytes:
        argument = self.read("StartRequest", request)
        if argument.image != "nginx":
            missing = self.types.message(
                PACKAGE + "NoSuchImage", image=argument.image, similar=["nginx", "größe"]
            )
            wait = self.types.message("google.protobuf.Duration", seconds=5, nanos=7)
            self.types.raise_status("NOT_FOUND", f"there is no image {argument.image}", missing, wait)
        key = request.order_key if isinstance(request.order_key, str) else ""
        container = self.types.message(
            PACKAGE + "Container", name=argument.container, image=argument.image, key=key
        )
        return container.SerializeToString()

    async def pack(self, request: RPCMessage) -> bytes:
        return self.types.pack(self.read("Everything", request)).SerializeToString()

    async def fail(self, request: RPCMessage) -> bytes:
        return str(1 / self.read("Failure", request).code).encode()

    def register(self, peer: Peer) -> None:
        for name, handler in (("Start", self.start), ("Pack", self.pack), ("Fail", self.fail)):
            peer.handle_function(f"{PACKAGE}Agent/{name}", handler)


async def call(types: Types, peer: Peer, command: Json) -> Json:
    service, _, name = command["method"].partition("/")
    method = types.pool.FindServiceByName(service).FindMethodByName(name)
    request = types.message(method.input_type.full_name)
    json_format.ParseDict(command["request"], request, descriptor_pool=types.pool)
    body = request.SerializeToString()
    try:
        result = await peer.invoke(command["method"], body, order_key=command.get("key"), invoke_timeout=30)
    except RPCUserError as error:
        return {"error": types.status_of(error)}
    return {"ok": types.to_json(types.parse(method.output_type.full_name, result))}


async def run(args: argparse.Namespace) -> None:
    types = Types(args.descriptors)
    serializer, deserializer = codec("raw")
    options: Json = {"transport": ZeroMQRPCTransport, "serializer": serializer, "deserializer": deserializer}
    server = Peer(bind=ZeroMQAddress("tcp://127.0.0.1:*"), scheduler=ExitOrderedAsyncScheduler(), **options)
    Agent(types).register(server)
    client = Peer(connect=ZeroMQAddress(args.connect), **options)
    async with server, client:
        endpoint = server._transport._sock.getsockopt_string(zmq.LAST_ENDPOINT)
        print(f"listening on {endpoint}", flush=True)
        lines = stdin_lines()
        while (line := await lines.get()) is not None:
            print(json.dumps(await call(types, client, json.loads(line))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connect", required=True, metavar="ENDPOINT")
    parser.add_argument("--descriptors", required=True, type=Path, metavar="FILE")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
