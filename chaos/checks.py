"""What must hold in the end. Each check gives what it found wrong, in sentences; nothing is the rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from catalyst.events.topology import EVENTS, MAX_DELIVERIES
from catalyst.model.names import project_namespace
from chaos import comparison
from chaos.bus import Streams
from chaos.comparison import Manifest
from chaos.looking import Looks
from chaos.support import GitHubDouble
from chaos.traffic import Traffic, Watched

LEASES: Final = frozenset({"env-controller", "builder"})
MARGIN: Final = 1.0
"""Seconds by which the clock of the API server's log and our own look at the Lease may differ."""
UNSEEN: Final = 15.0
"""Seconds for which a new leader may have gone unseen, while the API server was struck."""
_STORED: Final = ("published", "duplicate")
GIVEN_UP_NEWS: Final = f"{MAX_DELIVERIES}.{EVENTS}."
ENVIRONMENTS: Final = "/apis/catalyst.dev/v1alpha1/namespaces"


# Nothing acknowledged is lost


def acknowledged(stored: Mapping[str, str], streams: Streams) -> Iterator[str]:
    """Each webhook that was answered 202 because it is stored is in SCM, once. `stored`: as `stored_webhooks` gives."""
    for guid, what in stored.items():
        count = streams.facts.get(guid, 0)
        if count != 1:
            yield f"webhook {guid} ({what}) was answered 202 and is in SCM {count} times"
    for fact, count in streams.facts.items():
        if count > 1 and fact not in stored:
            yield f"fact {fact} is in SCM {count} times"


def stored_webhooks(github: GitHubDouble) -> dict[str, str]:
    """GUID → what it told of, of those that were answered 202 and not ignored."""
    found = {}
    for attempt in list(github.webhooks.attempts.values()):
        if attempt.status_code == 202 and attempt.answer and json.loads(attempt.answer).get("result") in _STORED:
            found[attempt.webhook.guid] = f"{attempt.webhook.event} {attempt.webhook.action or ''}".strip()
    return found


def handled(streams: Streams) -> Iterator[str]:
    """Each fact is acknowledged by who reads it, and has its record in the audit, once; nothing is dead."""
    recorded = {"/".join(record.split("/")[1:-3]) for record in streams.audited}  # …/<fact>/<team>/<project>/<name>
    for fact in sorted(streams.handled - recorded):
        yield f"fact {fact} was handled without a record in the audit"
    for record, count in streams.audited.items():
        if count > 1:
            yield f"audit record {record} was written {count} times"
    yield from (f"audit: {fault}" for fault in streams.chains)
    yield from (f"consumer {name}: {left}" for name, left in streams.waiting.items())
    yield from (f"dead letter {told}" for told in streams.dead if not told.startswith(GIVEN_UP_NEWS))


def given_up(streams: Streams) -> dict[str, int]:
    """Consumer of EVENTS → messages that the server gave up on after five deliveries that nobody acknowledged, which
    happens when servers, wires and readers fail in turns for two minutes. They are news: what they told of is in the
    resources and in STATE, which are compared. Of a fact such a one is a finding.
    """
    return dict(
        Counter(told.partition(":")[0].rpartition(".")[2] for told in streams.dead if told.startswith(GIVEN_UP_NEWS))
    )


# As undisturbed


@dataclass(slots=True)
class Inventory:
    """Every kind that a namespace may hold."""

    looks: Looks
    _kinds: list[tuple[str, str, str]] = field(default_factory=list)

    def kinds(self) -> list[tuple[str, str, str]]:
        """(path before `/namespaces`, plural, kind)."""
        if not self._kinds:
            groups = (self.looks.get("/apis") or {"groups": []})["groups"]
            roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
            for root in roots:
                for each in (self.looks.get(root) or {"resources": []})["resources"]:
                    if each["namespaced"] and "list" in each["verbs"] and "/" not in each["name"]:
                        self._kinds.append((root, each["name"], each["kind"]))
        return self._kinds

    def of(self, namespace: str) -> Iterator[Manifest]:
        """The namespace itself, and all that is in it."""
        found = self.looks.get(f"/api/v1/namespaces/{namespace}")
        if found is not None:
            yield found
        for root, plural, kind in self.kinds():
            for each in self.looks.items(f"{root}/namespaces/{namespace}/{plural}"):
                yield {**each, "kind": kind}


