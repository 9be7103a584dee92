import itertools
import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.effects import Changed, Effect, Send, SendUdp, Warn
from ringcast.discovery.messages import (
    Ack,
    Envelope,
    Exchange,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    Refused,
)
from ringcast.discovery.profile import LAN, LOCAL, Profile
from ringcast.discovery.swim import Swim

START = 100.0
ME = Claim("me", "me:1", 1_000)


def claim(name: str, status: Status = Status.ALIVE, incarnation: int = 1, refutation: int = 0, by: str = "") -> Claim:
    return Claim(name, f"{name}:1", incarnation, refutation, status, by)


class Bench:
    """One core, driven by hand: time moves from deadline to deadline."""

    def __init__(self, *names: str, profile: Profile = LOCAL) -> None:
        self.now = START
        self.swim = Swim(ME, profile, random.Random(1), START)
        for name in names:
            self.hear(name, Gossip())

    def hear(self, sender: str | Claim, message: Message, *claims: Claim, by_tcp: bool = False) -> list[Effect]:
        who = claim(sender) if isinstance(sender, str) else sender
        return self.swim.receive(Envelope(who, message, claims), self.now, by_tcp=by_tcp)

    def run(self, until: float) -> list[Effect]:
        effects: list[Effect] = []
        while self.swim.next_deadline() <= until:
            self.now = max(self.now, self.swim.next_deadline())
            effects += self.swim.tick(self.now)
        self.now = until
        return effects

    def run_to(self, kind: type[Message], limit: float = 30.0) -> tuple[SendUdp, Message]:
        """Go on until a datagram with such a message leaves; return it."""
        end = self.now + limit
        while (now := self.swim.next_deadline()) <= end:
            self.now = max(self.now, now)
            for effect in self.swim.tick(self.now):
                if isinstance(effect, SendUdp) and isinstance(effect.message, kind):
                    return effect, effect.message
        pytest.fail(f"no {kind.__name__} within {limit} s")

    def run_to_ping(self) -> Ping:
        _, message = self.run_to(Ping)
        assert isinstance(message, Ping)
        return message

    def status(self, name: str) -> Status:
        return next(known.status for known in self.swim.claims() if known.id == name)


def changes(effects: Iterable[Effect]) -> list[Claim]:
    return [effect.claim for effect in effects if isinstance(effect, Changed)]


def said(effects: Iterable[Effect], kind: type[Message]) -> list[SendUdp | Send]:
    return [effect for effect in effects if isinstance(effect, SendUdp | Send) and isinstance(effect.message, kind)]


def test_alone_it_probes_and_says_nothing() -> None:
    bench = Bench()
    assert bench.run(START + 60) == []
    assert bench.swim.claims() == (ME,)


def test_whoever_speaks_is_learned_and_acknowledged_the_same_way() -> None:
    bench = Bench()
    effects = bench.hear("a", Ping(7, "me"))
    assert changes(effects) == [claim("a")]
    [ack] = said(effects, Ack)
    assert isinstance(ack, SendUdp)
    assert (ack.address, ack.message) == ("a:1", Ack(7))
    assert said(bench.hear("a", Ping(8, "me"), by_tcp=True), Ack) == [Send("a:1", Ack(8))]
    assert said(bench.hear("a", Ping(9, "who had this address before")), Ack) == []


def test_own_messages_and_strange_ones_change_nothing() -> None:
    bench = Bench("a")
    assert bench.hear(ME, Ping(7, "me")) == []
    assert bench.hear("a", Refused("x", 1)) == []
    assert bench.hear("a", Ack(12345)) == []
    assert bench.hear("a", Nack(12345)) == []


def test_every_member_is_probed_in_each_round() -> None:
    bench = Bench("a", "b", "c")
    for _ in range(4):
        targets: list[str] = []
        for _ in range(3):
            ping = bench.run_to_ping()
            targets.append(ping.target)
            bench.hear(ping.target, Ack(ping.seq))
        assert sorted(targets) == ["a", "b", "c"]
    assert bench.swim.health.score == 0
    assert bench.swim.probes_failed == 0


