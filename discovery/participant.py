"""One node's whole part in the membership protocol: SWIM, views and contacts together.

A pure core made of three. It passes on what one of them learns to the others: SWIM's
beliefs make and unmake views, deaths become addresses to dial again, and a death of its own
becomes a new incarnation of its record. A shell (`membership`, or a test in virtual time)
brings messages and time in and carries effects out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from .claim import Claim, Status
from .contacts import Contacts
from .effects import Changed, Dial, Effect, Notify, Send
from .member import Member, MemberSuspected, View
from .messages import DatagramMessage, Envelope, Exchange, Gossip, Join, ViewNews
from .profile import Profile
from .swim import Swim
from .views import Views

__all__ = ["Participant"]


class Participant:
    """The protocol, as one node takes part in it."""

    def __init__(self, me: Member, profile: Profile, rng: random.Random, now: float, *, has_discovery: bool) -> None:
        """Start at `now`; with `has_discovery` wait one window for others before going alone."""
        self._swim = Swim(Claim(me.id, me.address, me.incarnation), profile, rng, now)
        alone_until = now + profile.discovery_window if has_discovery else now
        self._views = Views(me, profile, rng, alone_until)
        self._contacts = Contacts(me.address, profile, rng)

    @property
    def me(self) -> Member:
        """This node's record as it wants to be seen."""
        return self._views.me

    @property
    def view(self) -> View | None:
        """The view in force here."""
        return self._views.view

    @property
    def sender(self) -> Claim:
        """What goes into the envelope of everything that is sent."""
        return self._swim.me

    def receive(self, envelope: Envelope, now: float, *, by_tcp: bool, dialled: str | None = None) -> list[Effect]:
        """React to a message.

        Args:
            envelope: What was said, and by whom.
            now: The present.
            by_tcp: Which way it came. What only a connection can vouch for is not taken from a datagram.
            dialled: The address by which this node reached the sender, if it did.
        """
        if not by_tcp and not isinstance(envelope.message, DatagramMessage):
            return []
        if dialled is not None:
            self._contacts.answered(dialled, envelope.sender.id == self.me.id)
        message = envelope.message
        if envelope.sender.id == self.me.id and by_tcp and message == Exchange(True):
            # A seed that names this very node: the answer tells the dialling end so.
            return [Send(envelope.sender.address, Exchange(False))]
        effects = self._digest(self._swim.receive(envelope, now, by_tcp=by_tcp), now)
        if isinstance(message, Join | ViewNews) and not self._swim.knows_later(envelope.sender):
            effects += self._views.receive(message, envelope.sender, now)
        return effects

    def objection(self, envelope: Envelope, key: bytes) -> list[Effect] | None:
        """Say what stands against a message from whoever proved `key`, and may speak for the sender.

        A key is pinned to a run of a node by the record that it joined with. As long as that run is
        believed alive nobody else is taken for it.

        Returns:
            None if the message may be received; else what is to be done about it.
        """
        sender, message = envelope.sender, envelope.message
        shown = message.member.key if isinstance(message, Join) else key
        if shown == key and self._views.pinned_key(sender.id) in (None, key):
            return None
        return self._views.refuse_key(sender.id, sender.address)

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        effects = self._digest(self._swim.tick(now), now)
        effects += self._views.tick(now)
        return effects + self._digest(self._contacts.tick(now), now)

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        cores = (self._swim, self._views, self._contacts)
        return min(core.next_deadline() for core in cores)

    def found(self, address: str, now: float) -> None:
        """Discovery shows somebody at the address."""
        self._contacts.found(address, now)

    def gone(self, address: str) -> None:
        """Discovery shows nobody there any more."""
        self._contacts.gone(address)

    def refused(self, address: str, now: float) -> list[Effect]:
        """A connection to the address was refused."""
        return self._digest(self._swim.refused(address, now), now)

    def disconnected(self, identity: tuple[str, int], now: float) -> list[Effect]:
        """A connection with this run of a node was lost; it had proved to be its own."""
        return self._digest(self._swim.disconnected(identity, now), now)

    def send_failed(self) -> None:
        """This machine could not send a datagram."""
        self._swim.send_failed()

    def change(self, me: Member, now: float) -> list[Effect]:
        """This node's record is another one from now on; the run stays the same."""
        return self._views.change(replace(me, incarnation=self.me.incarnation), now)

    def leave(self) -> list[Effect]:
        """Say goodbye; nothing more is to be asked of this participant."""
        return self._swim.leave()

    def stats(self) -> dict[str, int | float]:
        """Return the counts of the protocol, by name."""
        claims = self._swim.claims()
        return {
            "members_alive": sum(not claim.status.is_final for claim in claims),
            "members_suspect": sum(claim.status is Status.SUSPECT for claim in claims),
            "members_dead": sum(claim.status is Status.DEAD for claim in claims),
            "contacts": len(self._contacts),
            "health": self._swim.health.score,
            "probes_failed": self._swim.probes_failed,
            "refutations": self._swim.refutations,
            "views_issued": self._views.views_issued,
            "keys_refused": self._views.keys_refused,
            "view_number": self.view.number if self.view else 0,
        }

    def _digest(self, effects: Iterable[Effect], now: float) -> list[Effect]:
        """Pass news between the cores; return what is for the shell."""
        outward: list[Effect] = []
        changed = False
        for effect in effects:
            match effect:
                case Changed(claim, _):
                    changed = True
                    outward += self._on_change(claim, now)
                case Dial(address):
                    outward.append(Send(address, Exchange(True), self._swim.claims()))
                case _:
                    outward.append(effect)
        if changed:
            outward += self._views.believe(self._swim.claims(), now)
        return outward

    def _on_change(self, claim: Claim, now: float) -> list[Effect]:
        if claim.id == self.me.id:
            reborn = replace(self.me, incarnation=claim.incarnation)
            # Those who buried the old run hear of the new one at once, not by chance.
            told = [Send(peer.address, Gossip()) for peer in self._swim.alive()]
            return [*self._views.change(reborn, now), *told]
        if claim.status is Status.DEAD:
            self._contacts.remember(claim.address, now)
        if claim.status is Status.SUSPECT and self.view is not None:
            member = self.view.member(claim.id)
            if member is not None and member.incarnation == claim.incarnation:
                return [Notify(MemberSuspected(member))]
        return []
