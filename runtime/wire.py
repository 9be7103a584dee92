"""The frames between two nodes.

A connection carries batches: four bytes of length, big-endian, and as many bytes of msgpack
frames one after the other. If the top bit of the length is set, the batch is a piece of a large
message instead: four bytes of its number, and raw bytes.

A frame is a msgpack array; its first element says what it is. The common frames are flat, so
that a request is packed and unpacked in one step.

    REQUEST     number, message, key, ttl_ms, view, *args
    REQUEST_X   number, message, key, ttl_ms, view, [args, kwargs, chain, trace, origin, hops, idempotency]
    TELL        message, key, view, *args
    TELL_X      message, key, view, [args, kwargs, ttl_ms, trace, hops]
    REPLY       number, value
    ERROR       number, error
    ITEM        number, value           one item of a stream
    END         number                  a stream has ended
    PULL        number, count           the reader of a stream has room for more
    CANCEL      number, message, key, expired
    GRANT       message, key, count     so many messages to that actor have found room
    DEFINE      message, class name, method name, streams, class blob or None
    MOVED       number, node id, view   the call was forwarded there
    LOST        message, key, reason    a told message was dropped
    SYSTEM      number, verb, *args     node to node: spawn, stop, watch, …
    BULK        bulk, [length, …]       a large message begins: a packed frame and its buffers
    ACK         count                   so many bytes of pieces have been taken in
    HOLD        held                    the peer is to send no more messages for now, or to go on
    BYE         [reason]                the sender sends nothing more: it leaves, or knows that the peer has left

`message` is the sender's number of a (class, method) pair; DEFINE comes first on each connection.

A client, which is no member, speaks less, and in names: a node keeps nothing for names that a client
makes up. Arguments and answers are *sealed*: packed by themselves, they pass through the client's node
as bytes, and are decoded by nobody but the actor's owner, once it has found the call allowed.

    CALL        number, class, method, key, node, ttl_ms, sealed, idempotency     client to node
    GRANT       class, key, node, count                                           node to client
    LOST        class, method, key, reason                                        node to client
    CANCEL      number, expired                                                   client to node
    AUTHORITIES certificates                                                      node to client
    FOR_CLIENT  number, class, method, key, ttl_ms, view, [sealed, caller, told, trace, origin, hops, idempotency]

REPLY, ERROR, ITEM, END, PULL, BULK, ACK and BYE are as between nodes. The number of a told message is 0
at the client. FOR_CLIENT is what the client's node sends on to the owner; its answers are sealed, too.
"""

from __future__ import annotations

import struct
from typing import Final

PROTOCOL: Final = (1, 1)
"""Lowest and highest protocol version that this code speaks."""

HEAD: Final = struct.Struct("!I")
PIECE_HEAD: Final = struct.Struct("!II")
PIECE_BIT: Final = 0x80000000
MAX_BATCH: Final = 8 << 20
"""A batch of frames is never longer; large messages travel in pieces."""
BATCH: Final = 128 * 1024
"""A batch of more than one frame is not made longer: clients' may not be (see `Allowance`)."""
BATCH_FRAMES: Final = 2048
"""The same for frames: clients' batches may not have more."""
BULKS: Final = 16
"""Large messages that may be under way to one node at a time; later ones wait at their sender."""
DEFINITIONS: Final = 65_536
"""Messages that one node may have defined on one connection."""
PIECE_BYTES: Final = 64 * 1024
WINDOW: Final = 512
"""Messages that one node may have ungranted at one actor."""
GRANT_EVERY: Final = 128
"""Messages after which their credit is given back: a quarter of the window, so that the sender never stands still."""
MAX_HOPS: Final = 4

REQUEST: Final = 1
REQUEST_X: Final = 2
TELL: Final = 3
TELL_X: Final = 4
REPLY: Final = 5
ERROR: Final = 6
ITEM: Final = 7
END: Final = 8
PULL: Final = 9
CANCEL: Final = 10
GRANT: Final = 11
DEFINE: Final = 12
MOVED: Final = 13
LOST: Final = 14
SYSTEM: Final = 15
BULK: Final = 16
ACK: Final = 17
BYE: Final = 18
CALL: Final = 19
FOR_CLIENT: Final = 20
AUTHORITIES: Final = 21
HOLD: Final = 22
