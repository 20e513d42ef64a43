"""`make scale`: services scale alone, and those that elect one fail over. KEDA, metrics-server, deploy/k8s/scaling and
the production overlay's numbers (three NATS servers, two of each service) on the one node there is.

So ceilings are small and the autoscalers' patience is short here; what they look at is as in production. Figures go to
bench/scaling.json.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import nats
import pytest
import yaml
from kubectl import Kubectl
from nats.aio.client import Client
from product import Product, Pull, Site, another_hello, example, until
from product import product as installed

from bench import capacity, payload
from catalyst.events.topology import BUILDER, DEAD, EVENTS, LOCKS
from catalyst.events.users import ONCALL, OPERATOR, inbox_prefix
from catalyst.local import autoscaling, cluster, platform
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.supervisor import ROOT

FLOOR, CEILING = 2, 3
SCALING: Final = platform.OVERLAYS.parent / "scaling"
BACKLOG: Final = 400
"""Requests that wait for builder while the burst lasts."""
MOST: Final = 10_000
"""Requests of a burst after which it is over, whatever happened."""
ROUND: Final = 12.0
"""Seconds of load on one set of connections: only new ones reach a new replica."""
HASTE: Final = {
    "stabilizationWindowSeconds": 20,
    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
}
"""Production looks back five minutes before it takes a replica away."""
LEASE: Final = 10.0
"""Seconds; those of a lock are fewer."""
LED_BY_LEASE: Final = ("env-controller", "builder")
LED_BY_LOCK: Final = ("dns-proxy", "notifier")

T = TypeVar("T")
Figures = dict[str, Any]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's addresses, production's numbers, the component, and haste."""
    folder = tmp_path_factory.mktemp("overlay")
    local, component = (os.path.relpath(each, folder.resolve()) for each in (platform.OVERLAYS / "local", SCALING))
    hasty = {
        "ScaledObject": [
            ("/spec/maxReplicaCount", CEILING),
            ("/spec/pollingInterval", 5),
            ("/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown", HASTE),
        ],
        "HorizontalPodAutoscaler": [
            ("/spec/maxReplicas", CEILING),
            ("/spec/behavior/scaleDown", HASTE),
            # What three NATS servers store on these two cores takes no more than a tenth of one to receive.
            ("/spec/metrics/0/resource/target/averageValue", "30m"),
        ],
    }
    others = ("env-controller", "dns-proxy", "notifier", "edge")
    content = {
        "resources": [local],
        "components": [component],
        "replicas": [{"name": "nats", "count": 3}, *({"name": name, "count": FLOOR} for name in others)],
        "patches": [
            {
                "target": {"kind": kind},
                "patch": json.dumps([{"op": "replace", "path": path, "value": value} for path, value in changes]),
            }
            for kind, changes in hasty.items()
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def scaled(
    node: cluster.ClusterState, kubectl: Kubectl, overlay: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """The product in such an installation. Nothing of it stays: its NATS stores three times, which others' do not."""

    def away() -> None:
        kubectl.run("delete", "namespace", *platform.NAMESPACES, "--ignore-not-found", "--timeout=150s", within=160)

    away()
    autoscaling.up(node, sys.stderr)
    try:
        with installed(node, tmp_path_factory.mktemp("product"), overlay=overlay) as found:
            yield found
    finally:
        away()
        autoscaling.down(node)


@pytest.fixture(scope="module")
def site(scaled: Product) -> Site:
    return scaled.team().site("hello", example("hello"))


@pytest.fixture(scope="module")
def pull(site: Site) -> Pull:
    opened = site.pull_request(another_hello("first"))
    opened.until_served()
    return opened


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    """What was measured, for docs/capacity.md; what was not, this time, stays."""
    found: Figures = json.loads(capacity.SCALING.read_text()) if capacity.SCALING.exists() else {}
    yield found
    capacity.SCALING.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    capacity.write()


def test_what_one_pull_request_costs(scaled: Product, site: Site, pull: Pull, figures: Figures) -> None:
    """Opened, served, pushed to, served, closed, gone, while nothing else happens but one environment that is ready."""
    hooks, asked = scaled.github.webhooks.attempts, scaled.github.requests
    before = asyncio.run(as_(scaled, OPERATOR, stored)), len(hooks), len(asked)
    opened = site.pull_request(another_hello("costs"), branch="costs")
    opened.until_served()
    opened.push(another_hello("costs more"))
    visitor = opened.until_served()
    opened.close()
    opened.until_over(visitor)
    after = asyncio.run(as_(scaled, OPERATOR, stored))
    grown = {name: [now - then for now, then in zip(after[name], before[0][name], strict=True)] for name in after}
    figures["pull-request"] = tell(
        "a pull request",
        webhooks=len(hooks) - before[1],
        **forge_budget(asked[before[2] :]),
        messages={name: grown[name][0] for name in grown if grown[name][0]},
        bytes={name: grown[name][1] for name in grown if grown[name][0]},
    )
    assert len(hooks) > before[1]


def test_a_burst_of_builds_scales_builder_up_and_back(
    scaled: Product, site: Site, pull: Pull, figures: Figures
) -> None:
    until(lambda: replicas(scaled, "builder") == (FLOOR, FLOOR), "builder at its floor", 60)
    asyncio.run(as_(scaled, OPERATOR, other_leader))
    burst = asyncio.run(as_(scaled, ONCALL, lambda client: keep_busy(client, scaled, pull)))
    assert burst["replicas"] == (CEILING, CEILING), burst
    # Who opens a pull request now waits for his turn, but comes.
    ended, amid, opened = time.monotonic(), lag(scaled), site.pull_request(another_hello("amid"), branch="amid")
    opened.until_served()
    served = time.monotonic() - ended
    until(lambda: lag(scaled) == 0, "nothing waits for builder", 120)
    until(lambda: replicas(scaled, "builder") == (FLOOR, FLOOR), "builder at its floor again", 150)
    back = time.monotonic() - ended
    opened.close()
    assert asyncio.run(as_(scaled, OPERATOR, dead)) == 0
    figures["builder"] = tell(
        "builder",
        requests=burst["requests"],
        asked_for_more_s=burst["asked"],
        ready_s=burst["ready"],
        back_at_floor_s=back,
        handled_per_s_at_floor=burst["at_floor"],
        handled_per_s_at_ceiling=burst["at_ceiling"],
        waiting_amid=amid,
        pull_request_amid_s=served,
    )


def test_a_load_of_webhooks_scales_webhook_ingest_up_and_back(
    scaled: Product, figures: Figures, tmp_path: Path
) -> None:
    until(lambda: replicas(scaled, "webhook-ingest") == (FLOOR, FLOOR), "webhook-ingest at its floor", 60)
    begun = time.monotonic()
    rounds: list[dict[str, Any]] = []
    while len(rounds) < 10 and not (rounds and rounds[-1]["replicas"] == CEILING):
        ready = replicas(scaled, "webhook-ingest")[1]
        at = time.monotonic() - begun
        rounds.append({"replicas": ready, "at_s": at, **load(scaled, tmp_path), "cores": processor(scaled)})
        sys.stderr.write(f"webhook-ingest: {rounds[-1]}\n")
    assert rounds[0]["replicas"] == FLOOR
    assert rounds[-1]["replicas"] == CEILING
    assert [each["refused"] for each in rounds] == [0] * len(rounds), rounds
    ended = time.monotonic()
    until(lambda: replicas(scaled, "webhook-ingest") == (FLOOR, FLOOR), "webhook-ingest at its floor again", 180)
    figures["webhook-ingest"] = tell(
        "webhook-ingest",
        ready_s=rounds[-1]["at_s"],
        cores_a_replica=max(each["cores"] for each in rounds),
        back_at_floor_s=time.monotonic() - ended,
        rate_per_s_at_floor=rounds[0]["rate"],
        p99_s_at_floor=rounds[0]["p99"],
        rate_per_s_at_ceiling=rounds[-1]["rate"],
        p99_s_at_ceiling=rounds[-1]["p99"],
    )


@pytest.mark.parametrize("service", [*LED_BY_LEASE, *LED_BY_LOCK])
def test_the_leader_goes_and_another_takes_over(scaled: Product, pull: Pull, figures: Figures, service: str) -> None:
    until(lambda: replicas(scaled, service) == (FLOOR, FLOOR), f"two of {service}", 60)
    old = until(lambda: leader(scaled, service), f"a leader of {service}", 30)
    pull.push(another_hello(f"without {old}"))
    begun = time.monotonic()
    scaled.system.run("delete", "pod", old, "--wait=false")

    def new() -> str:
        now = leader(scaled, service)
        return now if now != old else ""

    until(new, f"another leader than {old}", 60, every=0.05)
    failover = time.monotonic() - begun
    pull.until_served()
    served = time.monotonic() - begun
    assert failover < LEASE, "who leaves in order does not let its lease run out"
    figures.setdefault("failover", {})[service] = tell(service, leads_after_s=failover, served_after_s=served)


# What there is


def replicas(product: Product, service: str) -> tuple[int, int]:
    """(wanted, ready) of a service; not ready while one is on its way out."""
    found = product.sight.get(f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{service}")
    assert found is not None
    status = found.get("status", {})
    settled = status.get("replicas", 0) == status.get("readyReplicas", 0) == len(pods(product, service))
    return found["spec"]["replicas"], status.get("readyReplicas", 0) if settled else 0


def processor(product: Product) -> float:
    """Cores that a replica of webhook-ingest takes, as its autoscaler sees it."""
    path = f"/apis/autoscaling/v2/namespaces/{SYSTEM_NAMESPACE}/horizontalpodautoscalers/webhook-ingest"
    (seen,) = (product.sight.get(path) or {}).get("status", {}).get("currentMetrics") or [{}]
    said: str = seen.get("resource", {}).get("current", {}).get("averageValue", "0")
    return float(said.removesuffix("m")) / (1000 if said.endswith("m") else 1)


def pods(product: Product, service: str) -> set[str]:
    selector = f"app.kubernetes.io/name={service}"
    listed = product.sight.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods", labelSelector=selector)
    return {pod["metadata"]["name"] for pod in (listed or {"items": []})["items"]}


def leader(product: Product, service: str) -> str:
    """The pod that leads; empty: nobody."""
    if service in LED_BY_LEASE:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{service}"
        holder = (product.sight.get(path) or {"spec": {}})["spec"].get("holderIdentity") or ""
    else:
        record = asyncio.run(as_(product, OPERATOR, lambda client: last(client, LOCKS, f"lock.{service}")))
        holder = json.loads(record[0])["holder"] if record else ""
    return next((pod for pod in pods(product, service) if holder and holder.startswith(pod)), holder)


def forge_budget(asked: list[tuple[str, str, int]]) -> dict[str, int]:
    """What these requests cost of the forge's limits: an unchanged answer (304) is free, tokens are counted apart."""
    counted = [each for each in asked if each[2] != httpx.codes.NOT_MODIFIED and "access_tokens" not in each[1]]
    return {"forge_requests": len(counted), "forge_writes": sum(method != "GET" for method, *_ in counted)}


def lag(product: Product) -> int:
    """What waits for builder and what it has in hand, as the consumer's leader says."""
    return asyncio.run(as_(product, OPERATOR, waiting))


async def waiting(client: Client) -> int:
    info = await client.jetstream().consumer_info(EVENTS, BUILDER.name)
    return int(info.num_pending or 0) + int(info.num_ack_pending or 0)


async def stored(client: Client) -> dict[str, tuple[int, int]]:
    """Stream → messages and bytes in it."""
    found = await client.jetstream().streams_info()
    return {str(each.config.name): (each.state.messages, each.state.bytes) for each in found}


async def dead(client: Client) -> int:
    return int((await client.jetstream().stream_info(DEAD)).state.messages)


async def last(client: Client, stream: str, subject: str) -> tuple[bytes, dict[str, str]] | None:
    """Body and headers of the newest message of a subject, without those of the server."""
    request = json.dumps({"last_by_subj": subject}).encode()
    found = await client.request(f"$JS.API.DIRECT.GET.{stream}", request, timeout=5)
    if (found.headers or {}).get("Status") == "404":
        return None
    own = {name: value for name, value in (found.headers or {}).items() if not name.startswith("Nats-")}
    return found.data, own


async def as_(product: Product, user: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    address = product.system.get("service", "nats")["spec"]["clusterIP"]
    seed = Path(product.state.kubeconfig).parent / "platform" / "nkeys" / f"{user}.seed"
    client = await nats.connect(
        f"nats://{address}:4222", nkeys_seed=str(seed), inbox_prefix=inbox_prefix(user).encode(), connect_timeout=5
    )
    try:
        return await work(client)
    finally:
        await client.close()


# What happens


async def other_leader(client: Client) -> str:
    """builder's consumer gets another leader, so that KEDA has to find it. The new one."""

    async def now() -> str:
        info = json.loads((await client.request(f"$JS.API.CONSUMER.INFO.{EVENTS}.{BUILDER.name}", timeout=5)).data)
        return str(info.get("cluster", {}).get("leader") or "")

    before = await now()
    await client.request(f"$JS.API.CONSUMER.LEADER.STEPDOWN.{EVENTS}.{BUILDER.name}", timeout=5)
    ends = time.monotonic() + 20
    while (found := await now()) in ("", before):
        assert time.monotonic() < ends, f"{before} still leads"
        await asyncio.sleep(0.2)
    return found


async def keep_busy(client: Client, product: Product, pull: Pull) -> dict[str, Any]:
    """The request of a build, again and again, each as a message of its own, so that BACKLOG of them wait until all the
    replicas are ready that the ceiling allows. builder looks at each: what is built already is not built again.
    """
    subject = f"env.{pull.site.team}.{pull.site.name}.pr-{pull.number}.build.requested"
    found = await last(client, EVENTS, subject)
    assert found is not None, subject
    body, headers = found
    stream, run, sent = client.jetstream(), secrets.token_hex(4), 0
    begun, asked, at_floor, handled = time.monotonic(), 0.0, 0.0, 0
    counted: list[tuple[float, int, int]] = []
    while True:
        wanted, ready = await asyncio.to_thread(replicas, product, "builder")
        left = await asyncio.to_thread(lag, product)
        handled = sent - left
        counted.append((time.monotonic() - begun, ready, handled))
        sys.stderr.write(f"{counted[-1][0]:6.1f} s  {wanted} wanted, {ready} ready, {left} wait, {handled} handled\n")
        asked = asked or (counted[-1][0] if wanted > FLOOR else 0.0)
        full = [each for each in counted if each[1] == CEILING]
        if (full and full[-1][0] - full[0][0] > ROUND) or sent >= MOST:
            break
        more = max(0, BACKLOG - left)
        for _ in range(0, more, 100):
            ids = [f"{run}-{sent + number}" for number in range(100)]
            await asyncio.gather(*(stream.publish(subject, body, headers={**headers, "Nats-Msg-Id": i}) for i in ids))
            sent += len(ids)
        await asyncio.sleep(0.5)
    at_floor = rate([each for each in counted if each[1] == FLOOR])
    return {
        "requests": sent,
        "asked": asked,
        "ready": full[0][0] if full else 0.0,
        "replicas": (wanted, ready),
        "at_floor": at_floor,
        "at_ceiling": rate(full),
    }


def rate(counted: list[tuple[float, int, int]]) -> float:
    """Handled in a second, between the first and the last look."""
    if len(counted) < 2:
        return 0.0
    (begun, _, before), (ended, _, after) = counted[0], counted[-1]
    return (after - before) / (ended - begun)


def load(product: Product, folder: Path) -> dict[str, Any]:
    """One round of signed webhooks on 16 connections, about a pull request of a repository that no Project names: each
    is stored on three servers before its answer.
    """
    body = folder / "body"
    body.write_bytes(payload.body())
    secret = product.done.webhook_secret.read_text().strip().encode()
    signature = "sha256=" + hmac.new(secret, body.read_bytes(), hashlib.sha256).hexdigest()
    host, _, port = product.done.webhook_url.removeprefix("http://").partition("/")[0].partition(":")
    arguments = {
        "host": host,
        "port": int(port),
        "path": "/webhooks/github",
        "body": str(body),
        "headers": {**payload.headers(b""), "x-hub-signature-256": signature},
        "connections": 16,
        "warm_up": 1,
        "seconds": ROUND,
    }
    command = [sys.executable, "-m", "bench.load", json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ROUND + 60, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def tell(what: str, **found: Any) -> Figures:
    sys.stderr.write(f"{what}: {', '.join(f'{name} {value}' for name, value in found.items())}\n")
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
