"""The whole product on the node: how soon a pull request has its URL, how soon it is gone, what a push costs visitors,
and ten pull requests at once. Each is measured from the webhook on, with GitHub's double in this process.
"""

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from bench import on_node
from bench.by_hand import Hand, edge, manifest_status, recorded
from bench.on_node import Memory, Product, Pull, Site, all_ready, arrival, is_ready, new_site, until
from bench.results import ROOT, Row
from bench.run import Run
from bench.servers import command, settle, tool
from bench.stats import Runs
from catalyst.builder.core.job import BUILD_LABEL
from catalyst.builder.core.records import LABEL as RECORD_LABEL
from catalyst.local import components
from catalyst.local.node import layout
from catalyst.model import labels
from catalyst.model.names import build_namespace
from catalyst.notifier.core.comment import WORDS

CACHED: Final = 30.0
COLD: Final = 180.0
BY_HAND: Final = 1.15
GONE: Final = 300.0
SERVED: Final = 5.0
TOLD: Final = 2.0
MEMORY: Final = 150.0
VISITORS: Final = {"kept": 8, "new": 8, "rate": 64}
"""16 connections; requests a second of all together."""
LEAST_RATE: Final = 50.0
COLD_IMAGES: Final = ("kaniko-project/executor", "catalyst/git")
"""What a build's pod needs of the node, beside whatever came from the registry that we push to."""

_numbers: Final = itertools.count(1)


@dataclass(frozen=True)
class Way:
    """Of one commit from the webhook to the URL. `stages`: (name, began, ended), seconds since the webhook."""

    seconds: float
    stages: tuple[tuple[str, float, float], ...]


# From the webhook to the URL


def url_cached(run: Run, product: Product) -> Sequence[Row]:
    """A new commit that changes one source file, until its URL answers; beside it the same by hand."""
    ours, limits = list[Way](), list[dict[str, Any]]()
    site = new_site(product, on_node.python_app("first"))
    pull = site.pull_request(on_node.python_app("opened"))
    until(arrival(pull), "the environment is ready")
    with run.folder() as folder, edge(folder) as door:
        hand = Hand(product, recorded(pull))
        try:
            repository = _hands_repository(product, hand)
            hand.deploy(door, repository, _next_commit(product, repository, on_node.python_app))
            for number in range(run.runs):
                settle()
                ours.append(_pushed(pull, on_node.python_app(_greeting())))
                settle()
                limits.append(hand.deploy(door, repository, _next_commit(product, repository, on_node.python_app)))
                _say_both(run, number, ours[-1], limits[-1])
        finally:
            hand.remove()
    _end(pull)
    return _url_rows(run, "url-cached", CACHED, ours, limits, "a push that changes one file, layers cached")


def url_cold(run: Run, product: Product) -> Sequence[Row]:
    """The first pull request of a new Project, on a node that has pulled nothing of it; beside it the same by hand."""
    ours, limits = list[Way](), list[dict[str, Any]]()
    keeper = new_site(product, on_node.python_app("keeper")).pull_request(on_node.python_app("kept"))
    until(lambda: is_ready(keeper), "the environment whose pull Secret the hand has is ready")
    runs = run.runs + 2  # the disk makes a cold build half again as long, now of ours and now by hand
    for number in range(runs):
        with run.folder() as folder, edge(folder) as door:
            site = new_site(product, on_node.node_app("first"))
            on_node.forget_images(*COLD_IMAGES, layout.REGISTRY)
            settle()
            on_node.forget_pages()
            pull, way = _opened(site, on_node.node_app(_greeting()))
            ours.append(way)
            of_both = recorded(pull)
            _end(pull)
            on_node.forget_images(*COLD_IMAGES, layout.REGISTRY)
            hand = Hand(product, of_both.pulling_with(recorded(keeper)))
            try:
                repository = _hands_repository(product, hand)
                settle()
                on_node.forget_pages()
                limits.append(hand.deploy(door, repository, _next_commit(product, repository, on_node.node_app)))
            finally:
                hand.remove()
        _say_both(run, number, ours[-1], limits[-1])
    _end(keeper)
    note = f"the first pull request of a Project, nothing of it in the registry or on the node; {runs} runs"
    return _url_rows(run, "url-cold", COLD, ours, limits, note)


