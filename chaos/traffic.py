"""Pull requests that come and go: opened, pushed to, closed and reopened, by a chance of its own. It knows what becomes
of each in the end.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from catalyst.local.demo.visitor import Visitor
from catalyst.model import labels
from catalyst.model.environment import Environment, EnvironmentStatus, Phase
from catalyst.model.names import build_namespace, project_namespace
from chaos.looking import Away, Looks
from chaos.support import EXAMPLES, Product, Pull, Site, another_hello, example

MOST: Final = 5
"""Environments at a time: two cores have room for so many, with a build."""
PAUSE: Final = (1.5, 5.0)
PROGRAM: Final = (EXAMPLES / "hello" / "app.py").read_text()
IMAGE: Final = "python:3-slim"
"""One that every node has: our own services stand on it."""
REPORTED_READY: Final = {"deployments": ["success"], "checks": ["completed success"]}
"""At the forge, of a head that is ready."""


@dataclass(frozen=True)
class Watched:
    """A pull request, and what it is now at the forge."""

    pull: Pull
    kind: str

    @property
    def is_open(self) -> bool:
        return self.pull.at_forge.state == "open"

    @property
    def name(self) -> str:
        return str(self.pull.identity)


@dataclass
class Traffic:
    """`sites`: kind → repository. `acts`: what people did, by kind."""

    product: Product
    looks: Looks
    seed: int
    sites: dict[str, Site]
    watched: list[Watched] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _stop: threading.Event = field(default_factory=threading.Event)

    def open(self, kind: str) -> Watched:
        """Another pull request of this kind."""
        site, number = self.sites[kind], next(self._numbers)
        pull = site.pull_request(change(kind, f"{self.seed}, {number}"), branch=f"change-{number}")
        self.acts["opened"] += 1
        found = Watched(pull, kind)
        self.watched.append(found)
        return found

    def run(self) -> None:
        """Until `stop`."""
        chance = random.Random(self.seed + 1)
        while not self._stop.wait(chance.uniform(*PAUSE)):
            self._act(chance)

    def _act(self, chance: random.Random) -> None:
        opened = [each for each in self.watched if each.is_open]
        closed = [each for each in self.watched if not each.is_open]
        if len(opened) < 2 or (len(opened) < MOST and self._room() and chance.random() < 0.45):
            if closed and chance.random() < 0.3:
                chance.choice(closed).pull.reopen()
                self.acts["reopened"] += 1
            else:
                self.open(chance.choices(list(self.sites), [3, 2, 1][: len(self.sites)])[0])
        elif chance.random() < 0.5:
            self.push(chance.choice(opened))
        else:
            chance.choice(opened).pull.close()
            self.acts["closed"] += 1

    def push(self, each: Watched) -> None:
        """Another commit."""
        each.pull.push(change(each.kind, f"{self.seed}, again {next(self._numbers)}"))
        self.acts["pushed"] += 1

    def _room(self) -> bool:
        """Whether fewer environments than allowed are there, those that go counted."""
        try:
            return len(self._environments()) < MOST + 1
        except Away:
            return False

    def stop(self) -> None:
        """Nobody does anything any more."""
        self._stop.set()

    # What is looked at

    def environment(self, each: Watched) -> Environment | None:
        """None when there is none. Raises Away."""
        found = self.looks.get(f"{_place(each.pull.site)}/{each.pull.identity.environment}")
        return None if found is None else Environment.model_validate(found)

    def _environments(self) -> dict[tuple[str, str], Environment]:
        """(repository, environment) → what there is, of all sites. Raises Away."""
        return {
            (site.repository, item["metadata"]["name"]): Environment.model_validate(item)
            for site in self.sites.values()
            for item in self.looks.items(_place(site))
        }

    def unsettled(self) -> dict[str, str]:
        """Pull requests that are not yet what they are to be, and why. Raises Away."""
        there = self._environments()
        namespaces = {item["metadata"]["name"] for item in self.looks.items("/api/v1/namespaces")}
        found = {}
        for each in self.watched:
            environment = there.get(_key(each))
            why = self._not_ready(each, environment) if each.is_open else _not_over(each, environment, namespaces)
            if why:
                found[each.name] = why
        return found

    def _not_ready(self, each: Watched, found: Environment | None) -> str:
        head, status = each.pull.head, found.status if found else None
        if found is None or status is None:
            return "no Environment"
        if (found.spec.source.commit, status.commit) != (head, head):
            return f"at {status.commit}, asked for {found.spec.source.commit}, not at its head {head}"
        if status.phase != Phase.READY:
            ready = status.condition("Ready")
            return f"{status.phase}: {ready.reason if ready else ''} {ready.message[:200] if ready else ''}"
        code, text = self._visitor(each).looks()
        if head[:7] not in text:
            return f"its URL answers {code}: {text[:80]}"
        return "" if each.pull._is_told_ready() else f"its comment says {each.pull.comment()[:120]!r}"

    def unreported(self) -> list[str]:
        """Open pull requests whose deployment and check do not say yet that their head is ready. The comment comes
        first: how fast these follow is up to the forge's limits.
        """
        return [
            f"{each.name}: the forge has {reports}"
            for each in self.watched
            if each.is_open and (reports := each.pull.reports()) != REPORTED_READY
        ]

    def _visitor(self, each: Watched) -> Visitor:
        """Raises Away."""
        try:
            return each.pull.visitor()
        except (httpx.HTTPError, AssertionError) as error:
            raise Away(f"{each.name} has no URL: {error}"[:200]) from error

    def at_moment(self, moment: str) -> Watched | None:
        """A pull request that is at this moment of its life, the youngest first. Raises Away."""
        there = self._environments()
        building = self._building() if moment == "build running" else set()
        for each in self.watched[::-1]:
            found = there.get(_key(each))
            if moment == "webhook stored":
                if each.is_open and found is None and self._webhook_stored(each):
                    return each
            elif moment == "build running":
                if each.kind == "built" and each.pull.identity.environment in building:
                    return each
            elif found is not None and found.status is not None and _is_at(found.status, moment):
                return each
        return None

    def _webhook_stored(self, each: Watched) -> bool:
        attempts = list(self.product.github.webhooks.attempts.values())[-40:]
        return any(
            attempt.status_code == httpx.codes.ACCEPTED
            and attempt.webhook.event == "pull_request"
            and attempt.webhook.repository == each.pull.at_forge.repository.id
            and attempt.webhook.payload["number"] == each.pull.number
            for attempt in attempts
        )

    def _building(self) -> set[str]:
        """Environments for which something is being built. Raises Away."""
        site = self.sites.get("built")
        if site is None:
            return set()
        namespace = build_namespace(site.team, site.name, trusted=True)
        pods = self.looks.items(f"/api/v1/namespaces/{namespace}/pods")
        running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        return {pod["metadata"].get("labels", {}).get(labels.ENVIRONMENT, "") for pod in running}


def _place(site: Site) -> str:
    return f"/apis/catalyst.dev/v1alpha1/namespaces/{project_namespace(site.team, site.name)}/environments"


def _key(each: Watched) -> tuple[str, str]:
    return each.pull.site.repository, each.pull.identity.environment


def _not_over(each: Watched, found: Environment | None, namespaces: set[str]) -> str:
    if found is not None:
        return "closed, and its Environment is there"
    if each.pull.namespace in namespaces:
        return "closed, and its namespace is there"
    told = each.pull.comment()
    if told and "Nothing of it is left" not in told:  # without any: closed before anybody knew of it
        return f"closed, and its comment says {told[:120]!r}"
    unended = each.pull._unended_reports()
    return f"closed, and {unended}" if unended else ""


def _is_at(status: EnvironmentStatus, moment: str) -> bool:
    match moment:
        case "namespace made":
            made = status.condition("NamespaceReady")
            begun = status.phase in (Phase.PROVISIONING, Phase.BUILDING, Phase.DEPLOYING)
            return begun and made is not None and made.status == "True"
        case "deploying":
            return status.phase == Phase.DEPLOYING
        case "route made":
            answered = status.answers.routes if status.answers else {}
            return any(r.host not in answered or not answered[r.host].live for r in status.routes)
        case "ready":
            return status.phase == Phase.READY
        case "closing":
            return status.phase == Phase.TERMINATING
    raise ValueError(f"no moment {moment!r}")


def sites(product: Product) -> dict[str, Site]:
    """Three repositories of two teams: an image that is there already, a build, and two components."""
    one, other = product.team(), product.team()
    return {
        "given": one.site("given", example("hello"), given()),
        "built": one.site("built", example("hello")),
        "pair": other.site("pair", example("hello"), pair()),
    }


def given() -> dict[str, Any]:
    """A Project with an image that nobody builds, which shows its commit."""
    return {"components": [_component("web")]}


def pair() -> dict[str, Any]:
    """Two such components, the second one without a URL."""
    second = _component("api")
    del second["expose"]
    return {"components": [{**_component("web"), "dependsOn": ["api"]}, second]}


def _component(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "command": ["python3", "-c", PROGRAM],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
        "expose": {"port": 8080},
    }


def change(kind: str, text: str) -> dict[str, str | bytes | None]:
    """A commit: of what is built one that no cache knows."""
    return dict(another_hello(f"chaos {text}")) if kind == "built" else {"CHANGED": f"{text}\n"}
