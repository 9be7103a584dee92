"""`ringcast secret`: makes the cluster's secret, shows and changes it, and issues credentials.

Keys are never shown: on the screen a key is its id, eight hex digits that tell nothing about it.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from ringcast.errors import ConfigError

from ..security.credential import Credential, is_credential, issue
from ..security.identity import CLIENT, NODE, Role
from ..security.material import Certificates, FromCertificates, FromSecret
from ..security.private import create_private, read_private, user_data, write_private
from ..security.secret import Secret, new_key
from ..security.trust import Trust
from .inquiry import Answer, Inquiry, NoAnswerError
from .logs import set_up_logs
from .looking import AS_JSON, CLUSTER, SECRET, Look, looking, print_json, run
from .rotation import Behind, Step, behind, changed, newest, next_step, replace_secret
from .tables import say, show

POLL = 0.5
"""Seconds between two questions whether all nodes have caught up."""

DAY = 24 * 3600.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}
_TTL_MAX = 3650 * DAY


def _duration(context: click.Context, option: click.Parameter, value: str) -> float:
    """Return seconds of a time such as 30m, 24h or 7d."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= _TTL_MAX:
        raise click.BadParameter(f"{value!r} is no time such as 30m, 24h or 7d, at most ten years", context, option)
    return seconds


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what is wrong with a file, with exit code 1."""
    try:
        yield
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _file(given: str | None) -> Path:
    """Return the file that is meant: the given one, or the one that a node would read.

    Links are followed, for the file itself is what is replaced.
    """
    named = given or os.environ.get("RINGCAST_SECRET_FILE")
    if named:
        return Path(named).expanduser().resolve()
    if "RINGCAST_SECRET" in os.environ:
        raise ConfigError("the secret stands in RINGCAST_SECRET and not in a file: name the FILE")
    return (user_data() / "secret").resolve()


@click.group()
def secret() -> None:
    """Make, show and change the cluster's secret; issue credentials."""


@secret.command()
@click.argument("file", required=False)
def new(file: str | None) -> None:
    """Make a secret, into FILE, which must not be there yet, or print it."""
    key = new_key(time.time())
    if file is None:
        click.echo(key.line())
        return
    path = Path(file).expanduser()
    with _refusing():
        if not create_private(path, Secret((key,)).render()):
            raise ConfigError(f"{path} is there already; `ringcast secret rotate {path}` changes its key")
    say(f"{path} holds the new key {key.id}. Copy it to all machines of the cluster, readable for the nodes' user only")


@secret.command("show")
@click.argument("file", required=False)
@AS_JSON
def show_(file: str | None, as_json: bool) -> None:
    """Say which keys a secret has, or what a credential allows; the keys themselves are not shown.

    Without FILE it is the one that a node would read.
    """
    with _refusing():
        path = _file(file)
        data = read_private(path, "the file")
        if is_credential(data):
            document = _shown(Credential.parse(data, f"the credential {path}"))
            if as_json:
                print_json({"file": str(path)} | document)
            else:
                for name, value in document.items():
                    say(f"{name.replace('_', ' ')}: {value if isinstance(value, str) else ', '.join(value)}")
            return
        keys = Secret.parse(data, f"the secret {path}").keys
    if as_json:
        shown = [{"id": key.id, "made": key.made or None, "signs": key == keys[0]} for key in keys]
        print_json({"file": str(path), "keys": shown})
        return
    rows = [(key.id, _when(key.made) if key.made else "", _age(key.made), key == keys[0], True) for key in keys]
    show(("key", "made", "age", "signs", "accepted"), rows)


def _shown(credential: Credential) -> dict[str, str | list[str]]:
    who = credential.identity
    return {
        "role": who.role,
        "name": who.name,
        "cluster": who.cluster,
        "signed_by": who.signed_by or "an authority of your own",
        "until": _when(credential.until),
        "allow": _allowed(who.allow, who.role),
    }


def _allowed(allow: Sequence[str] | None, role: Role) -> list[str] | str:
    if allow is not None:
        return list(allow)
    return "all that is open to clients" if role == CLIENT else "everything"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _age(made: int) -> str:
    age = max(0.0, time.time() - made)
    return "" if not made else f"{age / DAY:.0f} days" if age >= 2 * DAY else f"{age / 3600:.0f} hours"


@secret.command("issue")
@click.option("--role", type=click.Choice([CLIENT, NODE]), required=True, help="What it is for.")
@click.option("--name", required=True, help="Its holder's name, for logs and rules.")
@click.option(
    "--allow", multiple=True, metavar="'CLASS.METHOD'", help="What it may call, such as 'Cart.*'. May be repeated."
)
@click.option("--ttl", callback=_duration, default="24h", show_default=True, help="How long it is valid, such as 7d.")
@CLUSTER
@SECRET
@click.option("--out", metavar="FILE", required=True, help="Where to write it; one of the same name is renewed.")
def issue_(
    role: Role, name: str, allow: tuple[str, ...], ttl: float, cluster: str, secret: str | None, out: str
) -> None:
    """Issue a credential, for a client or a limited node, which are not to have the secret itself."""
    with _refusing():
        source, target = _file(secret), Path(out).expanduser()
        data = read_private(source, "the cluster secret")
        if is_credential(data):
            raise ConfigError(f"{source} is a credential itself: only who has the secret can issue one")
        held = Secret.parse(data, f"the secret {source}")
        renewed = _renewed(target, role, name, cluster)
        made = issue(held, cluster, role, name, now=time.time(), ttl=ttl, allow=allow or None, renewed=renewed)
        if renewed is not None:
            write_private(target, made.render())
        elif not create_private(target, made.render()):
            raise ConfigError(f"{target} was just made by somebody else")
    what = made.identity
    may = _allowed(what.allow, role)
    say(
        f"{target}: {what}, {'renewed ' if renewed else ''}until {_when(made.until)}, signed by key {held.signing.id}; "
        f"it may call {', '.join(may) if isinstance(may, list) else may}"
    )