def test_silence_asks_helpers_and_tcp_then_suspects_then_declares_dead() -> None:
    bench = Bench("a", "b")
    ping = bench.run_to_ping()
    target, helper = ping.target, "b" if ping.target == "a" else "a"
    began = bench.now
    effects = bench.run(began + LOCAL.probe_timeout)
    [request] = said(effects, PingRequest)
    assert request.address == f"{helper}:1"
    assert request.message == PingRequest(ping.seq, target, 1, f"{target}:1")
    assert said(effects, Ping) == [Send(f"{target}:1", ping)]

    bench.hear(helper, Nack(ping.seq))
    effects = bench.run(began + LOCAL.probe_interval)
    suspect = claim(target, Status.SUSPECT, by="me")
    assert changes(effects) == [suspect]
    # The suspect is told at once, both ways; the nack says that the link here is well.
    assert {type(tell) for tell in said(effects, Gossip) if tell.claims == (suspect,)} == {Send, SendUdp}
    assert bench.swim.health.score == 0
    assert bench.swim.probes_failed == 1

    effects = bench.run(began + 5.0)
    assert claim(target, Status.DEAD, by="me") in changes(effects)
    assert target not in {known.id for known in bench.swim.alive()}


def test_a_relayed_ack_saves_the_target() -> None:
    bench = Bench("a", "b")
    ping = bench.run_to_ping()
    bench.run(bench.now + LOCAL.probe_timeout)
    bench.hear("a" if ping.target == "b" else "b", Ack(ping.seq))
    assert changes(bench.run(bench.now + LOCAL.probe_interval - LOCAL.probe_timeout)) == []
    assert bench.swim.probes_failed == 0


def test_a_helper_pings_and_passes_on_ack_or_nack() -> None:
    bench = Bench("asker", "x")
    [ping] = said(bench.hear("asker", PingRequest(40, "x", 7, "x:1")), Ping)
    assert isinstance(ping, SendUdp)
    assert isinstance(ping.message, Ping)
    # For the run that the asker knows, whatever is known here.
    assert (ping.address, ping.recipient, ping.message.target) == ("x:1", ("x", 7), "x")
    [nack] = said(bench.run(bench.now + LOCAL.probe_timeout), Nack)
    assert (nack.address, nack.message) == ("asker:1", Nack(40))
    [ack] = said(bench.hear("x", Ack(ping.message.seq)), Ack)
    assert (ack.address, ack.message) == ("asker:1", Ack(40))


def test_missing_nacks_and_silence_without_helpers_worsen_the_health() -> None:
    with_helper = Bench("a", "b")
    with_helper.run_to_ping()
    with_helper.run(with_helper.now + LOCAL.probe_interval)
    assert with_helper.swim.health.score == 1
    without = Bench("a")
    without.run_to_ping()
    without.run(without.now + LOCAL.probe_interval)
    assert without.swim.health.score == 1


def test_poor_health_makes_probes_patient_and_acks_cure_it() -> None:
    bench = Bench("a")
    bench.swim.send_failed()
    assert bench.swim.health.multiplier == 2
    ping = bench.run_to_ping()
    began = bench.now
    assert said(bench.run(began + 1.9 * LOCAL.probe_timeout), Ping) == []
    assert said(bench.run(began + 2 * LOCAL.probe_timeout), Ping) != []
    bench.hear("a", Ack(ping.seq))
    bench.run(began + 2 * LOCAL.probe_interval)
    assert bench.swim.health.multiplier == 1


def test_independent_accusers_shorten_a_suspicion_and_are_passed_on() -> None:
    bench = Bench("a", "b", "c", "d")
    suspect = claim("d", Status.SUSPECT, by="a")
    assert changes(bench.hear("a", Gossip(), suspect)) == [suspect]
    bench.run(bench.now + 0.5)
    assert bench.hear("b", Gossip(), replace(suspect, accuser="b")) == []
    assert bench.hear("b", Gossip(), replace(suspect, accuser="b")) == []
    passed_on = [known for tell in said(bench.run(bench.now + 0.06), Gossip) for known in tell.claims]
    assert replace(suspect, accuser="b") in passed_on
    bench.run(START + 0.76)
    assert bench.status("d") is Status.DEAD