def _url_rows(
    run: Run, name: str, goal: float, ours: list[Way], limits: list[dict[str, Any]], note: str
) -> Sequence[Row]:
    mine, hands = Runs(tuple(way.seconds for way in ours)), Runs(tuple(each["seconds"] for each in limits))
    middle = min(ours, key=lambda way: abs(way.seconds - mine.median))
    by_hand = min(limits, key=lambda each: abs(float(each["seconds"]) - hands.median))
    run.say(f"{name}, the run nearest to the median:\n{_table(middle)}")
    told = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in by_hand["stages"].items())
    stages = "; ".join(f"{stage} {began:.1f} to {ended:.1f} s" for stage, began, ended in middle.stages)
    return [
        Row(name, name, "s", mine, goal, "ours<=", hands, note=f"{note}. Stages of a median run: {stages}",
            details={"stages": [way.stages for way in ours]}),
        Row(f"{name}-by-hand", name, "s", mine, BY_HAND, "ratio<=", hands,
            note=f"limit: the same Kaniko Job, Deployment, Service and route by hand: {told}",
            details={"stages": [each["stages"] for each in limits]}),
    ]  # fmt: skip


def _opened(site: Site, change: on_node.Files) -> tuple[Pull, Way]:
    with on_node.webhooks_held(site.product) as tell:
        pull = site.pull_request(change)
        return pull, _followed(pull, tell)


def _pushed(pull: Pull, change: on_node.Files) -> Way:
    with on_node.webhooks_held(pull.site.product) as tell:
        pull.push(change)
        return _followed(pull, tell)


def _followed(pull: Pull, tell: Callable[[], float]) -> Way:
    """From telling the webhooks until the environment is ready and the URL answers with its head."""
    told = time.time()
    began = tell()
    seconds = until(arrival(pull), f"{pull.identity} shows {pull.head}") - began
    return Way(seconds, _stages(pull, told))


def _stages(pull: Pull, since: float) -> tuple[tuple[str, float, float], ...]:
    """Those of this commit, in the order they began. The status has whole microseconds."""
    found = [
        (each["name"], _epoch(each["startedAt"]) - since, _epoch(each["finishedAt"]) - since)
        for each in on_node.status(pull).get("stages", ())
        if each.get("finishedAt")
    ]
    return tuple(sorted((each for each in found if each[2] >= 0), key=lambda each: each[1:]))


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _table(way: Way) -> str:
    rows = [
        f"    {name:<14}{began:>8.2f} s{ended:>10.2f} s{ended - began:>10.2f} s" for name, began, ended in way.stages
    ]
    head = f"    {'stage':<14}{'began':>10}{'ended':>12}{'took':>12}"
    return "\n".join([head, *rows, f"    {'URL answers':<14}{'':>10}{way.seconds:>10.2f} s"])


def _say_both(run: Run, number: int, way: Way, limit: Mapping[str, Any]) -> None:
    told = ", ".join(f"{what} {seconds:.1f}" for what, seconds in limit["stages"].items())
    run.say(f"{number + 1}: ours {way.seconds:.1f} s, by hand {limit['seconds']:.1f} s ({told})")


def _hands_repository(product: Product, hand: Hand) -> str:
    """Of nobody's Project, so that no webhook of it leads to anything."""
    name = f"{hand.name}/app"
    product.github.repository(name, private=True)
    return name


def _next_commit(product: Product, repository: str, app: Callable[[str], on_node.Files]) -> str:
    return product.github.commit(repository, "main", app(_greeting()))


def _greeting() -> str:
    """Another source file each time."""
    return f"Hello {os.getpid()} {next(_numbers)}"


def _end(*pulls: Pull) -> None:
    for pull in pulls:
        pull.close()
    for pull in pulls:
        pull.until_gone()


# Closing


