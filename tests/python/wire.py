"""Dialect 1 by hand, and what is wrong with it, for the tests that speak plain ZeroMQ.

Nothing here comes from Python Callosum: broken messages are what its encoder can't produce.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

FUNCTION, RESULT, FAILURE, ERROR, CANCEL, CANCELLED = 1, 2, 3, 4, 5, 6
NO_KEY = b""

EMPTY_META = b"\x90"
# One value of each MessagePack type.
SAMPLES: dict[str, Any] = {
    "nil": None,
    "bool": True,
    "int": 7,
    "negative": -1,
    "float": 1.5,
    "str": "text",
    "bin": b"bytes",
    "array": [1, 2],
    "map": {"a": 1},
    "ext": msgpack.ExtType(5, b"ext"),
}
# Which of them are right in a header field, so not among the wrong ones.
RIGHT = {"type": {"int"}, "meth": {"str"}, "okey": {"str", "bin"}, "seq": {"int"}, "zip": {"bool"}}

DEPTH_BOMB = b"\x91" * 10_000 + b"\xc0"
MAP_BOMB = b"\x81\xa1a" * 10_000 + b"\xc0"
HUGE = {
    "array32": b"\xdd\xff\xff\xff\xff",
    "map32": b"\xdf\xff\xff\xff\xff",
    "bin32": b"\xc6\xff\xff\xff\xff",
    "str32": b"\xdb\xff\xff\xff\xff",
    "ext32": b"\xc9\xff\xff\xff\xff\x01",
}
# Snappy's raw format starts with the decompressed size as a varint: here 4 GiB - 1, then one literal.
SNAPPY_4_GIB = b"\xff\xff\xff\xff\x0f\x00a"


@dataclass(frozen=True)
class Junk:
    """Messages to be sent one after the other, each a list of frames.

    `expect` says what must be answered to the id `seq`: "result", "refused" (a FAILURE or an ERROR), "pong"
    (the same frames after PONG) or "any" (also nothing).
    """

    name: str
    messages: list[list[bytes]]
    expect: str = "any"


def pack(value: Any) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False)


def header_fields(msgtype: int, seq: int, method: str = "echo", key: Any = NO_KEY) -> dict[str, Any]:
    return {"type": msgtype, "meth": method, "okey": key, "seq": seq, "zip": False}


def body_frame(payload: Any, meta: Any = b"") -> bytes:
    return pack({"meta": meta, "body": payload})


def json_body(value: Any, meta: Any = b"") -> bytes:
    return body_frame(json.dumps(value).encode(), meta)


def upper(header: bytes | dict[str, Any], body: bytes) -> list[bytes]:
    return [b"UPPER", header if isinstance(header, bytes) else pack(header), body]


def function(seq: int, sent: Any, method: str = "echo", key: Any = NO_KEY) -> list[bytes]:
    return upper(header_fields(FUNCTION, seq, method, key), json_body({"sent": sent}))


def reply(msgtype: int, seq: int, method: str = "echo", key: Any = NO_KEY) -> list[bytes]:
    """A reply or a CANCEL, well formed."""
    fields = header_fields(msgtype, seq, method, key)
    if msgtype == RESULT:
        return upper(fields, json_body({"received": "junk"}, EMPTY_META))
    if msgtype in (FAILURE, ERROR):
        return upper(fields, body_frame(None, pack(["Name", "Name()", "Traceback …"])))
    return upper(fields, body_frame(None, EMPTY_META))


def odd_frames() -> Iterator[Junk]:
    """Not three frames, or markers that nobody knows."""
    for count in (1, 2, 4, 9):
        yield Junk(f"{count} empty frames", [[b""] * count])
        yield Junk(f"{count} frames", [[b"UPPER"] + [b"x"] * (count - 1)])
    yield Junk("3 empty frames", [[b"", b"", b""]])
    yield Junk("UPPER, 2 empty frames", [[b"UPPER", b"", b""]])
    good_header, good_body = pack(header_fields(FUNCTION, 1)), json_body({"sent": 0})
    for marker in (b"upper", b"UPPE", b"UPPERR", b"QUIT", b"\x00", b"\xff" * 5, b"U" * 300):
        yield Junk(f"marker {marker[:8]!r}", [[marker, good_header, good_body]])


def pings() -> Iterator[Junk]:
    """The header 0xc1… is never valid MessagePack, so no hello of a later dialect."""
    junk = {"empty": b"", "junk": b"\xc1junk", "1 KiB": b"\xc1" * 1024, "text": b"\xa3abc"}
    for header_name, header in junk.items():
        for body_name, body in junk.items():
            name = f"PING {header_name} header, {body_name} body"
            yield Junk(name, [[b"PING", header, body]], "pong")
    yield Junk("PONG nobody asked for", [[b"PONG", b"", b""], [b"PONG", b"\xc1", b"junk"]])


def broken_headers(msgtype: int, seq: int, body: bytes) -> Iterator[Junk]:
    good = pack(header_fields(msgtype, seq))
    for length in range(len(good)):
        yield Junk(f"header cut at {length}", [upper(good[:length], body)])
    raws = {"0xc1": b"\xc1", "text": b"hello", "random": bytes(range(128, 250)), "trailing": good + b"\xc1"}
    raws |= {"depth bomb": DEPTH_BOMB, "map bomb": MAP_BOMB} | HUGE
    for name, raw in raws.items():
        yield Junk(f"header {name}", [upper(raw, body)])
    for name, sample in SAMPLES.items():
        yield Junk(f"header is {name}", [upper(pack(sample), body)])
    yield Junk("header with int keys", [upper(pack({1: 1, 2: 2}), body)])
    for name, bomb in ({"depth bomb": DEPTH_BOMB, "map bomb": MAP_BOMB} | HUGE).items():
        extra = b"\x86" + good[1:] + pack("x") + bomb
        yield Junk(f"header with extra {name}", [upper(extra, body)])


def broken_fields(msgtype: int, seq: int, body: bytes) -> Iterator[Junk]:
    good = header_fields(msgtype, seq)
    for field in good:
        for name, sample in SAMPLES.items():
            if name not in RIGHT[field]:
                yield Junk(f"{field} is {name}", [upper(good | {field: sample}, body)])
        without = {key: value for key, value in good.items() if key != field}
        yield Junk(f"no {field}", [upper(without, body)])
        twice = b"\x86" + pack(good)[1:] + pack(field) + pack(good[field])
        yield Junk(f"{field} twice", [upper(twice, body)])
    for number in (0, 7, 255, 2**32, 2**64 - 1):
        yield Junk(f"type {number}", [upper(good | {"type": number}, body)])
    for number in (2**32, 2**53, 2**64 - 1, -(2**63)):
        yield Junk(f"seq {number}", [upper(good | {"seq": number}, body)])
    before, after = pack(good).split(b"\xa4echo", 1)
    yield Junk("method not UTF-8", [upper(before + b"\xa4\xff\xfe\xc0\x80" + after, body)])
    no_key = pack("okey") + b"\xc4\x00"
    before, after = pack(good).split(no_key, 1)
    yield Junk("text key not UTF-8", [upper(before + pack("okey") + b"\xa2\xff\xfe" + after, body)])


def broken_bodies(msgtype: int, seq: int, good: bytes, refused: str) -> Iterator[Junk]:
    """Bodies that can't be read, under a good header: `refused` is what to expect of them."""
    header = header_fields(msgtype, seq)
    zipped = header | {"zip": True}
    for length in range(len(good)):
        yield Junk(f"body cut at {length}", [upper(header, good[:length])], refused)
    raws = {"0xc1": b"\xc1", "text": b"hello", "depth bomb": DEPTH_BOMB, "map bomb": MAP_BOMB} | HUGE
    for name, raw in raws.items():
        yield Junk(f"body {name}", [upper(header, raw)], refused)
    for name in ("depth bomb", "map bomb", *HUGE):
        yield Junk(f"body's meta {name}", [upper(header, b"\x82\xa4meta" + raws[name])], refused)
        yield Junk(
            f"body's body {name}", [upper(header, b"\x82\xa4meta\xc4\x00\xa4body" + raws[name])], refused
        )
    for name, sample in SAMPLES.items():
        if name != "map":
            yield Junk(f"body is {name}", [upper(header, pack(sample))], refused)
        if name not in ("nil", "str", "bin"):
            yield Junk(f"body's body is {name}", [upper(header, body_frame(sample))], refused)
        if name != "bin":
            yield Junk(f"body's meta is {name}", [upper(header, json_body({"sent": 0}, sample))])
    yield Junk("body without body", [upper(header, pack({"meta": b""}))], refused)
    yield Junk("body without meta", [upper(header, pack({"body": b"{}"}))])
    yield Junk("body of meta junk", [upper(header, json_body({"sent": 0}, b"\xc1junk"))])
    zips = {"garbage": b"\xff\xfe\xfd garbage", "4 GiB": SNAPPY_4_GIB, "empty": b"", "plain": good}
    # 1,000 bytes declared, three there; a copy from before the start; a size that does not end.
    zips |= {"short": b"\xe8\x07\x08abc", "bad copy": b"\x05\x00a\x01\x7f", "endless size": b"\xff" * 12}
    zips["framing format"] = b"\xff\x06\x00\x00sNaPpY\x01\x05\x00\x00\x00\x00\x00\x00a"
    for name, raw in zips.items():
        yield Junk(f"zip {name}", [upper(zipped, raw)], refused)


