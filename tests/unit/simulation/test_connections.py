"""The same for both: connections of asyncio on the real network, and on the simulated one."""

from __future__ import annotations

import asyncio

import pytest

from .worlds import Noting, Port, Run, both, connected, new_socket


@both
def test_bytes_arrive_in_order_and_an_end_is_an_end(run: Run[None]) -> None:
    async def main() -> None:
        port, server, client = Port(), Noting(), Noting()
        there, here = await connected(port, server, client)
        for number in range(100):
            here.write(bytes([number]) * 10)
        here.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        await server.until(lambda: len(server.data) == 1003)
        assert server.data == b"".join(bytes([number]) * 10 for number in range(100)) + b"abc"
        there.write(b"answer")
        there.close()
        there.close()
        assert there.is_closing()
        there.write(b"too late")
        assert await client.lost is None
        assert await server.lost is None
        assert client.data == b"answer"
        assert client.told == ["made", "data", "eof", "lost"]
        assert server.told == ["made", "data", "lost"]
        port.close()

    run(main)


@both
def test_one_direction_may_end_before_the_other(run: Run[None]) -> None:
    async def main() -> None:
        port, server, client = Port(), Noting(keeps_open=True), Noting()
        there, here = await connected(port, server, client)
        assert here.can_write_eof()
        here.write(b"question")
        here.write_eof()
        here.write_eof()
        with pytest.raises(RuntimeError):
            here.write(b"more")
        await server.until(lambda: "eof" in server.told)
        there.write(b"answer")
        await client.until(lambda: client.data == b"answer")
        there.close()
        assert await client.lost is None
        assert await server.lost is None
        port.close()

    run(main)


@both
def test_a_writer_waits_for_a_reader_that_reads_nothing(run: Run[None]) -> None:
    async def main() -> None:
        port, server, client = Port(), Noting(), Noting()
        there, here = await connected(port, server, client)
        assert there.is_reading()
        there.pause_reading()
        assert not there.is_reading()
        size = 40 << 20
        here.set_write_buffer_limits(high=1 << 20)
        assert here.get_write_buffer_limits() == (1 << 18, 1 << 20)
        here.write(bytes(size))
        assert client.told == ["made", "pause"]
        assert here.get_write_buffer_size() > 0
        there.resume_reading()
        await server.until(lambda: len(server.data) == size)
        await client.until(lambda: "resume" in client.told)
        assert here.get_write_buffer_size() == 0
        here.close()
        assert await server.lost is None
        port.close()

    run(main)


@both
def test_close_sends_what_is_unsent_and_abort_drops_it(run: Run[None]) -> None:
    async def main() -> None:
        port = Port()
        server, client = Noting(), Noting()
        there, here = await connected(port, server, client)
        here.write(bytes(20 << 20))
        here.close()
        assert await server.lost is None
        assert len(server.data) == 20 << 20
        server, client = Noting(), Noting()
        there, here = await connected(port, server, client)
        there.pause_reading()
        here.write(bytes(20 << 20))
        here.abort()
        assert await client.lost is None
        there.resume_reading()
        await server.lost
        assert len(server.data) < 20 << 20
        port.close()

    run(main)


@both
def test_who_closes_with_something_unread_resets(run: Run[None]) -> None:
    async def main() -> None:
        port, server, client = Port(), Noting(), Noting()
        there, here = await connected(port, server, client)
        there.pause_reading()
        here.write(b"never read")
        await asyncio.sleep(0.1)
        there.abort()
        assert isinstance(await client.lost, ConnectionResetError)
        port.close()

    run(main)


@both
def test_writing_to_who_is_gone_is_an_error_soon(run: Run[None]) -> None:
    async def main() -> None:
        port, server, client = Port(), Noting(), Noting(keeps_open=True)
        there, here = await connected(port, server, client)
        there.abort()
        await client.until(lambda: "eof" in client.told)
        for _ in range(20):
            here.write(b"is anybody there?")
            await asyncio.sleep(0.02)
        assert isinstance(await client.lost, ConnectionError)
        port.close()

    run(main)


@both
def test_nobody_listens(run: Run[None]) -> None:
    async def main() -> None:
        port = Port()
        address = port.address
        port.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)
        sock = new_socket()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().sock_connect(sock, address)
        sock.close()
        assert sock.fileno() == -1

    run(main)


@both
def test_a_connection_that_nobody_accepted_ends_with_its_listener(run: Run[None]) -> None:
    async def main() -> None:
        port, client = Port(), Noting()
        await asyncio.get_running_loop().create_connection(lambda: client, *port.address)
        port.close()
        assert isinstance(await client.lost, (ConnectionResetError, type(None)))

    run(main)


@both
def test_sockets_can_be_read_and_watched_directly(run: Run[None]) -> None:
    async def main() -> None:
        loop, port, client = asyncio.get_running_loop(), Port(), Noting()
        dialling = asyncio.create_task(loop.create_connection(lambda: client, *port.address))
        there = await port.accept()
        here, _ = await dialling
        assert there.getpeername() == here.get_extra_info("sockname")
        assert there.getsockname() == here.get_extra_info("peername")
        with pytest.raises(BlockingIOError):
            there.recv(10)
        here.write(b"0123456789")
        assert await loop.sock_recv(there, 4) == b"0123"
        seen: list[bytes] = []
        done = asyncio.Event()

        def read() -> None:
            seen.append(there.recv(4))
            if not seen[-1]:
                loop.remove_reader(there)
                done.set()

        loop.add_reader(there, read)
        await asyncio.sleep(0.05)
        here.close()
        await done.wait()
        assert b"".join(seen) == b"456789"
        assert not loop.remove_reader(there)
        there.close()
        with pytest.raises(OSError, match="descriptor"):
            there.recv(1)
        port.close()

    run(main)


@both
def test_datagrams_keep_their_bounds(run: Run[None]) -> None:
    async def main() -> None:
        loop, one, other = asyncio.get_running_loop(), Port().bound, Port().bound
        with pytest.raises(BlockingIOError):
            other.udp.recv(10)
        one.udp.sendto(b"first", ("127.0.0.1", other.port) if one.host == "127.0.0.1" else (other.host, other.port))
        assert await loop.sock_recv(other.udp, 3) == b"fir"
        one.close()
        other.close()

    run(main)


@both
def test_a_port_is_taken_once(run: Run[None]) -> None:
    async def main() -> None:
        port, sock = Port(), new_socket()
        with pytest.raises(OSError, match="in use"):
            sock.bind(port.address)
        with pytest.raises(OSError, match="assign"):
            sock.bind(("192.0.2.1", 0))
        sock.close()
        port.close()

    run(main)


@both
def test_a_dial_that_is_cancelled_leaves_nothing(run: Run[None]) -> None:
    async def main() -> None:
        loop, port = asyncio.get_running_loop(), Port()
        dialling = asyncio.create_task(loop.create_connection(asyncio.Protocol, *port.address))
        await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        port.close()

    run(main)
