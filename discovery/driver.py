"""The shell's inside: carries the participant's effects out, on the membership loop.

It decides nothing. Sockets bring messages, timers bring the time, and every effect of the
pure core is carried out by one `match`. Everything here runs on one loop, in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from ringcast.logger import get_logger

from ..security.channels import ALPN, MEMBERSHIP
from ..security.trust import Trust
from .address import is_wildcard, split_address
from .admission import Admission
from .claim import Claim
from .codec import PROTOCOL, Codec, Rejected
from .datagrams import Datagrams
from .effects import (
    Check,
    Depart,
    Effect,
    Excluded,
    InstallView,
    LeaseUntil,
    Notify,
    Persist,
    SelfFence,
    Send,
    SendUdp,
    Warn,
)
from .gate import boot_time
from .handoff import Open
from .knock import Knocks, knock, knocker, token_in
from .link import Ending, Link
from .links import Links
from .member import Member, View
from .messages import Envelope, Exchange, Message, Refused
from .participant import Participant
from .port import Port
from .profile import Profile
from .recorder import Recorder
from .seal import Seal, Unopened
from .setup import Callbacks, Setup
from .share import Share
from .sockets import Bound
from .source import Announcement, Source
from .sources import Sources
from .strangers import Strangers

__all__ = ["Driver"]

_GOODBYE_LIMIT = 1.0
"""Seconds that the goodbye may take to go out."""

_BEGINNING = 0.05
"""Share of the discovery window that may pass while the sources begin."""

_WATCH_EVERY = 0.02
"""Seconds between the connections that a node opens to watch members: each costs both ends 2 ms."""

_SNAPSHOT_INTERVAL = 0.25
"""Seconds between two snapshots of the counts for other threads."""


class Driver:
    """One node's membership, as long as its loop runs."""

    def __init__(
        self,
        bound: Bound,
        me: Member,
        trust: Trust,
        profile: Profile,
        seal: Seal,
        sources: Sequence[Source],
        setup: Setup,
        callbacks: Callbacks,
        *,
        is_loopback: bool,
        admission: Admission | None = None,
    ) -> None:
        """Take the bound sockets, which stay the caller's to close; does nothing before `open`."""
        self._bound = bound
        self._me = me
        self._trust = trust
        self._profile = profile
        self._seal = seal
        self._tags = trust.tags
        self._setup = setup
        self._gate = setup.gate
        self._recorder = Recorder(setup.archive, self._spawn, self._on_written) if setup.archive is not None else None
        self._callbacks = callbacks
        self._is_loopback = is_loopback
        self._codec = Codec(trust.cluster)
        self._last_said: tuple[object, object, object] = (None, None, None)
        self._last_packed = b""
        self._log = get_logger("ringcast.discovery").bind(node=me.id, cluster=trust.cluster)
        self._counts: Counter[str] = Counter()
        self._knocks = Knocks()
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._sources = Sources(sources, self._spawn, self._log, self._on_found, self._on_gone)
        self._strangers = Strangers(trust, self._sources.named, self._counts, self._log, callbacks.on_refusal)
        self._found_early: list[str] = []
        self._participant: Participant | None = None
        self._last_view: View | None = None
        self._links = Links(trust, self._spawn, self._on_frame, self._on_refused, self._on_lost, self._strangers.ended)
        self._port = Port(bound.tcp, self._on_connection, admission)
        self._datagrams: Datagrams | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._snapshot: dict[str, int | float] = {}
        self._snapshot_at = 0.0
        self._dial_at = 0.0
        self._next_watch: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Start the sources, and take part from then on."""
        began = boot_time()
        await self._sources.start(self._announcement)
        # Looking begins before all sources have begun; one that is slow takes little of the window away.
        now = max(began, boot_time() - _BEGINNING * self._profile.discovery_window)
        setup = self._setup
        self._participant = Participant(
            self._me,
            self._profile,
            random.Random(),
            now,
            shares_of=setup.shares_of,
            founding=setup.founding,
            charter=setup.charter,
            record=setup.record,
            trusts_refusal=setup.trusts_refusal,
        )
        for address in self._found_early:
            self._participant.found(address, now)
        self._datagrams = Datagrams(self._bound.udp, self._spawn, self._on_datagram, self._on_send_failed)
        self._port.open()
        self._on_time()

    async def close(self) -> None:
        """Say goodbye, withdraw from discovery and leave nothing running."""
        # First of all: others take the end of a connection for proof that nothing acts here any more.
        self._gate.shut()
        for timer in (self._timer, self._next_watch):
            if timer is not None:
                timer.cancel()
        if self._participant is not None:
            self._me, self._last_view = self._participant.me, self._participant.view
            self._perform(self._participant.leave(boot_time()))
            self._take_snapshot()
            self._participant = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_LIMIT):
                    await self._links.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_LIMIT):
                await self._links.close()
        self._port.close()
        if self._datagrams is not None:
            self._datagrams.close()
        await self._sources.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def view(self) -> View | None:
        """The view in force; may be read from any thread."""
        return self._participant.view if self._participant is not None else self._last_view

    @property
    def me(self) -> Member:
        """This node's record; may be read from any thread."""
        return self._participant.me if self._participant is not None else self._me

    def stats(self) -> dict[str, int | float]:
        """Return the last snapshot of the counts; may be read from any thread."""
        return self._snapshot

    def change(self, change: Callable[[Member], Member]) -> None:
        """Make this node's record another one."""
        if self._participant is None:
            self._me = change(self._me)
        else:
            self._do(lambda one, now: one.change(change(one.me), now))

    @property
    def shares(self) -> Mapping[str, Share]:
        """What of each class may run here; may be read from any thread."""
        return self._participant.shares if self._participant is not None else {}

    def reshare(self) -> None:
        """There are more classes: look again at what the view gives to this node."""
        self._do(Participant.reshare)

    def emptied(self) -> None:
        """Something of a draining partition has ended."""
        self._do(Participant.emptied)

    def release(self) -> None:
        """Give the lease up for good; `on_departed` follows."""
        self._do(Participant.release)

    def dissolve(self, why: str) -> None:
        """Forget the lineage, whatever it may still decide."""
        self._do(lambda one, now: one.dissolve(why, now))

    def _do(self, work: Callable[[Participant, float], list[Effect]]) -> None:
        """Have the participant do something, and carry out what follows."""
        if self._participant is not None:
            self._perform(work(self._participant, boot_time()))
            self._set_timer()

    def has_heard(self, token: bytes) -> bool:
        """Return whether a knock with that token has come; may be asked from any thread."""
        return token in self._knocks

    def knock(self, address: str, token: bytes, times: int) -> None:
        """Knock at the address of whoever has that token."""
        if self._datagrams is not None:
            for _ in range(times):
                self._datagrams.send(address, self._seal.seal(knock(token), *knocker(token)))

    def refresh(self) -> None:
        """Go by what the trust says now: keys, tags, and who is believed."""
        self._seal.use(self._trust.gossip_keys)
        self._links.recheck()
        if self._tags != self._trust.tags:
            self._tags = self._trust.tags
            self._sources.announce(self._announcement)

    # What comes in

    def _on_time(self) -> None:
        assert self._participant is not None
        if self._timer is not None:
            self._timer.cancel()  # not the one that calls this, where a source has found an address
            self._timer = None
        now = boot_time()
        self._perform(self._participant.tick(now))
        if now >= self._snapshot_at:
            self._snapshot_at = now + _SNAPSHOT_INTERVAL
            self._take_snapshot()
        if now >= self._dial_at:
            self._dial_at = now + self._profile.lease
            self._keep_in_touch()
        self._set_timer()

    def _keep_in_touch(self) -> None:
        """Have a connection of this node's own to each member whose death it may have to prove."""
        assert self._participant is not None
        unwatched = [member.address for member in self._participant.watched if not self._is_watching(member)]
        if unwatched:
            # One at a time: a newcomer lacks all of them, and each is a handshake for both ends.
            self._watch(unwatched[0])
        if len(unwatched) > 1 and self._next_watch is None:
            self._next_watch = asyncio.get_running_loop().call_later(_WATCH_EVERY, self._watch_next)

    def _watch_next(self) -> None:
        self._next_watch = None
        if self._participant is not None:
            self._keep_in_touch()

    def _is_watching(self, member: Member) -> bool:
        link = self._links.watching(member.address)
        # One that was answered by an earlier run of the member says nothing of this one.
        return link is not None and link.speaker in (None, member.identity)

    def _watch(self, address: str) -> None:
        self._links.watch(address, self._packed(Exchange(True), ()))

    def _set_timer(self) -> None:
        if self._participant is None:
            return
        now = boot_time()
        due = self._participant.next_deadline(now)
        if self._timer is not None:
            # Most messages change nothing. What is due already has slept with the machine, and its timer with it.
            if due == self._due and due > now:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._on_time)

    def _on_datagram(self, data: bytes) -> None:
        if self._participant is None:
            return
        opened = self._seal.open(data, *self._participant.sender.identity)
        if isinstance(opened, Unopened):
            self._counts[opened.name.lower()] += 1
            return
        token = token_in(opened)
        if token is not None:
            self._knocks.hear(token)
            return
        envelope = self._decoded(opened)
        if isinstance(envelope, Envelope):
            self._perform(self._participant.receive(envelope, boot_time(), by_tcp=False))
            self._set_timer()

    def _on_frame(self, link: Link, data: bytes) -> bool:
        if self._participant is None:
            return False
        envelope = self._decoded(data)
        if envelope is Rejected.FOREIGN:
            link.write(self._packed(Refused(self._trust.cluster, PROTOCOL), ()))
        if isinstance(envelope, Rejected):
            return False
        if isinstance(envelope.message, Refused):
            self._strangers.refused(link, envelope.message)
            return False
        if not self._is_vouched_for(link, envelope):
            return False
        now = boot_time()
        before = link.speaker
        self._links.name(link, envelope.sender)
        if before is None:
            self._callbacks.on_met(envelope.sender.id)
        if link.is_watch and before != link.speaker:
            if before is not None:
                self._perform(self._participant.ended(before, now, by_peer=False))
            if link.dialled is not None and link.dialled == envelope.sender.address:
                self._perform(self._participant.connected(envelope.sender.identity, link.dialled, now))
        effects = self._participant.receive(envelope, now, by_tcp=True, dialled=link.dialled)
        self._perform(effects, answering=link)
        self._set_timer()
        return True

    def _is_vouched_for(self, link: Link, envelope: Envelope) -> bool:
        """Return whether the other end may say this: it speaks for the sender, and with the pinned key."""
        assert self._participant is not None
        identity, sender = link.identity, envelope.sender
        is_another = link.speaker is not None and link.speaker[0] != sender.id
        if is_another or (identity is not None and not identity.speaks_for(sender.id)):
            self._strangers.impostor(sender.id, str(identity or link.speaker))
            return False
        if identity is None:
            return True
        objection = self._participant.objection(envelope, identity.key)
        if objection is not None:
            self._perform(objection)
        return objection is None

    def _decoded(self, data: bytes) -> Envelope | Rejected:
        envelope = self._codec.decode(data)
        if isinstance(envelope, Rejected):
            self._counts[envelope.name.lower()] += 1
        return envelope

    def _on_connection(self, connection: socket.socket, channel: bytes) -> None:
        if channel == MEMBERSHIP:
            self._links.adopt(connection)
        elif channel in ALPN:
            self._callbacks.on_connection(connection, channel)
        else:  # and not logged: any stranger can do it, any number of times
            self._counts["channels_unknown"] += 1
            connection.close()

    def _on_refused(self, address: str) -> None:
        self._counts["dials_refused"] += 1
        self._do(lambda one, now: one.refused(address, now))

    def _on_lost(self, link: Link, ending: Ending) -> None:
        # What it says about that run of the node only holds for a connection that it has proved to be its own.
        speaker = link.speaker
        if self._participant is None or speaker is None:
            return
        other = self._links.watching(link.dialled) if link.is_watch and link.dialled is not None else None
        if link.is_watch and (other is None or other.speaker != speaker):
            by_peer = ending in (Ending.FINISHED, Ending.RESET)
            self._do(lambda one, now: one.ended(speaker, now, by_peer=by_peer))
        if ending is not Ending.CLOSED_HERE:
            self._do(lambda one, now: one.disconnected(speaker, now))

    def _on_written(self, then: Iterable[Send]) -> None:
        """The voter's record is on disk."""
        self._do(lambda one, now: one.persisted(then, now))

    def _on_send_failed(self) -> None:
        self._counts["send_errors"] += 1
        if self._participant is not None:
            self._participant.send_failed()

    # What goes out

    def _perform(self, effects: Iterable[Effect], answering: Link | None = None) -> None:
        for effect in effects:
            match effect:
                case SendUdp(address, recipient, message, claims):
                    assert self._datagrams is not None
                    self._datagrams.send(address, self._seal.seal(self._packed(message, claims), *recipient))
                case Send(address, message, claims):
                    via = answering if answering is not None and answering.peer == address else None
                    self._links.send(address, self._packed(message, claims), via)
                case InstallView(view):
                    # At once: of whom there is no connection when it is killed, the death cannot be proved.
                    self._keep_in_touch()
                    self._counts["views_installed"] += 1
                    self._log.info("view", number=view.number, members=[m.id for m in view.members])
                    self._port.members = frozenset(split_address(member.address)[0] for member in view.members)
                    self._callbacks.on_view(view)
                case Open():
                    self._callbacks.on_opened((effect,))
                case LeaseUntil(until):
                    if self._gate.grant(until):
                        self._callbacks.on_lease()
                case SelfFence(why, me):
                    self._counts["fences"] += 1
                    self._gate.shut()
                    self._log.warning("this run of the node is over; it goes on as a new one", reason=why)
                    self._callbacks.on_fence(why, me)
                case Persist(record, then):
                    assert self._recorder is not None, "only a node with a data_dir has a record"
                    self._recorder.write(record, then)
                case Check(address):
                    self._watch(address)
                case Depart():
                    self._callbacks.on_departed()
                case Notify(event):
                    self._callbacks.on_event(event)
                case Excluded(why, member, address):
                    self._strangers.excluded(why, member, address)
                case Warn(what, member, address):
                    self._log.warning(what, member=member, address=address)
                case _:
                    raise AssertionError(f"{effect} is for the cores only")

    def _packed(self, message: Message, claims: tuple[Claim, ...]) -> bytes:
        """Pack; what goes to many is packed once, for a view of hundreds of members takes a millisecond."""
        assert self._participant is not None
        what = self._participant.sender, message, claims
        if any(new is not old for new, old in zip(what, self._last_said, strict=True)):
            self._last_said, self._last_packed = what, self._codec.encode(Envelope(*what))
        return self._last_packed

    # Sources and tasks

    def _on_found(self, address: str) -> None:
        if self._participant is None:
            self._found_early.append(address)
        else:
            self._participant.found(address, boot_time())
            self._on_time()

    def _on_gone(self, address: str) -> None:
        if self._participant is not None:
            self._participant.gone(address)

    @property
    def _announcement(self) -> Announcement:
        listens_on = None if is_wildcard(self._bound.host) else self._bound.host
        return Announcement(self._tags, self._me.id, self._me.address, self._is_loopback, listens_on)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._callbacks.on_failure(error)

    def _take_snapshot(self) -> None:
        assert self._participant is not None
        assert self._datagrams is not None
        self._snapshot = {
            **self._participant.stats(),
            **{name: self._counts[name] for name in sorted(self._counts)},
            "strangers": self._port.strangers,
            "turned_away": self._port.turned_away,
            "links": len(self._links),
            "links_broken": self._links.broken,
            "links_crowded_out": self._links.crowded_out,
            "datagrams_sent": self._datagrams.sent,
            "datagrams_received": self._datagrams.received,
        }