def other_encodings(msgtype: int, seq: int, body: bytes, expect: str) -> Iterator[Junk]:
    """Unusual, but right: to be understood."""
    good = header_fields(msgtype, seq)
    reordered = dict(reversed(good.items()))
    extra = {"first": None} | good | {"x": {"deep": [1, {"a": b""}]}, "y": msgpack.ExtType(1, b"e")}
    headers = {"reordered": pack(reordered), "extra fields": pack(extra)}
    map16, map32 = b"\xde\x00\x05", b"\xdf\x00\x00\x00\x05"
    headers |= {"map16": map16 + pack(good)[1:], "map32": map32 + pack(good)[1:]}
    wide = b"".join(b"\xd9" + bytes([len(key)]) + key.encode() + pack(value) for key, value in good.items())
    headers["str8 keys"] = b"\x85" + wide
    before, after = pack(good).split(pack("seq") + pack(seq), 1)
    for name, code, size in (("uint32", 0xCE, 4), ("uint64", 0xCF, 8), ("int64", 0xD3, 8)):
        number = bytes([code]) + seq.to_bytes(size, "big")
        headers[f"seq as {name}"] = before + pack("seq") + number + after
    for name, header in headers.items():
        yield Junk(f"header {name}", [upper(header, body)], expect)


def stray_replies(seq: int) -> Iterator[Junk]:
    """Replies and cancels to ids that never were."""
    names = {RESULT: "RESULT", FAILURE: "FAILURE", ERROR: "ERROR", CANCEL: "CANCEL", CANCELLED: "CANCELLED"}
    for msgtype, name in names.items():
        for key in (NO_KEY, "", "k", b"k"):
            yield Junk(f"{name} to an unknown id, key {key!r}", [reply(msgtype, seq, "echo", key)])
        yield Junk(f"{name} to an unknown method", [reply(msgtype, seq, "größe")])
    for name, meta in (("of two", ["a", "b"]), ("of ints", [1, 2, 3]), ("of a map", {"a": 1})):
        for msgtype in (FAILURE, ERROR):
            frames = upper(header_fields(msgtype, seq), body_frame(None, pack(meta)))
            yield Junk(f"{names[msgtype]} with metadata {name}", [frames])
