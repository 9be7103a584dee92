"""What an event loop can do and a simulated one does not: each says so, and nothing reaches the outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: object, *args: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(f"{name} is not simulated")

    return refuse


class RefusingLoop(asyncio.AbstractEventLoop):
    """The base of `VirtualLoop`: the world runs it, and it has neither files, pipes, signals nor processes."""

    run_forever = _refused("run_forever")
    run_until_complete = _refused("run_until_complete")
    stop = _refused("stop")
    set_default_executor = _refused("set_default_executor")
    set_task_factory = _refused("set_task_factory")
    set_debug = _refused("set_debug")
    getnameinfo = _refused("getnameinfo")
    create_server = _refused("create_server")
    sendfile = _refused("sendfile")
    start_tls = _refused("start_tls")
    create_unix_connection = _refused("create_unix_connection")
    create_unix_server = _refused("create_unix_server")
    create_datagram_endpoint = _refused("create_datagram_endpoint")
    connect_read_pipe = _refused("connect_read_pipe")
    connect_write_pipe = _refused("connect_write_pipe")
    subprocess_shell = _refused("subprocess_shell")
    subprocess_exec = _refused("subprocess_exec")
    add_writer = _refused("add_writer")  # type: ignore[assignment]
    remove_writer = _refused("remove_writer")
    sock_recv_into = _refused("sock_recv_into")
    sock_recvfrom = _refused("sock_recvfrom")
    sock_recvfrom_into = _refused("sock_recvfrom_into")
    sock_sendall = _refused("sock_sendall")
    sock_sendto = _refused("sock_sendto")
    sock_sendfile = _refused("sock_sendfile")
    add_signal_handler = _refused("add_signal_handler")  # type: ignore[assignment]
    remove_signal_handler = _refused("remove_signal_handler")
