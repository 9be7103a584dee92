"""`NodeConfig`: the knobs of a node that are not its identity."""

from __future__ import annotations

from dataclasses import field

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from ..actors.supervision import OneForAll, OneForOne, RestForOne, Strategy
from ..discovery.profile import LAN, LOCAL, WAN, Profile

_DURATIONS = (
    "ask_timeout",
    "drain_timeout",
    "stuck_after",
    "slow_turn",
    "half_frame_timeout",
    "handshake_timeout",
    "store_timeout",
)

PROFILES = {"local": LOCAL, "lan": LAN, "wan": WAN}
"""The membership's numbers by name."""

_LEAST = {
    "max_message_bytes": 1024,
    "in_flight_bytes": 65536,
    "link_in_flight_bytes": 65536,
    "unsent_bytes": 65536,
    "handshakes_pending": 2,
    "handshakes_per_address": 1,
    "handshake_rate": 1,
    "local_handshake_rate": 1,
    "strangers_handshake_rate": 1,
    "control_connections": 1,
    "client_connections": 0,
    "client_connections_each": 1,
    "client_calls": 1,
    "client_max_message_bytes": 1024,
    "client_decoded_bytes": 65536,
    "client_max_values": 1000,
    "client_max_depth": 8,
    "client_max_hashed": 0,
    "client_in_flight_bytes": 65536,
    "client_unsent_bytes": 65536,
    "bulk_window_bytes": 65536,
    "dead_letters": 0,
    "max_state_bytes": 1024,
}
"""By option: the least whole number that it takes."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Limits and switches of one node. Durations are float seconds.

    Attributes:
        ask_timeout: Limit of an ask that says nothing else. Raising it makes callers wait longer
            for a node that is silently lost.
        drain_timeout: How long running calls may go on when the node leaves; what still runs then
            is cancelled.
        stuck_after: How long the actor loop may stand still before the node is given up.
        slow_turn: A turn that keeps the loop to itself for longer is named in the log.
        copy_local: Whether arguments and replies are copied between actors of one node, too, so
            that moving an actor never changes what a program means.
        pickle: Whether classes and values that only pickle can carry may travel to and from this
            node. Pickled data can run code, so both nodes must allow it, and neither takes it from a
            limited one. None: where peers prove who they are; so not with ``Node(tls=False)``.
        max_message_bytes: The largest message that is sent or received; between two nodes the lower of
            theirs. Raising it lets one message take more memory.
        in_flight_bytes: How much of messages from all peers may wait in mailboxes, or be half received; above
            it the peers hold theirs back. Raising it takes that memory under load.
        link_in_flight_bytes: The same for each peer.
        unsent_bytes: How much of answers may wait for a peer that does not take them; above it the connection
            is closed. One answer may be larger. Raising it lets a peer that stands still take more memory.
        half_frame_timeout: How long a peer may be silent in the middle of a frame. Raising it keeps
            connections of peers that have stopped, and what they had sent.
        handshake_timeout: How long a new connection may take to say what it wants, and to prove who it is.
        handshakes_pending: New connections that may be at that at a time. The oldest gives way; half are
            kept for addresses of members.
        handshakes_per_address: The same for each remote address that is not this machine's own.
        handshake_rate: New connections a second from one remote address, and twice as many at once; more
            are closed unread. Raising it lets strangers take more time of this node.
        local_handshake_rate: The same for this machine's own addresses, where all its nodes start from.
        strangers_handshake_rate: New connections a second from all addresses together that are neither this
            machine's nor a member's, and 200 at once. Raising it lets floods of strangers be noticed by members.
        control_connections: How many commands may ask this node at a time.
        client_connections: How many clients may be connected.
        client_connections_each: How many of them with credentials of the same name.
        client_calls: How many calls of one client may be under way; more are refused.
        client_tracebacks: Whether errors that handlers raise take their traceback's text along to clients, who
            then see paths and lines of the code.
        client_max_message_bytes: The largest message of a client.
        client_decoded_bytes: How much memory one message of a client may take when it is decoded.
        client_max_values: How many values one message of a client may hold, if it is larger than 1 KiB. Tuples,
            dates, records and whatever else msgpack does not know count as ten. Raising it lets one message keep
            the event loop for longer: half a millisecond for a thousand.
        client_share: How much of the event loop's time, as a part of 1, clients of one name may take in steps
            that are longer than a millisecond: large messages. What they send beyond it waits, unread. Raising it
            lets large messages through faster, and lets others wait for them more often.
        client_max_depth: How deep lists, dicts and other values of a client may stand inside one another.
        client_max_hashed: How many entries a client's dict or set may have if not all are str or bytes.
        client_in_flight_bytes: The `link_in_flight_bytes` of a client.
        client_unsent_bytes: The `unsent_bytes` of a client.
        bulk_window_bytes: How much of large messages may be under way to one peer while it is sent
            nothing else; beside small messages it is 32 KiB. Raising it helps on long lines.
        dead_letters: How many of the most recent dead letters are kept to look at.
        profile: The numbers of the membership: ``"local"``, ``"lan"`` or ``"wan"``. None: local on the loopback, else
            lan. All members must have the same. Each is slower to miss a node that is silent, and to mistake one.
        trust_refused: Whether a member is dead whose connection ended and whose address then refuses connections.
            False where something else may refuse in its place: a firewall that answers with resets, a mapped port
            whose container still runs, a service's address. Then a node that was killed is missed as slowly as one
            that is silent.
        max_state_bytes: The largest state of a durable actor, as it is stored. Raised: saves write that much.
        store_timeout: How long a save whose outcome is unknown is said again before its call fails. Raising it makes
            callers wait longer for a store that has gone away.
        store_start_timeout: How long a store that was named may take to be there when the node starts; 0 is one try.
        root: How the cluster's root treats spawned actors that fail.
    """

    ask_timeout: float = 30.0
    drain_timeout: float = 30.0
    stuck_after: float = 60.0
    slow_turn: float = 1.0
    copy_local: bool = True
    pickle: bool | None = None
    max_message_bytes: int = 1 << 30
    in_flight_bytes: int = 256 << 20
    link_in_flight_bytes: int = 64 << 20
    unsent_bytes: int = 256 << 20
    half_frame_timeout: float = 10.0
    handshake_timeout: float = 3.0
    handshakes_pending: int = 64
    handshakes_per_address: int = 8
    handshake_rate: int = 50
    local_handshake_rate: int = 500
    strangers_handshake_rate: int = 20
    control_connections: int = 8
    client_connections: int = 64
    client_connections_each: int = 16
    client_calls: int = 10_000
    client_tracebacks: bool = False
    client_max_message_bytes: int = 16 << 20
    client_decoded_bytes: int = 64 << 20
    client_max_values: int = 8192
    client_max_depth: int = 64
    client_max_hashed: int = 512
    client_share: float = 0.005
    client_in_flight_bytes: int = 16 << 20
    client_unsent_bytes: int = 64 << 20
    bulk_window_bytes: int = 512 * 1024
    dead_letters: int = 100
    profile: str | None = None
    trust_refused: bool = True
    root: Strategy = field(default_factory=OneForOne)
    max_state_bytes: int = 8 << 20
    store_timeout: float = 5.0
    store_start_timeout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no node can work with.

        Raises:
            ConfigError: Naming the option and what it takes.
        """
        if not isinstance(self.root, Strategy) or isinstance(self.root, (OneForAll, RestForOne)):
            what = "the root restarts each child by itself; give OneForOne(…)"
            raise ConfigError(f"NodeConfig(root={self.root!r}): {what}")
        if self.pickle not in (True, False, None):
            raise ConfigError(f"NodeConfig(pickle={self.pickle!r}): it takes True, False or None")
        if self.trust_refused not in (True, False):
            raise ConfigError(f"NodeConfig(trust_refused={self.trust_refused!r}): it takes True or False")
        if self.profile is not None and self.profile not in PROFILES:
            takes = ", ".join(map(repr, PROFILES))
            raise ConfigError(f"NodeConfig(profile={self.profile!r}): it takes {takes} or None")
        for name in _DURATIONS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ConfigError(f"NodeConfig({name}={value!r}): it takes seconds greater than 0")
        start = self.store_start_timeout
        if isinstance(start, bool) or not isinstance(start, (int, float)) or not start >= 0:
            raise ConfigError(f"NodeConfig(store_start_timeout={start!r}): it takes seconds, at least 0")
        if (
            isinstance(self.client_share, bool)
            or not isinstance(self.client_share, (int, float))
            or not (0 < self.client_share <= 1)
        ):
            raise ConfigError(f"NodeConfig(client_share={self.client_share!r}): it takes a part of 1, greater than 0")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"NodeConfig({name}={value!r}): it takes a whole number, at least {least}")

    def allows_pickle(self, *, is_encrypted: bool) -> bool:
        """Return what `pickle` comes to on a node whose connections are, or are not, over TLS."""
        return is_encrypted if self.pickle is None else self.pickle

    def membership_profile(self, *, is_local: bool) -> Profile:
        """Return what `profile` comes to on a node that listens, or does not, on the loopback only."""
        return PROFILES[self.profile or ("local" if is_local else "lan")]