def test_a_failed_probe_of_a_suspect_counts_as_one_more_accuser() -> None:
    bench = Bench("a", "d")
    suspect = claim("d", Status.SUSPECT, by="a")
    while bench.run_to_ping().target != "d":
        pass
    bench.hear("a", Gossip(), suspect)
    began = bench.now
    bench.run(began + 1.0)
    assert bench.status("d") is Status.DEAD


def test_a_suspect_is_cleared_by_its_own_word_only() -> None:
    bench = Bench("a", "b")
    bench.hear("a", Gossip(), claim("b", Status.SUSPECT, by="a"))
    # Its ack alone is no refutation, but it tells it that it is suspected.
    [ack] = said(bench.hear("b", Ping(7, "me")), Ack)
    assert ack.claims[0] == claim("b", Status.SUSPECT, by="a")
    assert bench.status("b") is Status.SUSPECT
    assert changes(bench.hear(claim("b", refutation=1), Gossip())) == [claim("b", refutation=1)]
    bench.run(bench.now + 0.2)
    assert bench.status("b") is Status.ALIVE


def test_suspicion_of_this_node_is_refuted() -> None:
    bench = Bench("a")
    accusation = replace(ME, status=Status.SUSPECT, accuser="a", refutation=3)
    assert bench.hear("a", Gossip(), accusation) == []
    assert bench.swim.me == replace(ME, refutation=4)
    assert bench.swim.refutations == 1
    assert bench.swim.health.score == 1
    assert bench.hear("a", Gossip(), accusation) == []
    assert bench.swim.refutations == 1
    told = [known for tell in said(bench.run(bench.now + 0.06), Gossip) for known in tell.claims]
    assert bench.swim.me in told


def test_its_own_death_is_refuted_as_suspicion_is_and_changes_nothing_else() -> None:
    bench = Bench("a", "b")
    bench.hear("a", Gossip(), claim("b", Status.DEAD))
    death = replace(ME, status=Status.DEAD, accuser="a")
    assert bench.hear("a", Gossip(), death) == []
    assert bench.swim.me == replace(ME, refutation=1)
    assert bench.swim.refutations == 1
    # What it believes of others it goes on believing: views decide who is a member.
    assert bench.status("b") is Status.DEAD
    assert bench.hear("a", Gossip(), death) == []
    assert bench.swim.refutations == 1
    # At the others its word takes the place of its death.
    assert bench.swim.me.supersedes(death)


def test_a_goodbye_that_it_never_said_is_ignored() -> None:
    bench = Bench("a")
    assert bench.hear("a", Gossip(), replace(ME, status=Status.LEFT)) == []
    assert bench.swim.me == ME


def test_of_a_later_run_of_itself_it_tells_and_goes_on_as_whom_it_is_told() -> None:
    bench = Bench("a")
    later = replace(ME, incarnation=9_000_000, status=Status.SUSPECT)
    assert bench.hear("a", Gossip(), later) == [Changed(later, None)]
    assert bench.swim.me == ME
    bench.swim.me = replace(ME, refutation=3)
    bench.swim.health.worsen(5)
    bench.swim.go_on_as(9_000_001)
    assert bench.swim.health.score == 0
    assert bench.swim.me == replace(ME, incarnation=9_000_001)
    assert bench.hear("a", Gossip(), later) == []
    told = [known for tell in said(bench.run(bench.now + 0.06), Gossip) for known in tell.claims]
    assert bench.swim.me in told


def test_the_dead_who_speak_are_shown_their_death_and_live_by_their_own_word_only() -> None:
    bench = Bench("a", "b", "c")
    bench.hear("a", Gossip(), claim("b", Status.DEAD), claim("c", Status.DEAD))
    effects = bench.hear("b", Ping(7, "me"))
    assert effects == [Send("b:1", Exchange(False), bench.swim.claims())]
    assert bench.status("b") is Status.DEAD
    # Its answer to an answer is not answered again.
    assert bench.hear("b", Exchange(False)) == []
    assert changes(bench.hear("a", Gossip(), claim("b"))) == []
    refuted = claim("b", refutation=1)
    assert changes(bench.hear(refuted, Gossip())) == [refuted]
    reborn = claim("c", incarnation=2)
    assert changes(bench.hear(reborn, Gossip())) == [reborn]


