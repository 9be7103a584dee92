"""The same for all disks: a folder, a simulated one, and a folder of it; and what a crash leaves of the latter."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ringcast.discovery import disk as disk_module
from ringcast.discovery.archive import Archive
from ringcast.discovery.disk import Disk, Folder, replace_file
from ringcast.errors import ConfigError
from ringcast.runtime.simulation import Simulation
from ringcast.runtime.simulation.disk import VirtualDisk, VirtualFolder


def virtual(_: Path) -> Disk:
    return VirtualDisk(random.Random(1))


def virtual_folder(path: Path) -> Disk:
    disk = VirtualDisk(random.Random(1))
    disk.write("elsewhere", b"of another node")
    disk.write(f"{path}/below/a", b"of a folder in it")
    return VirtualFolder(disk, str(path))


@pytest.fixture(params=[Folder, virtual, virtual_folder])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    make: Callable[[Path], Disk] = request.param
    return make(tmp_path / "new")


def test_files_are_written_read_renamed_and_removed(disk: Disk) -> None:
    assert disk.names() == []
    disk.write("b", b"one")
    disk.write("b", b"two")
    disk.append("b", b" three")
    disk.append("a", b"first")
    disk.sync("b")
    disk.sync_folder()
    assert (disk.names(), disk.read("b"), disk.read("a")) == (["a", "b"], b"two three", b"first")
    disk.rename("b", "a")
    assert (disk.names(), disk.read("a")) == (["a"], b"two three")
    disk.remove("a")
    assert disk.names() == []


def test_what_is_not_there_is_not_found(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.read("nothing")
    with pytest.raises(FileNotFoundError):
        disk.sync("nothing")
    with pytest.raises(FileNotFoundError):
        disk.remove("nothing")
    with pytest.raises(FileNotFoundError):
        disk.rename("nothing", "other")


def test_a_file_is_replaced(disk: Disk) -> None:
    replace_file(disk, "record", b"old")
    replace_file(disk, "record", b"new")
    assert (disk.names(), disk.read("record")) == (["record"], b"new")


@pytest.mark.parametrize("make", [Folder, partial(VirtualFolder, VirtualDisk(random.Random(1)))])
def test_a_folder_is_locked_by_one_at_a_time(make: Callable[[str], Disk], tmp_path: Path) -> None:
    one, two, other = (make(str(tmp_path / name)) for name in ("a", "a", "b"))
    one.lock()
    with pytest.raises(BlockingIOError):
        two.lock()
    other.lock()
    two.unlock()  # it is not its own
    with pytest.raises(BlockingIOError):
        two.lock()
    one.unlock()
    two.lock()
    assert str(one) == str(tmp_path / "a")
    for disk in (one, two, other):
        disk.unlock()


def test_a_lock_ends_with_its_process() -> None:
    disk = VirtualDisk(random.Random(1))
    disk.lock()
    with pytest.raises(BlockingIOError):
        disk.lock()
    disk.unlock()
    disk.lock()
    disk.unlock_all()
    disk.lock()


def test_a_crash_leaves_what_was_synced_and_of_the_rest_anything() -> None:
    left: set[bytes | None] = set()
    for seed in range(100):
        disk = VirtualDisk(random.Random(seed))
        replace_file(disk, "record", b"old")
        disk.write("record", b"newer")
        disk.write("other", b"unsynced")
        disk.crash()
        left.add(disk.read("record"))
        assert disk.read("record") in {b"old", *(b"newer"[:end] for end in range(6))}
        disk.crash()  # what is left stays
        left.add(disk.read("other") if "other" in disk.names() else None)
    assert {b"old", b"newer", b"new", None, b"", b"unsynced"} <= left


def test_a_crash_at_any_step_of_a_replacement_leaves_the_old_or_the_new() -> None:
    class Crashed(Exception):
        pass

    seen: set[bytes] = set()
    for seed in range(200):
        rng = random.Random(seed)
        disk = VirtualDisk(rng)
        replace_file(disk, "record", b"the old one")
        steps = rng.randrange(3)

        def step() -> None:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise Crashed

        disk.on_sync = step
        try:
            replace_file(disk, "record", b"the new one")
            certain = True
        except Crashed:
            certain = False
        disk.crash()
        seen.add(disk.read("record"))
        assert disk.read("record") == b"the new one" or not certain
    assert seen == {b"the old one", b"the new one"}


def test_a_rename_that_was_not_synced_may_be_undone() -> None:
    names: set[tuple[str, ...]] = set()
    for seed in range(50):
        disk = VirtualDisk(random.Random(seed))
        disk.write("a", b"1")
        disk.sync("a")
        disk.sync_folder()
        disk.rename("a", "b")
        disk.crash()
        names.add(tuple(disk.names()))
    assert names == {("a",), ("b",)}
    disk = VirtualDisk(random.Random(1))
    disk.write("a", b"1")
    disk.erase()
    assert disk.names() == []


def test_the_folder_of_a_simulated_process_is_on_its_machines_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "never made")

    async def story(sim: Simulation) -> None:
        async def claimed() -> tuple[str, int]:
            archive = Archive(disk_module.Folder(path))
            archive.claim()
            with pytest.raises(ConfigError, match="in use by another process"):
                Archive(disk_module.Folder(path)).claim()
            return archive.node_id, archive.begin(1000).incarnation

        found = [await sim.machine("a").boot().spawn(claimed())]
        sim.machine("a").kill()  # and the lock is gone with the process
        found.append(await sim.machine("a").boot().spawn(claimed()))
        sim.machine("a").power_off()  # what was synced is still there
        found.append(await sim.machine("a").boot().spawn(claimed()))
        elsewhere = await sim.machine("b").boot().spawn(claimed())
        assert [node_id for node_id, _ in found] == [found[0][0]] * 3
        assert [incarnation for _, incarnation in found] == [1000, 1001, 1002]
        assert elsewhere[0] != found[0][0]

    Simulation(1).run(story)
    assert not Path(path).exists()
