"""`NodeConfig`: the knobs of a node that are not its identity."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringcast.errors import ConfigError

from ..actors.supervision import OneForAll, OneForOne, RestForOne, Strategy


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
            node. Pickled data can run code, so both nodes must allow it.
        max_message_bytes: The largest message that is sent or received; between two nodes the lower of
            theirs. Raising it lets one message take more memory.
        bulk_window_bytes: How much of large messages may be under way to one peer while it is sent
            nothing else; beside small messages it is 32 KiB. Raising it helps on long lines.
        dead_letters: How many of the most recent dead letters are kept to look at.
        root: How the cluster's root treats spawned actors that fail.
    """

    ask_timeout: float = 30.0
    drain_timeout: float = 30.0
    stuck_after: float = 60.0
    slow_turn: float = 1.0
    copy_local: bool = True
    pickle: bool = True
    max_message_bytes: int = 1 << 30
    bulk_window_bytes: int = 512 * 1024
    dead_letters: int = 100
    root: Strategy = field(default_factory=OneForOne)

    def __post_init__(self) -> None:
        """Refuse what no node can work with.

        Raises:
            ConfigError: Naming the option and what it takes.
        """
        if not isinstance(self.root, Strategy) or isinstance(self.root, (OneForAll, RestForOne)):
            what = "the root restarts each child by itself; give OneForOne(…)"
            raise ConfigError(f"NodeConfig(root={self.root!r}): {what}")
        for name in ("ask_timeout", "drain_timeout", "stuck_after", "slow_turn"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ConfigError(f"NodeConfig({name}={value!r}): it takes seconds greater than 0")
        for name, least in (("max_message_bytes", 1024), ("bulk_window_bytes", 65536), ("dead_letters", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"NodeConfig({name}={value!r}): it takes a whole number, at least {least}")
