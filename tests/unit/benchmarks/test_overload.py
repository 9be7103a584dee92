"""What is read off an overloaded run."""

from collections import Counter

from benchmarks.overload import Outcome, missed


def outcome(**more: object) -> Outcome:
    made = Outcome(5.0, goodput=90.0, offered=10, accepted=4, refused=Counter({"MailboxFull": 6}))
    made.latencies, made.beside = [0.5], [0.1]
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_what_is_refused_in_words_and_answered_in_time_is_well() -> None:
    assert outcome().unaccounted == 0
    assert missed(outcome(), best=100.0) == []


def test_each_target_is_missed_by_its_name() -> None:
    assert missed(outcome(goodput=79.0), 100.0) == ["goodput"]
    assert missed(outcome(goodput=79.0, factor=2.0), 100.0) == [], "of the highest load only"
    assert missed(outcome(grown_mb={"caller": 129.0, "server": 0.0}), 100.0) == ["memory"]
    assert missed(outcome(latencies=[1.1]), 100.0) == ["latency"]
    assert missed(outcome(offered=11), 100.0) == ["silent"]
    assert missed(outcome(lost=1), 100.0) == ["silent"]
    assert missed(outcome(beside=[0.3]), 100.0) == ["starves"]
    assert missed(outcome(beside_failed=1), 100.0) == ["starves"]
