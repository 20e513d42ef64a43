"""What people and clouds do at the wrong moment: the pull request ends as it was left, and nothing dangles.

Nothing of ours is killed here (test_kills.py does that). GitHub and Cloudflare are the doubles; faults strike only the
test's own repository where they can.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from anyio.from_thread import start_blocking_portal
from doubles.cloudflare import CloudflareDouble
from doubles.github import GitHubDouble
from doubles.github.double import Fault
from product import Product, Pull, Site, another_hello, example, until

from catalyst.local.node import layout
from catalyst.local.node.services import SERVICES
from catalyst.model import labels
from catalyst.model.environment import Environment, Phase
from catalyst.model.names import build_namespace

pytestmark = [pytest.mark.full(sample=2), pytest.mark.usefixtures("cleared")]

CLOUDFLARE = 8903
"""Port of the double on the node's address."""
SWEEP = "1"
"""Seconds between two rounds of webhook-ingest's sweep, where a test wants many."""
HEARD = 4
"""Answers in a row, none of which is any good: at least two rounds of the sweep."""
MANY = 10**6
QUICK = 0.02
"""Seconds between two looks where a moment must not be missed."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def site(product: Product) -> Site:
    for service in SERVICES:
        product.available(service)
    return product.team().site("hello", example("hello"))


@pytest.fixture(scope="module")
def one(site: Site) -> Pull:
    return opened(site)


@pytest.fixture
def standing(one: Pull) -> Pull:
    """A pull request that is served. The same for all tests: what one of them closed is opened again."""
    if one.at_forge.state == "closed":
        one.reopen()
    one.until_served()
    return one


def opened(site: Site) -> Pull:
    number = next(_numbers)
    return site.pull_request(another_hello(f"pull {number}"), branch=f"pull-{number}")


def phase(pull: Pull) -> Phase | None:
    found = pull.environment()
    return found.status.phase if found and found.status else None


def builds(pull: Pull) -> list[str]:
    """Jobs of this pull request that are there."""
    namespace = build_namespace(pull.site.team, pull.site.name, trusted=True)
    selector = f"{labels.ENVIRONMENT}={pull.identity.environment}"
    found = pull.site.product.sight.get(f"/apis/batch/v1/namespaces/{namespace}/jobs", labelSelector=selector)
    return [job["metadata"]["name"] for job in (found or {"items": []})["items"] if job["status"].get("active")]


def lives(pull: Pull) -> Environment:
    """The Environment, which somebody still wants."""
    found = pull.environment()
    assert found is not None
    assert (found.spec.deletion, found.metadata.deletion_timestamp) == (None, None)
    return found


def test_closed_during_a_build(site: Site) -> None:
    pull = opened(site)
    until(lambda: builds(pull), "a build runs", every=QUICK)
    pull.close()
    pull.until_over()
    assert "the pull request was closed" in pull.comment()


def test_pushed_during_a_deploy(site: Site) -> None:
    """The second commit serves, in the same environment; nobody is told of the first one any more."""
    pull = opened(site)
    until(lambda: phase(pull) == Phase.DEPLOYING, "it is deployed", every=QUICK)
    uid, first = lives(pull).metadata.uid, pull.head
    pull.push(another_hello("pushed during a deploy"))
    pull.until_served()
    assert lives(pull).metadata.uid == uid
    assert first[:12] not in pull.comment()


def test_reopened_during_teardown(standing: Pull) -> None:
    """The one that goes goes whole; another one comes, under the same host."""
    uid, before = lives(standing).metadata.uid, standing.visitor()
    standing.close()
    until(lambda: phase(standing) == Phase.TERMINATING, "it goes", every=QUICK)
    # The forge's clock has whole seconds, and of two facts of one second "closed" counts until the sweep has asked.
    until(lambda: standing.site.product.github.now() > standing.at_forge.updated_at, "another second", every=QUICK)
    assert phase(standing) == Phase.TERMINATING
    standing.reopen()
    visitor = standing.until_served()
    assert lives(standing).metadata.uid != uid
    assert visitor.host == before.host


def test_the_comments_of_the_forge_are_away(product: Product, site: Site, standing: Pull) -> None:
    """The environment does not wait for them. (Away for a whole minute: tests/integration/test_notifier.py.)"""
    fault = product.github.fail(rf"/repos/{site.repository}/issues/(\d+/)?comments", times=MANY, status=503)
    try:
        standing.push(another_hello("pushed while the comments are away"))
        standing.until(Phase.READY)
        visitor = standing.visitor()
        until(lambda: standing.head[:7] in visitor.looks()[1], "the URL shows it", 30)
        until(lambda: fault.times < MANY, "the comments are asked for", 10)
        assert standing.head[:12] not in standing.comment()
    finally:
        fault.times = 0
    standing.until_served(within=10)


def test_webhooks_that_were_lost_are_found(product: Product, site: Site, standing: Pull) -> None:
    """With webhook-ingest down the forge records what failed; of others it never knew. Openings and a closing."""
    github, ingest = product.github, "deployment/webhook-ingest"
    product.system.run("scale", ingest, "--replicas=0")
    try:
        product.system.run("wait", "pod", "--selector=app.kubernetes.io/name=webhook-ingest", "--for=delete")
        mark = set(github.webhooks.attempts)
        failed = opened(site)
        github.drained()
        new = [attempt for id_, attempt in sorted(github.webhooks.attempts.items()) if id_ not in mark]
        assert {(attempt.webhook.event, attempt.delivered) for attempt in new} >= {("pull_request", False)}
        with _told_to_nobody(github):
            unknown = opened(site)
            standing.close()
        assert (failed.environment(), unknown.environment()) == (None, None)
        assert lives(standing)
    finally:
        product.system.run("scale", ingest, "--replicas=1")
        product.available("webhook-ingest")
    standing.until_over()
    visitors = [pull.until_served() for pull in (failed, unknown)]
    for pull in (failed, unknown):
        pull.close()
    for pull, visitor in zip((failed, unknown), visitors, strict=True):
        pull.until_over(visitor)


def test_a_forge_that_errs_or_lists_nothing_deletes_nothing(product: Product, site: Site, standing: Pull) -> None:
    """While the sweep asks again and again. What the forge itself calls closed goes, by the same sweep."""
    uid, visitor = lives(standing).metadata.uid, standing.visitor()
    pulls, nothing = f"GET /repos/{site.repository}/pulls", {"total_count": 0, "repositories": []}
    with product.changed("webhook-ingest", CATALYST_SWEEP_SECONDS=SWEEP):
        _until_heard(product, product.github.fail(pulls, times=HEARD, status=500))
        _until_heard(product, product.github.fail(pulls, times=HEARD, status=None))
        _until_heard(product, product.github.fail(pulls, times=HEARD, status=200, body=[]))
        _until_heard(
            product, product.github.fail("GET /installation/repositories", times=HEARD, status=200, body=nothing)
        )
        asked = _rounds(product, site)
        until(lambda: _rounds(product, site) >= asked + 2, "the forge is asked and answers again", 60)
        assert lives(standing).metadata.uid == uid
        assert standing.head[:7] in visitor.looks()[1]

        with _told_to_nobody(product.github):
            standing.close()
        standing.until_over(visitor)


@contextmanager
def _told_to_nobody(github: GitHubDouble) -> Iterator[None]:
    """What happens meanwhile the forge tells nobody, and does not remember that it did not."""
    url, github.webhooks.url = github.webhooks.url, None
    try:
        yield
    finally:
        github.webhooks.url = url


def _until_heard(product: Product, fault: Fault) -> None:
    said = f"the sweep hears {fault.status} {fault.body}"
    until(lambda: fault.times <= 0, said, 60, lambda: product.sight.log_end("webhook-ingest"))


def _rounds(product: Product, site: Site) -> int:
    """How often the forge gave our repository's open pull requests."""
    asked = ("GET", f"/repos/{site.repository}/pulls")
    return sum((method, path) == asked and status in (200, 304) for method, path, status in product.github.requests)


