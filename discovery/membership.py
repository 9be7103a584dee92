"""Membership as the runtime sees it: a thread with a loop of its own.

Probes, gossip and views run beside the application's loop, so that a handler that blocks
that loop for seconds does not make the node look dead. The listening port is owned here
too, for the same reason: a peer's dial is answered whatever the application does.

Callbacks come on the membership thread. An exception on that thread, from a callback too,
is logged and stops the node: membership that has silently died would be worse than none.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.logger import get_logger, load

from ..security.trust import Trust
from .address import is_loopback
from .admission import Admission
from .agreement_messages import Charter
from .applicant import Founding
from .archive import Archive
from .codec import ID_BYTES_MAX
from .driver import Driver
from .effects import Record
from .gate import Gate
from .handoff import Open, Shares
from .member import Event, Member, View
from .profile import Profile
from .seal import START_RANDOM_BYTES, Seal, start_of
from .setup import Callbacks, Setup
from .share import Share
from .sockets import advertised_address, bind
from .source import Source
from .threads import LoopThread

__all__ = ["Membership"]


def _ignore(*_: object) -> None:
    """Tell nobody."""


class Membership:
    """One node's place in its cluster, from `start` to `stop`; not to be started again."""

    def __init__(
        self,
        *,
        trust: Trust,
        listen: str,
        advertise: str | None,
        labels: Mapping[str, str],
        hosts: frozenset[str],
        hosts_by_value: bool,
        discovery: Sequence[Source],
        profile: Profile,
        gate: Gate,
        shares_of: Shares,
        on_view: Callable[[View], None],
        on_event: Callable[[Event], None],
        on_connection: Callable[[socket.socket, bytes], None],
        on_opened: Callable[[tuple[Open, ...]], None] = _ignore,
        on_lease: Callable[[], None] = _ignore,
        on_fence: Callable[[str, Member], None] = _ignore,
        on_met: Callable[[str], None] = _ignore,
        on_failure: Callable[[BaseException], None] | None = None,
        admission: Admission | None = None,
        archive: Archive | None = None,
        expect: int | None = None,
        may_found: bool = True,
        trusts_refusal: bool = True,
        config_digest: str = "",
    ) -> None:
        """Keep the settings; nothing is bound or started yet.

        Args:
            trust: Who this node is, in which cluster, and whom it believes; its id has at most 100 bytes.
            listen: ``"host:port"`` (0: any free one) or ``"host:first-last"``; TCP and UDP.
            advertise: The address that others dial; None to find it out.
            labels: What the node says of itself.
            hosts: Names of the actor classes that it hosts.
            hosts_by_value: Whether it takes classes shipped by value.
            discovery: Where to look for others; none means alone.
            profile: The protocol's numbers.
            gate: What lets effects out; opened and shut here.
            shares_of: What a node owns under a view; called on the membership's thread.
            on_view: Is told of each view, this node in it, in order of their numbers; `shares` follow it already.
            on_event: Is told what a view changed (after it was installed) and who is suspect.
            on_connection: Takes a non-blocking socket and the channel that its preamble named.
            on_opened: Is told of partitions that are open here from now on.
            on_lease: Is told when the gate was closed and is open.
            on_fence: Is told that this run is over, and why, and as whom the node goes on; everything that acts
                must end, and then `Gate.passed` be called.
            on_met: Is told the id of each node that says something, before it may be in a view.
            on_failure: Is told once why the membership ended without `stop`.
            admission: How many new connections are taken; None for the usual numbers.
            archive: Where votes are kept; None if this node never comes back under its id.
            expect: How many nodes the cluster is to have when it is born.
            may_found: Whether this node may begin a cluster.
            trusts_refusal: Whether refused connections prove a death.
            config_digest: What all members must have in common, as a digest.

        Raises:
            ConfigError: If the id cannot travel.
        """
        if not 0 < len(trust.node_id.encode()) <= ID_BYTES_MAX:
            raise ConfigError(f"a node's id takes 1 to {ID_BYTES_MAX} bytes, not {trust.node_id!r}")
        self._record = Member(
            trust.node_id,
            address="",
            labels=dict(labels),
            incarnation=time.time_ns() // 1_000_000,
            hosts=hosts,
            hosts_by_value=hosts_by_value,
            key=trust.key if trust.is_encrypted else b"",
            has_record=archive is not None,
        )
        self._trust = trust
        self._seal = Seal(trust.gossip_keys, start_of(self._record.incarnation, os.urandom(START_RANDOM_BYTES)))
        self._listen = listen
        self._advertise = advertise
        self._sources = discovery
        self._profile = profile
        self._gate = gate
        self._shares_of = shares_of
        self._founding = Founding(may_found, bool(discovery), expect if expect is not None else 1)
        self._charter = Charter(config_digest)
        self._archive = archive
        self._voter: Record | None = None
        self._trusts_refusal = trusts_refusal
        self._admission = admission
        self._tell_view = on_view
        self._tell_event = on_event
        self._tell_met = on_met
        self._tell_connection = on_connection
        self._tell_opened = on_opened
        self._tell_lease = on_lease
        self._tell_fence = on_fence
        self._tell_failure = on_failure
        self._log = get_logger("ringcast.discovery").bind(node=trust.node_id, cluster=trust.cluster)
        self._thread: LoopThread | None = None
        self._driver: Driver | None = None
        self._started: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._leaving_seen: Future[None] = Future()
        self._departed: Future[None] = Future()
        self._is_leaving = False
        self._stop_wanted = asyncio.Event()
        self._has_failed = False

    # For the application's loop and any thread

    @property
    def address(self) -> str:
        """Where others dial this node; known once started."""
        return self.me.address

    @property
    def me(self) -> Member:
        """This node's record, as it wants to be seen."""
        return self._driver.me if self._driver is not None else self._record

    @property
    def view(self) -> View:
        """The view in force; there is one from `start` on."""
        view = self._driver.view if self._driver is not None else None
        assert view is not None, "there is no view before start() has returned"
        return view

    @property
    def shares(self) -> Mapping[str, Share]:
        """What of each class may run here; changes at any moment."""
        return self._driver.shares if self._driver is not None else {}

    def stats(self) -> dict[str, int | float]:
        """Return counts of what happened, by name, at most a quarter of a second old."""
        return dict(self._driver.stats()) if self._driver is not None else {}

    async def start(self) -> None:
        """Bind, join and return when a view that holds this node is installed.

        Raises:
            ConfigError: If the port is in use, or an address is wrong.
            HandshakeRefused: If what is at an address that `Seeds` names is of another cluster or protocol,
                has another secret, or is no node.
        """
        assert self._thread is None, "a membership starts once"
        if self._archive is not None:
            self._archive.claim()
            self._voter = self._archive.begin(self._record.incarnation)
            self._record = replace(self._record, incarnation=self._voter.incarnation)
        self._thread = LoopThread(f"ringcast {self._record.id}", self._live, self._on_end)
        self._thread.start()
        try:
            # Shielded: cancelling this call must not cancel a future that the thread will settle.
            await asyncio.shield(asyncio.wrap_future(self._started))
        except BaseException:
            await self.stop()
            raise

    def update(
        self,
        *,
        hosts: frozenset[str] | None = None,
        labels: Mapping[str, str] | None = None,
        store: str | None = None,
    ) -> None:
        """Change what this node says of itself; shows in a new view soon. From any thread."""

        def change(member: Member) -> Member:
            return replace(
                member,
                hosts=member.hosts if hosts is None else hosts,
                labels=member.labels if labels is None else dict(labels),
                store=member.store if store is None else store,
            )

        if self._thread is None:
            self._record = change(self._record)
        else:
            self._call(self._change, change)

    def reshare(self) -> None:
        """There are more classes: look again at what the view gives to this node. From any thread."""
        self._on_driver(Driver.reshare)

    def emptied(self) -> None:
        """The last activation of a draining partition has ended. From any thread."""
        self._on_driver(Driver.emptied)

    def dissolve(self, why: str) -> None:
        """Forget the lineage, whatever it may still decide, and start over. From any thread.

        An operator's last resort when a quorum is lost; the only unsafe command.
        """
        self._on_driver(Driver.dissolve, why)

    def _on_driver(self, method: Callable[..., None], *args: Any) -> None:
        def call() -> None:
            if self._driver is not None:
                method(self._driver, *args)

        if self._thread is not None:
            self._call(call)

    def has_heard(self, token: bytes) -> bool:
        """Return whether a knock with that token has come by datagram; from any thread."""
        return self._driver is not None and self._driver.has_heard(token)

    def knock(self, address: str, token: bytes, times: int) -> None:
        """Send so many knocks, which only the owner of that token can open; from any thread, once started."""
        self._call(self._knock, address, token, times)

    def refresh(self) -> None:
        """Go by what `Trust.refresh` has changed; from any thread.

        Datagrams are sealed with the new first key and opened with all, discovery shows the new first tag,
        and links of those who are not believed any more are closed.
        """
        if self._thread is None:
            self._refresh()
        else:
            self._call(self._refresh)

    async def announce_leaving(self) -> None:
        """Return when a view is installed in which this node is leaving, or alone, or after the drain time."""

        def leave(member: Member) -> Member:
            self._is_leaving = True
            if (view := self._driver.view if self._driver is not None else None) is not None:
                self._see_leaving(view)
            return replace(member, leaving=True)

        self._call(self._change, leave)
        try:
            async with asyncio.timeout(self._profile.drain):
                await asyncio.shield(asyncio.wrap_future(self._leaving_seen))
        except TimeoutError:
            self._log.warning("no view that shows this node leaving; going on", after=self._profile.drain)

    async def release(self) -> None:
        """Give the lease up, now that nothing acts here any more; return when the others go on without this node.

        Returns after the drain time and ten seconds at the latest, if no quorum is there to decide that.
        """
        self._on_driver(Driver.release)
        if self._thread is not None and self._thread.is_alive():
            await asyncio.shield(asyncio.wrap_future(self._departed))

    async def stop(self) -> None:
        """Say goodbye and end the thread; may be called again, and after a failure."""
        if self._thread is None:
            return
        self._call(self._stop_wanted.set)
        # Also when cancelled meanwhile: what was started here must not outlive this call.
        await asyncio.shield(asyncio.wrap_future(self._ended))
        self._thread.join()

    def give_up(self, why: str) -> None:
        """End the membership, as if it had failed: the others go on without this node. From any thread."""
        self._call(self._fail, RuntimeError(why))

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        assert self._thread is not None, "start() comes first"
        self._thread.call(function, *args)

    # On the membership thread

    def _on_end(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._fail(error)
        finally:
            if self._archive is not None:
                self._archive.release()
            self._on_departed()
            self._ended.set_result(None)

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_exception_handler(self._on_loop_error)
        bound = bind(self._listen)
        try:
            address = advertised_address(bound, self._advertise)
            self._record = replace(self._record, address=address)
            callbacks = Callbacks(
                on_view=self._on_view,
                on_event=self._tell_event,
                on_opened=self._tell_opened,
                on_lease=self._tell_lease,
                on_fence=self._tell_fence,
                on_departed=self._on_departed,
                on_connection=self._tell_connection,
                on_refusal=self._on_refusal,
                on_failure=self._fail,
                on_met=self._tell_met,
            )
            setup = Setup(
                self._gate,
                self._shares_of,
                self._founding,
                self._charter,
                self._archive,
                self._voter,
                trusts_refusal=self._trusts_refusal,
            )
            driver = self._driver = Driver(
                bound,
                self._record,
                self._trust,
                self._profile,
                self._seal,
                self._sources,
                setup,
                callbacks,
                is_loopback=is_loopback(bound.host),
                admission=self._admission,
            )
            try:
                await driver.open()
                load()  # what logs, while others are waited for
                await self._stop_wanted.wait()
            finally:
                await driver.close()
        finally:
            bound.close()

    def _on_view(self, view: View) -> None:
        self._tell_view(view)
        if not self._started.done():
            self._started.set_result(None)
        if self._is_leaving:
            self._see_leaving(view)

    def _see_leaving(self, view: View) -> None:
        """Note that the view gives this node nothing any more, or that there is nobody else."""
        member = view.member(self._record.id)
        is_seen = member is None or member.leaving or len(view.members) == 1
        if is_seen and not self._leaving_seen.done():
            self._leaving_seen.set_result(None)

    def _on_departed(self) -> None:
        if not self._departed.done():
            self._departed.set_result(None)

    def _on_refusal(self, error: HandshakeRefused | ConfigError) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    def _change(self, change: Callable[[Member], Member]) -> None:
        if self._driver is None:
            self._record = change(self._record)
        else:
            self._driver.change(change)

    def _refresh(self) -> None:
        if self._driver is None:
            self._seal.use(self._trust.gossip_keys)
        else:
            self._driver.refresh()

    def _knock(self, address: str, token: bytes, times: int) -> None:
        if self._driver is not None:
            self._driver.knock(address, token, times)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._fail(context.get("exception") or RuntimeError(context["message"]))

    def _fail(self, error: BaseException) -> None:
        """Stop because of this; who waits in `start` gets it, else `on_failure` does."""
        self._gate.shut()
        self._stop_wanted.set()
        if not self._started.done():
            self._started.set_exception(error)
        elif not self._has_failed:
            self._has_failed = True
            self._log.error("membership failed, so this node stops", exc_info=error)
            if self._tell_failure is not None:
                self._tell_failure(error)