def _renewed(target: Path, role: Role, name: str, cluster: str) -> Credential | None:
    """Return the credential that is there, whose key is kept; None if there is no file."""
    if not target.exists():
        return None
    old = Credential.read(target)
    who = old.identity
    if (who.role, who.name, who.cluster) != (role, name, cluster):
        raise ConfigError(f"{target} is there already, and is the credential of {who}: name another file")
    return old


@secret.command()
@click.argument("file", required=False)
@click.option("--all", "walk", is_flag=True, help="Do all three steps, where all nodes share the file.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="With --all: seconds for all nodes to catch up with each step.",
)
@looking
def rotate(look: Look, file: str | None, walk: bool, wait: float) -> None:
    """Change the key without a pause: add a new one, promote it, drop the old one; one step each call.

    Each step is for all machines: copy the file there before the next. A step is refused until every
    live node has caught up with the one before; a node that does not answer has not.
    """
    set_up_logs()
    with _refusing():
        rotation = _Rotation(look, _file(file or look.secret))
        if not walk:
            lagging = [] if next_step(rotation.secret) is Step.ADD else run(rotation.behind())
            if lagging:
                rotation.refuse(lagging)
            rotation.step()
            return
        while True:
            step = rotation.step()
            run(rotation.caught_up(wait))
            if step is Step.DROP:
                return


class _Rotation:
    """One call of ``rotate``: a file, and where its cluster is."""

    def __init__(self, look: Look, path: Path) -> None:
        self.look = look
        self.path = path
        data = read_private(path, "the cluster secret")
        if is_credential(data):
            raise ConfigError(f"{path} is a credential: `ringcast secret issue` renews it")
        self.secret = Secret.parse(data, f"the secret {path}")

    def step(self) -> Step:
        """Do the next step, and say what it was."""
        step, old = next_step(self.secret), self.secret
        replace_secret(self.path, old, changed(old, time.time()))
        self.secret = Secret.read(self.path)
        key = newest(self.secret).id
        gone = ", ".join(key.id for key in old.keys if key not in self.secret.keys)
        if self.look.as_json:
            accepts = [key.id for key in self.secret.keys]
            after = next_step(self.secret).value if step is not Step.DROP else None
            print_json(
                {"file": str(self.path), "step": step.value, "signs": accepts[0], "accepts": accepts, "next": after}
            )
            return step
        match step:
            case Step.ADD:
                done = f"added the new key {key}, which is accepted from now on and signs nothing yet"
            case Step.PROMOTE:
                done = f"promoted the new key {key}, which signs from now on; the old one is still accepted"
            case Step.DROP:
                done = f"dropped the old key {gone}; credentials that it has signed are worth nothing any more"
        copy = f"copy {self.path} to all machines (nodes read it by themselves; issue nodes' credentials again)"
        then = "" if step is Step.DROP else f", then call `ringcast secret rotate {self.path}` to "
        say(f"{done}. Next: {copy}{then}{'' if step is Step.DROP else next_step(self.secret).value}")
        return step

    def refuse(self, lagging: Sequence[Behind]) -> None:
        """Say who has not caught up, and end."""
        if self.look.as_json:
            waits = [{"node": who.node, "address": who.address, "reason": who.reason} for who in lagging]
            print_json({"file": str(self.path), "refused": next_step(self.secret).value, "waiting_for": waits})
        for who in lagging:
            click.echo(f"{who.node} ({who.address}) {who.reason}", err=True)
        click.echo(
            f"{next_step(self.secret).value} is refused: copy {self.path} to the machines of these nodes, and issue "
            "those that have a credential a new one; end a node that does not answer, and wait until the others "
            "have declared it lost. Then call again",
            err=True,
        )
        sys.exit(1)

    async def caught_up(self, limit: float) -> None:
        """Return when every live node has what the file has; end with exit code 1 if some never do."""
        until = time.monotonic() + limit
        while lagging := await self.behind():
            if time.monotonic() > until:
                self.refuse(lagging)
            await asyncio.sleep(POLL)

    async def behind(self) -> list[Behind]:
        """Return who has not caught up with the file.

        The nodes are asked under the key that signs, and who does not answer to it once more under each
        other one: a node that has not read the file yet may know only that.
        """
        told: dict[str, tuple[Answer, Answer | NoAnswerError]] = {}
        reason: NoAnswerError | None = None
        for trust in self._trusts():
            inquiry = Inquiry(trust, self.look.node, self.look.timeout)
            try:
                for member, answer in await inquiry.everywhere("status"):
                    if member["id"] not in told or isinstance(told[member["id"]][1], NoAnswerError):
                        told[member["id"]] = member, answer
            except NoAnswerError as error:
                reason = reason or error
            if told and not any(isinstance(answer, NoAnswerError) for _, answer in told.values()):
                break
        if not told and reason is not None:
            raise NoAnswerError(f"{reason}. The nodes must be asked before this step is done")
        return behind(self.secret, told.values())

    def _trusts(self) -> Iterator[Trust]:
        for first in self.secret.keys:
            order = Secret((first, *(key for key in self.secret.keys if key != first)))
            origin = FromSecret(order.render().encode(), None)
            tls = self.look.tls
            if isinstance(tls, Certificates):
                yield Trust(FromCertificates(tls, origin), self.look.cluster)
                return  # the certificate is the same under each key
            yield Trust(origin, self.look.cluster, is_encrypted=tls is not False)
