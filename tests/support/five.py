"""All five services as processes that export what they do, on real servers; the kubelet alone is played."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from building import RegistryServer
from doubles.github import GitHubDouble
from stage import SECRET

from catalyst.local.edge import LocalEdge
from catalyst.local.installation import Installation
from catalyst.local.process import Part, free_ports

SERVICES = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass
class Five:
    """What runs. `ops`: port of each service's door for operators."""

    webhooks: str
    ops: Mapping[str, int]
    logs: Mapping[str, Path]

    def metrics(self, service: str, accept: str = OPENMETRICS) -> httpx.Response:
        with httpx.Client(trust_env=False, headers={"accept": accept}) as client:
            return client.get(f"http://127.0.0.1:{self.ops[service]}/metrics").raise_for_status()


@contextmanager
def five(
    installation: Installation, registry: RegistryServer, github: GitHubDouble, folder: Path, traces: str
) -> Iterator[Five]:
    """Started, and ready."""
    pages, hooks, *ops_ports = free_ports(2 + len(SERVICES))
    ops = dict(zip(SERVICES, ops_ports, strict=True))
    key = folder / "app.pem"
    key.write_text(github.private_key)
    with LocalEdge(folder / "edge", pages=f"127.0.0.1:{pages}") as edge, ExitStack() as stack:
        own: dict[str, dict[str, str]] = {
            "webhook-ingest": {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(hooks), "WEBHOOK_SECRETS": SECRET},
            "env-controller": {"REGISTRY": registry.host, "LEASE_SECONDS": "3"},
            "builder": {
                "REGISTRY": registry.host,
                "REGISTRY_INSECURE": "true",
                "REALM_KEY_FILE": str(registry.private_key),
                "REALM_PORT": str(registry.realm_port),
                "FETCH_IMAGE": "library/git",
                "KANIKO_IMAGE": "library/kaniko",
                "CRANE_IMAGE": "library/crane",
                "LEASE_SECONDS": "3",
            },
            "dns-proxy": {
                **{name.removeprefix("CATALYST_"): value for name, value in edge.settings.items()},
                "SERVICE_ADDRESS": "127.0.0.1",
                "PAGES_ADDRESS": f"127.0.0.1:{pages}",
                "HTTP_HOST": "127.0.0.1",
                "HTTP_PORT": str(pages),
                "LOOK_SECONDS": "0.2",
            },
            "notifier": {
                "GITHUB_URL": github.url,
                "GITHUB_APP_ID": str(github.app.id),
                "GITHUB_PRIVATE_KEY_FILE": str(key),
            },
        }
        parts: list[tuple[Part, int]] = []
        for service in SERVICES:
            shared = {"OPS_HOST": "127.0.0.1", "OPS_PORT": str(ops[service]), "IDENTITY": service}
            variables = {f"CATALYST_{name}": value for name, value in {**shared, **own[service]}.items()}
            variables |= (
                installation.settings(service)
                if service in ("env-controller", "builder")
                else _bus(installation, service)
            )
            variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": traces, "OTEL_BSP_SCHEDULE_DELAY": "200"}
            module = f"catalyst.{service.replace('-', '_')}"
            part = Part(service, [sys.executable, "-m", module], folder / f"{service}.log", env=variables)
            part.start()
            stack.callback(part.stop)
            parts.append((part, ops[service]))
        for part, port in parts:
            part.wait_until(partial(_is_ready, port), within=30)
        logs = {service: folder / f"{service}.log" for service in SERVICES}
        yield Five(f"http://127.0.0.1:{hooks}/webhooks/github", ops, logs)


def _bus(installation: Installation, service: str) -> dict[str, str]:
    nats = installation.nats
    return {"CATALYST_NATS_URL": nats.url, "CATALYST_NATS_SEED_FILE": str(nats.seed(service))}


def _is_ready(port: int) -> bool:
    try:
        with httpx.Client(trust_env=False) as client:
            return client.get(f"http://127.0.0.1:{port}/readyz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