def test_who_has_said_goodbye_stays_gone_in_that_run() -> None:
    bench = Bench("a", "b")
    bench.hear("a", Gossip(), claim("b", Status.LEFT))
    assert changes(bench.hear(claim("b", refutation=7), Gossip())) == []
    assert bench.status("b") is Status.LEFT
    assert changes(bench.hear(claim("b", incarnation=2), Gossip())) == [claim("b", incarnation=2)]


def test_what_an_earlier_run_says_is_ignored() -> None:
    bench = Bench("b")
    late = claim("a", incarnation=5)
    bench.hear(late, Gossip())
    before = bench.swim.claims()
    # Whatever it is: it is not answered, nothing of it is believed, and nobody refutes it.
    about_me = replace(ME, status=Status.SUSPECT, accuser="a")
    for message in (Ping(7, "me"), PingRequest(7, "b", 1, "b:1"), Exchange(True), Gossip()):
        for by_tcp in (False, True):
            news = (claim("b", Status.DEAD), claim("c"), about_me)
            assert bench.hear(claim("a", incarnation=4), message, *news, by_tcp=by_tcp) == []
    assert bench.swim.claims() == before
    assert bench.swim.refutations == 0


def test_each_datagram_is_for_the_run_that_is_known() -> None:
    bench = Bench("a")
    bench.hear(claim("b", incarnation=5), Gossip())
    sent = [effect for effect in bench.run(bench.now + 1.0) if isinstance(effect, SendUdp)]
    assert {effect.recipient for effect in sent} == {("a", 1), ("b", 5)}
    bench.hear(claim("b", incarnation=6), Gossip())
    sent = [effect for effect in bench.run(bench.now + 0.5) if isinstance(effect, SendUdp)]
    assert ("b", 5) not in {effect.recipient for effect in sent}
    assert {effect.recipient for effect in bench.swim.leave() if isinstance(effect, SendUdp)} == {("a", 1), ("b", 6)}


def test_two_sides_that_buried_each_other_revive_each_other() -> None:
    one = Bench("b", "c")
    one.hear("c", Gossip(), claim("b", Status.DEAD))
    other = Swim(claim("b"), LOCAL, random.Random(2), START)
    death = replace(ME, status=Status.DEAD)
    other.receive(Envelope(claim("d"), Gossip(), (death,)), START, by_tcp=False)
    # The one dials the address of somebody who has died, as it does now and then.
    words: list[tuple[Claim, Send]] = [(one.swim.me, Send("b:1", Exchange(True), one.swim.claims()))]
    for _ in range(10):
        for speaker, word in words[:1]:
            hearer = other if speaker.id == "me" else one.swim
            answers = hearer.receive(Envelope(speaker, word.message, word.claims), START, by_tcp=True)
            words += [(hearer.me, answer) for answer in said(answers, Exchange) if isinstance(answer, Send)]
        del words[:1]
    assert words == [], "they would answer each other for ever"
    # A refutation is gossiped, and reaches the other with the next word of any kind.
    one.hear(other.me, Gossip())
    other.receive(Envelope(one.swim.me, Gossip()), START, by_tcp=False)
    assert one.status("b") is Status.ALIVE
    assert next(known.status for known in other.claims() if known.id == "me") is Status.ALIVE
    assert (one.swim.me.incarnation, other.me.incarnation) == (ME.incarnation, 1)


def test_who_was_declared_dead_hears_of_its_own_death_from_the_dead_and_of_nobody_elses() -> None:
    bench = Bench("a", "b")
    bench.hear("a", Gossip(), claim("b", Status.DEAD))
    told = (replace(ME, status=Status.DEAD), claim("a", Status.DEAD), claim("c"))
    bench.hear("b", Exchange(True), *told)
    assert bench.swim.refutations == 1
    assert bench.status("a") is Status.ALIVE
    assert [known.id for known in bench.swim.claims()] == ["me", "a", "b"]


