"""One node's whole part in the membership protocol: SWIM, agreement, hand-off and contacts together.

A pure core made of four. It passes on what one of them learns to the others: what SWIM believes is
what agreement proposes by, a view is what partitions are handed over by, deaths become addresses to
dial again, and a run that is over goes on as a new incarnation in all of them. What a node says to
itself never leaves it. A shell (`driver`, or a test in virtual time) brings messages and time in and
carries effects out.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from .agreement import Agreement
from .agreement_messages import Apply, Charter, Hello
from .applicant import Founding
from .claim import Claim, Status
from .contacts import Contacts
from .effects import Changed, Dial, Effect, InstallView, Notify, Record, SelfFence, Send, Warn
from .handoff import Drained, DrainedSeen, Handoff, HandoffEffect, Shares, Tell
from .member import Identity, Member, MemberLost, MemberSuspected, View
from .messages import DatagramMessage, Envelope, Exchange, Message, Refused
from .profile import Profile
from .quorum import voters_of
from .share import Share
from .swim import Swim

__all__ = ["Participant"]

_SWIM_ONLY = DatagramMessage | Exchange | Refused


class Participant:
    """The protocol, as one node takes part in it."""

    def __init__(
        self,
        me: Member,
        profile: Profile,
        rng: random.Random,
        now: float,
        *,
        shares_of: Shares,
        founding: Founding | None = None,
        charter: Charter | None = None,
        record: Record | None = None,
        trusts_refusal: bool = True,
    ) -> None:
        """Start at `now`; see `Agreement` and `Handoff`."""
        self._swim = Swim(Claim(me.id, me.address, me.incarnation), profile, rng, now)
        self._agreement = Agreement(
            me,
            profile,
            rng,
            now,
            founding=founding,
            charter=charter,
            record=record,
            trusts_refusal=trusts_refusal,
        )
        self._handoff = Handoff(shares_of, profile, rng)
        self._contacts = Contacts(me.address, profile, rng)
        self._who = me.identity
        self._warned: set[str] = set()
        self._keys_refused = 0

    @property
    def me(self) -> Member:
        """This node's record as it wants to be seen."""
        return self._agreement.me

    @property
    def view(self) -> View | None:
        """The view in force here, or that of the run before as long as there is no other."""
        return self._agreement.view

    @property
    def sender(self) -> Claim:
        """What goes into the envelope of everything that is sent."""
        return self._swim.me

    @property
    def shares(self) -> Mapping[str, Share]:
        """What of each class may run here."""
        return self._handoff.shares

    @property
    def watched(self) -> list[Member]:
        """The members to which a connection must be kept, so that its end may prove their death."""
        view = self.view
        if view is None or all(voter.identity != self._who for voter in voters_of(view)):
            return []
        return [member for member in view.members if member.id != self._who[0]]

    # Messages

    def receive(self, envelope: Envelope, now: float, *, by_tcp: bool, dialled: str | None = None) -> list[Effect]:
        """React to a message.

        Args:
            envelope: What was said, and by whom.
            now: The present.
            by_tcp: Which way it came. What only a connection can vouch for is not taken from a datagram.
            dialled: The address by which this node reached the sender, if it did.
        """
        message, sender = envelope.message, envelope.sender
        if not by_tcp and not isinstance(message, DatagramMessage):
            return []
        if dialled is not None:
            self._contacts.answered(dialled, sender.id == self.me.id)
        if sender.id == self.me.id:
            # A seed that names this very node: the answer tells the dialling end so.
            is_own = by_tcp and message == Exchange(True)
            return [Send(sender.address, Exchange(False))] if is_own else []
        self._agreement.evidence.heard(sender.identity, now)
        effects = self._swim.receive(envelope, now, by_tcp=by_tcp)
        if not isinstance(message, _SWIM_ONLY):
            effects += self._hear(message, sender, now)
        return self._digest(effects, now)

    def objection(self, envelope: Envelope, key: bytes) -> list[Effect] | None:
        """Say what stands against a message from whoever proved `key`, and may speak for the sender.

        The view pins each member's key. Somebody else is taken for the node only as a later run of it, and
        only when no connection to the one that the view names is open here.

        Returns:
            None if the message may be received; else what is to be done about it.
        """
        sender, message = envelope.sender, envelope.message
        shown = message.member.key if isinstance(message, Hello | Apply) else key
        held = self.view.member(sender.id) if self.view is not None else None
        if shown == key and (held is None or held.key == key or self._has_replaced(sender, held)):
            return None
        self._keys_refused += 1
        if sender.id in self._warned:
            return []
        self._warned.add(sender.id)
        what = "another key than this member's was shown and refused; look for a second process with its id"
        return [Warn(what, sender.id, sender.address)]

    def _has_replaced(self, sender: Claim, held: Member) -> bool:
        return sender.incarnation > held.incarnation and not self._agreement.evidence.is_connected(held.identity)

    def persisted(self, then: Iterable[Send], now: float) -> list[Effect]:
        """A record is on disk: what had to wait for it may be said."""
        return self._digest([*then], now)

    # What connections do

    def connected(self, who: Identity, address: str, now: float) -> list[Effect]:
        """A connection that this node dialled is answered by this run of a node."""
        effects = self._agreement.answered(address, who, now)
        if who != self._who:
            self._agreement.evidence.connected(who, address)
        return self._digest(effects, now)

    def ended(self, who: Identity, now: float, *, by_peer: bool) -> list[Effect]:
        """Such a connection is over; `by_peer`: it was the other end, or its kernel, that closed it."""
        self._agreement.evidence.ended(who, now, by_peer=by_peer)
        return self._digest([], now)

    def refused(self, address: str, now: float) -> list[Effect]:
        """A connection to the address was refused."""
        return self._digest([*self._swim.refused(address, now), *self._agreement.refused(address, now)], now)

    def disconnected(self, identity: Identity, now: float) -> list[Effect]:
        """A connection with this run of a node was lost; it had proved to be its own."""
        return self._digest(self._swim.disconnected(identity, now), now)

    def send_failed(self) -> None:
        """This machine could not send a datagram."""
        self._swim.send_failed()

    # What discovery and the application do

    def found(self, address: str, now: float) -> None:
        """Discovery shows somebody at the address."""
        self._contacts.found(address, now)

    def gone(self, address: str) -> None:
        """Discovery shows nobody there any more."""
        self._contacts.gone(address)

    def change(self, me: Member, now: float) -> list[Effect]:
        """This node's record is another one from now on; the run stays the same."""
        return self._digest(self._agreement.change(me, now), now)

    def reshare(self, now: float) -> list[Effect]:
        """Look again at what the view gives to this node: there are more classes."""
        view = self.view
        if view is None or self._handoff.is_fenced:
            return []
        return self._digest(self._handoff.install(view, self._who, now), now)

    def emptied(self, now: float) -> list[Effect]:
        """Something of a draining partition has ended."""
        return self._digest(self._handoff.emptied(now), now)

    def release(self, now: float) -> list[Effect]:
        """Give the lease up for good: nothing acts here any more."""
        return self._digest(self._agreement.release(now), now)

    def dissolve(self, why: str, now: float) -> list[Effect]:
        """Forget the lineage and start over; see `Agreement.dissolve`."""
        return self._digest(self._agreement.dissolve(why, now), now)

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye; nothing more is to be asked of this participant."""
        return [*self.release(now), *self._swim.leave()]

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        effects = self._digest(self._swim.tick(now), now)
        effects += self._digest(self._agreement.tick(now), now)
        effects += self._digest(self._handoff.tick(now), now)
        return effects + self._digest(self._contacts.tick(now), now)

    def next_deadline(self, now: float) -> float:
        """Return when `tick` must be called again at the latest."""
        return min(
            self._swim.next_deadline(),
            self._agreement.next_deadline(now),
            self._handoff.next_deadline(),
            self._contacts.next_deadline(),
        )

    def stats(self) -> dict[str, int | float]:
        """Return the counts of the protocol, by name."""
        claims = self._swim.claims()
        council = self._agreement.council
        return {
            "members_alive": sum(not claim.status.is_final for claim in claims),
            "members_suspect": sum(claim.status is Status.SUSPECT for claim in claims),
            "members_dead": sum(claim.status is Status.DEAD for claim in claims),
            "contacts": len(self._contacts),
            "health": self._swim.health.score,
            "probes_failed": self._swim.probes_failed,
            "refutations": self._swim.refutations,
            "keys_refused": self._keys_refused,
            "view_number": self.view.number if self.view else 0,
            "fences": self._agreement.fences,
            "forks": council.forks if council is not None else 0,
            "proven_dead": len(self._agreement.evidence.proven),
        }

    # Plumbing

    def _hear(self, message: Message, sender: Claim, now: float) -> list[Effect]:
        if isinstance(message, Drained | DrainedSeen):
            return self._handed_over(self._handoff.receive(message, sender.identity))
        assert not isinstance(message, _SWIM_ONLY), "those are no part of an agreement"
        return self._agreement.receive(message, sender, now)

    def _digest(self, effects: Sequence[Effect | HandoffEffect], now: float) -> list[Effect]:
        """Pass news between the cores; return what is for the shell."""
        # No word of those who are out is waited for; known here before anything is opened.
        excused = self._handoff.excuse(self._agreement.excused)
        if not (effects or excused):
            return []
        outward: list[Effect] = []
        queue: deque[Effect | HandoffEffect] = deque([*excused, *effects])
        has_changed = False
        while queue or has_changed:
            if not queue:
                has_changed = False
                queue.extend(self._agreement.believe(self._swim.claims(), now))
                continue
            effect = queue.popleft()
            match effect:
                case Changed(claim, _):
                    has_changed = True
                    queue.extend(self._on_change(claim, now))
                case Dial(address):
                    outward.append(Send(address, Exchange(True), self._swim.claims()))
                case Send(address, message) if address == self.me.address and isinstance(message, _SWIM_ONLY):
                    pass  # meant for a node that had this address before
                case Send(address, message) if address == self.me.address:
                    queue.extend(self._hear(message, self.sender, now))
                    queue.extend(self._handoff.excuse(self._agreement.excused))
                case InstallView(view):
                    outward.append(effect)
                    outward += self._handed_over(self._handoff.install(view, self._who, now))
                case SelfFence(_, me):
                    self._who = me.identity
                    self._swim.go_on_as(me.incarnation)
                    self._handoff.fence()
                    outward.append(effect)
                case Notify(MemberLost(member)):
                    self._contacts.remember(member.address, now)
                    outward.append(effect)
                case _:
                    outward += self._handed_over([effect])
        return outward

    def _handed_over(self, effects: Iterable[Effect | HandoffEffect]) -> list[Effect]:
        """Return them with the words of the hand-off as what is to be sent."""
        return [
            Send(effect.member.address, effect.message) if isinstance(effect, Tell) else effect for effect in effects
        ]

    def _on_change(self, claim: Claim, now: float) -> list[Effect]:
        if claim.id == self.me.id:
            why = "a later run of this node is known to the others: its clock was set back, or its id is used twice"
            return self._agreement.start_over(why, now, after=claim.incarnation)
        if claim.status is Status.DEAD:
            self._contacts.remember(claim.address, now)
        if claim.status is Status.SUSPECT and self.view is not None:
            member = self.view.member(claim.id)
            if member is not None and member.incarnation == claim.incarnation:
                return [Notify(MemberSuspected(member))]
        return []
