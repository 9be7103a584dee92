"""A voter's record as bytes, and back.

The file of a voter is small and is written as a whole: sixteen bytes of digest, then one
msgpack array. What is damaged is not taken for a record that is not there: a voter that
has forgotten its votes must not vote again under its old name.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import cast

import msgpack

from .agreement_codec import BALLOT, VIEW, VOTE, maybe
from .effects import Record
from .fields import array_of, number_of

__all__ = ["decode_record", "encode_record"]

_VERSION = 1
_DIGEST_BYTES = 16

_pack = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpack = cast("Callable[[bytes], object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]


def encode_record(record: Record) -> bytes:
    """Return the bytes to be written."""
    fields = [
        _VERSION,
        record.incarnation,
        maybe(VIEW).write(record.view),
        maybe(BALLOT).write(record.promised),
        maybe(VOTE).write(record.vote),
    ]
    body = _pack(fields)
    return blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def decode_record(data: bytes) -> Record:
    """Return the record that was written.

    Raises:
        ValueError: If the bytes are damaged, or of another version.
    """
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise ValueError("the record of the voter is damaged")
    version, incarnation, view, promised, vote = array_of(_unpack(body), 5)
    if version != _VERSION:
        raise ValueError(f"the record of the voter has version {version}, and this is {_VERSION}")
    return Record(number_of(incarnation), maybe(VIEW).read(view), maybe(BALLOT).read(promised), maybe(VOTE).read(vote))
