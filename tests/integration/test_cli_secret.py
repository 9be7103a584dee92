"""A rotation by the command line, under load, over processes that share the file and some that do not."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ringcast import Event, MemberLost, Node, Seeds
from ringcast.security.private import create_private
from ringcast.security.secret import Secret, new_key
from tests.integration.company import certify
from tests.integration.shops import LIMIT, Shop

NODES = 5


def made(path: Path) -> Secret:
    secret = Secret((new_key(time.time()),))
    create_private(path, secret.render())
    return secret


async def lost(node: Node, events: list[Event]) -> None:
    async for event in node.events():
        if isinstance(event, MemberLost):
            events.append(event)


async def test_rotation_of_five_nodes_under_load_fails_no_ask(shop: Shop) -> None:
    path = shop.folder / "secret"
    old = made(path)
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(shop.up("--secret", str(path))) for _ in range(NODES)]
        addresses = [(await up.ready())["address"] for up in ups]
        beside = Node(cluster=shop.cluster, discovery=[Seeds(addresses[:1])], hosts=[], secret=path)
        async with beside as node:
            await node.wait_for_members(NODES + 1, LIMIT)
            gone: list[Event] = []
            watching = asyncio.create_task(lost(node, gone))
            counter = shop.load().Counter
            asked = 0
            rotating = asyncio.create_task(shop.say("secret", "rotate", str(path), "--all", "--json"))
            while not rotating.done():
                await asyncio.gather(*(node.ref(counter, key).add(1) for key in range(20)))
                asked += 1
                await asyncio.sleep(0.02)  # the load's own pace, not a wait for anything
            code, out, err = rotating.result()
            assert (code, err) == (0, "")
            counts = await asyncio.gather(*(node.ref(counter, key).add(0) for key in range(20)))
            status = await shop.tell("status", "--secret", str(path), "--node", addresses[0])
            watching.cancel()
    assert [json.loads(line)["step"] for line in out.splitlines()] == ["add", "promote", "drop"]
    (key,) = Secret.read(path).keys
    assert key not in old.keys
    assert counts == [asked] * 20  # each ask ran, and ran once
    assert gone == []
    assert {entry["secret"]["signs"] for entry in status["nodes"]} == {key.id}
    assert [entry["secret"]["accepts"] for entry in status["nodes"]] == [[key.id]] * (NODES + 1)


async def test_each_step_is_refused_until_a_node_with_a_copy_of_its_own_has_it(shop: Shop) -> None:
    path, copy = shop.folder / "secret", shop.folder / "copy"
    old = made(path).signing
    shutil.copy2(path, copy)

    async def rotate(*arguments: str) -> tuple[int, str, str]:
        return await shop.say("secret", "rotate", str(path), "--node", one["address"], *arguments)

    async def until(*arguments: str) -> str:
        """Return what a step says once it is done: nodes look at their files once a second."""
        async with asyncio.timeout(LIMIT):
            while True:
                code, out, _ = await rotate(*arguments)
                if code == 0:
                    return out

    async with shop.up("--secret", str(path)) as first, shop.up("--secret", str(copy)) as second:
        one, two = await first.ready(), await second.ready()
        async with Node(cluster=shop.cluster, discovery=[Seeds([two["address"]])], hosts=[], secret=path) as node:
            await node.wait_for_members(3, LIMIT)
        assert (await rotate())[0] == 0
        added = Secret.read(path)
        new = added.keys[1]

        code, out, err = await rotate("--json")
        assert code == 1
        refused = json.loads(out)
        assert refused["refused"] == "promote"
        waits = {who["node"]: who["reason"] for who in refused["waiting_for"]}
        assert waits[two["node"]] == f"does not accept the new key {new.id} yet"
        assert f"promote is refused: copy {path} to the machines of these nodes" in err
        assert Secret.read(path) == added

        shutil.copy2(path, copy)
        assert f"promoted the new key {new.id}" in await until()
        code, _, err = await rotate()
        assert code == 1
        assert f"{two['node']} ({two['address']}) still signs with {old.id}" in err
        assert Secret.read(path).keys == (new, old)

        shutil.copy2(path, copy)
        assert f"dropped the old key {old.id}" in await until()
        assert Secret.read(path).keys == (new,)


async def test_drop_is_refused_while_a_member_does_not_answer(shop: Shop) -> None:
    path = shop.folder / "secret"
    made(path)
    async with shop.up("--secret", str(path)) as up:
        other = (await up.ready())["address"]
        async with Node(cluster=shop.cluster, discovery=[Seeds([other])], hosts=[], secret=path) as node:
            await node.wait_for_members(2, LIMIT)
            rotate = ("secret", "rotate", str(path), "--node", other)
            assert (await shop.say(*rotate))[0] == 0
            async with asyncio.timeout(LIMIT):
                while (await shop.say(*rotate))[0] != 0:
                    pass
            # This node stays a member, by its other thread, and answers nobody while its loop stands.
            blocked = subprocess.run(  # noqa: ASYNC221
                [sys.executable, "-m", "ringcast", *rotate, "--cluster", shop.cluster, "--timeout", "0.5"],
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
    assert blocked.returncode == 1
    assert f"{node.id} ({node.address}) does not answer, and may use the old key: no answer within" in blocked.stderr
    assert "end a node that does not answer" in blocked.stderr
    assert len(Secret.read(path).keys) == 2


async def test_all_gives_up_on_who_never_catches_up_and_says_who(shop: Shop) -> None:
    path, copy = shop.folder / "secret", shop.folder / "copy"
    made(path)
    shutil.copy2(path, copy)
    async with shop.up("--secret", str(copy)) as up:
        ready = await up.ready()
        at = ("--node", ready["address"], "--all", "--wait", "1")
        code, out, err = await shop.say("secret", "rotate", str(path), *at)
    assert code == 1
    assert "added the new key" in out
    assert f"{ready['node']} ({ready['address']}) does not accept the new key" in err
    assert len(Secret.read(path).keys) == 2


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
async def test_a_secret_that_stands_in_the_environment_serves_workers_too(shop: Shop, workers: list[str]) -> None:
    secret = new_key(time.time()).line()
    async with shop.up(*workers, RINGCAST_SECRET=secret) as up:
        ready = [await up.ready() for _ in range(2 if workers else 1)]
        answers = [
            await shop.start("status", "--node", one["address"], "--json", RINGCAST_SECRET=secret) for one in ready
        ]
        for process in answers:
            out, _ = await process.communicate()
            assert process.returncode == 0
            document = json.loads(out)
            assert document["nodes"][0]["secret"]["signs"] == Secret.parse(secret.encode(), "it").signing.id
        other, _, err = await shop.say("status", "--node", ready[0]["address"])
        assert other == 1
        assert "it has another secret" in err


async def test_nodes_with_an_authority_of_their_own_are_asked_with_its_certificates(shop: Shop) -> None:
    path = shop.folder / "secret"
    made(path)
    certify(shop.folder, shop.cluster, "web")
    trusted = ("--secret", "secret", "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key")
    async with shop.up(*trusted, "--workers", "2") as up:
        one, two = await up.ready(), await up.ready()
        async with asyncio.timeout(LIMIT):
            while {one["node"], two["node"]} != {
                entry["id"] for entry in (await shop.tell("status", *trusted, "--node", one["address"]))["nodes"]
            }:
                pass
        assert one["node"].startswith("web.")
        code, _, err = await shop.say("status", "--secret", "secret", "--node", one["address"])
        assert (code, "it has another secret, or none of this cluster" in err) == (1, True)
        code, out, err = await shop.say("secret", "rotate", *trusted, "--node", one["address"], "--all", "--json")
        assert (code, err) == (0, "")
    assert [json.loads(line)["step"] for line in out.splitlines()] == ["add", "promote", "drop"]


async def test_a_node_with_a_credential_holds_up_the_rotation_until_it_has_a_new_one(shop: Shop) -> None:
    path = shop.folder / "secret"
    made(path)
    name = ("--role", "node", "--name", "limited", "--cluster", shop.cluster, "--secret", "secret", "--out", "paper")
    assert (await shop.say("secret", "issue", *name))[0] == 0
    async with shop.up("--secret", "secret") as full, shop.up("--secret", "paper") as limited:
        one, two = await full.ready(), await limited.ready()
        async with Node(cluster=shop.cluster, discovery=[Seeds([one["address"]])], hosts=[], secret=path) as node:
            await node.wait_for_members(3, LIMIT)
        rotate = ("secret", "rotate", "secret", "--node", one["address"])
        assert (await shop.say(*rotate))[0] == 0
        code, _, err = await shop.say(*rotate)
        assert (code, f"{two['node']} ({two['address']}) does not accept the new key" in err) == (1, True)
        for done in ("promoted", "dropped"):
            assert (await shop.say("secret", "issue", *name))[0] == 0
            async with asyncio.timeout(LIMIT):
                while (told := await shop.say(*rotate))[0] != 0:
                    pass
            assert told[1].startswith(done)
        status = await shop.tell("status", "--secret", "secret", "--node", one["address"])
    assert status["healthy"]
    assert len(status["nodes"]) == 2
