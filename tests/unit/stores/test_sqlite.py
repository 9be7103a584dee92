"""What is special about one file on one disk: power cuts, kills, other processes, a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.chaos.writes import BLOCK, cut, numbers_in, on_disk, power_cuts, torn
from benchmarks.chaos.writes import numbered as write
from ringcast.errors import NOT_SENT, StoreError
from ringcast.runtime.stores import Claim, Outcome, Write, Written
from ringcast.runtime.stores.haste import QUICK, Haste
from ringcast.runtime.stores.port import COMMITTED
from ringcast.runtime.stores.sqlite import LONELY, SQLiteStore
from ringcast.runtime.stores.sqlitefile import CHECKPOINT

CUTS = 1000
"""Power cuts in all, of the three kinds."""


async def claim(store: SQLiteStore, id: str) -> int:
    found = await store.claim(Claim(id, "one", 1, "node"))
    assert found is not None
    return found.ver


async def test_the_file_is_synced_at_each_commit(tmp_path: Path) -> None:
    """What `torn` rests on: everything up to the last acknowledged commit has been synced."""
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    pragmas = await store._do(
        lambda found: [found.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")],
        writes=False,
    )
    assert pragmas == ["wal", 2]
    await store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    found = await power_cuts(tmp_path, seed)
    assert (found.lost, found.invented) == (0, 0)
    assert found.count * 3 >= CUTS


async def test_the_power_cut_finds_what_was_not_synced(tmp_path: Path) -> None:
    """The model itself: were the log not synced at each commit, cuts would lose acknowledged writes."""
    chance = random.Random(7)
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    ver = await claim(store, "row")
    log = tmp_path / "state.db-wal"
    file, before = on_disk(tmp_path / "state.db", log)
    assert (await store.write(write("row", ver, 1))).outcome is Outcome.COMMITTED
    (after,) = on_disk(log)
    found: list[dict[str, int]] = []
    for _ in range(20):
        found.append(cut(tmp_path / "cut.db", file, torn(before, after, BLOCK, chance)))
    await store.close()
    assert {} in found


KILLED = """
import asyncio, os, sys, time
from pathlib import Path
from ringcast.runtime.stores import Claim, Outcome, Reply, Write
from ringcast.runtime.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    async def row(id):
        claimed = await store.claim(Claim(id, "one", 1, "node"))
        number = int(claimed.payload.split()[0]) if claimed.payload else 0
        ver = claimed.ver
        while True:
            number += 1
            reply = Reply(f"k{number}", b"%d" % number, time.time() + 60)
            written = await store.write(Write(id, ver, os.urandom(16), 1, b"%d " % number, replies=(reply,)))
            assert written.outcome is Outcome.COMMITTED, written
            ver += 1
            os.write(1, b"%s %d\\n" % (id.encode(), number))
    await asyncio.gather(*(row(f"{sys.argv[2]}{n}") for n in range(4)))

asyncio.run(main())
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Four processes on one file are killed again and again, wherever they are: at its opening, too."""
    chance = random.Random(1)
    path = tmp_path / "state.db"
    acknowledged: dict[str, int] = {}
    for _ in range(8):
        children = [
            subprocess.Popen([sys.executable, "-c", KILLED, str(path), name], stdout=subprocess.PIPE) for name in "abcd"
        ]
        for child in children:
            assert child.stdout is not None
            lines: list[bytes] = []
            for _ in range(chance.choice([1, 2, 30])):
                lines.append(child.stdout.readline())
                assert lines[-1], "it ended by itself"
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    id, number = line.decode().split()
                    acknowledged[id] = int(number)
            child.wait()
            child.stdout.close()
        found = numbers_in(path)
        for row, last in acknowledged.items():
            assert found[row] in (last, last + 1), "lost, or written without having been asked for"
        acknowledged = found  # where the next round goes on


async def test_a_file_that_another_process_mends_is_waited_for(tmp_path: Path) -> None:
    """After a kill the first to come has the file for itself; SQLite does not wait for it where it opens a file."""
    path = tmp_path / "state.db"
    store = SQLiteStore(path)
    await store.open()
    ver = await claim(store, "row")
    await store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("SELECT * FROM ringcast_state").fetchall()
    asyncio.get_running_loop().call_later(0.2, other.close)
    await store.open()
    assert (await store.write(write("row", ver, 1))).outcome is Outcome.COMMITTED
    await store.close()


async def test_what_queues_up_shares_a_commit(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    vers = [await claim(store, f"row {number}") for number in range(64)]
    before = store.groups
    await asyncio.gather(*(store.write(write(f"row {n}", ver, 1)) for n, ver in enumerate(vers)))
    assert store.groups - before <= 8
    await store.close()


class Hasty(Haste):
    """Lets every group be done on the loop's thread that may be at all."""

    def is_due(self, count: int, now: float, used: float) -> bool:
        """It always is."""
        return True

    def is_quick(self, now: float) -> bool:
        """It always is."""
        return True


