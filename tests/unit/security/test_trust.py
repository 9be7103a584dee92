"""Trust: who believes whom, over real TLS handshakes in memory."""

import contextlib
import itertools
import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.security.authority import Authority, Leaf, OwnKey
from ringcast.security.channels import ALPN, CLIENTS, CONTROL, LINKS, MEMBERSHIP
from ringcast.security.contexts import client_side
from ringcast.security.credential import Credential, issue
from ringcast.security.identity import CLIENT, NODE, Identity, identity_of, identity_uri
from ringcast.security.material import LIFETIME, Certificates, FromSecret
from ringcast.security.private import write_private
from ringcast.security.secret import Key, Secret, new_key
from ringcast.security.trust import Trust, explained

KEY, OTHER_KEY = new_key(1), new_key(2)
SECRET, OTHER = Secret((KEY,)), Secret((OTHER_KEY,))


def trust(secret: Secret = SECRET, cluster: str = "shop", **more: str) -> Trust:
    return Trust.found(secret.render().encode(), cluster, **more)  # type: ignore[arg-type]


def shake(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Carry a whole handshake between two contexts; return both ends, the server's first."""
    assert server is not None
    assert client is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    )
    for _ in range(6):
        for end in reversed(ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    for end in ends:  # what only shows on the first read
        with contextlib.suppress(ssl.SSLWantReadError):
            end.read(1)
    return ends


@pytest.mark.parametrize("channel", [MEMBERSHIP, LINKS, CONTROL])
def test_two_of_one_secret_know_each_other(channel: bytes) -> None:
    a, b = trust(), trust()
    at_a, at_b = shake(a.serving(channel), b.dialling(channel))
    assert at_a.version() == at_b.version() == "TLSv1.3"
    seen = a.peer(at_a, channel)
    assert seen == Identity(NODE, "shop", b.node_id, b.key, None, KEY.id)
    assert b.peer(at_b, channel, expected=a.node_id).key == a.key
    assert a.key != b.key
    assert not at_b.session_reused


def test_each_start_has_a_key_of_its_own_and_a_renewed_certificate_keeps_it() -> None:
    now = [1_000_000_000.0]
    one = Trust(FromSecret(SECRET.render().encode(), None), "shop", clock=lambda: now[0])
    before = one.dialling(LINKS)
    assert not one.refresh()
    now[0] += LIFETIME / 2 + 1
    key = one.key
    assert one.refresh()
    assert one.dialling(LINKS) is not before
    assert one.key == key
    assert not one.refresh()


REFUSALS: dict[str, tuple[Callable[[], ssl.SSLContext | None], str]] = {
    "another secret": (lambda: trust(OTHER).dialling(LINKS), "certificate verify failed"),
    "no certificate": (lambda: _without_certificate(), "peer did not return a certificate"),
    "TLS 1.2": (lambda: _old(trust().dialling(LINKS)), "unsupported protocol|protocol version"),
    "expired": (lambda: _of(Authority(KEY, NODE), ttl=-10.0), "certificate has expired"),
    "a client's credential": (lambda: _of(Authority(KEY, CLIENT)), "certificate verify failed"),
}


@pytest.mark.parametrize(("dialling", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_who_has_no_certificate_of_ours_gets_nothing(dialling: Callable[[], ssl.SSLContext | None], words: str) -> None:
    with pytest.raises(ssl.SSLError, match=f"(?i){words}"):
        shake(trust().serving(LINKS), _gullible(dialling()))


def _gullible(context: ssl.SSLContext | None) -> ssl.SSLContext:
    """The attacker believes everybody: it is the member's check that has to refuse."""
    assert context is not None
    context.verify_mode = ssl.CERT_NONE
    return context


def _without_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols([ALPN[LINKS]])
    return context


def _old(context: ssl.SSLContext | None) -> ssl.SSLContext:
    assert context is not None
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _of(authority: Authority, ttl: float = 60.0, cluster: str = "shop") -> ssl.SSLContext:
    leaf = authority.issue(OwnKey(), cluster, "stranger", now=time.time(), ttl=ttl)
    return client_side(leaf, Authority(KEY, NODE).certificate(), ALPN[LINKS])


def test_a_dialler_refuses_a_server_of_another_secret_and_says_so() -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        shake(trust(OTHER).serving(LINKS), trust().dialling(LINKS))
    assert "another secret" in explained(caught.value)


def test_a_dialler_refuses_a_client_that_serves() -> None:
    leaf = Authority(KEY, CLIENT).issue(OwnKey(), "shop", "web", now=time.time(), ttl=60.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, leaf)
    context.set_alpn_protocols([ALPN[LINKS]])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, trust().dialling(LINKS))


def _load(context: ssl.SSLContext, leaf: Leaf) -> None:
    from ringcast.security.contexts import _load

    _load(context, leaf.certificate + leaf.key)


def test_a_handshake_without_a_channel_or_for_another_one_is_refused() -> None:
    for alpn in ([], [ALPN[CONTROL]], ["h2"]):
        a, b = trust(), trust()
        context = b.dialling(LINKS)
        assert context is not None
        context.set_alpn_protocols(alpn)
        with pytest.raises((HandshakeRefused, ssl.SSLError)):
            a.peer(shake(a.serving(LINKS), context)[0], LINKS)


def test_another_cluster_of_the_same_secret_is_refused_by_both() -> None:
    a, b = trust(), trust(cluster="other")
    at_a, at_b = shake(a.serving(LINKS), b.dialling(LINKS))
    with pytest.raises(HandshakeRefused, match=r"cluster 'other', and this is cluster 'shop'"):
        a.peer(at_a, LINKS)
    with pytest.raises(HandshakeRefused, match=r"cluster 'shop', and this is cluster 'other'"):
        b.peer(at_b, LINKS)


def test_another_node_than_the_one_that_was_dialled_is_refused() -> None:
    a, b = trust(), trust()
    at_a, _ = shake(a.serving(LINKS), b.dialling(LINKS))
    with pytest.raises(HandshakeRefused, match="its address was reused"):
        a.peer(at_a, LINKS, expected="somebody")


def test_a_clients_credential_opens_the_clients_channel_and_no_other() -> None:
    node = trust()
    credential = issue(SECRET, "shop", CLIENT, "web", now=time.time(), ttl=60.0, allow=["Cart.*"])
    at_node, at_client = shake(node.serving(CLIENTS), credential.dialling())
    seen = node.peer(at_node, CLIENTS)
    assert (seen.role, seen.name, seen.allow, seen.signed_by) == (CLIENT, "web", ("Cart.*",), KEY.id)
    assert identity_of(at_client.getpeercert(True) or b"").speaks_for(node.node_id)
    with pytest.raises(ssl.SSLError):
        shake(node.serving(LINKS), client_side(credential.leaf, credential.nodes, ALPN[LINKS]))


def test_a_node_has_no_business_on_the_clients_channel() -> None:
    node = trust()
    with pytest.raises(ssl.SSLError):
        shake(node.serving(CLIENTS), trust().dialling(CLIENTS))


class TestRotation:
    def at(self, path: Path, *keys: Key) -> None:
        write_private(path, Secret(keys).render())

    def test_each_step_lets_everyone_talk_to_the_step_before_and_after(self, tmp_path: Path) -> None:
        steps = [(KEY,), (KEY, OTHER_KEY), (OTHER_KEY, KEY), (OTHER_KEY,)]
        for earlier, later in itertools.pairwise(steps):
            a, b = trust(Secret(earlier)), trust(Secret(later))
            for one, two in ((a, b), (b, a)):
                at_one, _ = shake(one.serving(LINKS), two.dialling(LINKS))
                assert one.accepts(one.peer(at_one, LINKS))
        with pytest.raises(ssl.SSLError):
            shake(trust(Secret(steps[0])).serving(LINKS), trust(Secret(steps[3])).dialling(LINKS))

    def test_a_credential_of_before_works_until_its_key_is_dropped(self) -> None:
        credential = issue(SECRET, "shop", CLIENT, "web", now=time.time(), ttl=60.0)
        for keys in [(KEY,), (KEY, OTHER_KEY), (OTHER_KEY, KEY)]:
            shake(trust(Secret(keys)).serving(CLIENTS), credential.dialling())
        with pytest.raises(ssl.SSLError):
            shake(trust(OTHER).serving(CLIENTS), credential.dialling())
        told = credential.learned(trust(OTHER).node_authorities)
        with pytest.raises(ssl.SSLError):  # it believes the node now; the node does not believe it
            shake(trust(OTHER).serving(CLIENTS), told.dialling())

    def test_the_file_is_read_again_when_it_changes_and_only_then(self, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        self.at(path, KEY)
        node = Trust.found(path, "shop")
        at_first, first = node.serving(LINKS), node.gossip_keys
        seen = Identity(NODE, "shop", "x", b"", None, KEY.id)
        assert (node.signing, node.accepted) == (KEY.id, (KEY.id,))
        assert not node.refresh()
        self.at(path, OTHER_KEY, KEY)
        assert node.refresh()
        assert not node.refresh()
        assert (node.signing, node.accepted) == (OTHER_KEY.id, (OTHER_KEY.id, KEY.id))
        assert node.gossip_keys[1:] == first
        assert node.tags[0] != node.tags[1]
        assert node.serving(LINKS) is not at_first
        assert node.accepts(seen)
        self.at(path, OTHER_KEY)
        assert node.refresh()
        assert not node.accepts(seen)

    def test_a_file_that_became_wrong_changes_nothing(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "secret"
        self.at(path, KEY)
        node = Trust.found(path, "shop")
        for harm in (lambda: path.write_text("rc1."), lambda: path.chmod(0o644), path.unlink):
            harm()
            assert not node.refresh()
            assert node.accepted == (KEY.id,)
            assert "stays in force" in "".join(capfd.readouterr())
            assert not node.refresh()
            assert "".join(capfd.readouterr()) == ""
        self.at(path, OTHER_KEY)
        assert node.refresh()


class TestCredentials:
    def test_a_file_holds_what_was_issued(self, tmp_path: Path) -> None:
        for role in (CLIENT, NODE):
            made = issue(SECRET, "shop", role, "web", now=time.time(), ttl=60.0, allow=["Cart.*", "a:B.c"])
            path = tmp_path / role
            write_private(path, made.render())
            read = Credential.read(path)
            assert (read.identity, read.leaf, read.nodes) == (made.identity, made.leaf, made.nodes)
            assert (read.gossip_keys, read.tags, read.clients) == (made.gossip_keys, made.tags, made.clients)
            assert abs(read.until - made.until) <= 1
            assert KEY.material not in path.read_bytes()
            assert KEY.line().rpartition(".")[2].encode() not in path.read_bytes()

    def test_a_node_joins_with_one_and_is_limited(self, tmp_path: Path) -> None:
        path = tmp_path / "web"
        made = issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=60.0, allow=["Cart.*"])
        write_private(path, made.render())
        limited, full = Trust.found(path, "shop"), trust()
        assert limited.node_id.startswith("web.")
        assert limited.gossip_keys == full.gossip_keys
        assert limited.tags == full.tags
        at_full, at_limited = shake(full.serving(LINKS), limited.dialling(LINKS))
        seen = full.peer(at_full, LINKS, expected=limited.node_id)
        assert seen.key == limited.key
        assert seen.may("shop.carts:Cart", "add")
        assert not seen.may("shop.carts:Till", "open")
        assert limited.peer(at_limited, LINKS, expected=full.node_id).may("shop.carts:Till", "open")
        assert not seen.speaks_for("website")
        shake(limited.serving(LINKS), full.dialling(LINKS))

    def test_a_renewed_one_keeps_its_key_and_is_taken_while_running(self, tmp_path: Path) -> None:
        path = tmp_path / "web"
        old = issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=60.0)
        write_private(path, old.render())
        node = Trust.found(path, "shop")
        write_private(path, issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=90.0, renewed=old).render())
        assert node.refresh()
        write_private(path, issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=90.0).render())
        assert not node.refresh()  # another key: members know this node by the old one

    @pytest.mark.parametrize("name", ["", "a.b", "a/b", "*", "x" * 81, "-x", "a b"])
    def test_names_that_would_speak_for_others_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match="name"):
            issue(SECRET, "shop", NODE, name, now=time.time(), ttl=60.0)

    def test_too_many_patterns_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="patterns"):
            issue(SECRET, "shop", CLIENT, "web", now=time.time(), ttl=60.0, allow=["x"] * 101)

    def test_what_is_no_credential_is_refused_in_words(self, tmp_path: Path) -> None:
        good = issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=60.0).render().encode()
        other = issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=60.0)
        mixed = good.replace(Credential.parse(good, "it").leaf.key, other.leaf.key)
        cut = good[: good.index(b"RINGCAST GOSSIP KEY-----") + 40] + b"\n-----END RINGCAST GOSSIP KEY-----\n"
        for bad in (b"", b"-----BEGIN ", good[:300], good[300:], mixed, cut):
            with pytest.raises(ConfigError, match="is no credential"):
                Credential.parse(bad, "the credential")

    def test_a_client_credential_makes_no_node(self, tmp_path: Path) -> None:
        path = tmp_path / "web"
        write_private(path, issue(SECRET, "shop", CLIENT, "web", now=time.time(), ttl=60.0).render())
        with pytest.raises(ConfigError, match="is a client's"):
            Trust.found(path, "shop")
        with pytest.raises(ConfigError, match="given as a file"):
            Trust.found(path.read_bytes(), "shop")

    def test_a_credential_is_for_its_cluster(self, tmp_path: Path) -> None:
        path = tmp_path / "web"
        write_private(path, issue(SECRET, "shop", NODE, "web", now=time.time(), ttl=60.0).render())
        with pytest.raises(ConfigError, match=r"'shop'.*'other'"):
            Trust.found(path, "other")
        with pytest.raises(ConfigError, match="would be another"):
            Trust.found(path, "shop", tls=Certificates(ca=path, cert=path, key=path))