def test_an_exchange_is_answered_with_all_that_is_known() -> None:
    bench = Bench("a", "b")
    [reply] = said(bench.hear("a", Exchange(True), claim("c")), Exchange)
    assert reply == Send("a:1", Exchange(False), (ME, claim("a"), claim("b"), claim("c")))
    assert bench.hear("a", Exchange(False)) == []


def test_all_is_exchanged_with_somebody_now_and_then() -> None:
    bench = Bench("a")
    times: list[float] = []
    while len(times) < 3:
        bench.now = bench.swim.next_deadline()
        for effect in bench.swim.tick(bench.now):
            if isinstance(effect, SendUdp) and isinstance(effect.message, Ping):
                bench.hear("a", Ack(effect.message.seq))
            elif effect == Send("a:1", Exchange(True), bench.swim.claims()):
                times.append(bench.now)
    assert START < times[0] <= START + LOCAL.full_exchange_interval
    assert [later - sooner for sooner, later in itertools.pairwise(times)] == [
        pytest.approx(LOCAL.full_exchange_interval)
    ] * 2


def test_two_refusals_in_a_row_are_as_good_as_a_failed_probe() -> None:
    bench = Bench("a", "b")
    assert bench.swim.refused("a:1", bench.now) == []
    effects = bench.run(bench.now + LOCAL.probe_timeout)
    assert [tell.address for tell in said(effects, Ping) if isinstance(tell, Send)] == ["a:1"]
    assert changes(bench.swim.refused("a:1", bench.now)) == [claim("a", Status.SUSPECT, by="me")]
    # A suspect that goes on refusing is not accused again and again.
    assert bench.swim.refused("a:1", bench.now) == []
    assert bench.swim.refused("unknown:1", bench.now) == []


def test_a_word_between_two_refusals_clears_them() -> None:
    bench = Bench("a", "b")
    bench.swim.refused("a:1", bench.now)
    bench.hear("a", Gossip())
    assert bench.swim.refused("a:1", bench.now) == []
    assert bench.status("a") is Status.ALIVE


def test_a_lost_connection_is_looked_into_at_once() -> None:
    bench = Bench("a", "b")
    before = bench.swim.next_deadline()
    for of_nobody_here in [("a", 0), ("c", 1)]:
        assert bench.swim.disconnected(of_nobody_here, bench.now) == []
        assert bench.swim.next_deadline() == before
    assert bench.swim.disconnected(claim("a").identity, bench.now) == []
    assert bench.swim.next_deadline() == bench.now
    [ping] = [tell for tell in said(bench.swim.tick(bench.now), Ping) if isinstance(tell, Send)]
    assert ping.address == "a:1"


def test_who_answers_over_tcp_only_is_probed_so_with_one_warning_until_datagrams_return() -> None:
    bench = Bench("a")
    effects: list[Effect] = []

    def next_probe() -> list[SendUdp | Send]:
        """Go on to the next probe; return its pings."""
        effects.clear()
        while not said(effects, Ping):
            bench.now = bench.swim.next_deadline()
            effects.extend(bench.swim.tick(bench.now))
        return said(effects, Ping)

    ways: list[list[type[Effect]]] = []
    warnings: list[Effect] = []
    for i in range(8):
        pings = next_probe()
        warnings += [effect for effect in effects if isinstance(effect, Warn)]
        ways.append([type(ping) for ping in pings])
        [message] = {ping.message for ping in pings}
        assert isinstance(message, Ping)
        bench.hear("a", Ack(message.seq), by_tcp=i < 6)
    assert ways == [[SendUdp]] * 3 + [[SendUdp, Send]] * 4 + [[SendUdp]]
    assert len(warnings) == 1
    assert bench.status("a") is Status.ALIVE
    assert bench.swim.health.score == 0


