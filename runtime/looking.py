"""What every command that looks at a cluster is told: where to begin, whom to believe, how to answer."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from ..discovery.address import split_address
from ..security.material import Certificates
from ..security.trust import Trust
from .inquiry import Inquiry, NoAnswerError
from .logs import set_up_logs

P = ParamSpec("P")
R = TypeVar("R")
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """What the options of such a command say.

    Attributes:
        node: The address of the node to ask; None to find one.
        cluster: The cluster's name.
        timeout: Seconds for each node to answer.
        as_json: Whether the answer is to be JSON.
        secret: The path of the secret, if one is named.
        tls: The certificates of an authority of one's own, if there are; False for connections in clear.
    """

    node: str | None
    cluster: str
    timeout: float
    as_json: bool
    secret: str | None
    tls: Certificates | bool | None

    def trust(self) -> Trust:
        """Return what the command presents to nodes, and whom it believes: the same as a node would.

        Raises:
            UsageError: If the secret, or a certificate, cannot be used.
        """
        try:
            set_up_logs()
            return Trust.found(self.secret, self.cluster, tls=self.tls)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None

    def inquiry(self) -> Inquiry:
        """Return a look at the cluster."""
        return Inquiry(self.trust(), self.node, self.timeout)


def looking(command: Callable[Concatenate[Look, P], R]) -> Callable[..., R]:
    """Give a command the options that say at which cluster to look, and where to begin."""
    return NODE(looking_around(command))


def looking_around(command: Callable[Concatenate[Look, P], R]) -> Callable[..., R]:
    """Give a command the options that say at which cluster to look; where to begin it says itself."""

    @functools.wraps(command)
    def taking(
        *args: Any,
        cluster: str,
        timeout: float,
        as_json: bool,
        secret: str | None,
        tls_ca: str | None,
        tls_cert: str | None,
        tls_key: str | None,
        in_clear: bool,
        node: str | None = None,
        **rest: Any,
    ) -> R:
        tls = certificates(tls_ca, tls_cert, tls_key)
        if in_clear and tls is not None:
            raise click.UsageError("--no-tls goes without certificates")
        return command(Look(node, cluster, timeout, as_json, secret, False if in_clear else tls), *args, **rest)

    decorated: Callable[..., R] = taking
    for option in reversed((CLUSTER, SECRET, TLS_CA, TLS_CERT, TLS_KEY, IN_CLEAR, TIMEOUT, AS_JSON)):
        decorated = option(decorated)
    return decorated


def certificates(ca: str | None, cert: str | None, key: str | None) -> Certificates | None:
    """Return what ``--tls-ca``, ``--tls-cert`` and ``--tls-key`` name: all of them, or none.

    Raises:
        UsageError: If one is missing.
    """
    if ca and cert and key:
        return Certificates(ca=ca, cert=cert, key=key)
    if ca or cert or key:
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key go together")
    return None


def run(inquiry: Coroutine[Any, Any, R]) -> R:
    """Run a look to its end.

    Raises:
        ClickException: If there is no answer.
    """
    try:
        return asyncio.run(inquiry)
    except NoAnswerError as error:
        raise click.ClickException(str(error)) from None


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False))


def checked_address(
    context: click.Context, option: click.Parameter, value: str | tuple[str, ...] | None
) -> str | tuple[str, ...] | None:
    """Take the address of a node, or several."""
    try:
        for address in (value,) if isinstance(value, str) else value or ():
            split_address(address)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None
    return value


def _tls(name: str, what: str) -> Option:
    variable = f"RINGCAST_TLS_{name.upper()}"
    return click.option(f"--tls-{name}", metavar="FILE", envvar=variable, show_envvar=True, help=what)


NODE: Option = click.option("--node", metavar="HOST:PORT", callback=checked_address, help="Ask this node.")
CLUSTER: Option = click.option(
    "--cluster",
    envvar="RINGCAST_CLUSTER",
    show_envvar=True,
    default="default",
    show_default=True,
    help="The cluster's name. Without --node, one of its nodes on this machine is found.",
)
SECRET: Option = click.option(
    "--secret",
    metavar="FILE",
    envvar="RINGCAST_SECRET_FILE",
    show_envvar=True,
    help="The cluster's secret, or a credential.  [default: this user's own]",
)
TLS_CA = _tls("ca", "Authorities of your own that are believed.")
TLS_CERT = _tls("cert", "A certificate that one of them has signed.")
TLS_KEY = _tls("key", "The certificate's private key.")
IN_CLEAR: Option = click.option("--no-tls", "in_clear", is_flag=True, help="Ask nodes with tls=False, on this machine.")
TIMEOUT: Option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Seconds for each node to answer.",
)
AS_JSON: Option = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