class TestOwnAuthority:
    """`Certificates`: here the authority of another secret plays the company's."""

    def files(self, at: Path, name: str, cluster: str = "shop", own: OwnKey | None = None) -> Certificates:
        authority = Authority(OTHER_KEY, NODE)
        leaf = authority.issue(own or OwnKey(), cluster, name, now=time.time(), ttl=60.0)
        at.mkdir(exist_ok=True)
        (at / "ca").write_bytes(authority.certificate())
        (at / "cert").write_bytes(leaf.certificate)
        write_private(at / "key", leaf.key.decode())
        return Certificates(ca=at / "ca", cert=str(at / "cert"), key=at / "key")

    def node(self, certificates: Certificates) -> Trust:
        return Trust.found(SECRET.render().encode(), "shop", tls=certificates)

    def test_nodes_know_each_other_by_it_and_not_by_the_secret(self, tmp_path: Path) -> None:
        a, b = self.node(self.files(tmp_path / "a", "web-1")), self.node(self.files(tmp_path / "b", "*"))
        assert a.node_id.startswith("web-1.")
        assert "." not in b.node_id
        at_a, at_b = shake(a.serving(LINKS), b.dialling(LINKS))
        assert a.peer(at_a, LINKS).speaks_for(b.node_id)
        assert b.peer(at_b, LINKS, expected=a.node_id).name == "web-1"
        assert a.accepts(a.peer(at_a, LINKS))  # though this authority is named as that of another secret
        with pytest.raises(ssl.SSLError):
            shake(a.serving(LINKS), trust().dialling(LINKS))

    def test_files_are_read_again(self, tmp_path: Path) -> None:
        own = OwnKey()
        certificates = self.files(tmp_path, "web-1", own=own)
        node = self.node(certificates)
        os.utime(certificates.cert, ns=(1, 1))
        assert node.refresh()

    @pytest.mark.parametrize("harm", ["ca", "cert", "key"])
    def test_files_that_do_not_fit_are_refused(self, tmp_path: Path, harm: str) -> None:
        certificates = self.files(tmp_path, "web-1")
        write_private(tmp_path / harm, "nothing")
        with pytest.raises(ConfigError, match="no PEM"):
            self.node(certificates)
        (tmp_path / harm).unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            self.node(certificates)

    def test_a_key_of_another_certificate_or_open_to_others_is_refused(self, tmp_path: Path) -> None:
        certificates = self.files(tmp_path, "web-1")
        certificates.key.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            self.node(certificates)
        write_private(certificates.key, OwnKey().pem().decode())
        with pytest.raises(ConfigError, match="not the certificate's"):
            self.node(certificates)

    def test_a_certificate_of_another_cluster_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"'other'.*'shop'"):
            self.node(self.files(tmp_path, "web-1", cluster="other"))

    def test_something_else_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="tls=5"):
            Trust.found(SECRET.render().encode(), "shop", tls=5)  # type: ignore[arg-type]


