"""`ringcast up`: a process that is a node, until it is told to stop.

SIGTERM and SIGINT leave gracefully; a second one ends at once, by the signal's own way. With
``--workers`` the process becomes a supervisor instead, see `workers`; each worker is this same
command again, in a fresh interpreter, with a lifeline in the place of its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence

import click

import ringcast
from ringcast.errors import ConfigError, RingcastError
from ringcast.values import dataclass

from ..discovery.address import ListenOn
from ..discovery.dns import Dns
from ..discovery.source import Seeds, Source
from .looking import SECRET, TLS_CA, TLS_CERT, TLS_KEY, certificates
from .node import Node, run
from .workers import READY, Workers

STOPPING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Up:
    """What `ringcast up` was asked for."""

    modules: tuple[str, ...]
    cluster: str | None
    listen: str | None
    advertise: str | None
    secret: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    seeds: tuple[str, ...]
    dns: str | None
    alone: bool
    labels: tuple[str, ...]
    as_json: bool

    def node(self) -> Node:
        """Return the node.

        Raises:
            ConfigError: If an option is wrong; those not given are the environment's.
        """
        pairs = [label.partition("=") for label in self.labels]
        return Node(
            cluster=self.cluster,
            listen=self.listen,
            advertise=self.advertise,
            discovery=self._discovery(),
            secret=self.secret,
            tls=certificates(self.tls_ca, self.tls_cert, self.tls_key),
            labels={name: value for name, _, value in pairs} if pairs else None,
        )

    def _discovery(self) -> list[Source] | None:
        sources: list[Source] = []
        if self.seeds:
            sources.append(Seeds(self.seeds))
        if self.dns is not None:
            name, _, port = self.dns.rpartition(":")
            sources.append(Dns(name, int(port)))
        return sources if sources or self.alone else None

    def arguments(self) -> list[str]:
        """Return the arguments of `ringcast up` that ask for the same again."""
        given = {
            "--cluster": self.cluster,
            "--listen": self.listen,
            "--advertise": self.advertise,
            "--secret": self.secret,
            "--tls-ca": self.tls_ca,
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
            "--dns": self.dns,
        }
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        options += [f"--seed={seed}" for seed in self.seeds]
        options += [f"--label={label}" for label in self.labels]
        options += ["--alone"] * self.alone + ["--json"] * self.as_json
        return [*options, "--", *self.modules]


def _listen(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    try:
        if value is not None:
            ListenOn.parse(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), context, option) from None
    return value


def _labels(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for label in value:
        if label.find("=") < 1:
            raise click.BadParameter(f"{label!r} is not of the form name=value", context, option)
    return value


def _dns(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value.rpartition(":")[0] and value.rpartition(":")[2].isdecimal()):
        raise click.BadParameter(f"{value!r} is not of the form name:port", context, option)
    return value


@click.command()
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@click.option("--cluster", envvar="RINGCAST_CLUSTER", show_envvar=True, help="Nodes of other clusters are not seen.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    envvar="RINGCAST_LISTEN",
    show_envvar=True,
    callback=_listen,
    help="Port 0 is any free one; HOST:FIRST-LAST takes the first free one.  [default: 127.0.0.1:0]",
)
@click.option(
    "--advertise",
    metavar="HOST:PORT",
    envvar="RINGCAST_ADVERTISE",
    show_envvar=True,
    help="Where others dial this node.",
)
@SECRET
@TLS_CA
@TLS_CERT
@TLS_KEY
@click.option("--seed", "seeds", metavar="HOST:PORT", multiple=True, help="A node to join by. May be repeated.")
@click.option("--dns", metavar="NAME:PORT", callback=_dns, help="A name that resolves to the nodes to join by.")
@click.option("--no-discovery", "--alone", "alone", is_flag=True, help="Look for no other node.")
@click.option(
    "--label",
    "labels",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_labels,
    help="For placement. May be repeated.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Run so many nodes, and start one again that dies.")
@click.option("--json", "as_json", is_flag=True, help="Say it as one JSON object a line.")
@click.option("--lifeline", is_flag=True, hidden=True, help="Standard input is the supervisor's.")
def up(workers: int | None, lifeline: bool, **options: object) -> None:
    """Run a node that hosts the actors of each MODULE, until SIGTERM or SIGINT.

    Modules are looked up in the current directory first. Nodes of a cluster find each other by
    zeroconf, unless --seed, --dns or --alone says otherwise.
    """
    wanted = Up(**options)  # type: ignore[arg-type]  # click has read them as declared above
    if wanted.alone and (wanted.seeds or wanted.dns):
        raise click.UsageError("--alone looks for nobody: it does not go with --seed or --dns")
    try:
        if workers is not None:
            sys.exit(_supervise(wanted, workers))
        stdin = _take_lifeline() if lifeline else None
        node = wanted.node()
        import_modules(wanted.modules)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    try:
        told = run(serve(node, wanted, stdin))
    except RingcastError as error:
        raise click.ClickException(str(error)) from None
    if not told:
        raise click.ClickException("the node has stopped by itself; the log says why")


def import_modules(names: Sequence[str]) -> None:
    """Import the modules with the actor classes, from the current directory first.

    Raises:
        ClickException: Naming the module, and why it cannot be imported.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise click.ClickException(f"cannot import module {name!r}: {_reason(name, error)}") from error