def close(run: Run, product: Product) -> Sequence[Row]:
    """A pull request is closed, until nothing of it is left; beside it `kubectl delete` of the same pods' namespace."""
    ours, limits, parts = list[float](), list[float](), list[dict[str, float]]()
    kubectl = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    site = new_site(product, on_node.python_app("first"))
    for number in range(run.runs):
        pull = site.pull_request(on_node.python_app(_greeting()), branch=f"close-{number}")
        until(arrival(pull), "the environment is ready")
        of_both = recorded(pull)
        hand = Hand(product, of_both)
        (container,) = of_both.deployment["template"]["spec"]["containers"]
        hand.run(container["image"])
        settle()
        parts.append(_closed(pull))
        ours.append(max(parts[-1].values()))
        kubeconfig = product.state.kubeconfig
        gone = tool("limits.delete_namespace", kubectl=kubectl, kubeconfig=kubeconfig, namespace=hand.name)
        limits.append(gone["seconds"])
        told = ", ".join(f"{what} {seconds:.1f}" for what, seconds in parts[-1].items())
        run.say(f"{number + 1}: ours {ours[-1]:.1f} s ({told}); kubectl {limits[-1]:.1f} s")
    middle = min(parts, key=lambda each: abs(max(each.values()) - Runs(tuple(ours)).median))
    told = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in middle.items())
    return [
        Row("close", "close", "s", Runs(tuple(ours)), 1.0, "excess<=", Runs(tuple(limits)),
            note=f"from the webhook; gone in a median run: {told}. Limit: kubectl delete of a namespace with the same "
            "Deployment, Service and Secret", details={"parts": parts})
    ]  # fmt: skip


def _closed(pull: Pull) -> dict[str, float]:
    """What goes → seconds since the webhook."""
    product, visitor = pull.site.product, pull.visitor()
    (component,) = on_node.status(pull)["components"]
    repository = "/".join((pull.site.team, pull.site.name, component["name"]))
    left: dict[str, Callable[[], bool]] = {
        "route": lambda: visitor.looks()[0] == httpx.codes.OK,
        "build objects": lambda: _has_build_objects(pull),
        "record of the image": lambda: _has_records(pull),
        "image": lambda: manifest_status(product, repository, component["digest"]) != httpx.codes.NOT_FOUND,
        "namespace": lambda: product.sight.get(f"/api/v1/namespaces/{pull.namespace}") is not None,
        "Environment": lambda: pull.environment() is not None,
    }
    if absent := [what for what, is_there in left.items() if not is_there()]:
        raise RuntimeError(
            f"{pull.identity} lacks {', '.join(absent)} before it is closed: nothing could be seen to go"
        )
    gone = dict[str, float]()
    with on_node.webhooks_held(product) as tell:
        pull.close()
        began = tell()
        ends = began + GONE
        while left:
            for what in [what for what, is_there in left.items() if not is_there()]:
                gone[what] = time.monotonic() - began
                del left[what]
            if time.monotonic() > ends:
                raise TimeoutError(f"left of {pull.identity} after {GONE:g} s: {', '.join(left)}")
            time.sleep(on_node.LOOK)
    return gone


def _has_build_objects(pull: Pull) -> bool:
    """Jobs, their pods, and the Secrets of the Jobs, which name the Job alone; no other build of the Project runs."""
    sight, own = pull.site.product.sight, f"{labels.ENVIRONMENT}={pull.identity.environment}"
    places = (("/apis/batch/v1", "jobs", own), ("/api/v1", "pods", own), ("/api/v1", "secrets", BUILD_LABEL))
    there = [
        sight.get(f"{root}/namespaces/{_builds(pull)}/{kind}", labelSelector=selector)
        for root, kind, selector in places
    ]
    return any((found or {}).get("items") for found in there)


def _has_records(pull: Pull) -> bool:
    """Of the Project, whose only environment it is."""
    place = f"/api/v1/namespaces/{_builds(pull)}/configmaps"
    return bool((pull.site.product.sight.get(place, labelSelector=RECORD_LABEL) or {}).get("items"))


def _builds(pull: Pull) -> str:
    return build_namespace(pull.site.team, pull.site.name, trusted=True)


