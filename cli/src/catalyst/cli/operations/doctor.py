"""What is found of an installation, and how it is judged. Read only, but for a probe that somebody asked for."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from catalyst.cli.core.doctor import NOT_PROBED, Finding, Report
from catalyst.cli.core.doctor import bus as of_bus
from catalyst.cli.core.doctor import cluster as of_cluster
from catalyst.cli.core.doctor import outside as of_outside
from catalyst.cli.core.doctor.bus import Server
from catalyst.cli.core.doctor.outside import Certified, Resolved
from catalyst.cli.core.hidden import Hidden
from catalyst.cli.operations.installed import SYSTEM_NAMESPACE, settings_of
from catalyst.cli.operations.monitoring import monitored
from catalyst.cli.operations.outside import app_rights, certified, nobodys_host, resolved
from catalyst.cli.operations.probing import Probed, probe
from catalyst.env_controller.config import platform_told
from catalyst.env_controller.core.platform import Platform
from catalyst.events.bus import Bus
from catalyst.events.topology import SERVICES, streams
from catalyst.forge.client import NEEDED_EVENTS, needed_permissions
from catalyst.kube import resources
from catalyst.kube.client import Kube
from catalyst.kube.errors import Forbidden, KubeError, NotFound
from catalyst.kube.resources import Resource
from catalyst.model.crd import crds
from catalyst.model.manifest import Manifest, Ref

CRD: Final = "apiextensions.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at, and how it is reached where the cluster does not say. `edge`: the address of the edge,
    if not by name. `version`: of whoever asks. `forge`: fields of `ForgeSettings` that were given.
    """

    version: str
    system_namespace: str = SYSTEM_NAMESPACE
    zone: str | None = None
    edge: tuple[str, int] | None = None
    edge_ca: Path | None = None
    monitoring: str | None = None
    forge: Mapping[str, Any] | None = None
    probe: bool = False
    probe_deadline: float = 120.0
    probe_image: str | None = None


async def examine(kube: Kube | Hidden, bus: Server | Hidden, wanted: Wanted, now: datetime) -> Report:
    """All checks. Raises nothing that a missing right or an absent server could cause: that is what it tells."""
    namespace = wanted.system_namespace
    settings = await _of(kube, lambda k: settings_of(k, "env-controller", namespace))
    platform = _platform(settings)
    deployments = await _of(kube, lambda k: _deployments(k, namespace))
    probed = await _probed(kube, deployments, wanted)
    (dns, tls), app, page, *told = await asyncio.gather(
        _names(platform, wanted),
        app_rights(_forge(settings, wanted)),
        monitored(wanted.monitoring),
        _of(kube, _crds),
        _of(kube, lambda k: _all(k, resources.STORAGE_CLASS)),
        _of(kube, lambda k: _all(k, resources.PERSISTENT_VOLUME_CLAIM, namespace)),
        _of(kube, lambda k: _all(k, resources.NODE)),
        _of(kube, lambda k: _servers(k, namespace)),
    )
    types, classes, claims, nodes, servers = told
    users = platform.user_namespaces if isinstance(platform, Platform) else platform
    findings: list[Finding] = [
        of_cluster.crds(types),
        *of_cluster.services(deployments, wanted.version),
        of_cluster.storage_class(classes),
        of_cluster.claims(claims, namespace),
        of_cluster.user_namespaces(nodes, probed.users, users),
        of_cluster.network_policy(probed.network),
        of_outside.dns(dns),
        of_outside.tls(tls, now),
        *of_outside.app(app, needed_permissions(), NEEDED_EVENTS),
        *of_bus.bus(bus, page, servers),
    ]
    return Report(tuple(findings))


async def server(bus: Bus) -> Server:
    """What the bus says of itself. Raises `BusError`."""
    names = [config.name or "" for config in streams()]
    infos = dict(zip(names, await asyncio.gather(*map(bus.stream_info, names)), strict=True))
    there = [name for name in names if infos[name] is not None]
    found = dict(zip(there, await asyncio.gather(*map(bus.consumer_infos, there)), strict=True))
    version, max_payload = bus.server
    return Server(version, max_payload, infos, found)