async def hasty(path: Path, busy: float = 10.0) -> SQLiteStore:
    """Return a store whose disk is believed to be quick."""
    store = SQLiteStore(path, busy)
    store._haste = Hasty()
    await store.open()
    return store


async def test_few_writes_are_committed_on_the_loop_s_thread(tmp_path: Path) -> None:
    store = await hasty(tmp_path / "state.db")
    ver = await claim(store, "row")
    before = store.prompt, store.groups
    for number in range(5):
        assert (await store.write(write("row", ver + number, number))).outcome is Outcome.COMMITTED
    assert (store.prompt - before[0], store.groups - before[1]) == (5, 5)
    assert await store.reply("row", "k4", 0.0) == b"4"
    await store.close()
    assert numbers_in(tmp_path / "state.db") == {"row": 4}


async def lonely(path: Path, row: str) -> tuple[SQLiteStore, int]:
    """Return a store in which one row was written alone for some time, and its version."""
    store = await hasty(path)
    ver = await claim(store, row)
    for number in range(LONELY):
        assert (await store.write(Write(row, ver + number, os.urandom(16), 1, b"%d " % number))) is COMMITTED
        await asyncio.sleep(0)
    return store, ver + LONELY


def begun(store: SQLiteStore, row: str, ver: int, number: int) -> list[Written | None]:
    """Begin a write; what the store tells comes into the list."""
    told: list[Written | None] = []
    store.begin(Write(row, ver, os.urandom(16), 1, b"%d " % number), lambda written, error: told.append(written))
    return told


def rows_in(path: Path) -> dict[str, bytes]:
    """Return what each row holds."""
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT id, payload FROM ringcast_state").fetchall())
    finally:
        connection.close()


async def test_who_is_alone_again_and_again_does_not_wait_for_the_end_of_the_tick(tmp_path: Path) -> None:
    store, ver = await lonely(tmp_path / "state.db", "row")
    other = await claim(store, "other")
    store._alone = LONELY
    await asyncio.sleep(0)
    groups = store.groups
    told = [begun(store, "row", ver + step, 50 + step) for step in range(3)]
    assert told == [[COMMITTED]] * 3, "each could begin only when the one before was done"
    assert store.groups == groups + 3
    of_another, again = begun(store, "other", other, 60), begun(store, "row", ver + 3, 53)
    assert (of_another, again) == ([], []), "there may be more of them"
    await asyncio.sleep(0)
    assert (of_another, again) == ([COMMITTED], [COMMITTED])
    assert store.groups == groups + 4, "they share a commit"
    late = begun(store, "row", ver + 4, 54)
    assert late == [], "the last tick had writes of two rows"
    await store.close()
    assert late == [COMMITTED]
    assert rows_in(tmp_path / "state.db") == {"row": b"54 ", "other": b"60 "}


async def test_who_writes_without_end_lets_others_run(tmp_path: Path) -> None:
    store, ver = await lonely(tmp_path / "state.db", "row")
    written = 0

    async def write_on() -> None:
        nonlocal written, ver
        while True:
            assert (await store.write(Write("row", ver, os.urandom(16), 1, b"0 "))) is COMMITTED
            ver, written = ver + 1, written + 1

    writing = asyncio.ensure_future(write_on())
    for _ in range(3):
        before = written
        await asyncio.sleep(0.001)
        assert written > before
    writing.cancel()
    await asyncio.wait([writing])
    await store.close()


async def test_a_row_that_is_gone_is_not_made_by_a_group(tmp_path: Path) -> None:
    """Whoever deletes rows by hand fences who has them, whether they are written alone or with others."""
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    vers = [await claim(store, f"row {number}") for number in range(4)]
    await store._do(lambda found: found.execute("DELETE FROM ringcast_state WHERE id = 'row 2'"), writes=True)
    written = await asyncio.gather(*(store.write(Write(f"row {n}", vers[n], b"%d" % n, 1, b"1 ")) for n in range(4)))
    assert [one.outcome for one in written] == [
        Outcome.COMMITTED,
        Outcome.COMMITTED,
        Outcome.FENCED,
        Outcome.COMMITTED,
    ]
    await store.close()
    assert rows_in(tmp_path / "state.db") == {"row 0": b"1 ", "row 1": b"1 ", "row 3": b"1 "}


