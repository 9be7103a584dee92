"""Those who are said to be dead are asked. A pure core.

Whoever gathers proof asks the voters first, and a ballot that rests on proof shows it to
them. A voter that still has a connection to the accused asks it on the spot: if it answers
in time, the voter objects. Until then the ballot's question waits here.
"""

from __future__ import annotations

from ringcast.values import dataclass

from .agreement_messages import Accept, Alive, Nack, Prepare, Proof
from .effects import Effect, Send
from .member import Identity
from .profile import Profile

__all__ = ["Objections"]

_ANSWERS_EXPECTED = 1.0
"""Seconds for which an accuser is told that the accused has answered."""


@dataclass(frozen=True, slots=True)
class _Question:
    message: Prepare | Accept
    address: str
    until: float


class Objections:
    """The accused that one node has asked, and what waits for their answers."""

    def __init__(self, profile: Profile) -> None:
        """Start with nobody accused."""
        self._profile = profile
        self._accusers: dict[tuple[Identity, str], float] = {}
        self._questions: list[_Question] = []

    def clear(self) -> None:
        """Forget all: another view is in force."""
        self._accusers.clear()
        self._questions.clear()

    def ask(self, who: Identity, at: str, lineage: str, accuser: str, now: float) -> list[Effect]:
        """Ask the accused, on behalf of an accuser who is heard at that address."""
        self._accusers[who, accuser] = now + _ANSWERS_EXPECTED
        return [Send(at, Proof(lineage, who))]

    def hold(self, message: Prepare | Accept, address: str, asked: dict[Identity, str], now: float) -> list[Effect]:
        """Let a ballot's question wait for the answers of those that it holds for dead."""
        self._questions.append(_Question(message, address, now + self._profile.probe_timeout))
        return [Send(at, Proof(message.lineage, who)) for who, at in sorted(asked.items())]

    def on_alive(self, message: Alive, now: float) -> list[Effect]:
        """Pass the accused's own word on, and refuse the ballots that hold it for dead."""
        effects: list[Effect] = []
        for (who, accuser), until in sorted(self._accusers.items()):
            if who == message.who:
                del self._accusers[who, accuser]
                if now < until:
                    effects.append(Send(accuser, message))
        for question in tuple(self._questions):
            asked = question.message
            if message.who in asked.dead:
                self._questions.remove(question)
                nack = Nack(asked.lineage, asked.number, asked.ballot, None, (message.who,))
                effects.append(Send(question.address, nack))
        return effects

    def unanswered(self, now: float) -> list[tuple[Prepare | Accept, str]]:
        """Return the ballots' questions, with their senders' addresses, that nobody has answered in time."""
        due = [question for question in self._questions if now >= question.until]
        self._questions = [question for question in self._questions if now < question.until]
        return [(question.message, question.address) for question in due]

    def next_deadline(self) -> float:
        """Return when `unanswered` may have something."""
        return min((question.until for question in self._questions), default=float("inf"))
