"""Four hosts of a LAN find each other by multicast; who has another secret, or none, gets nowhere."""

import pytest

from benchmarks.lan import measured
from benchmarks.namespaces import why_not


def test_hosts_with_one_secret_find_each_other_and_strangers_reach_no_decoder() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    found = measured()
    assert found.seconds < 3.0
    assert found.decoded == []
    assert "another secret" in found.refused
    assert "ringcast secret new" in found.unguarded
    assert found.strangers >= 100
