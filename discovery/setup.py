"""What a node brings into its membership, and whom the membership tells what becomes of it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.values import dataclass

from .agreement_messages import Charter
from .applicant import Founding
from .archive import Archive
from .effects import Record
from .gate import Gate
from .handoff import Open, Shares
from .member import Event, Member, View

__all__ = ["Callbacks", "Setup"]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom the membership tells, always on its own thread. `on_met` is told of each node that has spoken."""

    on_view: Callable[[View], None]
    on_event: Callable[[Event], None]
    on_opened: Callable[[tuple[Open, ...]], None]
    on_lease: Callable[[], None]
    on_fence: Callable[[str, Member], None]
    on_departed: Callable[[], None]
    on_connection: Callable[[socket.socket, bytes], None]
    on_refusal: Callable[[HandshakeRefused | ConfigError], None]
    on_failure: Callable[[BaseException], None]
    on_met: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a node brings into agreement.

    Attributes:
        gate: What lets the effects of its actors out.
        shares_of: What a node owns under a view.
        founding: Whether it may found a lineage.
        charter: What it must have in common with the others.
        archive: Where it keeps its votes; None: nowhere, and it never comes back under its id.
        record: What was found there.
        trusts_refusal: Whether refused connections prove a death.
    """

    gate: Gate
    shares_of: Shares
    founding: Founding
    charter: Charter
    archive: Archive | None = None
    record: Record | None = None
    trusts_refusal: bool = True