# What each check is told


async def _of(kube: Kube | Hidden, reading: Any) -> Any:
    """What is read, or why it is not."""
    if isinstance(kube, Hidden):
        return kube
    try:
        return await reading(kube)
    except Forbidden as exc:
        return Hidden(f"it may not be read: {exc.message}", "a credential with that right")
    except KubeError as exc:
        return Hidden(f"the API server: {exc.message}", "an API server that answers; --kubeconfig, --kube-context")


def _platform(settings: Mapping[str, str] | Hidden) -> Platform | Hidden:
    if isinstance(settings, Hidden):
        return settings
    try:
        return platform_told(settings)
    except ValidationError as exc:
        told = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        return Hidden(f"env-controller's settings are wrong: {told['msg']}", "correct them; its log names them")


async def _crds(kube: Kube) -> dict[str, Manifest | None]:
    return {
        each["metadata"]["name"]: await _one(kube, Ref(CRD, each["kind"], "", each["metadata"]["name"]))
        for each in crds()
    }


async def _deployments(kube: Kube, namespace: str) -> dict[str, Manifest | None]:
    return {name: await _one(kube, Ref("apps/v1", "Deployment", namespace, name)) for name in SERVICES}


async def _servers(kube: Kube, namespace: str) -> int | Hidden:
    found = await _one(kube, Ref("apps/v1", "StatefulSet", namespace, "nats"))
    if found is None:
        return Hidden(
            f"there is no StatefulSet nats in namespace {namespace}", "--system-namespace, if it is elsewhere"
        )
    return int(found["spec"].get("replicas", 1))


async def _one(kube: Kube, ref: Ref) -> Manifest | None:
    try:
        return await kube.get(ref)
    except NotFound:
        return None


async def _all(kube: Kube, resource: Resource, namespace: str | None = None) -> Sequence[Manifest]:
    return [item async for page in kube.list(resource, namespace) for item in page.items]


async def _probed(kube: Kube | Hidden, deployments: Mapping[str, Manifest | None] | Hidden, wanted: Wanted) -> Probed:
    if not wanted.probe:
        return Probed(NOT_PROBED, NOT_PROBED)
    image = wanted.probe_image or _image(deployments)
    if isinstance(kube, Hidden):
        return Probed(kube, kube)
    if image is None:
        why = Hidden("no image is known to probe with", "--probe-image, one with python3 that nodes can pull")
        return Probed(why, why)
    found: Probed | Hidden = await _of(kube, lambda k: probe(k, image, wanted.probe_deadline))
    return Probed(found, found) if isinstance(found, Hidden) else found


def _image(deployments: Mapping[str, Manifest | None] | Hidden) -> str | None:
    found = None if isinstance(deployments, Hidden) else deployments.get("env-controller")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else None


async def _names(platform: Platform | Hidden, wanted: Wanted) -> tuple[Resolved | Hidden, Certified | Hidden]:
    zone = wanted.zone or (platform.zone if isinstance(platform, Platform) else None)
    if zone is None:
        why = Hidden("the zone is not known", "--zone, or a credential that may read env-controller's settings")
        return why, why
    host = nobodys_host(zone)
    found = await resolved(host)
    port = platform.public_port if isinstance(platform, Platform) else 443
    address = wanted.edge or ((found.addresses[0], port) if found.addresses else None)
    if address is None:
        return found, Hidden(f"{host} has no address", "--edge HOST:PORT, or a name that resolves from here")
    return found, await certified(host, address, wanted.edge_ca)


def _forge(settings: Mapping[str, str] | Hidden, wanted: Wanted) -> dict[str, Any]:
    """What was given, else what the services are told: they share their settings."""
    told = {} if isinstance(settings, Hidden) else settings
    names = {"github_url": "CATALYST_GITHUB_URL", "github_app_id": "CATALYST_GITHUB_APP_ID"}
    found = {field: told[name] for field, name in names.items() if name in told}
    return {**found, **(wanted.forge or {})}
