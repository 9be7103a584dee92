from hypothesis import given
from hypothesis import strategies as st

from ringcast.discovery.window import WINDOW_SIZE, Window


def accept(window: Window, number: int) -> bool:
    """What a receiver does with an authentic datagram."""
    is_new = window.is_new(number)
    if is_new:
        window.mark(number)
    return is_new


@given(st.sets(st.integers(0, WINDOW_SIZE - 1)), st.integers(0, 2**64 - WINDOW_SIZE), st.data())
def test_within_the_window_each_number_passes_once_in_any_order(
    offsets: set[int], first: int, data: st.DataObject
) -> None:
    numbers = [first + offset for offset in sorted(offsets)]
    repeated = data.draw(st.lists(st.sampled_from(numbers), max_size=20)) if numbers else []
    window = Window()
    accepted = [number for number in data.draw(st.permutations(numbers + repeated)) if accept(window, number)]
    assert sorted(accepted) == numbers


@given(st.lists(st.integers(0, 3 * WINDOW_SIZE) | st.integers(0, 2**64 - 1)))
def test_it_agrees_with_one_that_remembers_everything(numbers: list[int]) -> None:
    window = Window()
    seen: set[int] = set()
    for number in numbers:
        is_recent = not seen or number > max(seen) - WINDOW_SIZE
        assert accept(window, number) == (is_recent and number not in seen)
        if is_recent:
            seen.add(number)


def test_what_is_older_than_the_window_is_refused_though_it_never_came() -> None:
    window = Window()
    assert accept(window, 5000)
    assert not window.is_new(5000 - WINDOW_SIZE)
    assert window.is_new(5000 - WINDOW_SIZE + 1)


def test_asking_marks_nothing() -> None:
    window = Window()
    assert window.is_new(7)
    assert window.is_new(7)
    assert accept(window, 3)


def test_a_leap_to_the_highest_number_costs_nothing_and_forgets_nothing() -> None:
    window = Window()
    assert accept(window, 0)
    assert accept(window, 2**64 - 1)
    assert not window.is_new(2**64 - 1)
    assert not window.is_new(0)
    assert window.is_new(2**64 - WINDOW_SIZE)
