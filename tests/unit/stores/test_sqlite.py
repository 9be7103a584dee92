"""What is special about one file on one disk: power cuts, kills, other processes, a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.writes import BLOCK, cut, numbers_in, on_disk, power_cuts, torn
from benchmarks.chaos.writes import numbered as write
from ringcast.errors import NOT_SENT, StoreError
from ringcast.runtime.stores import Claim, Outcome, Write
from ringcast.runtime.stores.sqlite import SQLiteStore

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