def test_cloudflare_errs_during_deletion(product: Product, standing: Pull) -> None:
    """The finalizer is held, and says for what; it is tried again; then nothing dangles."""
    with _cloudflare(product) as cloud:
        visitor, names = standing.visitor(), cloud.state.records
        until(lambda: visitor.host in _names(cloud), f"{visitor.host} is at Cloudflare", 30, lambda: names)
        cloud.fail(500, method="DELETE", path=r"/dns_records/", times=MANY)
        standing.close()
        awaited = f"route {visitor.host}"
        until(lambda: _awaited(standing) == awaited, "only the route is awaited", 60, lambda: _awaited(standing))
        asked = _deletions(cloud)
        until(lambda: _deletions(cloud) >= asked + 2, "it is tried again", 60)
        found = standing.environment()
        assert found is not None
        assert labels.FINALIZER in found.metadata.finalizers
        space = product.sight.get(f"/api/v1/namespaces/{standing.namespace}")
        assert space is not None
        assert space["status"]["phase"] == "Active"
        until(lambda: "being removed" in standing.comment(), "the comment says so", 10)

        cloud.heal()
        standing.until_over(visitor)
        assert visitor.host not in _names(cloud)


def _awaited(pull: Pull) -> str:
    """What the condition says that teardown waits for."""
    found = pull.environment()
    condition = found.status.condition("Terminating") if found and found.status else None
    if condition is None or condition.reason != "AwaitingAnswers":
        return ""
    return condition.message.partition(": ")[2].partition(". Asked")[0]