def _reason(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        hint = f"; give the module's name, {name.removesuffix('.py')}" if name.endswith(".py") else ""
        return f"there is no {error.name!r} in {os.getcwd()} or on Python's path{hint}"
    # Where in the user's code it happened: the last frame that is not the import machinery's.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"{type(error).__name__}: {error}{where}"


def _supervise(wanted: Up, count: int) -> int:
    if wanted.listen is not None:
        ports = ListenOn.parse(wanted.listen).ports
        if ports[0] != 0 and len(ports) < count:
            raise click.UsageError(
                f"--listen {wanted.listen} names {len(ports)} port(s) for {count} workers: "
                "each needs its own; give HOST:0 or HOST:FIRST-LAST"
            )
    environment = dict(os.environ)  # with RINGCAST_SECRET, which a node takes out
    wanted.node()  # what is wrong with the options is said once, here
    # -P: the current directory comes onto the path after ringcast itself was found.
    command = [sys.executable, "-P", "-m", "ringcast", "up", "--lifeline", *wanted.arguments()]
    return asyncio.run(Workers(command, count, environment).run())


async def serve(node: Node, wanted: Up, lifeline: socket.socket | None) -> bool:
    """Run the node until a signal, the end of the lifeline, or its own end; return whether it was told."""
    told = asyncio.Event()
    on_stop(told.set)
    if lifeline is not None:
        on_end(lifeline, told.set)
    telling = asyncio.create_task(told.wait())
    starting = asyncio.create_task(node.start())
    ending: asyncio.Task[None] | None = None
    try:
        await asyncio.wait({starting, telling}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return True
        await starting
        ending = asyncio.create_task(_end_of(node))
        _say_ready(node, wanted)
        if lifeline is not None:
            with contextlib.suppress(OSError):  # the supervisor has gone: its end says so, too
                lifeline.send(READY)
        await asyncio.wait({ending, telling}, return_when=asyncio.FIRST_COMPLETED)
        await node.leave()
        return told.is_set() or node.was_drained
    finally:
        for task in (telling, ending):
            if task is not None:
                task.cancel()
        if lifeline is not None:
            asyncio.get_running_loop().remove_reader(lifeline)
            lifeline.close()


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT; the next one ends the process at once."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        for number in STOPPING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # without it SIGINT would be a KeyboardInterrupt
        stop()

    for number in STOPPING:
        loop.add_signal_handler(number, first)


def on_end(lifeline: socket.socket, stop: Callable[[], None]) -> None:
    """Call `stop` when the other end of the lifeline has closed: nothing ever comes over it."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(lifeline)
        stop()

    loop.add_reader(lifeline, gone)


async def _end_of(node: Node) -> None:
    async for _ in node.events():
        pass


def _say_ready(node: Node, wanted: Up) -> None:
    cluster = node.cluster
    if wanted.as_json:
        members = [{"id": member.id, "address": member.address} for member in node.members]
        line = {
            "event": "ready",
            "node": node.id,
            "address": node.address,
            "cluster": cluster,
            "pid": os.getpid(),
        }
        text = json.dumps(line | {"members": members})
    else:
        count = len(node.members)
        who = f"{count} members" if count > 1 else "alone so far"
        text = f"ringcast {ringcast.__version__}: node {node.id} of cluster {cluster} on {node.address}, {who}"
    with contextlib.suppress(BrokenPipeError):  # nobody reads: the node runs all the same
        sys.stdout.write(f"{text}\n")  # in one piece: the workers share the output
        sys.stdout.flush()


def _take_lifeline() -> socket.socket:
    """Return the socket that is standard input, which is nothing from now on.

    Processes that the user's code starts must not inherit it: they would hold it open.
    """
    lifeline = socket.socket(fileno=os.dup(0))
    lifeline.setblocking(False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lifeline
