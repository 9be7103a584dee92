"""The folder of one node: its id, its record, its lock; on a real disk, and on one that crashes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ringcast.discovery.agreement_messages import Ballot
from ringcast.discovery.archive import Archive
from ringcast.discovery.disk import Disk, Folder
from ringcast.discovery.effects import Record
from ringcast.discovery.member import Member, View
from ringcast.errors import ConfigError
from ringcast.runtime.simulation.disk import VirtualDisk, VirtualFolder

RECORD = Record(7, View("l", 3, (Member("x", "x:1", incarnation=7, has_record=True),)), Ballot(2, "x", 7))


def on_folder(path: Path) -> Callable[[], Disk]:
    return lambda: Folder(path / "node")


def on_virtual_disk(path: Path) -> Callable[[], Disk]:
    disk = VirtualDisk(random.Random(1))
    return lambda: VirtualFolder(disk, str(path))


@pytest.fixture(params=[on_folder, on_virtual_disk])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Disk]:
    """Give the same disk again and again, as the next process has it."""
    make: Callable[[Path], Callable[[], Disk]] = request.param
    return make(tmp_path)


def test_the_id_is_made_once(reopened: Callable[[], Disk]) -> None:
    first = Archive(reopened())
    assert len(first.node_id) == 12
    assert Archive(reopened()).node_id == first.node_id


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"x" * 33, b"../up"])
def test_what_is_no_id_is_not_taken_for_one(reopened: Callable[[], Disk], content: bytes) -> None:
    reopened().write("node", content)
    with pytest.raises(ConfigError, match=r"holds no node's id.*data_dir"):
        Archive(reopened())
    assert reopened().read("node") == content


def test_the_incarnation_grows_whatever_the_clock_says(reopened: Callable[[], Disk]) -> None:
    assert Archive(reopened()).begin(1000) == Record(1000)
    assert Archive(reopened()).begin(900) == Record(1001)
    assert Archive(reopened()).begin(5000) == Record(5000)


def test_the_record_comes_back_under_the_new_incarnation(reopened: Callable[[], Disk]) -> None:
    archive = Archive(reopened())
    archive.begin(7)
    archive.save(RECORD)
    found = Archive(reopened()).begin(8)
    assert (found.incarnation, found.view, found.promised, found.vote) == (8, RECORD.view, RECORD.promised, None)


def test_a_damaged_record_is_an_error_and_no_empty_one(reopened: Callable[[], Disk]) -> None:
    archive = Archive(reopened())
    archive.save(RECORD)
    damaged = bytearray(reopened().read("voter"))
    damaged[-1] ^= 1
    reopened().write("voter", bytes(damaged))
    with pytest.raises(ConfigError, match=r"is damaged\. A voter that has forgotten .* empty data_dir"):
        archive.begin(8)
    assert reopened().read("voter") == damaged


def test_one_process_at_a_time_has_it(reopened: Callable[[], Disk]) -> None:
    one, two = Archive(reopened()), Archive(reopened())
    one.claim()
    with pytest.raises(ConfigError, match="in use by another process"):
        two.claim()
    two.release()
    with pytest.raises(ConfigError, match="in use by another process"):
        two.claim()
    one.release()
    two.claim()
    two.release()


def test_what_was_saved_outlasts_a_crash_and_what_was_not_is_the_record_before() -> None:
    seen: set[int] = set()
    for seed in range(100):
        disk = VirtualDisk(rng := random.Random(seed))
        archive = Archive(disk)
        archive.save(Record(1))
        steps = rng.randrange(3)

        def step() -> None:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise OSError("the machine has lost its power")

        disk.on_sync = step
        try:
            archive.save(Record(2))
            is_saved = True
        except OSError:
            is_saved = False
        disk.crash()
        disk.on_sync = lambda: None
        after = Archive(disk)
        assert after.node_id == archive.node_id
        seen.add(found := after.begin(0).incarnation - 1)
        assert found == 2 or not is_saved
    assert seen == {1, 2}