async def test_the_thread_waits_for_other_processes_not_the_loop(tmp_path: Path) -> None:
    store = await hasty(tmp_path / "state.db")
    ver = await claim(store, "row")
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = store.prompt
    writing = asyncio.ensure_future(store.write(write("row", ver, 1)))
    claiming = asyncio.ensure_future(claim(store, "another"))
    await asyncio.sleep(0.05)  # the loop goes on
    late = asyncio.ensure_future(store.write(write("row", ver + 1, 2)))  # behind the first: the thread has the file
    await asyncio.sleep(0)
    assert not writing.done()
    other.execute("COMMIT")
    other.close()
    assert [(await one).outcome for one in (writing, late)] == [Outcome.COMMITTED] * 2
    await claiming
    assert store.prompt == before
    await store.close()


async def test_a_disk_that_stalls_is_left_to_the_thread(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    ver = await claim(store, "row")
    store._took(60.0, 1)
    for number in range(40):
        assert (await store.write(write("row", ver + number, number))).outcome is Outcome.COMMITTED
    assert store.prompt == 0
    await store.close()


async def test_a_busy_loop_is_not_taken_for_a_slow_disk(tmp_path: Path) -> None:
    """The thread needs the interpreter's lock between its steps, and gets it from a busy loop after 5 ms each time."""
    store = await hasty(tmp_path / "state.db")
    ver = await claim(store, "row")
    store._haste = Haste()
    writing = asyncio.ensure_future(store.write(write("row", ver, 1)))
    await asyncio.sleep(0)
    while not writing.done():
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0)
    assert (await writing) is COMMITTED
    assert store._haste._mean == 2 * QUICK, "what it took says nothing of the disk"
    await store.close()


async def test_in_a_group_each_write_has_its_own_outcome(tmp_path: Path) -> None:
    """Rows are written by one statement: whoever is fenced, or is there already, is told apart."""
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    vers = await asyncio.gather(*(claim(store, f"row {number}") for number in range(300)))
    writes = [Write(f"row {n}", ver - n % 2, os.urandom(16), 1, b"%d " % n) for n, ver in enumerate(vers)]
    before = store.groups
    found = await asyncio.gather(*map(store.write, writes))
    assert store.groups - before == 1
    assert [one.outcome for one in found] == [Outcome.COMMITTED, Outcome.FENCED] * 150
    again = await asyncio.gather(*map(store.write, writes))
    assert [one.outcome for one in again] == [Outcome.COMMITTED, Outcome.FENCED] * 150
    rows = await store._do(
        lambda found: found.execute("SELECT id, ver, payload FROM ringcast_state").fetchall(), writes=False
    )
    here = {id: (ver, payload) for id, ver, payload in rows}
    for n, ver in enumerate(vers):
        assert here[f"row {n}"] == ((ver, None) if n % 2 else (ver + 1, b"%d " % n))
    await store.close()