def _names(cloud: CloudflareDouble) -> set[str]:
    return {record["name"] for record in cloud.state.records.values()}


def _deletions(cloud: CloudflareDouble) -> int:
    return sum(request.startswith("DELETE ") for request in cloud.requests)


@contextmanager
def _cloudflare(product: Product) -> Iterator[CloudflareDouble]:
    """dns-proxy keeps a record for each host at a double on the node; the edge stays as it is."""
    name = "cloudflare-double"
    cidr = {"ipBlock": {"cidr": f"{layout.ADDRESS}/32"}}
    way = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": product.system.namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "dns-proxy"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [cidr], "ports": [{"port": CLOUDFLARE}]}],
        },
    }
    double = CloudflareDouble(host=layout.ADDRESS, port=CLOUDFLARE)
    double.state.zone_name = "catalyst.localhost"
    double.state.create_tunnel({"name": "catalyst-disturbed", "config_src": "cloudflare"})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": product.system.namespace},
        "stringData": {"token": double.token},
    }
    product.system.apply(way, secret)
    pod = {
        "volumes": [{"name": name, "secret": {"secretName": name, "defaultMode": 0o440}}],
        "containers": [{"volumeMounts": [{"name": name, "mountPath": "/etc/catalyst/cloudflare", "readOnly": True}]}],
    }
    settings = {
        "CATALYST_CLOUDFLARE_TOKEN_FILE": "/etc/catalyst/cloudflare/token",
        "CATALYST_CLOUDFLARE_ACCOUNT": double.state.account,
        "CATALYST_CLOUDFLARE_ZONE": double.state.zone,
        "CATALYST_CLOUDFLARE_URL": double.url,
        "CATALYST_CLOUDFLARE_RECORDS": "hosts",
        "CATALYST_OWNER": "disturbed",
    }
    try:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(double) as cloud,
            product.changed("dns-proxy", pod, **settings),
        ):
            yield cloud
    finally:
        product.system.run("delete", "networkpolicy,secret", name)
