"""The options of a node, from arguments and the environment: the same names and meanings.

``RINGCAST_CLUSTER``, ``RINGCAST_LISTEN``, ``RINGCAST_ADVERTISE``, ``RINGCAST_HOSTS`` (modules, by
commas), ``RINGCAST_LABELS`` (``gpu=1,zone=a``) and ``RINGCAST_DISCOVERY`` (``zeroconf``,
``seeds:host:port,host:port``, ``dns:name:port``, ``none``), ``RINGCAST_STORE``, ``RINGCAST_DATA_DIR``,
``RINGCAST_EXPECT``, ``RINGCAST_BOOTSTRAP`` and ``RINGCAST_SPLIT_BRAIN``. ``RINGCAST_SECRET_FILE`` and
``RINGCAST_SECRET`` are read where secrets are (`find_secret`); ``RINGCAST_TLS_CA``,
``RINGCAST_TLS_CERT`` and ``RINGCAST_TLS_KEY`` stand for ``tls=Certificates(…)``. Arguments win.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from ..discovery.address import is_loopback
from ..discovery.disk import Folder
from ..discovery.dns import Dns
from ..discovery.fields import LABELS_MAX, TEXT_MAX
from ..discovery.multicast import Zeroconf
from ..discovery.source import Seeds, Source
from ..security.material import Certificates
from ..security.private import user_data
from ..security.secret import Where
from ..security.trust import Trust
from .stores import Store, store_at
from .stores.address import TAKES

if TYPE_CHECKING:
    from ..discovery.archive import Archive


@dataclass(frozen=True, slots=True)
class Options:
    """What a node is to be."""

    cluster: str
    listen: str
    advertise: str | None
    discovery: tuple[Source, ...]
    hosts: tuple[str, ...] | None
    labels: dict[str, str]
    trust: Trust
    archive: Archive | None = None
    expect: int | None = None
    may_found: bool = True
    split_brain: str = "majority"

    @property
    def is_local(self) -> bool:
        """Whether the node listens on the loopback only."""
        return is_loopback(self.listen.rpartition(":")[0])

    @property
    def quorum(self) -> int:
        """How many members a view must have for anybody to own anything."""
        return int(self.split_brain.partition(":")[2] or 0)


def options(
    cluster: str | None,
    listen: str | None,
    advertise: str | None,
    discovery: Sequence[Source] | None,
    hosts: Sequence[str | ModuleType] | None,
    labels: Mapping[str, str] | None,
    secret: Where | None = None,
    tls: Certificates | bool | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    expect: int | None = None,
    bootstrap: str | None = None,
    split_brain: str | None = None,
) -> Options:
    """Put arguments, environment and defaults together.

    Raises:
        ConfigError: Naming the option that is wrong and what it takes.
    """
    cluster = cluster if cluster is not None else environment.get("RINGCAST_CLUSTER", "default")
    if not isinstance(cluster, str) or not 0 < len(cluster) <= 100 or not cluster.isprintable():
        raise ConfigError(f"cluster={cluster!r}: it takes a name of 1 to 100 characters that can be read")
    listen = listen if listen is not None else environment.get("RINGCAST_LISTEN", "127.0.0.1:0")
    if not isinstance(listen, str) or ":" not in listen:
        raise ConfigError(f'listen={listen!r}: it takes "host:port" or "host:first-last", such as "127.0.0.1:0"')
    expect = _expect(expect, environment.get("RINGCAST_EXPECT"))
    bootstrap = bootstrap if bootstrap is not None else environment.get("RINGCAST_BOOTSTRAP", "auto")
    if bootstrap not in ("auto", "join"):
        raise ConfigError(f'bootstrap={bootstrap!r}: it takes "auto", or "join" for a node that never begins a cluster')
    split_brain = _split_brain(split_brain or environment.get("RINGCAST_SPLIT_BRAIN", "majority"))
    archive = _archive(data_dir if data_dir is not None else environment.get("RINGCAST_DATA_DIR"))
    unique = archive.node_id if archive is not None else None
    certificates = tls if tls is not None else _certificates(environment)
    found = Options(
        cluster,
        listen,
        advertise if advertise is not None else environment.get("RINGCAST_ADVERTISE"),
        _sources(discovery, environment.get("RINGCAST_DISCOVERY")),
        _modules(hosts, environment.get("RINGCAST_HOSTS")),
        _labels(labels, environment.get("RINGCAST_LABELS")),
        Trust.found(secret, cluster, tls=certificates, unique=unique),
        archive,
        expect,
        bootstrap == "auto",
        split_brain,
    )
    if not found.is_local and not found.trust.is_encrypted:
        raise ConfigError(
            f"listen={listen!r} is open to other machines, and tls=False would let each of them in: it is for the "
            f"loopback only; leave tls=… away, or listen on 127.0.0.1"
        )
    if not found.is_local and not found.trust.is_named:
        raise ConfigError(
            f"listen={listen!r} is open to other machines, and a node joins others there by the cluster's secret: "
            f"make one with `ringcast secret new FILE`, and give the file to every node with Node(secret='FILE') or "
            f"RINGCAST_SECRET_FILE; without one, listen on 127.0.0.1"
        )
    return found


def store_option(
    given: str | Store | Callable[[], Store] | None,
    cluster: str,
    is_local: bool,
    environment: Mapping[str, str] = os.environ,
) -> Store | Callable[[], Store]:
    """Return the store that was named, or what makes one, such as the default, when a durable actor needs it.

    Raises:
        ConfigError: If what was named is none.
    """
    named = given if given is not None else environment.get("RINGCAST_STORE")
    if named is None:
        return partial(_default_store, cluster, is_local)
    if isinstance(named, str):
        return store_at(named)
    if not callable(named) and not all(
        callable(getattr(named, method, None)) for method in ("open", "claim", "write", "close")
    ):
        raise ConfigError(f"store={named!r}: it takes {TAKES}, or a Store")
    return named


def _default_store(cluster: str, is_local: bool) -> Store:
    if not is_local:
        raise ConfigError(
            "a durable actor needs a store, and a node that listens beyond the loopback has no default: give all nodes "
            "the same one with Node(store=…) or RINGCAST_STORE. Several machines can share postgresql://… and "
            "redis://… (which may lose acknowledged state in a crash); nodes of one machine sqlite:///path"
        )
    name = quote(cluster, safe=" ")
    if len(name) > 200:
        name = hashlib.sha256(cluster.encode("utf-8", "surrogatepass")).hexdigest()
    from .stores.sqlite import SQLiteStore

    return SQLiteStore(user_data() / "state" / f"{name}.db")


def _expect(given: int | None, named: str | None) -> int | None:
    if given is None and named is not None:
        given = int(named) if named.isdecimal() else 0
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise ConfigError(f"expect={given!r}: it takes the number of nodes with which the cluster begins, at least 1")
    return given


def _split_brain(given: object) -> str:
    if isinstance(given, str):
        kind, _, number = given.partition(":")
        if given == "majority":
            return given
        if kind == "static" and number.isdecimal() and int(number) > 0:
            return f"static:{int(number)}"
    raise ConfigError(
        f'split_brain={given!r}: it takes "majority", or "static:3" for a cluster that does nothing with fewer than '
        f"3 members"
    )


def _archive(given: str | os.PathLike[str] | None) -> Archive | None:
    if given is None:
        return None
    from ..discovery.archive import Archive

    try:
        return Archive(Folder(given))
    except (OSError, TypeError) as error:
        raise ConfigError(f"data_dir={given!r}: it takes a folder that this node may write to: {error}") from error


def _certificates(environment: Mapping[str, str]) -> Certificates | None:
    names = ("RINGCAST_TLS_CA", "RINGCAST_TLS_CERT", "RINGCAST_TLS_KEY")
    ca, cert, key = (environment.get(name) for name in names)
    if ca and cert and key:
        return Certificates(ca=ca, cert=cert, key=key)
    if ca or cert or key:
        missing = ", ".join(name for name in names if not environment.get(name))
        raise ConfigError(f"{', '.join(names)} go together, and {missing} is not set")
    return None


def _sources(given: Sequence[Source] | None, named: str | None) -> tuple[Source, ...]:
    if given is not None:
        if isinstance(given, (str, bytes)) or not all(callable(getattr(source, "start", None)) for source in given):
            raise ConfigError(f"discovery={given!r}: it takes a list of Zeroconf(), Seeds([…]) and Dns(…); [] is alone")
        return tuple(given)
    if named is None or named == "zeroconf":
        return (Zeroconf(),)
    kind, _, rest = named.partition(":")
    if named == "none":
        return ()
    if kind == "seeds" and rest:
        return (Seeds(rest.split(",")),)
    if kind == "dns" and rest.rpartition(":")[2].isdecimal():
        return (Dns(rest.rpartition(":")[0], int(rest.rpartition(":")[2])),)
    raise ConfigError(f"RINGCAST_DISCOVERY={named!r}: it takes zeroconf, seeds:host:port,…, dns:name:port or none")


def _modules(given: Sequence[str | ModuleType] | None, named: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None if named is None else tuple(name for name in named.split(",") if name)
    if isinstance(given, (str, bytes)):
        raise ConfigError(f"hosts={given!r}: it takes a list of modules; [] hosts nothing")
    names = [module.__name__ if isinstance(module, ModuleType) else module for module in given]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"hosts={given!r}: it takes modules or their names; [] hosts nothing")
    return tuple(names)


def _labels(given: Mapping[str, str] | None, named: str | None) -> dict[str, str]:
    if given is None:
        pairs = [pair.partition("=") for pair in (named or "").split(",") if pair]
        given = {name: value for name, _, value in pairs}
    if not all(isinstance(part, str) for pair in given.items() for part in pair):
        raise ConfigError(f'labels={given!r}: it takes strings, such as {{"gpu": "1"}}')
    if len(given) > LABELS_MAX or any(len(part) > TEXT_MAX for pair in given.items() for part in pair):
        raise ConfigError(f"labels: a node has at most {LABELS_MAX}, of {TEXT_MAX} characters each")
    return dict(given)