async def test_writes_of_one_row_in_a_group_follow_one_another(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    ver = await claim(store, "row")
    writes = [Write("row", ver + step, os.urandom(16), 1, b"%d" % step) for step in (0, 1, 1, 2)]
    found = await asyncio.gather(*map(store.write, writes))
    outcomes = [Outcome.COMMITTED, Outcome.COMMITTED, Outcome.FENCED, Outcome.COMMITTED]
    assert [one.outcome for one in found] == outcomes
    await store.close()


async def test_a_claim_in_a_group_fences_what_comes_behind_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    vers = {id: await claim(store, id) for id in "ab"}
    first, ver, second, other = await asyncio.gather(
        store.write(Write("a", vers["a"], os.urandom(16), 1, b"first")),
        claim(store, "a"),
        store.write(Write("a", vers["a"] + 1, os.urandom(16), 1, b"second")),
        store.write(Write("b", vers["b"], os.urandom(16), 1, b"other")),
    )
    assert ver == vers["a"] + 2
    assert [one.outcome for one in (first, second, other)] == [Outcome.COMMITTED, Outcome.FENCED, Outcome.COMMITTED]
    await store.close()


async def test_the_log_is_copied_back_by_the_thread(tmp_path: Path) -> None:
    """Not by SQLite in the middle of a commit on the loop's thread, of 1,000 pages at once."""
    store = await hasty(tmp_path / "state.db")
    ver = await claim(store, "row")
    for number in range(300):
        assert (await store.write(write("row", ver + number, number, 9000))).outcome is Outcome.COMMITTED
    assert store._file.pages < CHECKPOINT
    assert store.prompt > 250
    assert (tmp_path / "state.db-wal").stat().st_size < 1000 * 4096
    await store.close()
    assert numbers_in(tmp_path / "state.db") == {"row": 299}


async def test_one_that_cannot_be_written_does_not_spoil_its_group(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    vers = [await claim(store, f"row {number}") for number in range(4)]
    bad = Write("row 0", vers[0], os.urandom(16), 1, b"", due=1 << 70)  # no number of SQLite's
    writes = [bad, *(write(f"row {n}", vers[n], 1) for n in range(1, 4))]
    refused, *rest = await asyncio.gather(*(store.write(one) for one in writes), return_exceptions=True)
    assert isinstance(refused, StoreError)
    assert refused.certainty is NOT_SENT
    assert [one.outcome for one in rest if not isinstance(one, BaseException)] == [Outcome.COMMITTED] * 3
    await store.close()


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    ver = await claim(store, "row")
    assert (await store.write(write("row", ver, 1))).outcome is Outcome.COMMITTED
    pages = await store._do(lambda found: found.execute("PRAGMA page_count").fetchone()[0], writes=False)
    await store._do(lambda found: found.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall(), writes=False)
    with pytest.raises(StoreError, match="full") as caught:
        await store.write(write("row", ver + 1, 2, 100_000))
    assert caught.value.certainty is NOT_SENT
    await store._do(lambda found: found.execute("PRAGMA max_page_count = 1000000").fetchall(), writes=False)
    assert (await store.write(write("row", ver + 1, 3, 100_000))).outcome is Outcome.COMMITTED
    await store.close()
    assert numbers_in(tmp_path / "state.db") == {"row": 3}


FULL = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from ringcast.errors import StoreError
from ringcast.runtime.stores import Claim, Outcome, Reply, Write
from ringcast.runtime.stores.sqlite import SQLiteStore

async def main():
    path = Path(sys.argv[1])
    store = SQLiteStore(path)
    await store.open()
    ver = (await store.claim(Claim("row", "one", 1, "node"))).ver
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = Path(f"{path}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, hard))
    number = 0
    while True:
        number += 1
        one = Write("row", ver, os.urandom(16), 1, b"%d " % number + b"." * 2000,
                    replies=(Reply(f"k{number}", b"%d" % number, 1e11),))
        try:
            written = await store.write(one)
        except StoreError as error:
            print("refused", number, error)
            break
        if written.outcome is Outcome.UNKNOWN:
            print("unknown", number)
            break
        assert written.outcome is Outcome.COMMITTED
        ver += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (await store.write(one)).outcome is Outcome.COMMITTED
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """The system refuses to let the log grow in the middle of a commit."""
    path = tmp_path / "state.db"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    number = numbers_in(path)["row"]
    assert number > 1, "some were written before it was full"


async def test_others_wait_for_a_transaction_and_then_refuse(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db", busy=0.1)
    await store.open()
    ver = await claim(store, "row")
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        await store.write(write("row", ver, 1))
    assert caught.value.certainty is NOT_SENT
    other.execute("COMMIT")
    other.close()
    assert (await store.write(write("row", ver, 1))).outcome is Outcome.COMMITTED
    await store.close()


@pytest.fixture
def rubbish(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database at all" * 100)
    return path


async def test_a_file_that_is_none_is_named(rubbish: Path) -> None:
    store = SQLiteStore(rubbish)
    with pytest.raises(StoreError, match=r"state\.db cannot be opened"):
        await store.open()
    os.truncate(rubbish, 0)
    await store.open()
    await store.close()
    with pytest.raises(StoreError, match="is not open"):
        await store.prune(0.0)


async def test_what_waits_at_the_end_is_done(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open()
    ver = await claim(store, "row")
    writing = asyncio.ensure_future(store.write(write("row", ver, 1)))
    await asyncio.sleep(0)
    await store.close()
    assert (await writing).outcome is Outcome.COMMITTED
    assert numbers_in(tmp_path / "state.db") == {"row": 1}
