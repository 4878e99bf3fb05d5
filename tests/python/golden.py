"""Golden vectors of dialect 1, made by Python Callosum itself.

    golden.py            writes proto/tests/golden/dialect1.json
    golden.py --check    fails unless the committed file is what the package produces

The file is a JSON array of vectors:

    name      unique
    type      1 FUNCTION … 6 CANCELLED
    method    text
    key       {"bin": hex} or {"str": text}; a call without a key has {"bin": ""}
    seq, zip  as in the header
    meta      bytes: the content of the body map's `meta`
    error     only for FAILURE and ERROR: {"name", "repr", "traceback"}, what `meta` says
    payload   the body map's `body`: {"bin": bytes}, {"str": bytes of the UTF-8} or null
    header    bytes: the second frame
    body      bytes: the third frame
    decode_only   true where `body` is compressed: other compressors may produce other bytes

"bytes" is an array of parts to be joined: hex text, or {"repeat": hex, "count": n}. The traceback of an error
is an array too, of text or {"repeat": text, "count": n}.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import snappy
from callosum.rpc.message import (
    ErrorMetadata,
    Metadata,
    NullMetadata,
    ResultMetadata,
    RPCMessage,
    RPCMessageTypes,
)
from callosum.serialize import mpackb

FILE = Path(__file__).parents[2] / "proto" / "tests" / "golden" / "dialect1.json"

Json = dict[str, Any]
Types = RPCMessageTypes
NO_KEY = b""
# A repeated unit, to be written as a rule: (unit, count).
Rule = tuple[bytes, int]


def parts(data: bytes, rule: Rule | None) -> list[Any]:
    """`data` as parts, with the run that `rule` speaks of in short."""
    if rule is None:
        return [data.hex()]
    unit, count = rule
    before, run, after = data.partition(unit * count)
    if not run:
        return [data.hex()]
    return [before.hex(), {"repeat": unit.hex(), "count": count}, after.hex()]


def key_field(key: str | bytes) -> Json:
    return {"str": key} if isinstance(key, str) else {"bin": key.hex()}


def payload_field(payload: str | bytes | None, rule: Rule | None) -> Json | None:
    if payload is None:
        return None
    if isinstance(payload, str):
        return {"str": parts(payload.encode(), rule)}
    return {"bin": parts(payload, rule)}


def error_field(error: ErrorMetadata, rule: Rule | None) -> Json:
    trace: list[Any] = [error.traceback]
    if rule is not None:
        unit, count = rule[0].decode(), rule[1]
        before, _, after = error.traceback.partition(unit * count)
        trace = [before, {"repeat": unit, "count": count}, after]
    return {"name": error.name, "repr": error.repr, "traceback": trace}


def vector(
    name: str,
    msgtype: RPCMessageTypes,
    *,
    method: str = "echo",
    key: str | bytes = NO_KEY,
    seq: int = 0,
    metadata: Metadata | None = None,
    payload: str | bytes | None = None,
    compress: bool = False,
    rule: Rule | None = None,
) -> Json:
    message = RPCMessage(None, msgtype, method, key, seq, metadata, payload)  # type: ignore[arg-type]
    frames = message.encode(lambda body: body, compress)
    meta = b"" if metadata is None else metadata.encode()
    fields: Json = {
        "name": f"{name}_zip" if compress else name,
        "type": int(msgtype),
        "method": method,
        "key": key_field(key),
        "seq": seq,
        "zip": compress,
        "meta": parts(meta, rule),
    }
    if isinstance(metadata, ErrorMetadata):
        fields["error"] = error_field(metadata, rule)
    return fields | {
        "payload": payload_field(payload, rule),
        "header": parts(frames.header, None),
        "body": parts(frames.body, None if compress else rule),
        "decode_only": compress,
    }


def both(name: str, msgtype: RPCMessageTypes, **fields: Any) -> Iterator[Json]:
    """The vector, plain and compressed."""
    yield vector(name, msgtype, **fields)
    yield vector(name, msgtype, compress=True, **fields)


def type_vectors() -> Iterator[Json]:
    error = ErrorMetadata("ZeroDivisionError", "ZeroDivisionError('division by zero')", "Traceback …\n")
    simple: list[tuple[RPCMessageTypes, Metadata | None, bytes | None]] = [
        (Types.FUNCTION, None, b'{"a": 1}'),
        (Types.RESULT, ResultMetadata(), b'{"x": 1}'),
        (Types.FAILURE, error, None),
        (Types.ERROR, error, None),
        (Types.CANCEL, NullMetadata(), None),
        (Types.CANCELLED, NullMetadata(), None),
    ]
    keys: dict[str, str | bytes] = {
        "no_key": NO_KEY,
        "text_key": "k",
        "empty_text_key": "",
        "bytes_key": b"\x00\xffk",
        "unicode_key": "Schlüssel-鍵-🔑",
    }
    for msgtype, metadata, payload in simple:
        for label, key in keys.items():
            name = f"{msgtype.name.lower()}_{label}"
            yield from both(name, msgtype, key=key, metadata=metadata, payload=payload)


def header_vectors() -> Iterator[Json]:
    payload = b"{}"
    for seq in (1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1):
        yield vector(f"seq_{seq}", Types.FUNCTION, seq=seq, payload=payload)
        yield vector(f"cancel_seq_{seq}", Types.CANCEL, seq=seq, metadata=NullMetadata())
    methods = {"empty": "", "unicode": "größe.測定.🚀", "nul": "a\0b", "newline": "a\nb"}
    methods |= {f"{length}_bytes": "m" * length for length in (31, 32, 255, 256, 1024)}
    for label, method in methods.items():
        yield vector(f"method_{label}", Types.FUNCTION, method=method, payload=payload)
    for length in (31, 32, 255, 256):
        yield vector(f"text_key_{length}_bytes", Types.FUNCTION, key="k" * length, payload=payload)
        yield vector(f"bytes_key_{length}_bytes", Types.FUNCTION, key=b"k" * length, payload=payload)


def payload_vectors() -> Iterator[Json]:
    small: dict[str, str | bytes | None] = {
        "empty": b"",
        "empty_str": "",
        "nil": None,
        "json": json.dumps({"sent": "héllo", "n": [1, 2.5, None, True]}).encode(),
        "json_utf8": json.dumps({"sent": "größe 測定 🚀"}, ensure_ascii=False).encode(),
        "msgpack": mpackb({"sent": b"\x00\xff", "n": [1, -1, 2.5, None, True, 2**63]}),
        "str": '{"sent": "as text: größe"}',
        "every_byte": bytes(range(256)),
    }
    for msgtype, metadata in ((Types.FUNCTION, None), (Types.RESULT, ResultMetadata())):
        prefix = f"{msgtype.name.lower()}_body"
        for label, payload in small.items():
            yield from both(f"{prefix}_{label}", msgtype, metadata=metadata, payload=payload)
        for length in (255, 256, 65535, 65536):
            fields: Json = {"metadata": metadata, "rule": (b"a", length)}
            yield from both(f"{prefix}_{length}_bytes", msgtype, payload=b"a" * length, **fields)
            yield from both(f"{prefix}_{length}_str", msgtype, payload="a" * length, **fields)


def error_vectors() -> Iterator[Json]:
    line = '  File "agent.py", line 1, in größe\n'
    start, end = "Traceback (most recent call last):\n", "ValueError: ¡no! 不可\n"
    for msgtype in (Types.FAILURE, Types.ERROR):
        prefix = msgtype.name.lower()
        empty = ErrorMetadata("", "", "")
        unicode = ErrorMetadata("ÜnicodeFehler", "ÜnicodeFehler('¡no! 不可 🚫')", start + end)
        yield from both(f"{prefix}_empty", msgtype, metadata=empty)
        yield from both(f"{prefix}_unicode", msgtype, metadata=unicode)
        # So long that text and bytes need lengths of 8, 16 and 32 bits.
        for count in (5, 100, 2000):
            error = ErrorMetadata("ValueError", "ValueError('¡no!')", start + line * count + end)
            rule = (line.encode(), count)
            yield from both(f"{prefix}_{count}_lines", msgtype, metadata=error, rule=rule)


def vectors() -> list[Json]:
    made = [*type_vectors(), *header_vectors(), *payload_vectors(), *error_vectors()]
    assert len({one["name"] for one in made}) == len(made), "names must be unique"
    return made


def render(made: list[Json]) -> str:
    return "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in made) + "\n]\n"


def comparable(one: Json) -> Json:
    """The vector with a compressed body decompressed: how it was compressed does not matter."""
    if not one["decode_only"]:
        return one
    (compressed,) = one["body"]
    return one | {"body": [snappy.decompress(bytes.fromhex(compressed)).hex()]}


def check(made: list[Json]) -> int:
    committed = json.loads(FILE.read_text(encoding="utf-8"))
    names = [one["name"] for one in made]
    if [one["name"] for one in committed] != names:
        print(f"{FILE}: other vectors than this script makes", file=sys.stderr)
        return 1
    pairs = zip(committed, made, strict=True)
    wrong = [new["name"] for old, new in pairs if comparable(old) != comparable(new)]
    for name in wrong:
        print(f"{FILE}: {name} is not what the package produces", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes or checks the golden vectors of dialect 1.")
    parser.add_argument("--check", action="store_true", help="compare with the committed file")
    args = parser.parse_args()
    made = vectors()
    if args.check:
        return check(made)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render(made), encoding="utf-8")
    print(f"{len(made)} vectors, {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
