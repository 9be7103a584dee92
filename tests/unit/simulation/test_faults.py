"""What a simulated network and simulated machines do when something fails."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from ringcast.discovery.sockets import bind, fail_fast
from ringcast.runtime.simulation import ProcessGone, Quality, Simulation, Stalled

from .worlds import Noting

PORT = 9000


class Two:
    """A connection from one machine, `here`, to a listener on another, `there`."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.here, self.there = sim.machine("here"), sim.machine("there")
        self.client: Noting
        self.server: Noting
        self.out: asyncio.Transport
        self.back: asyncio.Transport

    async def listen(self) -> None:
        process = self.there.boot()

        async def accept() -> None:
            bound = bind(f"{self.there.ip}:{PORT}")
            loop = asyncio.get_running_loop()
            while True:
                accepted, _ = await loop.sock_accept(bound.tcp)
                self.server = Noting(keeps_open=True)
                self.back, _ = await loop.connect_accepted_socket(lambda: self.server, accepted)

        task = asyncio.ensure_future(process.spawn(accept()))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.sleep(0.1)

    async def dial(self, *, fails_fast: bool = False) -> None:
        process = self.here.process or self.here.boot()

        async def dial() -> None:
            self.client = Noting(keeps_open=True)
            loop = asyncio.get_running_loop()
            self.out, _ = await loop.create_connection(lambda: self.client, self.there.ip, PORT)
            if fails_fast:
                fail_fast(self.out.get_extra_info("socket"))

        await process.spawn(dial())
        await asyncio.sleep(0.1)

    async def end(self) -> Exception | None:
        """Wait for the end of the client's connection; return how it ended."""
        await self.sim.until(self.client.lost.done, 1000, "the end of a connection")
        return self.client.lost.result()


def test_a_killed_process_closes_its_connections_and_refuses_new_ones() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial()
        two.there.kill()
        await asyncio.sleep(0.1)
        assert two.client.told == ["made", "eof"]
        with pytest.raises(ConnectionRefusedError):
            await two.dial()
        await two.listen()
        await two.dial()
        assert two.client.told == ["made"]

    Simulation(1).run(story)


def test_a_killed_process_with_something_unread_resets() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial()
        assert two.there.process is not None
        two.there.process.pause()
        two.out.write(b"nobody reads this")
        await asyncio.sleep(0.1)
        two.there.kill()
        assert isinstance(await two.end(), ConnectionResetError)

    Simulation(1).run(story)


def test_a_machine_without_power_says_nothing_until_it_is_back() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial()
        two.there.power_off()
        two.out.write(b"is anybody there?")
        await asyncio.sleep(20)
        assert two.client.told == ["made"]
        two.there.power_on()
        assert isinstance(await two.end(), ConnectionResetError)
        assert sim.now < 120

    Simulation(1).run(story)


def test_what_is_not_acknowledged_in_time_ends_a_connection_that_asked_for_it() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial(fails_fast=True)
        sim.cut("there", "here")  # it arrives, and no acknowledgement comes back
        begun = sim.now
        two.out.write(b"one way")
        assert isinstance(await two.end(), TimeoutError)
        assert 5 <= sim.now - begun < 6
        assert two.server.data == b"one way"

    Simulation(1).run(story)


def test_keepalive_finds_a_connection_to_nobody() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial(fails_fast=True)
        await asyncio.sleep(100)
        assert two.client.told == ["made"]
        sim.partition(["here"], ["there"])
        begun = sim.now
        assert isinstance(await two.end(), TimeoutError)
        assert sim.now - begun < 45
        sim.heal()
        await two.dial(fails_fast=True)
        two.there.power_off()
        two.there.power_on()
        assert isinstance(await two.end(), ConnectionResetError)

    Simulation(1).run(story)


def test_tcp_carries_everything_through_loss_and_short_partitions_in_order() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial()
        sim.network.quality = Quality(delay=0.02, jitter=0.02, loss=0.2)
        sent = b""
        for number in range(200):
            piece = b"%06d" % number
            two.out.write(piece)
            sent += piece
            await asyncio.sleep(0.01)
            if number == 100:
                sim.partition(["here"], ["there"])
            if number == 150:
                sim.heal()
        await sim.until(lambda: len(two.server.data) == len(sent), 300, "all of it")
        assert two.server.data == sent
        two.out.close()
        await sim.until(lambda: "eof" in two.server.told, 60, "the end")

    Simulation(2).run(story)


def test_a_dial_into_a_partition_gets_through_when_it_heals_or_gives_up() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        sim.partition(["here"], ["there"])
        dialling = asyncio.create_task(two.dial())
        await asyncio.sleep(2)
        assert not dialling.done()
        sim.heal()
        await dialling
        assert two.client.told == ["made"]
        sim.cut("there", "here")
        with pytest.raises(TimeoutError):
            await two.dial()
        assert 120 < sim.now < 140

    Simulation(1).run(story)


