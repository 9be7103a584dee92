"""A node in a service: the workers of `uvicorn --workers 2` are two members of one cluster."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

LIMIT = 20.0

SERVICE = """
import os

from fastapi import FastAPI
from ringcast import Actor, Node


class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, n: int) -> int:
        self.count += n
        return self.count


node = Node()
app = FastAPI(lifespan=node.lifespan)


@app.get("/members/{n}")
async def members(n: int) -> dict[str, object]:
    await node.wait_for_members(n, 15)
    return {"pid": os.getpid(), "node": node.id, "members": [member.id for member in node.members]}


@app.post("/add/{key}")
async def add(key: str) -> dict[str, object]:
    return {"node": node.id, "count": await node.ref(Counter, key).add(1)}
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[str, None]:
    """Run the service with two workers; give its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
    arguments = ("--workers", "2", "--host", "127.0.0.1", "--port", "0", "--no-use-colors")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "uvicorn", "counting:app", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        start_new_session=True,  # the workers are of its group, and end with it whatever happens
        env=environment | {"RINGCAST_CLUSTER": f"service-{uuid.uuid4().hex}"},
    )
    assert process.stderr is not None
    log = b""
    try:
        async with asyncio.timeout(LIMIT):
            while log.count(b"Application startup complete") < 2:
                line = await process.stderr.readline()
                assert line, log.decode()
                log += line
        found = re.search(rb"running on (http://127\.0\.0\.1:\d+)", log)
        assert found, log.decode()
        yield found[1].decode()
        process.terminate()
        async with asyncio.timeout(LIMIT):
            log += (await process.communicate())[1]
        assert log.count(b'"node has left"') == 2, log.decode()
        assert b"Traceback" not in log, log.decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def test_a_request_to_either_worker_sees_the_same_actors(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(SERVICE)
    async with serving(tmp_path) as url, asyncio.timeout(2 * LIMIT):

        async def fetch(method: str, path: str) -> dict[str, Any]:
            # A connection for each request: the kernel gives it to one worker or the other.
            async with httpx.AsyncClient(base_url=url, timeout=LIMIT, trust_env=False) as client:
                answer = await client.request(method, path)
            answer.raise_for_status()
            told: dict[str, Any] = answer.json()
            return told

        seen = await fetch("GET", "/members/2")
        assert len(seen["members"]) == 2
        assert seen["node"] in seen["members"]

        asked: set[str] = set()
        count = 0
        while asked != set(seen["members"]):
            # Some at once, so that one busy worker leaves room for the other to take its share.
            answers = await asyncio.gather(*(fetch("POST", "/add/ann") for _ in range(8)))
            assert sorted(answer["count"] for answer in answers) == list(range(count + 1, count + 9))
            count += 8
            asked |= {answer["node"] for answer in answers}