def test_certificates_that_name_nobody_are_refused(tmp_path: Path) -> None:
    authority = Authority(KEY, NODE).certificate()
    der = x509.load_pem_x509_certificate(authority).public_bytes(Encoding.DER)
    for bad in (der, b"", der[:50]):
        with pytest.raises(HandshakeRefused):
            identity_of(bad)


@pytest.mark.parametrize(
    "uri",
    [
        "ringcast://shop/node/a?x",
        "ringcast://shop/node/a#f",
        "ringcast://sh\nop/node/a",
        "ringcast://shop/node/a ",
        "ringcast://u@shop/node/a",
        "ringcast://shop/node/a%2eb",
        "ringcast://shop/node/%2A",
        "ringcast://%73hop/node/a",
        "ringcast://shop/node/a%0Ab",
        "ringcast://shop/node/a%1B[2J",
        "ringcast://shop/node/%ff",
        "ringcast://shop/node/a/b",
        "ringcast://shop//a",
        "ringcast://shop/node/",
        "ringcast:shop/node/a",
        "ringcast://shop/admin/a",
        f"ringcast://shop/node/{'a' * 101}",
    ],
)
def test_an_identity_is_written_in_one_way_only(uri: str) -> None:
    with pytest.raises(HandshakeRefused, match="its certificate names"):
        identity_of(named(uri))


@pytest.mark.parametrize(("cluster", "name"), [("shop", "web-1.3f"), ("a/b c", "*"), ("läden", "x@y")])
def test_names_come_back_whatever_is_in_them(cluster: str, name: str) -> None:
    identity = identity_of(named(identity_uri(cluster, NODE, name)))
    assert (identity.cluster, identity.name) == (cluster, name)


def named(uri: str) -> bytes:
    """Return a certificate (DER) with that URI among its names."""
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority of one's own")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(minutes=1))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    return builder.add_extension(names, critical=False).sign(key, None).public_bytes(Encoding.DER)


def test_authorities_are_the_same_everywhere_and_different_by_role() -> None:
    again = Key(KEY.material, 5)
    assert Authority(KEY, NODE).certificate() == Authority(again, NODE).certificate()
    assert Authority(KEY, NODE).certificate() != Authority(KEY, CLIENT).certificate()


def test_without_tls_there_are_no_contexts() -> None:
    plain = Trust.found(SECRET.render().encode(), "shop", tls=False)
    assert plain.serving(LINKS) is plain.dialling(LINKS) is None
