import random

from ringcast.discovery.agreement_messages import AgreementMessage, Apply, Charter, Hello, Meet
from ringcast.discovery.applicant import Applicant, Founding
from ringcast.discovery.claim import Claim
from ringcast.discovery.effects import Effect, Send
from ringcast.discovery.member import Member
from ringcast.discovery.profile import LOCAL

NOW = 100.0
ME = Member("m", "m:1", {}, 5)
LOW = Member("a", "a:1", {}, 6)
HIGH = Member("z", "z:1", {}, 4)
WINDOW = LOCAL.discovery_window
A = Claim("a", "a:1", 6)
B = Claim("b", "b:1", 6)
Z = Claim("z", "z:1", 6)


def applicant(founding: Founding | None = None, me: Member = ME) -> Applicant:
    made = Applicant(me, LOCAL, random.Random(1), founding or Founding(), Charter(), NOW)
    made.meet_peers(["a:1", "z:1"], NOW)
    return made


def said(effects: list[Effect]) -> list[tuple[str, AgreementMessage]]:
    return [(effect.address, effect.message) for effect in effects if isinstance(effect, Send)]  # type: ignore[misc]


def meet(lineage: str, *, is_serving: bool = True) -> Meet:
    return Meet(lineage, 3, 2, is_serving, True, ("a:1", "b:1", "m:1"))


def hello(member: Member, vote: str = "", *, is_candidate: bool = True) -> Hello:
    return Hello(member, vote, is_candidate)


def test_it_greets_all_whom_it_hears_of_again_and_again() -> None:
    made = applicant()
    assert said(made.tick(NOW)) == [("a:1", hello(ME, "m")), ("z:1", hello(ME, "m"))]
    assert made.tick(NOW) == []
    assert NOW + 0.75 * LOCAL.retry <= made.next_deadline() <= NOW + 1.5 * LOCAL.retry
    made.meet_peers(["a:1"], NOW)
    assert made.tick(NOW) == []
    made.meet_peers(["a:1", "b:1"], NOW)
    assert [address for address, _ in said(made.tick(NOW))] == ["a:1", "b:1"]


def test_alone_it_founds_after_a_window_or_at_once_without_discovery() -> None:
    assert not applicant().is_due(NOW + WINDOW - 0.01)
    assert applicant().is_due(NOW + WINDOW)
    assert applicant(Founding(has_discovery=False)).is_due(NOW)
    assert not applicant(Founding(is_allowed=False)).is_due(NOW + 99)


def test_a_lower_id_goes_first_but_not_for_ever() -> None:
    made = applicant()
    made.on_hello(hello(HIGH), NOW)
    made.on_hello(hello(LOW), NOW + WINDOW)
    assert not made.is_due(NOW + WINDOW)
    assert made.is_due(NOW + 2.5 * WINDOW)
    made.on_hello(hello(LOW), NOW + 4 * WINDOW)
    assert made.is_due(NOW + 4 * WINDOW)
    made.on_hello(hello(LOW, is_candidate=False), NOW + WINDOW)
    assert made.is_due(NOW + WINDOW)


def test_with_expect_it_waits_for_votes() -> None:
    made = applicant(Founding(expect=3))
    made.tick(NOW)
    assert not made.is_due(NOW + WINDOW)
    made.on_hello(hello(LOW, "m"), NOW + WINDOW)
    assert made.is_due(NOW + WINDOW)
    assert not made.is_due(NOW + 2 * WINDOW)


def test_a_vote_is_kept_for_two_windows() -> None:
    made = applicant()
    assert said(made.tick(NOW))[0][1] == hello(ME, "m")
    made.on_hello(hello(LOW), NOW + WINDOW)
    assert said(made.tick(NOW + WINDOW))[0][1] == hello(ME, "m")
    made.on_hello(hello(LOW), NOW + 2 * WINDOW)
    made.on_hello(hello(Member("0", "0:1"), is_candidate=False), NOW + 2 * WINDOW)
    assert said(made.tick(NOW + 2 * WINDOW))[0][1] == hello(ME, "a")
    only_joins = applicant(Founding(is_allowed=False))
    assert said(only_joins.tick(NOW))[0][1] == hello(ME, "", is_candidate=False)


def test_any_answer_of_a_lineage_is_enough_to_apply_there() -> None:
    made = applicant()
    made.on_meet(meet("x", is_serving=False), A, NOW)
    assert made.lineage == "x"
    application = Apply("x", 0, ME, Charter())
    assert said(made.tick(NOW)) == [(address, application) for address in ("a:1", "b:1", "z:1")]
    assert not made.is_due(NOW + 9)


def test_it_changes_its_aim_only_for_one_that_serves_after_a_while_in_vain() -> None:
    made = applicant()
    made.on_meet(meet("x", is_serving=False), A, NOW)
    made.on_meet(meet("y"), A, NOW + 1)
    assert made.lineage == "x"
    made.on_meet(meet("y", is_serving=False), A, NOW + 3 * LOCAL.lease)
    assert made.lineage == "x"
    made.on_meet(meet("y"), A, NOW + 3 * LOCAL.lease)
    assert made.lineage == "y"


def test_a_lineage_that_falls_silent_is_given_up() -> None:
    made = applicant()
    made.on_meet(meet("x"), A, NOW)
    made.on_meet(meet("x"), A, NOW + 2)
    made.tick(NOW + 2 + 3 * LOCAL.lease - 0.01)
    assert made.lineage == "x"
    made.tick(NOW + 2 + 3 * LOCAL.lease)
    assert made.lineage is None
    assert not made.is_due(NOW + 2 + 3 * LOCAL.lease)


def test_a_lineage_that_more_than_half_of_its_voters_have_left_is_given_up() -> None:
    made = applicant()
    made.aim("x", ("a:1", "b:1", "y:1", "z:1"), NOW)
    for gone in (A, Claim("c", "c:1", 6), B, B):
        made.on_left(gone, NOW)
    assert made.lineage == "x"  # half of them could decide, with a proof
    made.on_left(Z, NOW + 1)
    assert made.lineage is None
    assert not made.is_due(NOW + 1 + WINDOW - 0.01)
    assert said(made.tick(NOW + 1))[0][1] == hello(ME, "m")
    made.on_left(Z, NOW + 1)  # nothing is aimed at


def test_who_applies_has_no_vote_in_that_lineage() -> None:
    made = applicant()
    made.aim("x", ("a:1", "m:1"), NOW)
    made.on_left(A, NOW)
    assert made.lineage is None


def test_a_lineage_is_given_up_when_all_have_left_it_who_told_of_it() -> None:
    made = applicant()
    made.on_meet(meet("x"), B, NOW)
    made.on_meet(meet("x"), Z, NOW)
    made.on_left(B, NOW)
    made.on_meet(meet("x"), B, NOW)
    made.on_left(Z, NOW)
    assert made.lineage == "x"
    made.on_left(B, NOW)
    assert made.lineage is None


def test_who_leaves_founds_nothing() -> None:
    assert not applicant(me=Member("m", "m:1", {}, 5, leaving=True)).is_due(NOW + WINDOW)
