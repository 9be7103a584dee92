"""The steps of a rotation, told by the file alone, and who has not caught up."""

import threading
from pathlib import Path
from typing import Any

import pytest

from ringcast.errors import ConfigError
from ringcast.runtime.inquiry import NoAnswerError
from ringcast.runtime.rotation import Behind, Step, behind, changed, newest, next_step, replace_secret
from ringcast.security.private import create_private
from ringcast.security.secret import Key, Secret, new_key

OLD = new_key(1000.0)


def ids(secret: Secret) -> list[str]:
    return [key.id for key in secret.keys]


def test_three_steps_replace_the_key_and_begin_anew() -> None:
    begun = Secret((OLD,))
    assert next_step(begun) is Step.ADD
    added = changed(begun, now=2000.0)
    assert (added.keys[0], len(added.keys), added.keys[1].made) == (OLD, 2, 2000)
    assert next_step(added) is Step.PROMOTE
    promoted = changed(added, now=3000.0)
    assert promoted.keys == (added.keys[1], OLD)
    assert next_step(promoted) is Step.DROP
    dropped = changed(promoted, now=4000.0)
    assert dropped.keys == (added.keys[1],)
    assert next_step(dropped) is Step.ADD


@pytest.mark.parametrize("now", [0.0, 999.0, 1000.0, 1000.9])
def test_a_clock_that_stands_or_was_set_back_does_not_confuse_the_steps(now: float) -> None:
    secret, steps = Secret((OLD,)), list[Step]()
    for _ in range(6):
        steps.append(next_step(secret))
        secret = changed(secret, now)
    assert steps == [Step.ADD, Step.PROMOTE, Step.DROP] * 2
    assert OLD not in secret.keys


def test_a_key_of_unknown_age_is_the_old_one() -> None:
    assert newest(changed(Secret((Key(OLD.material),)), 5.0)).made == 5


def test_several_old_keys_go_together() -> None:
    first, second, third = new_key(1.0), new_key(2.0), new_key(3.0)
    promoted = changed(Secret((first, second, third)), 9.0)
    assert promoted.keys == (third, first, second)
    assert changed(promoted, 9.0).keys == (third,)


def told(signs: Key, *accepts: Key) -> tuple[dict[str, Any], dict[str, Any]]:
    status = {"secret": {"signs": signs.id, "accepts": [key.id for key in accepts]}}
    return {"id": "one", "address": "127.0.0.1:1"}, status


def reasons(secret: Secret, *answers: Any) -> list[str]:
    return [who.reason for who in behind(secret, answers)]


def test_promote_waits_for_all_to_accept_the_new_key() -> None:
    added = changed(Secret((OLD,)), 2000.0)
    new = added.keys[1]
    assert reasons(added, told(OLD, OLD, new), told(new, new, OLD)) == []
    assert reasons(added, told(OLD, OLD), told(OLD, OLD, new)) == [f"does not accept the new key {new.id} yet"]


def test_drop_waits_for_all_to_sign_with_the_new_key() -> None:
    promoted = changed(changed(Secret((OLD,)), 2000.0), 2000.0)
    new = promoted.keys[0]
    assert reasons(promoted, told(new, new, OLD)) == []
    assert reasons(promoted, told(OLD, OLD, new), told(new, new)) == [f"still signs with {OLD.id}"]


def test_after_the_drop_the_old_key_is_waited_out() -> None:
    new = new_key(2000.0)
    assert reasons(Secret((new,)), told(new, new)) == []
    assert reasons(Secret((new,)), told(new, new, OLD)) == [f"still accepts {OLD.id}"]


@pytest.mark.parametrize("steps", [1, 2])
def test_who_does_not_answer_has_not_caught_up(steps: int) -> None:
    secret = Secret((OLD,))
    for _ in range(steps):
        secret = changed(secret, 2000.0)
    silent = {"id": "two", "address": "127.0.0.1:2"}, NoAnswerError("it hangs")
    assert behind(secret, [silent]) == [
        Behind("two", "127.0.0.1:2", "does not answer, and may use the old key: it hangs")
    ]


def test_the_file_stays_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = Secret((OLD,))
    create_private(path, old.render())
    new = changed(old, 2000.0)
    replace_secret(path, old, new)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Secret.read(path) == new
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_else_has_changed_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = Secret((OLD,))
    create_private(path, changed(old, 2000.0).render())
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="was changed meanwhile"):
        replace_secret(path, old, changed(old, 3000.0))
    assert path.read_bytes() == before


def test_of_rotations_at_the_same_moment_one_wins_and_no_key_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = Secret((OLD,))
    create_private(path, old.render())
    candidates = [changed(old, 2000.0) for _ in range(16)]
    begin, won = threading.Barrier(len(candidates)), list[Secret]()

    def rotate(new: Secret) -> None:
        begin.wait()
        try:
            replace_secret(path, old, new)
        except ConfigError:
            return
        won.append(new)

    threads = [threading.Thread(target=rotate, args=(new,)) for new in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Secret.read(path) == won[0]