def picture(inventory: Inventory, watched: Watched, streams: Streams | None = None) -> dict[str, Any]:
    """All that there is of a pull request's environment: resources, the last snapshot, and what the forge has."""
    pull = watched.pull
    names = comparison.names_of(pull.site.team, pull.site.name, pull.number, pull.head, pull.at_forge.head_ref)
    home = project_namespace(pull.site.team, pull.site.name)
    environment = inventory.looks.get(f"{ENVIRONMENTS}/{home}/environments/{pull.identity.environment}")
    objects = [*inventory.of(pull.namespace), *([environment] if environment else [])]
    told = {"comments": len(pull.comments()), **pull.reports()}
    state = streams.states.get(str(pull.identity)) if streams else None
    return {
        "resources": comparison.picture(objects, names),
        "forge": told,
        **({"last snapshot": comparison.normalised(state, names)} if state is not None else {}),
    }


def compared(undisturbed: Mapping[str, Any], found: Mapping[str, Any], name: str) -> Iterator[str]:
    """How an environment that lived through the faults differs from one that did not."""
    yield from (f"{name} differs: {line}" for line in comparison.differences(undisturbed, found))


def last_words(traffic: Traffic, streams: Streams) -> Iterator[str]:
    """The last message of each environment is true: ready at its head, or gone; its route told of as it is."""
    for each in traffic.watched:
        state = streams.states.get(str(each.pull.identity))
        if state is None:
            if each.is_open:
                yield f"{each.name}: nothing is said of it in STATE"
            continue
        told = (state.get("phase"), state.get("commit"))
        if each.is_open and told != ("Ready", each.pull.head):
            yield f"{each.name}: STATE says {told} instead of Ready at {each.pull.head}"
        if not each.is_open and told[0] != "Gone":
            yield f"{each.name}: STATE says {told[0]} of what is gone"
        project = f"--{each.pull.site.name}--{each.pull.site.team}."
        for host, live in streams.routes.items():
            if host.startswith(f"{each.pull.identity.environment}{project}") and live != each.is_open:
                yield f"{each.name}: the last word on {host} is live={live}"


# Nothing is left over


def left_over(looks: Looks, traffic: Traffic, teams: Iterable[str]) -> Iterator[str]:
    """After every pull request was closed."""
    product = traffic.product
    for each in traffic.watched:
        yield from (f"{each.name}: left over: {left}" for left in product.sight.left_of_environment(each.pull.identity))
        if len(each.pull.comments()) > 1:
            yield f"{each.name}: {len(each.pull.comments())} comments"
    wanted = set(teams)
    for volume in looks.items("/api/v1/persistentvolumes"):
        namespace = volume["spec"].get("claimRef", {}).get("namespace", "")
        if namespace.split("--")[0] in wanted:
            yield f"left over: volume {volume['metadata']['name']} of {namespace}"
    for lease in looks.items("/apis/coordination.k8s.io/v1/namespaces/catalyst-system/leases"):
        if lease["metadata"]["name"] not in LEASES:
            yield f"left over: lease {lease['metadata']['name']}"


def gone_hosts(visitors: Mapping[str, Any]) -> Iterator[str]:
    """No URL that there was leads anywhere."""
    for name, visitor in visitors.items():
        code, text = visitor.looks()
        if code not in (404, 410):
            yield f"{name}: {visitor.url} still answers {code}: {text[:80]}"


# One writer at a time


def second_writers(log: Path, mark: int, leaders: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Writes of an env-controller that took effect while another one led. `leaders`: (time, pod) at each change."""
    with log.open("rb") as file:
        file.seek(mark)
        for line in file:
            found = _late(json.loads(line), leaders)
            if found:
                yield found


def _late(event: Mapping[str, Any], leaders: Sequence[tuple[float, str]]) -> str:
    user, ref = event.get("user", {}), event.get("objectRef") or {}
    if not user.get("username", "").endswith("catalyst-system:env-controller"):
        return ""
    pod = (user.get("extra", {}).get("authentication.kubernetes.io/pod-name") or [""])[0]
    status = event.get("responseStatus", {}).get("code", 0)
    at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
    others = [(when, who) for when, who in leaders if when <= at]
    if not pod or not others or status >= 300 or ref.get("resource") == "leases":
        return ""
    since, holder = others[-1]
    next_ = next(((when, who) for when, who in leaders if when > at), (at, ""))
    seen_late = next_[1] == pod and next_[0] - at < UNSEEN
    if holder in ("", pod) or at - since < MARGIN or seen_late:
        return ""
    what = f"{event['verb']} {ref.get('resource')} {ref.get('namespace', '')}/{ref.get('name', '')}"
    return f"{pod} wrote ({what}) {at - since:.1f} s after {holder} led"


def bystanders(looks: Looks, known: Mapping[str, str]) -> Iterator[str]:
    """Namespaces of others are what they were. `known`: name → uid."""
    for name, uid in known.items():
        found = looks.get(f"/api/v1/namespaces/{name}")
        if found is None or found["metadata"]["uid"] != uid or found["status"]["phase"] != "Active":
            yield f"namespace {name} of somebody else was deleted"