def test_datagrams_are_lost_doubled_and_overtake_one_another() -> None:
    async def story(sim: Simulation) -> list[int]:
        received: list[int] = []
        here, there = sim.machine("here").boot(), sim.machine("there").boot()

        async def listen() -> None:
            bound, loop = bind(f"{sim.machine('there').ip}:{PORT}"), asyncio.get_running_loop()
            while True:
                received.append(int(await loop.sock_recv(bound.udp, 100)))

        listening = asyncio.ensure_future(there.spawn(listen()))
        await asyncio.sleep(0.1)
        sim.network.quality = Quality(delay=0.001, jitter=0.01, loss=0.2, duplicates=0.1)

        async def send() -> None:
            bound = bind(f"{sim.machine('here').ip}:{PORT}")
            for number in range(500):
                bound.udp.sendto(b"%d" % number, (sim.machine("there").ip, PORT))
                bound.udp.sendto(b"to nobody", (sim.machine("there").ip, PORT + 1))
                await asyncio.sleep(0.001)

        await here.spawn(send())
        await asyncio.sleep(1)
        listening.cancel()
        return received

    received = Simulation(1).run(story)
    assert 350 < len(set(received)) < 450
    assert len(received) > len(set(received)) + 20
    assert received != sorted(received)


def test_a_paused_process_finds_everything_when_it_goes_on() -> None:
    async def story(sim: Simulation) -> None:
        two = Two(sim)
        await two.listen()
        await two.dial()
        assert two.there.process is not None
        two.there.process.pause()
        two.out.write(b"patience")
        await asyncio.sleep(60)
        assert two.server.data == b""
        two.there.process.resume()
        await sim.until(lambda: two.server.data == b"patience", 1, "what was sent meanwhile")

    Simulation(1).run(story)


def test_clocks_start_anywhere_run_at_their_own_rates_and_block_on_their_own() -> None:
    async def story(sim: Simulation) -> None:
        async def wait() -> tuple[float, float, float]:
            begun, wall = time.monotonic(), time.time()
            await asyncio.sleep(1000)
            time.sleep(100)  # noqa: ASYNC251
            return time.monotonic() - begun, time.time() - wall, sim.now

        machines = [sim.machine(name) for name in "abcd"]
        assert len({machine.clock.origin for machine in machines}) == 4
        took = await asyncio.gather(*(machine.boot().spawn(wait()) for machine in machines))
        for own, wall, _ in took:
            assert own == pytest.approx(1100, abs=1e-3)
            assert wall == pytest.approx(1100, abs=1e-3)
        worlds = [now for _, _, now in took]
        assert all(995 <= now <= 1005.1 for now in worlds)
        assert len(set(worlds)) == 4

    Simulation(1, modules=[__name__]).run(story)


def test_nothing_reaches_the_outside() -> None:
    async def story(sim: Simulation) -> None:
        process = sim.machine("here").boot()

        async def try_all() -> None:
            loop = asyncio.get_running_loop()
            assert loop.is_running()
            assert not loop.is_closed()
            assert not loop.get_debug()
            assert loop.get_task_factory() is None
            assert await loop.run_in_executor(None, sum, [1, 2]) == 3
            with pytest.raises(ZeroDivisionError):
                await asyncio.to_thread(lambda: 1 / 0)
            assert await loop.getaddrinfo("here", 80) == [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", (process.machine.ip, 80))
            ]
            with pytest.raises(socket.gaierror):
                await loop.getaddrinfo("example.org", 80)
            with pytest.raises(NotImplementedError, match="subprocess"):
                await asyncio.create_subprocess_shell("true")
            with pytest.raises(NotImplementedError, match="ssl"):
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", 80, ssl=True)
            with pytest.raises(OSError, match="simulated"):
                socket.socket(socket.AF_INET, socket.SOCK_RAW)

        await process.spawn(try_all())

    Simulation(1, modules=[__name__]).run(story)


def test_errors_that_nobody_caught_fail_the_simulation() -> None:
    async def story(sim: Simulation) -> None:
        process = sim.machine("here").boot()
        process.app.call_soon_threadsafe(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        Simulation(1).run(story)


def test_what_is_asked_of_a_process_that_is_gone_has_no_answer() -> None:
    async def story(sim: Simulation) -> None:
        process = sim.machine("here").boot()
        waiting = process.spawn(asyncio.sleep(100))
        await asyncio.sleep(1)
        sim.kill("here")
        with pytest.raises(ProcessGone):
            await waiting
        with pytest.raises(ProcessGone):
            await process.spawn(asyncio.sleep(1))
        with pytest.raises(ProcessGone):
            sim.process("here")
        with pytest.raises(KeyError):
            sim.name_of("nobody")

    Simulation(1).run(story)


def test_one_simulation_at_a_time_and_each_ends() -> None:
    async def story(sim: Simulation) -> None:
        with pytest.raises(RuntimeError, match="one at a time"):
            Simulation(2).run(story)
        with pytest.raises(AssertionError, match="not within 3 s: never"):
            await sim.until(lambda: False, 3, "never")
        await asyncio.sleep(1e6)

    with pytest.raises(Stalled):
        Simulation(1).run(story)