# A push while visitors are there


def push_image_exists(run: Run, product: Product) -> Sequence[Row]:
    """A push whose image exists already, under steady load: until the new version serves, and what visitors lost."""
    component = {
        "name": "web",
        "build": {"context": "web", "dockerfile": "web/Dockerfile"},
        "ports": [{"containerPort": 8080}],
        "expose": {"port": 8080},
    }
    site = new_site(product, on_node.python_app("first", "web/"), {"components": [component]})
    pull = site.pull_request({"README.md": "opened"})
    until(arrival(pull), "the environment is ready")
    served: dict[str, list[float]] = {"beside": [], "back": []}
    last: dict[str, list[float]] = {"beside": [], "back": []}
    failed, requests, what = list[float](), 0, list[str]()
    for number in range(run.runs):
        before = pull.head
        pushes: dict[str, Callable[[], object]] = {
            "beside": lambda: pull.push({"README.md": _greeting()}),
            "back": lambda: product.github.reset(site.repository, "change", before),  # noqa: B023 -- called at once
        }
        lost = 0
        for kind, push in pushes.items():
            first, over, counted = _push_under_load(pull, push)
            served[kind].append(first)
            last[kind].append(over)
            lost += sum(counted["failed"].values())
            requests += counted["requests"]
            what += [f"{count} {text}" for text, count in counted["failed"].items()]
            rate = counted["requests"] / counted["seconds"]
            if rate < LEAST_RATE:
                raise RuntimeError(f"{rate:.0f} requests/s: expected at least {LEAST_RATE:g}; the machine is too busy")
            run.say(
                f"{number + 1}: {kind}: the new version serves after {first:.1f} s, the old one until {over:.1f} s; "
                f"{sum(counted['failed'].values())} of {counted['requests']} requests failed, {rate:.0f}/s"
            )
        failed.append(float(lost))
    _end(pull)
    until_old = {kind: Runs(tuple(seconds)).median for kind, seconds in last.items()}
    return [
        Row("push-image-exists", "push-image-exists", "s", Runs(tuple(served["beside"])), SERVED, "ours<=",
            note="a new commit that changes nothing of the component's folder, from the webhook until a visitor first "
            f"sees it; the old version was last seen after {until_old['beside']:.1f} s"),
        Row("push-image-exists-back", "push-image-exists", "s", Runs(tuple(served["back"])), SERVED, "ours<=",
            note="the branch goes back to a commit that was built before; the old version was last seen after "
            f"{until_old['back']:.1f} s"),
        Row("push-failed-requests", "push-image-exists", "requests", Runs((sum(failed),)), 0, "ours<=",
            note=f"of {requests:,} during {2 * run.runs} such pushes, {VISITORS['rate']}/s on "
            f"{VISITORS['kept']} kept connections and {VISITORS['new']} that are new for each request"
            + (f": {', '.join(what)}" if what else ""), details={"by_run": failed}),
    ]  # fmt: skip


def _push_under_load(pull: Pull, push: Callable[[], object]) -> tuple[float, float, dict[str, Any]]:
    """Seconds from the webhook until the new version was first seen, and until the old one was last; what visitors
    counted.
    """
    before = pull.head
    with on_node.webhooks_held(pull.site.product) as tell:
        push()
        with _visitors(pull, [before, pull.head]) as counted:
            time.sleep(1)
            began = tell()
            until(lambda: is_ready(pull), f"{pull.identity} is ready at {pull.head}")
            time.sleep(5)  # the old version's last visitors
    seen = counted["seen"]
    return seen[pull.head][0] - began, seen[before][1] - began, counted