def test_sleep_of_its_own_kills_nobody() -> None:
    bench = Bench("a", "b")
    bench.hear("b", PingRequest(40, "a", 1, "a:1"))
    bench.hear("a", Gossip(), claim("b", Status.SUSPECT, by="a"))
    bench.run_to_ping()
    bench.now += 9.0
    assert changes(bench.swim.tick(bench.now)) == []
    assert bench.swim.health.score >= 1
    assert bench.status("b") is Status.SUSPECT
    bench.hear(claim("b", refutation=1), Gossip())
    assert bench.status("b") is Status.ALIVE


def test_sleep_between_two_probes_is_forgiven_too() -> None:
    bench = Bench()
    bench.now += 9.0
    bench.hear("a", Gossip())
    assert changes(bench.swim.tick(bench.now)) == []
    assert bench.swim.health.score == 1


def test_a_probe_of_someone_declared_dead_meanwhile_ends_quietly() -> None:
    bench = Bench("a", "b")
    ping = bench.run_to_ping()
    other = "a" if ping.target == "b" else "b"
    bench.hear(other, Gossip(), claim(ping.target, Status.DEAD))
    effects = bench.run(bench.now + LOCAL.probe_interval)
    assert said(effects, PingRequest) == []
    assert changes(effects) == []
    assert bench.swim.probes_failed == 0


def test_a_probe_of_someone_forgotten_meanwhile_ends_quietly() -> None:
    bench = Bench("a", "b")
    ping = bench.run_to_ping()
    other = "a" if ping.target == "b" else "b"
    bench.hear(other, Gossip(), claim(ping.target, Status.DEAD))
    # This machine slept for longer than the dead are remembered; the probe takes the lost time out.
    bench.now += LOCAL.dead_remembered
    bench.hear(other, Gossip())
    assert said(bench.swim.tick(bench.now), PingRequest) == []
    assert [known.id for known in bench.swim.claims()] == ["me", other]
    effects = bench.run(bench.now + LOCAL.probe_interval)
    assert said(effects, PingRequest) == []
    assert changes(effects) == []


def test_the_dead_are_remembered_for_a_day() -> None:
    bench = Bench()
    bench.hear("a", Gossip(), claim("b", Status.DEAD), claim("a", Status.LEFT))
    assert bench.hear("c", Gossip(), claim("b"))[1:] == []
    bench.now += LOCAL.dead_remembered
    bench.hear("c", Gossip())
    bench.swim.tick(bench.now)
    assert [known.id for known in bench.swim.claims()] == ["me", "c"]


def test_a_newer_run_replaces_an_older_one_at_once() -> None:
    bench = Bench("a")
    bench.swim.refused("a:1", bench.now)
    newer = Claim("a", "elsewhere:2", 2)
    assert changes(bench.hear(newer, Gossip())) == [newer]
    # What the older one still said is not heard.
    assert bench.hear("a", Ping(7, "me"), claim("b"), replace(ME, status=Status.DEAD)) == []
    assert bench.swim.alive() == [newer]


def test_gossip_reaches_a_few_and_keeps_to_the_datagram() -> None:
    bench = Bench(*"abcdefgh", profile=LAN)
    news = [Claim(f"node-{i}" * 5, f"host-{i}" * 5 + ":7400", 10**12 + i) for i in range(40)]
    bench.hear("a", Gossip(), *news)
    told = said(bench.run(bench.now + LAN.gossip_interval), Gossip)
    assert len(told) == LAN.gossip_fanout
    assert all(5 < len(tell.claims) < 20 for tell in told)


def test_leaving_tells_everyone_both_ways_and_then_is_silent() -> None:
    bench = Bench("a", "b")
    bench.hear("a", Gossip(), claim("c", Status.DEAD))
    goodbye = (replace(ME, status=Status.LEFT),)
    effects = bench.swim.leave()
    assert sorted(effect.address for effect in effects if isinstance(effect, Send)) == ["a:1", "b:1"]
    assert sorted(effect.address for effect in effects if isinstance(effect, SendUdp)) == ["a:1", "b:1"]
    assert all(isinstance(effect, Send | SendUdp) and effect.claims == goodbye for effect in effects)
    assert bench.hear("a", Ping(7, "me")) == []
    assert bench.swim.tick(bench.now + 60) == []
    assert bench.swim.next_deadline() == float("inf")
