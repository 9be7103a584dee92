"""How datagrams are sealed: who lacks the cluster's key can neither read, make nor repeat one.

A sealed datagram is a header in clear and an AES-256-GCM ciphertext, which authenticates both:

    version (1)  key id (4)  start (16)  counter (8)  |  ciphertext  tag (16)

* Each *start* of a node seals with a key of its own, HKDF-SHA256(gossip key, salt=start). The counter
  is the nonce and counts all datagrams of the start, under whichever gossip key, so no nonce is ever
  used twice.
* A start is named by its wall clock in milliseconds (6 bytes) and 10 random bytes. The clock is no
  part of what makes keys differ; it gives the starts an order, see below.
* The recipient, member id and incarnation, is authenticated and not sent: nobody else can open the
  datagram, and not the same node after a restart either, for that is a new incarnation.
* Within one incarnation each sender's `Window` lets a datagram pass once.

Nothing is decoded, remembered or allocated for bytes that are not authentic: the key of a start that
was never heard before is derived, tried, and kept with its window only if it opens the datagram.

Windows are bounded, `STARTS_MAX` of them; only members, who have the gossip key, can add one. At the
bound the window of the start that was silent for longest gives way, and its datagrams must not become
acceptable by that: it is remembered as the *floor* if it is the latest start that ever gave way, and a
start without a window is refused unless it is later than the floor. New nodes are. A living one whose
window gave way (more than `STARTS_MAX` talk here at once, or its clock was far behind) is not heard by
datagram any more, and is probed over TCP.

Gossip keys may change at any time (`use`): the first seals, all open. The windows stay, so that a key
that is dropped and comes back brings nothing old with it.

References:
    NIST SP 800-38D (GCM), section 8.2.1 (deterministic nonces). RFC 5869 (HKDF).
"""

from __future__ import annotations

import enum
import struct
from collections import OrderedDict
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .window import Window

__all__ = ["OVERHEAD_BYTES_MAX", "STARTS_MAX", "START_RANDOM_BYTES", "Seal", "Unopened", "start_of"]

VERSION = 1
STARTS_MAX = 4096
"""How many senders' windows are kept, at three kilobytes each."""

START_RANDOM_BYTES = 10
_CLOCK_BYTES = 6
_START_BYTES = _CLOCK_BYTES + START_RANDOM_BYTES
_KEY_ID_BYTES = 4
_KEY_BYTES = 32
_TAG_BYTES = 16

_HEADER = struct.Struct(f">B{_KEY_ID_BYTES}s{_START_BYTES}sQ")
_NONCE = struct.Struct(">4xQ")
_INCARNATION = struct.Struct(">Q")
_COUNTERS = 1 << 64

OVERHEAD_BYTES_MAX = _HEADER.size + _TAG_BYTES
"""How many bytes the seal adds to a datagram."""


class Unopened(enum.Enum):
    """Why a datagram was not opened."""

    UNSEALED = "not sealed for this run of this node, or damaged"
    FOREIGN_KEY = "sealed with a key that is not among those in use"
    REPLAYED = "opened before, or too old to tell"


class _Sender:
    """One start of another node: its keys, by the gossip key that each was made from, and its window."""

    __slots__ = ("keys", "window")

    def __init__(self) -> None:
        self.keys: dict[bytes, AESGCM] = {}
        self.window = Window()


class Seal:
    """Seals what one start of a node sends, and opens what it gets."""

    def __init__(self, keys: Sequence[tuple[bytes, bytes]], start: bytes) -> None:
        """Begin to count.

        Args:
            keys: Gossip keys: ids (4 bytes) and keys (32 bytes), see `use`.
            start: Names this start and no other; see `start_of`.

        Raises:
            ValueError: If a key, an id or the start has another length, or there is no key.
        """
        if len(start) != _START_BYTES:
            raise ValueError(f"a start takes {_START_BYTES} bytes, not {len(start)}")
        self._start = start
        self._counter = 0
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        self._floor = b""
        self.use(keys)

    def __len__(self) -> int:
        """Return how many starts have a window here."""
        return len(self._senders)

    def use(self, keys: Sequence[tuple[bytes, bytes]]) -> None:
        """Seal with the first of the keys and open with all of them, from now on.

        Raises:
            ValueError: If a key or an id has another length, or there is no key.
        """
        if not keys:
            raise ValueError("a seal takes at least one gossip key")
        for key_id, key in keys:
            if len(key_id) != _KEY_ID_BYTES or len(key) != _KEY_BYTES:
                raise ValueError(f"a gossip key takes an id of {_KEY_ID_BYTES} bytes and {_KEY_BYTES} bytes")
        self._keys = dict(keys)
        self._sealing_id = keys[0][0]
        self._sealing = _derived(keys[0][1], self._start)
        for sender in self._senders.values():
            sender.keys.clear()

    def seal(self, data: bytes, member_id: str, incarnation: int) -> bytes:
        """Return `data` sealed for one run of a node, `OVERHEAD_BYTES_MAX` longer.

        Raises:
            OverflowError: After 2^64 datagrams, before a counter would be used again.
        """
        counter = self._counter
        if counter >= _COUNTERS:
            raise OverflowError("this node has sent 2^64 datagrams; it must be started anew to send more")
        self._counter = counter + 1
        header = _HEADER.pack(VERSION, self._sealing_id, self._start, counter)
        return header + self._sealing.encrypt(_NONCE.pack(counter), data, _bound(header, member_id, incarnation))

    def open(self, data: bytes, member_id: str, incarnation: int) -> bytes | Unopened:
        """Return what was sealed for this run of this node, or why that cannot be had. Never raises."""
        if len(data) < OVERHEAD_BYTES_MAX or data[0] != VERSION:
            return Unopened.UNSEALED
        header = data[: _HEADER.size]
        _, key_id, start, counter = _HEADER.unpack(header)
        material = self._keys.get(key_id)
        if material is None:
            return Unopened.FOREIGN_KEY
        sender = self._senders.get(start)
        if start <= self._floor if sender is None else not sender.window.is_new(counter):
            return Unopened.REPLAYED
        key = sender.keys.get(key_id) if sender is not None else None
        if key is None:
            key = _derived(material, start)
        try:
            opened = key.decrypt(_NONCE.pack(counter), data[_HEADER.size :], _bound(header, member_id, incarnation))
        except InvalidTag:
            return Unopened.UNSEALED
        # From here on it is a member that speaks, and may be remembered.
        if sender is None:
            sender = self._senders[start] = self._room()
        sender.keys[key_id] = key
        sender.window.mark(counter)
        self._senders.move_to_end(start)
        return opened

    def _room(self) -> _Sender:
        """Return a new sender, after the one that was silent for longest has given way to it."""
        if len(self._senders) >= STARTS_MAX:
            start, _ = self._senders.popitem(last=False)
            self._floor = max(self._floor, start)
        return _Sender()


def start_of(started_ms: int, drawn: bytes) -> bytes:
    """Return the name of a start.

    Args:
        started_ms: Wall clock in milliseconds; only puts starts in order.
        drawn: `START_RANDOM_BYTES` of good randomness, never used before.
    """
    return started_ms.to_bytes(_CLOCK_BYTES, "big") + drawn


def _derived(key: bytes, start: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=start, info=b"ringcast datagram").derive(key))


def _bound(header: bytes, member_id: str, incarnation: int) -> bytes:
    """Return what is authenticated beside the data; all but the last part have a fixed length."""
    return header + _INCARNATION.pack(incarnation) + member_id.encode()
