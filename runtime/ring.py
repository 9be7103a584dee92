"""The ring: which node owns which key, computed and never looked up.

A key is hashed to 64 bits; the hash falls into one of 1024 even slices of the circle, its
*partition*; a partition belongs to the node whose *virtual node* comes first clockwise from
the slice's start. Partitions are what views, leases and hand-off speak of: few enough to
list, and fixed, so that a key's partition never changes while its owner may.

Invariants:

* The owners are a pure function of the *set* of node ids: no order, process, platform or
  Python version enters. Every node of a view computes the same ring and needs no word from
  another one. The golden values in the tests guard this: a change of them is a change of the
  protocol, which the config hash of a view has to tell.
* A node that joins only takes partitions, and a node that leaves only gives its own away:
  a virtual node never moves, so nothing changes hands between two nodes that stay.
* Keys of different types are different keys (``"1"``, ``1`` and ``b"1"``), and the encoding
  of a tuple can be read in one way only, so that no two keys share an activation.

Instead of one sorted list of all virtual nodes, each node's *reach* is kept: for every
partition the clockwise distance to the nearest virtual node of that node. The owner is the
least of a column, the replicas are the next ones. Of a ring that differs by one node from one of the last ones only
that node's row is looked at: that is what a view costs all members in the same moment.

References:
    Karger et al. "Consistent Hashing and Random Trees". STOC 1997, section 4.
    DeCandia et al. "Dynamo". SOSP 2007, section 6.2, strategy 3: even partitions.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias, cast
from uuid import UUID

from ringcast.values import dataclass

from ..discovery.share import PARTITIONS

Key: TypeAlias = "str | int | bytes | UUID | tuple[Key, ...]"
"""What can name an actor beside its class."""


VNODES = 256
"""Virtual nodes per node. With 64 the largest of ten shares often passes 1.35 times the mean."""

_CIRCLE = 1 << 64
_PARTITION_SHIFT = 64 - (PARTITIONS.bit_length() - 1)
_LENGTH = struct.Struct(">BQ")
KEY_BYTES_MAX = 1024
"""Bytes of a key as it is hashed: a key is a name, and many are kept."""
_SHORT = (KEY_BYTES_MAX - _LENGTH.size) // 4
"""Characters that cannot take more, whatever they are."""

_KEY_PERSON = b"ringcast key 1"
_VNODE_PREFIX = b"ringcast vnodes 1\0"
SCHEME = f"{_KEY_PERSON.decode()}, {_VNODE_PREFIX.decode()}"
"""Names the hashes; nodes with different ones do not agree on owners."""


def check_key(key: object) -> None:
    """Refuse what cannot be a key.

    Equal keys name the same actor, so a subclass (a `StrEnum` member, a named tuple) is as good
    as its base; a bool is refused, because ``True == 1`` would make it the same actor as 1.

    Raises:
        TypeError: If `key`, or a part of it, is neither str, int, bytes, UUID nor a tuple of them, or if it
            takes more than `KEY_BYTES_MAX`.
    """
    if (type(key) is str and len(key) <= _SHORT) or (type(key) is int and -_CIRCLE < key < _CIRCLE):
        return  # most are: need not be encoded to be measured
    _check_parts(key)
    size = len(_encode(cast("Key", key)))
    if size > KEY_BYTES_MAX:
        raise TypeError(
            f"an actor's key of {size} bytes, beginning {key!r:.40}: it may have {KEY_BYTES_MAX}; use a digest of it"
        )


def _check_parts(key: object) -> None:
    if isinstance(key, tuple):
        for part in key:  # pyright: ignore[reportUnknownVariableType]
            _check_parts(part)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(key, bool) or not isinstance(key, str | int | bytes | UUID):
        raise TypeError(
            f"{key!r} ({type(key).__name__}) cannot be an actor's key: "
            "use a str, an int, bytes, a UUID, or a tuple of these"
        )


def _encode(key: Key) -> bytes:
    """Return `key` as tag, length and content: injective, since each part says where it ends."""
    match key:
        case str():
            tag, content = b"s", key.encode("utf-8", "surrogatepass")
        case int():
            tag, content = b"i", key.to_bytes(key.bit_length() // 8 + 1, "big", signed=True)
        case bytes():
            tag, content = b"b", key
        case UUID():
            tag, content = b"u", key.bytes
        case _:
            tag, content = b"t", b"".join(map(_encode, key))
    return _LENGTH.pack(tag[0], len(content)) + content


def key_hash(class_name: str, key: Key) -> int:
    """Return where an actor stands on the circle: 64 bits, the same in every process.

    Args:
        class_name: The actor class's name on the wire.
        key: A key that `check_key` lets pass.
    """
    digest = hashlib.blake2b(_encode(class_name) + _encode(key), digest_size=8, person=_KEY_PERSON).digest()
    return int.from_bytes(digest, "big")


def partition_of(hash64: int) -> int:
    """Return the slice, 0 to 1023, that a 64-bit hash falls into."""
    return hash64 >> _PARTITION_SHIFT


@lru_cache(maxsize=1024)
def _reach(node_id: str, partitions: int, vnodes: int) -> array[int]:
    """Return for each partition how far clockwise from its start the node's next vnode lies.

    Cached, because consecutive views share nearly all of their nodes.
    """
    stream = hashlib.shake_128(_VNODE_PREFIX + node_id.encode("utf-8", "surrogatepass")).digest(8 * vnodes)
    points = sorted(struct.unpack(f">{vnodes}Q", stream))
    width = _CIRCLE // partitions
    first = {point // width: point for point in reversed(points)}.get  # in each partition that has one
    nearest = points[0] + _CIRCLE
    reach = [(nearest := first(one, nearest)) - one * width for one in range(partitions - 1, -1, -1)]
    return array("Q", reversed(reach))


def foresee(node_id: str) -> None:
    """Work out now what a ring with this node will take: with the view that has it, everyone has much to do."""
    _reach(node_id, PARTITIONS, VNODES)


@dataclass(frozen=True, slots=True)
class _Table:
    """The owners among some nodes, and how far from each partition's start their vnodes lie."""

    nodes: frozenset[str]
    owners: tuple[str, ...]
    distances: list[int]

    def with_(self, node: str, reach: Sequence[int]) -> _Table:
        """Return the table with one node more."""
        owners, distances = list(self.owners), list(self.distances)
        pairs = zip(reach, distances, strict=True)
        for partition in [at for at, (mine, theirs) in enumerate(pairs) if mine <= theirs]:
            # Where ids ascend the first of equals is the owner.
            if reach[partition] < distances[partition] or node < owners[partition]:
                distances[partition], owners[partition] = reach[partition], node
        return _Table(self.nodes | {node}, tuple(owners), distances)

    def without(self, node: str, reaches: Sequence[tuple[str, Sequence[int]]]) -> _Table:
        """Return the table with one node less; of the others their reaches are given, ids ascending."""
        owners, distances = list(self.owners), list(self.distances)
        for partition, owner in enumerate(self.owners):
            if owner == node:
                distances[partition], owners[partition] = min((reach[partition], one) for one, reach in reaches)
        return _Table(self.nodes - {node}, tuple(owners), distances)


