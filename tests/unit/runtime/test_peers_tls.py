"""Links over TLS: who is at the other end, what a limited or unproven peer gets, what a refusal says."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ringcast import Actor, Certificates, CodecError, ConfigError, Node, NodeConfig, Seeds, Unreachable, using
from ringcast.discovery.member import View
from ringcast.runtime.link import Link
from ringcast.security.channels import LINKS
from ringcast.security.credential import issue
from ringcast.security.identity import NODE, Identity
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key
from tests.unit.runtime.dials import dial, dial_as, rest_of, trust_like
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, new_cluster, raised

SECRET = Secret((new_key(1),))


class Echo(Actor):
    async def say(self, what: Any) -> Any:
        return what

    async def kind_of(self, what: Any) -> str:
        return type(what).__name__


def link(node: Node, peer: Node) -> Link:
    return node._peers.link(peer.id)


def only_pickle_carries() -> object:
    class Local:
        pass

    return Local()


@asynccontextmanager
async def pair(of_caller: dict[str, Any], of_owner: dict[str, Any]) -> AsyncIterator[Place]:
    """Start two nodes of their own options; all actors run on the second."""
    cluster = new_cluster()
    async with Node(cluster=cluster, discovery=[], **of_owner) as owner:
        seeds = [Seeds([owner.address])]
        async with Node(cluster=cluster, discovery=seeds, hosts=[], **of_caller) as caller:
            yield Place(caller, owner)


# ---- who is there --------------------------------------------------------------------------------


async def test_both_ends_know_who_the_other_is(there: Place) -> None:
    assert await there.node.ref(Echo, 1).say(1) == 1
    for one, other in ((there.node, there.owner), (there.owner, there.node)):
        identity = link(one, other).identity
        assert isinstance(identity, Identity)
        assert (identity.role, identity.cluster, identity.name) == (NODE, one.cluster, other.id)
        member = one.view.member(other.id)
        assert member is not None
        assert identity.key == member.key != b""


async def test_without_tls_nobody_has_proved_anything() -> None:
    async with pair({"tls": False}, {"tls": False}) as place:
        assert await place.node.ref(Echo, 1).say(1) == 1
        assert link(place.node, place.owner).identity is None
        assert all(member.key == b"" for member in place.node.members)


async def test_a_peer_that_the_view_shows_with_another_key_is_dropped(there: Place) -> None:
    assert await there.node.ref(Echo, 1).say(1) == 1
    members = [replace(m, key=bytes(32)) if m.id == there.owner.id else m for m in there.node.members]
    view = View(there.node.view.lineage, there.node.view.number + 1, tuple(members))
    there.node._host.install(view)
    there.node._peers.install(view)
    assert not link(there.node, there.owner).is_up
    error = await raised(using(there.node.ref(Echo, 1), timeout=0.5).say(2))
    assert isinstance(error, Unreachable)
    assert "has the key 0000000000000000…" in str(error)
    assert "another process" in str(error)


async def test_the_dialler_says_why_the_other_refused_it() -> None:
    """What TLS cannot know, such as whether this is the same run, the hellos find out."""
    async with a_place(REMOTE) as place:
        place.owner._peers.node_id = "renamed"
        error = await raised(using(place.node.ref(Echo, 1), timeout=0.5).say(1))
        place.owner._peers.node_id = place.owner.id
        assert isinstance(error, Unreachable)
        assert "this is node renamed" in str(error)


HANDSHAKE = 0.5


async def test_who_never_answers_a_dial_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with a_place(REMOTE, handshake_timeout=HANDSHAKE) as place:
            members = place.node._host.kinds.members
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            members[place.owner.id] = replace(members[place.owner.id], address=address)
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                await place.node._peers._attempt(link(place.node, place.owner))
            assert time.monotonic() - started < 2 * HANDSHAKE


@pytest.mark.parametrize("spoken", [b"RCST\x01A\0\0", b"RCST\x01A\0\0\x16\x03\x01\x00\xf0"])
async def test_who_dials_and_stops_is_closed_in_time(spoken: bytes) -> None:
    async with a_place(LOCAL, handshake_timeout=HANDSHAKE) as place:
        reader, writer = await dial(place.node)
        writer.write(spoken)
        started = time.monotonic()
        await rest_of(reader)
        assert time.monotonic() - started < 2 * HANDSHAKE
        writer.close()


async def test_who_shakes_hands_and_says_no_hello_is_closed_in_time() -> None:
    async with a_place(LOCAL, handshake_timeout=HANDSHAKE) as place:
        reader, writer = await dial_as(trust_like(place.node), place.node, LINKS)
        started = time.monotonic()
        await rest_of(reader)
        assert HANDSHAKE / 2 < time.monotonic() - started < 2 * HANDSHAKE
        assert place.node.stats()["links_refused"] == 1
        writer.close()


# ---- pickles -------------------------------------------------------------------------------------


async def test_pickles_travel_between_those_who_have_proved_who_they_are(there: Place) -> None:
    assert await there.node.ref(Echo, 1).kind_of(only_pickle_carries()) == "Local"


async def test_without_tls_pickles_travel_only_if_both_nodes_say_so() -> None:
    clear: dict[str, Any] = {"tls": False}
    willing: dict[str, Any] = {"tls": False, "config": NodeConfig(pickle=True)}
    for of_caller, of_owner in ((clear, clear), (willing, clear), (clear, willing)):
        async with pair(of_caller, of_owner) as place:
            assert isinstance(await raised(place.node.ref(Echo, 1).kind_of(only_pickle_carries())), CodecError)
            assert await place.node.ref(Echo, 1).say(1) == 1
    async with pair(willing, willing) as place:
        assert await place.node.ref(Echo, 1).kind_of(only_pickle_carries()) == "Local"


@pytest.mark.parametrize("is_caller", [True, False])
async def test_pickles_go_neither_to_nor_from_a_limited_node(tmp_path: Path, is_caller: bool) -> None:
    path, cluster = tmp_path / "credential", new_cluster()
    credential = issue(SECRET, cluster, NODE, "edge", now=time.time(), ttl=600, allow=["Echo.*"])
    write_private(path, credential.render())
    full: dict[str, Any] = {"secret": SECRET.render().encode()}
    limited: dict[str, Any] = {"secret": path}
    of_caller, of_owner = (limited, full) if is_caller else (full, limited)
    async with (
        Node(cluster=cluster, discovery=[], **of_owner) as owner,
        Node(cluster=cluster, discovery=[Seeds([owner.address])], hosts=[], **of_caller) as caller,
    ):
        echo = caller.ref(Echo, 1)
        assert await echo.say(1) == 1
        assert isinstance(await raised(echo.kind_of(only_pickle_carries())), CodecError)
        identity = link(*(owner, caller) if is_caller else (caller, owner)).identity
        assert identity is not None
        assert identity.allow == ("Echo.*",)


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"listen": "0.0.0.0:0"}, "ringcast secret new FILE"),
        ({"listen": "[::]:0"}, "RINGCAST_SECRET_FILE"),
        ({"listen": "0.0.0.0:0", "secret": SECRET.render().encode(), "tls": False}, "tls=False"),
        ({"secret": b"short"}, "bytes"),
        ({"secret": 7}, "secret="),
        ({"secret": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"tls": "yes"}, "Certificates"),
        ({"config": NodeConfig(), "tls": Certificates(ca="/no", cert="/no", key="/no")}, "cannot be read"),
    ],
    ids=str,
)
def test_what_would_leave_the_door_open_or_cannot_be_read_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Node(cluster=new_cluster(), discovery=[], **options)


def test_the_files_of_an_authority_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_TLS_CA", "/no/ca.pem")
    with pytest.raises(ConfigError, match="RINGCAST_TLS_CERT, RINGCAST_TLS_KEY is not set"):
        Node(cluster=new_cluster(), discovery=[])
    monkeypatch.setenv("RINGCAST_TLS_CERT", "/no/node.pem")
    monkeypatch.setenv("RINGCAST_TLS_KEY", "/no/node.key")
    with pytest.raises(ConfigError, match=r"/no/ca\.pem cannot be read"):
        Node(cluster=new_cluster(), discovery=[])


def test_pickle_is_a_switch_of_three_positions() -> None:
    assert NodeConfig().allows_pickle(is_encrypted=True)
    assert not NodeConfig().allows_pickle(is_encrypted=False)
    assert NodeConfig(pickle=True).allows_pickle(is_encrypted=False)
    assert not NodeConfig(pickle=False).allows_pickle(is_encrypted=True)
    with pytest.raises(ConfigError, match="pickle='yes'"):
        NodeConfig(pickle="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_with_a_secret_a_node_listens_beyond_the_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    write_private(path, SECRET.render())
    monkeypatch.setenv("RINGCAST_SECRET_FILE", str(path))
    async with Node(cluster=new_cluster(), discovery=[], listen="0.0.0.0:0", advertise="127.0.0.1") as node:
        assert node.address.startswith("127.0.0.1:")
        seeds = [Seeds([node.address])]
        async with Node(cluster=node.cluster, discovery=seeds, hosts=[]) as other:
            assert await other.ref(Echo, 1).say(1) == 1


def of_an_own_authority(at: Path, cluster: str) -> Certificates:
    """Make what a company would hand out: one certificate for all processes of a machine."""
    now = datetime.now(UTC)
    signing, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the company")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(signing.public_key())
    uri = x509.UniformResourceIdentifier(f"ringcast://{cluster}/node/web")

    def signed(name: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(issuer, name, public, 7, now - timedelta(hours=1), now + timedelta(hours=1))
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints | x509.KeyUsage))
        return builder.sign(signing, SHA256()).public_bytes(Encoding.PEM)

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = signed(issuer, signing.public_key(), x509.BasicConstraints(True, 0), usage, identifier)
    by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    cert = signed(subject, key.public_key(), x509.SubjectAlternativeName([uri]), by)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = at / "ca", at / "cert", at / "key"
    for file, data in zip(files, (ca, cert, private), strict=True):
        write_private(file, data.decode())
    return Certificates(ca=files[0], cert=files[1], key=files[2])


async def test_certificates_of_an_own_authority_make_links(tmp_path: Path) -> None:
    cluster = new_cluster()
    options: dict[str, Any] = {
        "cluster": cluster,
        "secret": SECRET.render().encode(),
        "tls": of_an_own_authority(tmp_path, cluster),
    }
    async with (
        Node(discovery=[], **options) as owner,
        Node(discovery=[Seeds([owner.address])], hosts=[], **options) as caller,
    ):
        assert caller.id.startswith("web.")
        assert await caller.ref(Echo, 1).say(1) == 1
        identity = link(caller, owner).identity
        assert identity is not None
        assert (identity.name, identity.signed_by) == ("web", None)
        assert owner.members[0].key == caller.members[1].key == identity.key
