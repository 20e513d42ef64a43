"""Every check of `catalyst doctor` in every status it has, by planted facts; each remedy names what to do."""

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from catalyst.cli.core.doctor import NOT_PROBED, Finding, Report, Status, bus, cluster, outside, several
from catalyst.cli.core.doctor.bus import Server
from catalyst.cli.core.doctor.cluster import DEFAULT_CLASS, NetworkProbe, UserNamespaceProbe
from catalyst.cli.core.doctor.outside import AppRights, Certified, Resolved
from catalyst.cli.core.hidden import Hidden
from catalyst.events.topology import SERVICES, consumers, streams
from catalyst.forge.client import NEEDED_EVENTS, needed_permissions
from catalyst.model.crd import crds
from catalyst.model.manifest import Manifest

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HIDDEN = Hidden("it may not be read", "the right to read it")
VERSION = "0.1.0"


# The cluster's facts


def types() -> dict[str, Manifest | None]:
    return {each["metadata"]["name"]: copy.deepcopy(each) for each in crds()}


def altered(change: Callable[[dict[str, Any]], None]) -> dict[str, Manifest | None]:
    """Of the schema of Projects' specs."""
    found = types()
    project = found["projects.catalyst.dev"]
    assert project is not None
    change(project["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])
    return found


def deployments(*, tag: str = VERSION, available: int = 2, **images: str | None) -> dict[str, Manifest | None]:
    def one(name: str) -> Manifest:
        image = images.get(name.replace("-", "_"), f"registry.example.org:5000/catalyst/{name}:{tag}")
        return {
            "metadata": {"name": name, "generation": 1},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}},
            "status": {"observedGeneration": 1, "availableReplicas": available, "updatedReplicas": 2},
        }

    return {name: None if images.get(name, "") is None else one(name) for name in SERVICES}


def classes(*defaults: bool) -> list[Manifest]:
    return [
        {"metadata": {"name": f"disk-{number}", "annotations": {DEFAULT_CLASS: str(default).lower()}}}
        for number, default in enumerate(defaults)
    ]


def claims(*phases: str) -> list[Manifest]:
    return [{"metadata": {"name": f"data-nats-{n}"}, "status": {"phase": phase}} for n, phase in enumerate(phases)]


def node(kubelet: str = "v1.36.0", runtime: str = "containerd://2.1.4", kernel: str = "6.8.0-45-generic") -> Manifest:
    info = {"kubeletVersion": kubelet, "containerRuntimeVersion": runtime, "kernelVersion": kernel}
    return {"metadata": {"name": "node-1"}, "status": {"nodeInfo": info}}


def users(*nodes: Manifest, probe: UserNamespaceProbe | Hidden = NOT_PROBED, wanted: bool | Hidden = True) -> Finding:
    return cluster.user_namespaces(nodes, probe, wanted)


# The bus's facts


def _config(config: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", config.as_dict())


def server(
    *,
    max_payload: int = 1024 * 1024,
    copies: int = 3,
    without: str = "",
    stream: Mapping[str, Any] | None = None,
    consumer: Mapping[str, Any] | None = None,
    more: Sequence[str] = (),
    raft: Mapping[str, Any] | None = None,
) -> Server:
    """`stream`, `consumer`: what differs in EVENTS, and in builder's."""
    infos: dict[str, Any] = {}
    for wanted in streams():
        config = {**_config(wanted), "num_replicas": copies, **((stream or {}) if wanted.name == "EVENTS" else {})}
        infos[wanted.name or ""] = None if wanted.name == without else {"config": config, "cluster": raft or {}}
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in infos}
    for each in consumers():
        if f"{each.stream}/{each.name}" != without:
            changes = (consumer or {}) if each.name == "builder" else {}
            told[each.stream].append({"name": each.name, "config": {**_config(each.config()), **changes}})
    told["EVENTS"] += [{"name": name, "config": {}} for name in more]
    return Server("2.15.1", max_payload, infos, told)


def nothing() -> Server:
    return Server("2.15.1", 1024 * 1024, dict.fromkeys(config.name or "" for config in streams()), {})


def of_bus(check: str, found: Server | Hidden, page: Any = HIDDEN, servers: int | Hidden = 3) -> Finding:
    (finding,) = (each for each in bus.bus(found, page, servers) if each.check == check)
    return finding


def varz(**config: Any) -> dict[str, Any]:
    return {"jetstream": {"config": config}} if config else {}


# The world's facts


def shown(**fields: Any) -> Certified:
    return Certified("doctor-1.preview.example.org", "192.0.2.1:443", **{"ends": NOW + timedelta(days=60), **fields})


