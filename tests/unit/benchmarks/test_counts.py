"""What the guard of message costs says, and that it counts what it says it counts."""

import sys

from benchmarks.counts import ROOT, Counter, compare


def kept(instructions: int, calls: int) -> dict[str, dict[str, int]]:
    return {"ask": {"instructions": instructions, "calls": calls}}


def test_what_costs_the_same_or_less_passes() -> None:
    assert compare(kept(1000, 50), kept(1000, 50)) == []
    assert compare(kept(900, 40), kept(1000, 50)) == []
    assert compare(kept(1022, 53), kept(1000, 50)) == []


def test_what_is_dearer_is_named_with_how_much() -> None:
    assert compare(kept(1100, 50), kept(1000, 50)) == ["ask: 1100 instructions, +100 (+10.0%) on what is kept"]
    assert compare(kept(1000, 60), kept(1000, 50)) == ["ask: 60 calls, +10 (+20.0%) on what is kept"]


def test_an_operation_that_nobody_keeps_does_not_pass() -> None:
    assert compare(kept(1, 1), {}) == ["ask: nothing is kept of it"]


def test_only_our_own_instructions_count() -> None:
    def traced(file: str, lines: int) -> int:
        code = compile("\n".join(["x = 1"] * lines), file, "exec")
        counter, before = Counter(), sys.gettrace()
        counter.trace()
        try:
            exec(code, {})
        finally:
            sys.settrace(before)
        return counter.seen

    assert traced("/somewhere/else/router.py", 10) == 0
    assert traced(f"{ROOT}/.venv/lib/ringcast/router.py", 10) == 0
    few, many = traced(f"{ROOT}/ringcast/runtime/router.py", 10), traced(f"{ROOT}/ringcast/runtime/router.py", 20)
    assert many - few == 20, "two instructions for each line"
