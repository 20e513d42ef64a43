"""kill -9 of each service at each moment of a pull request's life: it ends as if nothing had happened.

The services are those of deploy/k8s, one of each, so nobody stands by: what counts is what the same container finds
when the kubelet has started it again. Every cell is a life of its own, from the opened pull request until nothing is
left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from product import PATIENCE, Product, Pull, Site, another_hello, example
from victims import Victim, victim

from catalyst.local.node.services import SERVICES
from catalyst.model.environment import EnvironmentStatus, Phase
from catalyst.model.names import build_namespace

_numbers = itertools.count(1)


def webhook_stored(pull: Pull) -> bool:
    """The forge heard 202 for the newest webhook of this pull request's head."""
    told = [
        attempt
        for attempt in list(pull.site.product.github.webhooks.attempts.values())
        if attempt.webhook.event == "pull_request"
        and attempt.webhook.repository == pull.at_forge.repository.id
        and attempt.webhook.payload["number"] == pull.number
        and attempt.webhook.payload["pull_request"]["head"]["sha"] == pull.head
    ]
    return bool(told) and told[-1].status_code == 202


def namespace_made(pull: Pull) -> bool:
    return pull.site.product.sight.get(f"/api/v1/namespaces/{pull.namespace}") is not None


def build_running(pull: Pull) -> bool:
    """Kaniko has begun: what comes before it in the pod is over."""
    namespace = build_namespace(pull.site.team, pull.site.name, trusted=True)
    found = pull.site.product.sight.get(
        f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"catalyst.dev/environment={pull.identity.environment}"
    )
    return any(pod["status"]["phase"] == "Running" for pod in (found or {"items": []})["items"])


def deploying(pull: Pull) -> bool:
    return _status(pull).phase == Phase.DEPLOYING


def route_being_made(pull: Pull) -> bool:
    """Handed out, and not answered yet."""
    status = _status(pull)
    answered = status.answers.routes if status.answers else {}
    open_ = [route.host for route in status.routes if route.host not in answered or not answered[route.host].live]
    return bool(open_)


def ready(pull: Pull) -> bool:
    return _status(pull).phase == Phase.READY


def closing(pull: Pull) -> bool:
    return _status(pull).phase == Phase.TERMINATING


def _status(pull: Pull) -> EnvironmentStatus:
    found = pull.environment()
    return (found.status if found else None) or EnvironmentStatus()


OPENING = (webhook_stored, namespace_made, build_running, deploying, route_being_made, ready)
OPENING_NAMES = tuple(look.__name__ for look in OPENING)
BEFORE_READY = OPENING_NAMES[:-1]
LIVES = 3
"""How many pull requests are tried for a moment that nobody saw."""
PUSH = "push"
MOMENTS: dict[str, Callable[[Pull], bool]] = {
    **{look.__name__: look for look in OPENING},
    PUSH: webhook_stored,
    closing.__name__: closing,
}


@pytest.fixture(scope="module")
def site(product: Product) -> Iterator[Site]:
    """The repository of all cells; the last one leaves every service as the next module wants it."""
    yield product.team().site("hello", example("hello"))
    for service in SERVICES:
        product.available(service)


def strike(found: Victim, moment: str, pull: Pull) -> bool:
    """Waits for the cell's moment and kills. False, and nothing killed, when it was over before it was seen."""
    missed = partial(ready, pull) if moment in BEFORE_READY else lambda: False
    return found.dies_when(partial(MOMENTS[moment], pull), f"{pull.identity}: {moment}", PATIENCE, missed)


def opened(site: Site, found: Victim, moment: str, number: int) -> Pull:
    """A pull request, struck if the cell's moment is one of its opening. A busy machine may look too late for one that
    is over in a moment: then the next pull request is tried.
    """
    for life in range(LIVES):
        pull = site.pull_request(another_hello(f"life {number}, {life}"), branch=f"life-{number}-{life}")
        if moment not in OPENING_NAMES or strike(found, moment, pull):
            return pull
        visitor = pull.until_served()
        pull.close()
        pull.until_over(visitor)
    raise AssertionError(f"{moment} was not seen in {LIVES} lives: nothing was killed")


@pytest.mark.full(sample=3)
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed(product: Product, site: Site, moment: str, service: str) -> None:
    for other in SERVICES:
        product.available(other)
    found, number = victim(product, service), next(_numbers)

    pull = opened(site, found, moment, number)
    visitor = pull.until_served()
    if moment == PUSH:
        pull.push(another_hello(f"life {number}, again"))
        assert strike(found, moment, pull)
        visitor = pull.until_served()
    if moment != closing.__name__:
        found.has_come_back()  # a webhook that finds nobody waits for the sweep: test_disturbances.py

    pull.close()
    if moment == closing.__name__:
        assert strike(found, moment, pull)
    pull.until_over(visitor)
    found.has_come_back()
