"""A web service whose workers are one cluster: the node lives as long as the service.

    python examples/service.py

Expect ``{'visits': 1}`` and ``{'visits': 2}``: it serves itself under uvicorn on a free port of the
loopback, visits itself twice and ends. To serve for longer, with two workers that share the actors:

    uvicorn --app-dir examples --workers 2 service:app
"""

from __future__ import annotations

import asyncio
import socket

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException

from ringcast import Actor, Node


class Page(Actor):
    def __init__(self) -> None:
        self._visits = 0

    async def visit(self) -> int:
        self._visits += 1
        return self._visits


node = Node(cluster="service-example")
app = FastAPI(lifespan=node.lifespan)


@app.get("/visit/{name}")
async def visit(name: str) -> dict[str, int]:
    return {"visits": await node.ref(Page, name).visit()}


@app.get("/ready")
async def ready() -> str:
    if not node.ready:
        raise HTTPException(503)
    return "ready"


async def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0))  # visitors who come before uvicorn does wait here
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    async with httpx.AsyncClient(base_url=address, timeout=30) as visitor:
        for _ in range(2):
            print((await visitor.get("/visit/home")).json())
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
