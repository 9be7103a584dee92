"""What findings mean: values in, words out."""

import platform
import re
from pathlib import Path
from typing import Any

import pytest

import ringcast
from ringcast.runtime import doctor
from ringcast.runtime.browse import Announced
from ringcast.runtime.doctor import KNOWN, Finding, Level
from ringcast.runtime.examination import Datagrams, Examined, Unfit
from ringcast.runtime.interfaces import Interface
from ringcast.security.material import FromSecret
from ringcast.security.secret import Key, Secret, new_key
from ringcast.security.trust import Trust

KEYS = new_key(1000.0), new_key(2000.0)
LO = Interface("lo", "127.0.0.1")
ETH = Interface("eth0", "10.0.0.5")


def trust(*keys: Key, is_named: bool = True) -> Trust:
    return Trust(FromSecret(Secret(keys or KEYS).render().encode(), None), "shop", is_named=is_named)


def levels(findings: list[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def status(**more: Any) -> dict[str, Any]:
    member = {"id": "one", "address": "10.0.0.1:7400", "leaving": False}
    known: dict[str, Any] = {
        "id": "one",
        "address": "10.0.0.1:7400",
        "ready": True,
        "members": [member],
        "secret": {"signs": KEYS[0].id, "accepts": [key.id for key in KEYS]},
        "versions": {"ringcast": ringcast.__version__, "protocol": [1, 1], "python": platform.python_version()},
        "view": {"lineage": "l", "number": 3},
    }
    return known | more


def of_node(
    what: Examined | Unfit | None = None,
    datagrams: Datagrams | str | None = None,
    address: str = "10.0.0.1:7400",
    skew: float = 0.0,
    **more: Any,
) -> list[Finding]:
    what = what or Examined(status(**more), skew)
    return list(doctor.about_node(trust(), address, what, datagrams or Datagrams(there=True, back=True)))


def bad(findings: list[Finding]) -> Finding:
    """Return the one finding that is not all right; it says what to do."""
    (finding,) = (finding for finding in findings if finding.level is not Level.OK)
    assert finding.todo
    return finding


def test_a_node_that_is_well_has_nothing_to_do() -> None:
    found = of_node()
    assert set(levels(found)) == {Level.OK}
    assert not any(finding.todo for finding in found)
    assert {finding.about for finding in found} == {"node one (10.0.0.1:7400)"}


def test_where_nobody_answers_the_reason_is_all_that_is_said() -> None:
    assert of_node(Unfit("it is off", "turn it on")) == [
        Finding(Level.PROBLEM, "node 10.0.0.1:7400", "it is off", "turn it on")
    ]


@pytest.mark.parametrize(
    ("datagrams", "level", "said"),
    [
        (Datagrams(there=False, back=False), Level.PROBLEM, "TCP works and UDP does not, in either direction"),
        (Datagrams(there=False, back=True), Level.PROBLEM, "UDP does not arrive there"),
        (Datagrams(there=True, back=False), Level.PROBLEM, "UDP from there does not arrive here"),
        ("no socket", Level.WARNING, "UDP could not be tried: no socket"),
    ],
)
def test_datagrams(datagrams: Datagrams | str, level: Level, said: str) -> None:
    found = bad(of_node(datagrams=datagrams))
    assert (found.level, found.found) == (level, said)


@pytest.mark.parametrize(
    ("skew", "level", "said"),
    [
        (1.5, Level.WARNING, "its clock is 1.5 s ahead of this machine's"),
        (-90.0, Level.WARNING, "its clock is 90.0 s behind this machine's"),
        (4000.0, Level.PROBLEM, "certificates are refused for that"),
        (-4000.0, Level.PROBLEM, "certificates are refused for that"),
        (float("nan"), Level.PROBLEM, "certificates are refused for that"),
    ],
)
def test_clocks(skew: float, level: Level, said: str) -> None:
    found = bad(of_node(skew=skew))
    assert found.level is level
    assert said in found.found


@pytest.mark.parametrize("skew", [0.0, 0.9, -0.9])
def test_clocks_that_agree(skew: float) -> None:
    assert set(levels(of_node(skew=skew))) == {Level.OK}


@pytest.mark.parametrize(
    "secret",
    [
        {"signs": KEYS[1].id, "accepts": [key.id for key in KEYS]},
        {"signs": KEYS[0].id, "accepts": [KEYS[0].id]},
    ],
)
def test_a_rotation_under_way_is_seen(secret: dict[str, Any]) -> None:
    found = bad(of_node(secret=secret))
    assert found.level is Level.WARNING
    assert "a key is being changed" in found.todo
    assert KEYS[1].id in found.found


def test_versions() -> None:
    same = {"ringcast": ringcast.__version__, "protocol": [1, 1], "python": platform.python_version()}
    assert bad(of_node(versions=same | {"protocol": [7, 9]})).found == "it speaks protocol 7 to 9, and this side 1"
    assert bad(of_node(versions=same | {"protocol": [7, 9]})).level is Level.PROBLEM
    assert "it runs ringcast 0.0.9, and this side" in bad(of_node(versions=same | {"ringcast": "0.0.9"})).found
    assert "it runs Python 3.99.1, and this side" in bad(of_node(versions=same | {"python": "3.99.1"})).found
    patched = f"{platform.python_version().rpartition('.')[0]}.99"
    assert set(levels(of_node(versions=same | {"python": patched}))) == {Level.OK}


def test_another_address_than_the_one_that_was_dialled_is_said() -> None:
    found = bad(of_node(address="10.0.0.9:7400"))
    assert found.level is Level.WARNING
    assert "tells others to dial 10.0.0.1:7400" in found.found


def test_a_loopback_address_that_is_told_to_others_is_a_problem() -> None:
    told = Examined(status() | {"address": "127.0.0.1:7400"}, 0.0)
    found = bad(of_node(told, address="10.0.0.1:7400"))
    assert found.level is Level.PROBLEM
    assert "--advertise HOST:PORT" in found.todo
    assert set(levels(of_node(told, address="127.0.0.1:7400"))) == {Level.OK}


def test_a_node_that_is_not_ready_is_said_to_be_unless_it_leaves() -> None:
    assert "is not ready" in bad(of_node(ready=False)).found
    leaving = [{"id": "one", "address": "10.0.0.1:7400", "leaving": True}]
    assert set(levels(of_node(ready=False, members=leaving))) == {Level.OK}


def test_views() -> None:
    one, two = status(), status(id="two", view={"lineage": "l", "number": 4})
    (agreed,) = doctor.about_views({"10.0.0.1:1": one, "10.0.0.1:2": one})
    assert agreed.level is Level.OK
    (differing,) = doctor.about_views({"10.0.0.1:1": one, "10.0.0.1:2": two})
    assert differing.level is Level.PROBLEM
    assert "one: view l/3 (one); two: view l/4 (one)" in differing.found
    assert list(doctor.about_views({})) == []


def test_interfaces() -> None:
    found = list(doctor.about_interfaces({LO: None, ETH: "No such device"}, [LO, ETH]))
    assert levels(found) == [Level.OK, Level.WARNING]
    assert (found[1].about, found[1].found) == ("interface eth0 (10.0.0.5)", "no multicast: No such device")
    assert "--seed HOST:PORT" in found[1].todo
    alone = list(doctor.about_interfaces({LO: None}, [LO]))
    assert "no other machine can be reached" in bad(alone).found


def test_announcements() -> None:
    ours, theirs = Announced("aa" * 16, "10.0.0.1:1"), Announced("bb" * 16, "10.0.0.2:2")
    assert levels(list(doctor.about_announcements([ours], [ours.tag], True))) == [Level.OK]
    nobody = bad(list(doctor.about_announcements([], [ours.tag], True)))
    assert nobody.found == "no node announces itself with this secret and cluster"
    other = bad(list(doctor.about_announcements([ours, theirs], [ours.tag], True)))
    assert "under another secret, or as another cluster" in other.found
    assert "ringcast doctor --node 10.0.0.2:2" in other.todo
    assert list(doctor.about_announcements([], [ours.tag], False)) == []


def test_variables() -> None:
    found = list(
        doctor.about_environment(
            {"RINGCAST_LISTEN": "127.0.0.1:1", "RINGCAST_SECRET": "hush", "RINGCAST_LISTN": "x", "HOME": "/"}
        )
    )
    assert levels(found) == [Level.OK, Level.WARNING, Level.WARNING]
    assert "'127.0.0.1:1'" in found[0].found
    assert found[1].found == "is set, and means nothing"
    assert "RINGCAST_LISTEN" in found[1].todo
    assert "prefer RINGCAST_SECRET_FILE" in found[2].todo
    assert "hush" not in str(found)


def test_the_variables_that_are_known_are_those_that_are_documented() -> None:
    root = Path(ringcast.__file__).resolve().parents[1]
    pages = "".join((root / "docs" / page).read_text() for page in ("cli.md", "configuration.md"))
    assert frozenset(re.findall(r"RINGCAST_[A-Z]+(?:_[A-Z]+)*", pages)) == KNOWN


def test_this_side() -> None:
    named, own = doctor.about_secret(trust()), doctor.about_secret(trust(is_named=False))
    ids = f"it signs with key {KEYS[0].id} and accepts {KEYS[0].id}, {KEYS[1].id}"
    assert ids in named.found
    assert ids in own.found
    assert "`ringcast secret new FILE`" in own.todo
    assert Finding(Level.OK, "a", "b").shown() == {"level": "ok", "about": "a", "found": "b", "todo": ""}