def rights(**fields: Any) -> AppRights:
    needed = needed_permissions()
    return AppRights(
        **{
            "slug": "catalyst",
            "permissions": needed,
            "events": NEEDED_EVENTS,
            "accepted": {"acme": needed},
            **fields,
        }
    )


def of_app(check: str, found: AppRights | Hidden) -> Finding:
    (finding,) = (e for e in outside.app(found, needed_permissions(), NEEDED_EVENTS) if e.check == check)
    return finding


def of_services(check: str, found: Any) -> Finding:
    (finding,) = (each for each in cluster.services(found, VERSION) if each.check == check)
    return finding


def host(**fields: Any) -> Resolved:
    return Resolved("doctor-1.preview.example.org", **fields)


CASES: dict[str, tuple[Finding, Status, str, str]] = {
    "crds ok": (cluster.crds(types()), "ok", "environments.catalyst.dev, projects.catalyst.dev are as", ""),
    "crds missing": (
        cluster.crds({**types(), "projects.catalyst.dev": None}),
        "failed",
        "projects.catalyst.dev: not there",
        "deploy/k8s/crds",
    ),
    "crds older": (
        cluster.crds(altered(lambda spec: spec.pop("paused"))),
        "failed",
        "projects.catalyst.dev: spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.paused",
        "deploy/k8s/crds",
    ),
    "crds newer": (
        cluster.crds(altered(lambda spec: spec.update(colour={"type": "string"}))),
        "failed",
        "properties.colour",
        "of this release",
    ),
    "crds hidden": (cluster.crds(HIDDEN), "unknown", "may not be read", "the right"),
    "services ok": (of_services("services", deployments()), "ok", "builder, dns-proxy, notifier have", ""),
    "services missing": (of_services("services", deployments(builder=None)), "failed", "builder", "kubectl apply"),
    "services lacking": (of_services("services", deployments(available=1)), "failed", "builder 1 of 2", "kubectl logs"),
    "services hidden": (of_services("services", HIDDEN), "unknown", "may not", "the right"),
    "versions ok": (of_services("versions", deployments()), "ok", "all services are 0.1.0", ""),
    "versions of another catalyst": (
        of_services("versions", deployments(tag="0.2.0")),
        "warning",
        "all services are 0.2.0, and this catalyst is 0.1.0",
        "use the catalyst of version 0.2.0",
    ),
    "versions mixed": (
        of_services("versions", deployments(builder="catalyst/builder:0.0.9@sha256:ab")),
        "failed",
        "0.0.9: builder; 0.1.0: webhook-ingest, env-controller",
        "one tag",
    ),
    "versions by digest": (
        of_services("versions", deployments(builder="registry:5000/builder@sha256:ab")),
        "unknown",
        "tells no version: builder",
        "by tag",
    ),
    "versions hidden": (of_services("versions", HIDDEN), "unknown", "may not", "the right"),
    "class ok": (cluster.storage_class(classes(False, True)), "ok", "disk-1 is the default", ""),
    "class two": (cluster.storage_class(classes(True, True)), "warning", "disk-0, disk-1", "off all but one"),
    "class none is it": (cluster.storage_class(classes(False)), "failed", "none is the default of disk-0", "annotate"),
    "class none at all": (cluster.storage_class([]), "failed", "no StorageClass at all", "annotate"),
    "class hidden": (cluster.storage_class(HIDDEN), "unknown", "may not", "the right"),
    "claims ok": (cluster.claims(claims("Bound", "Bound"), "catalyst-system"), "ok", "2 bound", ""),
    "claims pending": (
        cluster.claims(claims("Bound", "Pending"), "catalyst-system"),
        "failed",
        "data-nats-1 (Pending)",
        "kubectl describe persistentvolumeclaim --namespace catalyst-system",
    ),
    "claims none": (cluster.claims([], "catalyst-system"), "failed", "has no volume claim", "statefulset nats"),
    "claims hidden": (cluster.claims(HIDDEN, "catalyst-system"), "unknown", "may not", "the right"),
    "users ok": (users(node()), "ok", "kubelet, runtime and kernel of 1 nodes can", ""),
    "users cri-o": (users(node(runtime="cri-o://1.34.1")), "ok", "can", ""),
    "users probed": (users(probe=UserNamespaceProbe("0 524288 65536\n")), "ok", "has its own users", ""),
    "users not wanted": (users(wanted=False), "ok", "not used", ""),
    "users to be asked for": (users(node("v1.31.2")), "warning", "feature gate UserNamespacesSupport", "--probe tries"),
    "users old kubelet": (users(node("v1.29.9")), "failed", "kubelet v1.29.9, expected 1.30", "USER_NAMESPACES=false"),
    "users old containerd": (users(node(runtime="containerd://1.7.20")), "failed", "containerd 1.7.20", "update"),
    "users old kernel": (users(node(kernel="5.15.0-1")), "failed", "Linux 5.15.0-1, expected 6.3", "update"),
    "users probed in vain": (
        users(node(), probe=UserNamespaceProbe("0 0 4294967295\n")),
        "failed",
        "has the node's users",
        "UserNamespacesSupport",
    ),
    "users that do not start": (
        users(node(), probe=UserNamespaceProbe(error="CreateContainerError")),
        "failed",
        "does not run: CreateContainerError",
        "UserNamespacesSupport",
    ),
    "users another runtime": (users(node(runtime="docker://27.0")), "unknown", "docker://27.0", "--probe tries"),
    "users without nodes": (users(), "unknown", "no nodes", "add nodes"),
    "users hidden": (cluster.user_namespaces(HIDDEN, HIDDEN, HIDDEN), "unknown", "may not", "the right"),
    "policy ok": (cluster.network_policy(NetworkProbe(True, False)), "ok", "under a policy", ""),
    "policy in vain": (cluster.network_policy(NetworkProbe(True, True)), "failed", "did not keep", "Calico, Cilium"),
    "policy untold": (cluster.network_policy(NetworkProbe(False, False)), "unknown", "even without", "network plugin"),
    "policy not probed": (cluster.network_policy(NOT_PROBED), "unknown", "nobody asked for a probe", "--probe"),
    "dns ok": (outside.dns(host(addresses=("192.0.2.1",))), "ok", "*.preview.example.org is at 192.0.2.1", ""),
    "dns of a laptop": (outside.dns(Resolved("doctor-1.catalyst.localhost", error="unknown")), "ok", "browsers", ""),
    "dns without": (outside.dns(host(error="Name not known")), "failed", "no address: Name not known", "*.preview"),
    "dns hidden": (outside.dns(HIDDEN), "unknown", "may not", "the right"),
    "tls ok": (outside.tls(shown(), NOW), "ok", "verified, until 2027-01-27", ""),
    "tls ends": (outside.tls(shown(ends=NOW + timedelta(days=13)), NOW), "warning", "ends in 13 days", "renewed"),
    "tls silent": (
        outside.tls(shown(answered=False, error="refused"), NOW),
        "failed",
        "nobody answers",
        "the edge's pods",
    ),
    "tls foreign": (outside.tls(shown(verified=False, error="self-signed"), NOW), "failed", "self-signed", "--edge-ca"),
    "tls hidden": (outside.tls(HIDDEN, NOW), "unknown", "may not", "the right"),
    "app ok": (of_app("app-permissions", rights()), "ok", "exactly what is needed, at acme", ""),
    "app lacks": (
        of_app("app-permissions", rights(permissions={**needed_permissions(), "checks": "read", "issues": ""})),
        "failed",
        "lacks checks: write, issues: read",
        "Permissions & events",
    ),
    "app not accepted": (
        of_app("app-permissions", rights(accepted={"acme": needed_permissions(), "globex": {"metadata": "read"}})),
        "failed",
        "not accepted yet: globex: checks: write",
        "an owner of the account accepts",
    ),
    "app nowhere": (of_app("app-permissions", rights(accepted={})), "warning", "installed nowhere", "Install App"),
    "app may more": (
        of_app("app-permissions", rights(permissions={**needed_permissions(), "contents": "write", "secrets": "read"})),
        "warning",
        "more than is needed: contents: write, secrets: read",
        "take it back",
    ),
    "app hidden": (of_app("app-permissions", HIDDEN), "unknown", "may not", "the right"),
    "app events ok": (of_app("app-events", rights()), "ok", "told of issue_comment, pull_request, push", ""),
    "app events lack": (
        of_app("app-events", rights(events=frozenset({"push", "pull_request"}))),
        "failed",
        "is not told of issue_comment",
        "subscribe",
    ),
    "app events more": (
        of_app("app-events", rights(events=NEEDED_EVENTS | {"star"})),
        "warning",
        "more than is read: star",
        "unsubscribe",
    ),
    "app events hidden": (of_app("app-events", HIDDEN), "unknown", "may not", "the right"),
    "bus ok": (of_bus("bus", server()), "ok", "nats-server 2.15.1 with JetStream", ""),
    "bus without streams": (of_bus("bus", nothing()), "failed", "no stream of ours", "catalyst.events apply"),
    "bus of small messages": (
        of_bus("bus", server(max_payload=65536)),
        "failed",
        "65536 bytes",
        "max_payload: 1048576",
    ),
    "bus hidden": (of_bus("bus", HIDDEN), "unknown", "may not", "the right"),
    "sync ok": (of_bus("bus-sync", server(), varz(sync_always=True, sync_interval=120)), "ok", "is on disk", ""),
    "sync later": (
        of_bus("bus-sync", server(), varz(sync_interval=120_000_000_000)),
        "failed",
        "written to disk every 120 s",
        "sync_interval: always",
    ),
    "sync of nothing": (of_bus("bus-sync", server(), varz()), "failed", "without JetStream", "`jetstream`"),
    "sync hidden": (of_bus("bus-sync", HIDDEN), "unknown", "may not", "the right"),
    "streams ok": (of_bus("streams", server(copies=1)), "ok", "SCM, EVENTS, STATE, AUDIT, DEAD, LOCKS, DECISIONS", ""),
    "streams of other bytes": (of_bus("streams", server(stream={"max_bytes": 4096})), "ok", "as the topology", ""),
    "streams missing": (of_bus("streams", server(without="STATE")), "failed", "not there: STATE", "apply"),
    "streams differ": (
        of_bus("streams", server(stream={"discard": "old", "max_age": 60_000_000_000})),
        "failed",
        "EVENTS (discard: old → new",
        "apply",
    ),
    "streams hidden": (of_bus("streams", HIDDEN), "unknown", "may not", "the right"),
    "consumers ok": (of_bus("consumers", server()), "ok", f"{len(consumers())} are as the topology says", ""),
    "consumers missing": (
        of_bus("consumers", server(without="EVENTS/builder")),
        "failed",
        "not there, so nothing reaches them: EVENTS/builder",
        "apply",
    ),
    "consumers differ": (
        of_bus("consumers", server(consumer={"max_ack_pending": 1})),
        "failed",
        "EVENTS/builder (max_ack_pending: 1 → 64)",
        "apply",
    ),
    "consumers more": (of_bus("consumers", server(more=["old"])), "warning", "besides ours: EVENTS/old", "operator"),
    "consumers hidden": (of_bus("consumers", HIDDEN), "unknown", "may not", "the right"),
    "copies ok": (of_bus("bus-copies", server()), "ok", "3 copies of every stream on 3 servers", ""),
    "copies of a cluster unseen": (of_bus("bus-copies", server(), servers=HIDDEN), "ok", "3 copies", ""),
    "copies of one server": (
        of_bus("bus-copies", server(copies=1), servers=1),
        "warning",
        "the only copy",
        "--replicas 3",
    ),
    "copies too few": (of_bus("bus-copies", server(copies=1)), "failed", "fewer than 3 copies of SCM", "--replicas 3"),
    "copies away": (
        of_bus("bus-copies", server(raft={"leader": "nats-0", "replicas": [{"name": "nats-1", "offline": True}]})),
        "failed",
        "SCM: its copy on nats-1 is behind or away",
        "all servers have to run",
    ),
    "copies without a leader": (of_bus("bus-copies", server(raft={"name": "c"})), "failed", "no leader", "servers"),
    "copies unseen": (
        of_bus("bus-copies", server(copies=1), servers=HIDDEN),
        "unknown",
        "stream: 1, on how many",
        "right",
    ),
    "copies of nothing": (of_bus("bus-copies", nothing()), "unknown", "no stream of ours", "apply"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_check_in_each_status(case: str) -> None:
    finding, status, found, remedy = CASES[case]
    assert (finding.status, found in finding.found, remedy in finding.remedy) == (status, True, True), finding
    assert bool(finding.remedy) == (status != "ok"), finding


def test_every_check_has_each_status_that_it_can_have() -> None:
    """What only ever is ok, warning, … would be no check."""
    by_check: dict[str, set[str]] = {}
    for finding, *_ in CASES.values():
        by_check.setdefault(finding.check, set()).add(finding.status)
    assert all({"ok", "failed", "unknown"} <= statuses for statuses in by_check.values()), by_check
    assert {name for name, statuses in by_check.items() if "warning" in statuses} == {
        "versions",
        "storage-class",
        "user-namespaces",
        "tls",
        "app-permissions",
        "app-events",
        "consumers",
        "bus-copies",
    }


@pytest.mark.parametrize(
    ("statuses", "failed"), [([], False), (["ok", "warning", "unknown"], False), (["ok", "failed"], True)]
)
def test_a_report_fails_by_what_failed(statuses: list[Status], failed: bool) -> None:
    assert Report(tuple(Finding("crds", status, "") for status in statuses)).failed is failed


def test_many_names_are_cut() -> None:
    assert several("abcdefg") == "a, b, c, d, e and 2 more"
    assert several("abc") == "a, b, c"