_RECENT = 8
"""Tables that are kept to begin a new one with; there is one for each set of hosts."""
_recent: tuple[_Table, ...] = ()
"""Replaced as a whole: rings are computed on two threads."""


def _table(nodes: tuple[str, ...], partitions: int, vnodes: int) -> _Table:
    """Return the table of these nodes, ids ascending."""
    global _recent
    wanted = frozenset(nodes)
    made: _Table | None = None
    is_usual = (partitions, vnodes) == (PARTITIONS, VNODES)
    for known in _recent if is_usual else ():
        if known.nodes == wanted:
            return known
        if made is None and len(changed := known.nodes ^ wanted) == 1:
            [node] = changed
            if node in wanted:
                made = known.with_(node, _reach(node, partitions, vnodes))
            else:
                made = known.without(node, [(one, _reach(one, partitions, vnodes)) for one in nodes])
    if made is None:
        columns = zip(*(_reach(node, partitions, vnodes) for node in nodes), strict=True)
        # `index` finds the first of equals, and nodes ascend: that breaks ties by node id.
        found = [(least := min(column), nodes[column.index(least)]) for column in columns]
        made = _Table(wanted, tuple(owner for _, owner in found), [distance for distance, _ in found])
    if is_usual:
        _recent = (made, *_recent[: _RECENT - 1])
    return made


class Ring:
    """Who owns each partition, for one set of nodes. Immutable.

    Attributes:
        nodes: The node ids, ascending and distinct.
    """

    __slots__ = ("_owners", "_partitions", "_vnodes", "nodes")

    nodes: tuple[str, ...]

    def __init__(self, node_ids: Sequence[str], partitions: int = PARTITIONS, vnodes: int = VNODES) -> None:
        """Take the nodes; nothing is computed yet.

        Args:
            node_ids: At least one; order and repetition do not matter.
            partitions: Even slices of the circle, at least 1.
            vnodes: Virtual nodes per node, at least 1.

        Raises:
            ValueError: If there is no node.
        """
        if not node_ids:
            raise ValueError("a ring needs at least one node")
        self.nodes = tuple(sorted(set(node_ids)))
        self._partitions = partitions
        self._vnodes = vnodes
        self._owners: tuple[str, ...] | None = None

    @property
    def owners(self) -> tuple[str, ...]:
        """The owner of each partition, by partition.

        About 5 ms, once, for 50 nodes that were seen before, and 0.2 ms where one has come or gone.
        """
        if self._owners is None:
            self._owners = _table(self.nodes, self._partitions, self._vnodes).owners
        return self._owners

    def owner(self, partition: int) -> str:
        """Return the id of the node that owns `partition`."""
        return self.owners[partition]

    def successors(self, partition: int, n: int) -> list[str]:
        """Return the first `n` distinct nodes clockwise from `partition`, its owner first.

        Fewer where the ring has fewer nodes.
        """
        distances = ((_reach(node, self._partitions, self._vnodes)[partition], node) for node in self.nodes)
        return [node for _, node in sorted(distances)[:n]]
