"""Makes the first files of the corpus: ``python -m tests.fuzz.seeds``. Right bytes, for wrong ones to begin from."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import time
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

import msgpack
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ringcast.discovery.agreement_messages import Accept, Apply, Ballot, Charter, Hello, Meet, Promised, Renew, Vote
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.codec import Codec as MembershipCodec
from ringcast.discovery.handoff import Drained
from ringcast.discovery.member import Member, View
from ringcast.discovery.messages import (
    Ack,
    Envelope,
    Exchange,
    Gossip,
    Message,
    Ping,
    PingRequest,
    Refused,
)
from ringcast.discovery.preamble import preamble
from ringcast.discovery.seal import Seal
from ringcast.runtime import wire
from ringcast.runtime.codec import MEMBERS
from ringcast.runtime.extensions import Code
from ringcast.security.credential import issue
from ringcast.security.secret import Secret, new_key
from tests.fuzz.targets import CLUSTER, codec_of
from tests.fuzz.wires import defined

CORPUS = Path(__file__).parent / "corpus"
_msgpack: Any = msgpack  # it has no types
pack = _msgpack.packb


def values() -> dict[str, bytes]:
    """Return packed values of every kind."""
    codec = codec_of(MEMBERS)
    kinds: dict[str, Any] = {
        "plain": [None, True, -5, 1 << 40, 1.5, "text", b"bytes", {"a": [1, {2: 3}]}],
        "sets": [(1, (2,)), {1, "a"}, frozenset({b"x"})],
        "numbers": [1 << 100, 1 + 2j, decimal.Decimal("1.50"), range(3), slice(1, None)],
        "times": [
            datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            datetime.date(2026, 1, 1),
            datetime.time(1),
            datetime.timedelta(1),
        ],
        "names": [uuid.UUID(int=5), PurePosixPath("/a/b"), "\ud800"],
        "memory": [bytearray(b"abc"), memoryview(b"abcd"), np.arange(4).reshape(2, 2), np.float64(1)],
        "errors": [KeyError("k"), OSError(2, "no")],
    }
    found = {name: codec.pack(value) for name, value in kinds.items()}
    found["ref"] = pack(_msgpack.ExtType(Code.REF, pack(["m:C", "k", None])))
    found["record"] = pack(_msgpack.ExtType(Code.DATACLASS, pack(["tests.fuzz.seeds:Point", {"x": 1, "y": 2}])))
    found["pickle"] = pack(_msgpack.ExtType(Code.PICKLE, pack(b"I1\n.")))
    return found


@dataclasses.dataclass
class Point:
    """A record."""

    x: int
    y: int


def batches() -> dict[str, bytes]:
    """Return frames of every kind."""
    meta: list[Any] = [[1], {}, [["m:C", "k", 1, 1]], "trace", None, 0, None]
    kinds: dict[str, list[Any]] = {
        "request": [wire.REQUEST, 1, 1, "k", 5000, 1, "hello"],
        "request_x": [wire.REQUEST_X, 1, 1, "k", 5000, 1, meta],
        "tell": [wire.TELL, 1, "k", 1, "hello"],
        "tell_x": [wire.TELL_X, 1, "k", 1, [[1], {}, 100, None, 0]],
        "answers": [wire.REPLY, 1, "value"],
        "error": [wire.ERROR, 1, ["builtins:KeyError", "k", "", None]],
        "item": [wire.ITEM, 1, 5],
        "end": [wire.END, 1],
        "pull": [wire.PULL, 1, 16],
        "cancel": [wire.CANCEL, 1, 1, "k", True],
        "grant": [wire.GRANT, 1, "k", 32],
        "define": [wire.DEFINE, 2, "m:C", "run", False, None],
        "moved": [wire.MOVED, 1, "peer", 2],
        "lost": [wire.LOST, 1, "k", "why"],
        "system": [wire.SYSTEM, 1, "watch", "m:C", "k"],
        "bulk": [wire.BULK, 1, [100, 5]],
        "ack": [wire.ACK, 100],
        "hold": [wire.HOLD, True],
        "bye": [wire.BYE],
        "for_client": [
            wire.FOR_CLIENT,
            1,
            "m:C",
            "run",
            "k",
            5000,
            1,
            [pack([[], {}]), b"", False, None, None, 0, None],
        ],
    }
    found = {name: bytes(pack(frame)) for name, frame in kinds.items()}
    found["many"] = b"".join(found.values())
    return found


def claims() -> dict[str, bytes]:
    """Return what claims more than it holds."""
    huge = b"\xdd\x7f\xff\xff\xff"
    return {
        "claim": huge,
        "claims": b"\xdc\xff\xff" * 500,
        "claim_inside": pack(_msgpack.ExtType(Code.TUPLE, huge * 10)),
        "range": pack(_msgpack.ExtType(Code.TUPLE, pack(_msgpack.ExtType(Code.RANGE, pack([0, 1 << 40, 1]))))),
        "bytearray": pack(_msgpack.ExtType(Code.BYTEARRAY, pack(1 << 40))),
        "deep": b"\x91" * 1500,
    }


def memberships() -> dict[str, bytes]:
    """Return messages of the membership of every kind."""
    me = Claim("me", "127.0.0.1:1", 5, 0, Status.ALIVE, "")
    member = Member("me", "127.0.0.1:1", {"gpu": "1"}, 5, frozenset({"m:C"}), False, key=b"k" * 32)
    view, ballot = View("l", 1, (member,)), Ballot(3, "me", 5)
    kinds: dict[str, Message] = {
        "ping": Ping(1, "you"),
        "ack": Ack(1),
        "relay": PingRequest(1, "you", 5, "127.0.0.1:2"),
        "gossip": Gossip(),
        "exchange": Exchange(True),
        "refused": Refused("another", 1),
        "hello": Hello(member, "me", True),
        "meet": Meet("l", 1, 1, True, False, ("127.0.0.1:1",)),
        "apply": Apply("l", 1, member, Charter("c", 5000)),
        "renew": Renew("l", 1, 7, (view,)),
        "promised": Promised("l", 2, ballot, Vote(ballot, view)),
        "accept": Accept("l", 2, ballot, view, (("me", 5),)),
        "drained": Drained("l", 1, 2, 1 << 1000),
    }
    codec = MembershipCodec(CLUSTER)
    return {name: codec.encode(Envelope(me, message, (me,))) for name, message in kinds.items()}


def write(target: str, files: dict[str, bytes]) -> None:
    """Write a target's files."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def main() -> None:
    """Write them all."""
    hello = pack(
        {
            "protocol": [1, 1],
            "cluster": CLUSTER,
            "node": "peer",
            "incarnation": 1,
            "address": "127.0.0.1:1",
            "to": "me",
            "to_incarnation": 0,
            "pickle": True,
            "max_message": 1 << 20,
            "in_flight": 1 << 20,
            "dials": 1,
        }
    )
    call = [wire.CALL, 1, "m:C", "run", ("a", 1), None, 5000, pack([[1], {}]), None]
    credential = issue(
        Secret((new_key(time.time()),)), CLUSTER, "client", "web", now=time.time(), ttl=600, allow=["C.*"]
    )
    leaf = x509.load_pem_x509_certificate(credential.render().encode())
    seal = Seal([(b"key1", b"k" * 32)], b"t" * 16)
    write("preamble", {"links": preamble(b"A"), "cut": preamble(b"M")[:5]})
    write("datagram", {"another_start": seal.seal(b"hello", "you", 1), "zeros": b"\0" * 100})
    write("certificate", {"client": leaf.public_bytes(Encoding.DER)})
    write("membership", {**memberships(), **claims()})
    write("membership_frames", {"two": b"\0\0\0\1a\0\0\0\2bc", "claim": b"\xff\xff\xff\xff", "half": b"\0\0\0\5ab"})
    write("hello", {"right": hello, "refused": pack({"refused": "why"}), **claims()})
    write(
        "request",
        {
            "status": pack({"what": "status"}),
            "actors": pack({"what": "actors", "class": "Echo", "limit": 5}),
            "locate": pack({"what": "locate", "class": "Echo", "kind": "uuid", "key": str(uuid.UUID(int=1))}),
            "knock": pack({"what": "knock", "token": b"t" * 16, "port": 5, "times": 2}),
            **claims(),
        },
    )
    for target in ("value", "client_value"):
        write(target, {**values(), **claims()})
    frames = batches()
    write("frames", {**frames, "cut": pack([wire.REPLY, 1]), **claims()})
    head = wire.HEAD.pack(len(frames["many"])) + frames["many"]
    bulk = wire.HEAD.pack(len(frames["bulk"])) + frames["bulk"]
    piece = wire.PIECE_HEAD.pack(wire.PIECE_BIT | 14, 1) + b"x" * 10
    write("stream", {"batches": defined() + head, "pieces": bulk + piece, "claim": wire.HEAD.pack(1 << 30)})
    write("large_message", {name: frames[name] for name in ("request", "tell", "answers")} | claims())
    write("client_call", {"call": codec_of(MEMBERS).pack(call), **claims()})
    write("client_arguments", {"arguments": pack([[1, "a"], {"b": 2}]), **values()})


if __name__ == "__main__":
    main()
