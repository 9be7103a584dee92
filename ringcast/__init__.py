"""Actors for Python that find each other.

Everything that an application uses is imported from here; what lies deeper is private.
"""

from __future__ import annotations

from .actors.actor import Actor
from .actors.context import Context, Timer
from .actors.durable import DurableActor
from .actors.messages import handler
from .actors.placement import Labels, LeastLoaded, Local, Near, Ring
from .actors.props import Props, props
from .actors.ref import Ref, is_ref
from .actors.reminders import At, Every
from .actors.supervision import (
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Backoff,
    Fatal,
    OneForAll,
    OneForOne,
    Restart,
    RestForOne,
)
from .actors.supervisor import ChildSpec, Supervisor
from .actors.verbs import broadcast, submit, tell, using, watching
from .discovery.dns import Dns
from .discovery.member import (
    Event,
    LeaseLost,
    LeaseRegained,
    Member,
    MemberJoined,
    MemberLeft,
    MemberLost,
    MemberSuspected,
    View,
    ViewChanged,
)
from .discovery.multicast import Zeroconf
from .discovery.source import Seeds
from .errors import (
    EXECUTED,
    MAYBE_EXECUTED,
    NOT_SENT,
    ActorStopped,
    CallCycle,
    CallError,
    CallTimeout,
    Certainty,
    CodecError,
    ConfigError,
    HandshakeRefused,
    MailboxFull,
    NodeStopped,
    NotAllowed,
    NotAMessage,
    RemoteError,
    RingcastError,
    SecurityError,
    StaleActivation,
    StoreError,
    Unreachable,
    VersionConflict,
    WrongArguments,
)
from .runtime.client import Client
from .runtime.config import NodeConfig
from .runtime.dead import DeadLetter
from .runtime.guard import ActorName, Authorize
from .runtime.node import Node, run
from .security.credential import Credential
from .security.identity import Identity
from .security.material import Certificates

__version__ = "0.1.0"

__all__ = [
    "EXECUTED",
    "MAYBE_EXECUTED",
    "NOT_SENT",
    "PERMANENT",
    "TEMPORARY",
    "TRANSIENT",
    "Actor",
    "ActorName",
    "ActorStopped",
    "At",
    "Authorize",
    "Backoff",
    "CallCycle",
    "CallError",
    "CallTimeout",
    "Certainty",
    "Certificates",
    "ChildSpec",
    "Client",
    "CodecError",
    "ConfigError",
    "Context",
    "Credential",
    "DeadLetter",
    "Dns",
    "DurableActor",
    "Event",
    "Every",
    "Fatal",
    "HandshakeRefused",
    "Identity",
    "Labels",
    "LeaseLost",
    "LeaseRegained",
    "LeastLoaded",
    "Local",
    "MailboxFull",
    "Member",
    "MemberJoined",
    "MemberLeft",
    "MemberLost",
    "MemberSuspected",
    "Near",
    "Node",
    "NodeConfig",
    "NodeStopped",
    "NotAMessage",
    "NotAllowed",
    "OneForAll",
    "OneForOne",
    "Props",
    "Ref",
    "RemoteError",
    "RestForOne",
    "Restart",
    "Ring",
    "RingcastError",
    "SecurityError",
    "Seeds",
    "StaleActivation",
    "StoreError",
    "Supervisor",
    "Timer",
    "Unreachable",
    "VersionConflict",
    "View",
    "ViewChanged",
    "WrongArguments",
    "Zeroconf",
    "broadcast",
    "handler",
    "is_ref",
    "props",
    "run",
    "submit",
    "tell",
    "using",
    "watching",
]
