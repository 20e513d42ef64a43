"""dns-proxy refuses a host with a sentence; env-controller reads one word out of it; notifier has a remedy for it.
Nothing but these words binds the three, so they are said here by the first and understood by the others.
"""

from datetime import timedelta

import pytest
from makers import NOW

from catalyst.dns_proxy.core.routes import wanted
from catalyst.env_controller.core.routes import reason
from catalyst.model.environment import Phase, Route
from catalyst.model.remedies import REMEDIES
from catalyst.model.snapshot import Snapshot, SnapshotIdentity, SnapshotSource

ZONE = "catalyst.localhost"


def snapshot(name: str, host: str, age: int) -> Snapshot:
    return Snapshot(
        uid=f"uid-{name}",
        resource_version="1",
        identity=SnapshotIdentity(team="acme", project="shop", environment=name),
        type="Development",
        phase=Phase.DEPLOYING,
        source=SnapshotSource(forge="github", repository="acme/shop"),
        created_at=NOW - timedelta(minutes=age),
        routes=(Route(host=host, namespace=f"acme--shop--{name}", service="web", port=80),),
    )


@pytest.mark.parametrize("newer_first", [False, True])
def test_of_two_claims_the_newer_is_refused_with_both_names(newer_first: bool) -> None:
    host = f"web.{ZONE}"
    both = [snapshot("pr-1", host, age=2), snapshot("pr-2", host, age=1)]
    found = wanted(reversed(both) if newer_first else both, ZONE)
    assert found.entries[host].environment == "acme/shop/pr-1"
    ((refused, sentence),) = found.refused.items()
    assert refused == ("uid-pr-2", host)
    for name in (host, "acme/shop/pr-1", "acme/shop/pr-2"):
        assert name in sentence
    assert reason(sentence) == "HostTaken"
    assert REMEDIES["HostTaken"].runbook == "HostTaken"


@pytest.mark.parametrize("host", ["a.b.catalyst.localhost", "web.example.org", f"{'x' * 64}.{ZONE}", f"-.{ZONE}"])
def test_a_host_that_cannot_be_is_refused_by_its_name(host: str) -> None:
    found = wanted([snapshot("pr-1", host, age=1)], ZONE)
    assert found.entries == {}
    (sentence,) = found.refused.values()
    assert host in sentence
    assert ZONE in sentence
    assert reason(sentence) == "InvalidHost"
    assert REMEDIES["InvalidHost"].runbook == "InvalidHost"
    assert wanted([snapshot("pr-1", f"web.{ZONE}", age=1)], ZONE).refused == {}