@contextmanager
def _visitors(pull: Pull, words: list[str]) -> Iterator[dict[str, Any]]:
    """Who ask during the block; what they counted is there after it."""
    visitor, done = pull.visitor(), pull.site.product.done
    arguments = {
        "address": done.edge_address,
        "port": 443,
        "host": visitor.host,
        "authority": done.edge_authority,
        "words": words,
        **VISITORS,
    }
    process = subprocess.Popen(
        command("visitors", arguments), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    counted = dict[str, Any]()
    with process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the visitors ended before they were served")
        yield counted
        said, _ = process.communicate(timeout=30)
    counted.update(json.loads(said.strip().splitlines()[-1]))


# The comment


def comment(run: Run, product: Product) -> Sequence[Row]:
    """A change of phase in an Environment's status, until the pull request's comment says so."""
    worst, all_seen = list[float](), list[tuple[str, float]]()
    for number in range(run.runs):
        site = new_site(product, on_node.python_app("first"))
        with on_node.webhooks_held(product) as tell:
            pull = site.pull_request(on_node.python_app(_greeting()))
            with _Told(pull) as told:
                tell()
                until(lambda: is_ready(pull), "the environment is ready")  # noqa: B023 -- called at once
                time.sleep(TOLD + 1)
        delays = told.delays()
        worst.append(max(delay for _, delay in delays))
        all_seen += delays
        run.say(f"{number + 1}: " + ", ".join(f"{phase} {delay:.2f} s" for phase, delay in delays))
        _end(pull)
    middle = Runs(tuple(delay for _, delay in all_seen)).median
    return [
        Row("comment", "comment", "s", Runs((max(worst),)), TOLD, "ours<=",
            note=f"the longest of {len(all_seen)} changes of phase of {run.runs} new pull requests, from the status to "
            f"the comment at the forge; the median is {middle:.2f} s", details={"all": all_seen})
    ]  # fmt: skip


class _Told:
    """Watches one pull request from both ends while the block runs: its Environment's phase, and its comment."""

    def __init__(self, pull: Pull) -> None:
        self._pull = pull
        self._stop = threading.Event()
        self._phases: list[tuple[float, str]] = []
        self._titles: list[tuple[float, str]] = []
        self._threads = [
            threading.Thread(target=self._follow, args=(look, seen), name=name)
            for name, look, seen in (
                ("phase", self._phase, self._phases),
                ("comment", self._title, self._titles),
            )
        ]

    def delays(self) -> list[tuple[str, float]]:
        """Per change of phase: seconds until a comment says it, or what came after it. Raises AssertionError when none
        did.
        """
        words = {phase.value: word for phase, (_, word) in WORDS.items()}
        found = []
        for number, (at, phase) in enumerate(self._phases):
            later = {words[each] for _, each in self._phases[number:]}
            said = [when for when, title in self._titles if when >= at and any(title.endswith(f" {w}") for w in later)]
            assert said, f"{phase} was never told: {self._phases}, {self._titles}"
            found.append((phase, said[0] - at))
        return found

    def _follow(self, look: Callable[[], str], seen: list[tuple[float, str]]) -> None:
        """Notes when what is looked at changed, to 50 ms."""
        last = ""
        while not self._stop.wait(0.05):
            if (now := look()) and now != last:
                seen.append((time.monotonic(), now))
                last = now

    def _phase(self) -> str:
        return str(on_node.status(self._pull).get("phase", ""))

    def _title(self) -> str:
        return next((line for line in self._pull.comment().splitlines() if line.startswith("#")), "")

    def __enter__(self) -> "_Told":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


# Ten at once


def ten_at_once(run: Run, product: Product) -> Sequence[Row]:
    """Ten pull requests of two Projects opened at once, and closed at once."""
    many, few = (3, 2) if run.quick else (7, 3)
    sites = [(new_site(product, on_node.python_app("first")), count) for count in (many, few)]
    with Memory(product) as memory, on_node.webhooks_held(product) as tell:
        pulls = [
            site.pull_request(on_node.python_app(_greeting()), branch=f"at-once-{number}")
            for site, count in sites
            for number in range(count)
        ]
        found = _all_ready(pulls, tell)
    of_few = [number for number, pull in enumerate(found.started, 1) if pull.site is sites[1][0]]
    order = " ".join("b" if pull.site is sites[1][0] else "a" for pull in found.started)
    done = " ".join("b" if pull.site is sites[1][0] else "a" for pull in found.ready)
    run.say(f"builds started in the order {order}; ready in the order {done}; all after {found.seconds:.0f} s")
    services = {_service(name): size for name, size in sorted(memory.most.items(), key=lambda each: each[1])}
    for name, size in services.items():
        run.say(f"{name:<20}{size:>6.0f} MB")
    closing = _all_closed(product, pulls)
    run.say(f"all {len(pulls)} gone after {closing:.0f} s")
    each_of = ", ".join(f"{name} {size:.0f}" for name, size in services.items())
    return [
        Row("ten-at-once", "ten-at-once", "not ready", Runs((float(len(pulls) - len(found.ready)),)), 0, "ours<=",
            note=f"of {many} pull requests of a Project and then {few} of another, opened at once; the first was ready "
            f"after {found.first:.0f} s, all after {found.seconds:.0f} s", details={"seconds": found.seconds}),
        Row("ten-at-once-order", "ten-at-once", "place", Runs((float(max(of_few)),)), 2 * few, "ours<=",
            note=f"at which the last build of the {few} started, which were asked for last; in turn with the other "
            f"Project's they have the first {2 * few} places. Started: {order}; ready: {done}"),
        Row("ten-at-once-memory", "ten-at-once", "MB", Runs((max(services.values()),)), MEMORY, "ours<=",
            note=f"the largest pod's most memory meanwhile, of each: {each_of}", details={"memory": services}),
        Row("close-ten", "ten-at-once", "s", Runs((closing,)), GONE, "ours<=",
            note=f"all {len(pulls)} closed at once, until neither Environment, namespace nor build object is left"),
    ]  # fmt: skip


@dataclass(frozen=True)
class _AtOnce:
    """The pull requests in the order in which their builds started, and in which they became ready; seconds since the
    webhooks.
    """

    started: Sequence[Pull]
    ready: Sequence[Pull]
    first: float
    seconds: float


def _all_ready(pulls: Sequence[Pull], tell: Callable[[], float]) -> _AtOnce:
    """Until all are, or for ten minutes."""
    started, ready = list[Pull](), list[Pull]()
    began, last, first = tell(), 0.0, 0.0
    while len(ready) < len(pulls) and time.monotonic() < began + 2 * GONE:
        under_way = _under_way(pulls)
        started += [pull for pull in pulls if pull not in started and (pull.site.team, pull.number) in under_way]
        now_ready = [pull for pull in all_ready(pulls) if pull not in ready]
        if now_ready:
            last = time.monotonic() - began
            first = first or last
        ready += now_ready
        time.sleep(on_node.LOOK)
    return _AtOnce(started, ready, first, last)


def _under_way(pulls: Sequence[Pull]) -> set[tuple[str, int]]:
    """(team, number) of those whose build was let go."""
    found = set[tuple[str, int]]()
    for team, place in {(pull.site.team, _builds(pull)) for pull in pulls}:
        listed = pulls[0].site.product.sight.get(f"/apis/batch/v1/namespaces/{place}/jobs") or {"items": []}
        for each in listed["items"]:
            if not each["spec"].get("suspend"):
                found.add((team, int(each["metadata"]["labels"][labels.ENVIRONMENT].removeprefix("pr-"))))
    return found


def _all_closed(product: Product, pulls: Sequence[Pull]) -> float:
    with on_node.webhooks_held(product) as tell:
        for pull in pulls:
            pull.close()
        began = tell()
        left = list(pulls)

        def nothing_left() -> bool:
            left[:] = [pull for pull in left if not pull.is_gone() or _has_build_objects(pull)]
            return not left

        return until(nothing_left, "the closed pull requests are gone", within=2 * GONE) - began


def _service(pod: str) -> str:
    """`builder-7d4b9c-x2x8k` and `nats-0` → `builder`, `nats`."""
    return pod.removesuffix("-0") if pod.startswith("nats") else pod.rsplit("-", 2)[0]


ON_NODE: Final[Mapping[str, Callable[[Run, Product], Sequence[Row]]]] = {
    "url-cached": url_cached,
    "url-cold": url_cold,
    "close": close,
    "push-image-exists": push_image_exists,
    "comment": comment,
    "ten-at-once": ten_at_once,
}
