"""The secret: its file, its keys, and what is refused as one."""

import contextlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.errors import ConfigError
from ringcast.security import secret as secrets_of
from ringcast.security.keys import authority_seed, discovery_tag, gossip_key
from ringcast.security.private import create_private, write_private
from ringcast.security.secret import Key, Secret, find_secret, new_key


def one(now: int = 100) -> Secret:
    return Secret((new_key(now),))


def stored(path: Path, secret: Secret, mode: int = 0o600) -> Path:
    path.write_text(secret.render())
    path.chmod(mode)
    return path


def test_a_file_holds_what_was_put_into_it(tmp_path: Path) -> None:
    both = Secret((new_key(5), new_key(2)))
    path = tmp_path / "secret"
    write_private(path, both.render())
    assert Secret.read(path) == both
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert both.signing is both.keys[0]
    assert both.oldest is both.keys[1]


def test_the_last_of_keys_of_one_age_counts_as_the_oldest() -> None:
    keys = (new_key(0), new_key(0))
    assert Secret(keys).oldest is keys[1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o666])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = stored(tmp_path / "secret", one(), mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        Secret.read(path)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "secret", one())
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="belongs to user"):
        Secret.read(path)


def test_what_is_no_file_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Secret.read(tmp_path)
    with pytest.raises(ConfigError, match="is no file"):
        Secret.read(Path(os.devnull))
    with pytest.raises(ConfigError, match=r"cannot be read.*No such file"):
        Secret.read(tmp_path / "nothing")


WEAK = {
    "short": b"x1Y" * 5,
    "one byte": b"\x00" * 64,
    "a count": bytes(range(64)),
    "a short period": b"abcdABCD0123" * 8,
    "words": b"correct horse battery staple and many more words follow here",
    "joined words": b"correct-horse-battery-staple-and-many-more-words-follow-here",
    "empty": b"  \n# nothing\n",
    "31 bytes": bytes(os.urandom(31).hex()[:31], "ascii"),
}


@pytest.mark.parametrize("weak", WEAK.values(), ids=WEAK.keys())
def test_weak_secrets_are_refused(weak: bytes) -> None:
    with pytest.raises(ConfigError):
        Secret.parse(weak, "the secret")


def test_a_weak_key_in_a_file_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="repeats itself"):
        Secret.parse(Key(b"\x01" * 32).line().encode(), "the secret")
    with pytest.raises(ConfigError, match="the least"):
        Secret.parse(Key(os.urandom(16)).line().encode(), "the secret")


def test_random_bytes_and_their_hex_are_taken() -> None:
    ends = b" ", b"\n", b"\r\n", b"#", b"\n#", b"rc1.", b"\0"
    for end in ends * 30:
        raw = end + os.urandom(32) + end
        assert Secret.parse(raw, "the secret").signing.material == raw
        text = os.urandom(32).hex().encode()
        assert Secret.parse(text + b"\n", "the secret").signing.material == text


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_config_error(data: bytes) -> None:
    for what in (data, b"rc1." + data):
        with contextlib.suppress(ConfigError):
            Secret.parse(what, "the secret")


def test_keys_that_come_twice_and_lines_that_are_none_are_refused() -> None:
    line = new_key(1).line()
    with pytest.raises(ConfigError, match="twice"):
        Secret.parse(f"{line}\n{line}\n".encode(), "the secret")
    with pytest.raises(ConfigError, match="no key"):
        Secret.parse(f"{line}\nand this\n".encode(), "the secret")
    with pytest.raises(ConfigError, match="cut off"):
        Secret.parse(line[: len("rc1.1.") + 1].encode(), "the secret")
    with pytest.raises(ConfigError, match="9 keys"):
        Secret.parse(Secret(tuple(new_key(n) for n in range(9))).render().encode(), "the secret")


def test_purposes_clusters_and_keys_have_nothing_in_common() -> None:
    a, b = new_key(1).material, new_key(1).material
    made = [
        *(authority_seed(key, role) for key in (a, b) for role in ("node", "client")),
        *(gossip_key(key, cluster) for key in (a, b) for cluster in ("shop", "other")),
        *(discovery_tag(key, cluster) for key in (a, b) for cluster in ("shop", "other")),
    ]
    assert len(set(made)) == len(made)
    assert made == [
        *(authority_seed(key, role) for key in (a, b) for role in ("node", "client")),
        *(gossip_key(key, cluster) for key in (a, b) for cluster in ("shop", "other")),
        *(discovery_tag(key, cluster) for key in (a, b) for cluster in ("shop", "other")),
    ]


def test_keys_do_not_get_into_texts() -> None:
    key = new_key(1)
    shown = f"{key!r} {Secret((key,))!r}"
    assert key.id in shown
    assert key.line().rpartition(".")[2] not in shown
    assert key.material.hex() not in shown
    assert repr(key.material) not in shown


class TestFinding:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.setattr(secrets_of, "_taken", {})
        return tmp_path

    def test_bytes_are_taken_as_they_are(self) -> None:
        assert find_secret(b"abc", {}) == (b"abc", None, True)

    def test_the_argument_wins_over_the_environment(self, tmp_path: Path) -> None:
        mine, other = stored(tmp_path / "mine", one()), stored(tmp_path / "other", one())
        environment = {"RINGCAST_SECRET_FILE": str(other)}
        assert find_secret(mine, environment)[1] == mine
        assert find_secret(None, environment)[1] == other

    def test_a_named_file_that_is_not_there_is_no_reason_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            find_secret(None, {"RINGCAST_SECRET_FILE": str(tmp_path / "nothing")})

    def test_the_variable_is_removed_warned_about_and_remembered(self, capfd: pytest.CaptureFixture[str]) -> None:
        text = one().render()
        environment = {"RINGCAST_SECRET": text}
        assert find_secret(None, environment) == (text.encode(), None, True)
        assert environment == {}
        assert "prefer a private file" in "".join(capfd.readouterr())
        assert find_secret(None, environment) == (text.encode(), None, True)  # the process's next node

    def test_each_user_gets_one_on_first_use_and_keeps_it(self, tmp_path: Path) -> None:
        data, path, is_named = find_secret(None, {})
        assert path == tmp_path / "data" / "ringcast" / "secret"
        assert path is not None
        assert not is_named
        assert Secret.read(path) == Secret.parse(data, "it")
        assert find_secret(None, {}) == (data, path, False)

    def test_two_that_start_at_once_get_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "secret"
        assert create_private(path, "first")
        assert not create_private(path, "second")
        assert path.read_text() == "first"
        assert [file.name for file in path.parent.iterdir()] == ["secret"]

    def test_a_type_that_is_none_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="path of a file, or bytes"):
            find_secret(5, {})  # type: ignore[arg-type]
