"""Both overlays on a clean cluster by kubectl alone, and one with the components of the audit and of scaling: accepted
whole, and a second time without a change.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalyst.env_controller.config import Settings
from catalyst.events.server import ACCOUNT
from catalyst.events.topology import BUILDER
from catalyst.local.control_plane import ControlPlane
from catalyst.local.platform import OVERLAYS
from catalyst.local.supervisor import ROOT

AUDIT = OVERLAYS.parent / "audit"
SCALING = OVERLAYS.parent / "scaling"
KEDAS_TYPE = ROOT / "tests" / "data" / "keda" / "scaledobjects.yaml"
SCALED = ("builder", "webhook-ingest")


def _with(folder: Path, component: Path) -> Path:
    """A kustomization of one's own, as the pages say. kustomize takes no absolute paths."""
    folder.mkdir()
    resource, named = (os.path.relpath(each, folder.resolve()) for each in (OVERLAYS / "production", component))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [resource], "components": [named]}))
    return folder


@pytest.fixture
def with_audit(tmp_path: Path) -> Path:
    return _with(tmp_path / "with-audit", AUDIT)


@pytest.fixture
def with_scaling(tmp_path: Path) -> Path:
    return _with(tmp_path / "with-scaling", SCALING)


@pytest.mark.parametrize("name", ["local", "production", "with-audit", "with-scaling"])
def test_an_overlay_is_accepted_by_a_clean_cluster(
    own_control_plane: ControlPlane, binaries: dict[str, Path], with_audit: Path, with_scaling: Path, name: str
) -> None:
    kubectl = [str(binaries["kubectl"]), "--kubeconfig", str(own_control_plane.admin_kubeconfig)]
    folder = str({"with-audit": with_audit, "with-scaling": with_scaling}.get(name, OVERLAYS / name))

    def run(*words: str) -> str:
        done = subprocess.run([*kubectl, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    if name == "with-scaling":
        run("apply", "--server-side", "-f", str(KEDAS_TYPE))
        run("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=30s")
    said = run("apply", "--server-side", "-k", folder)
    assert "deployment.apps/builder serverside-applied" in said
    assert run("diff", "--server-side", "-k", folder) == ""


def test_the_component_makes_env_controller_listen(binaries: dict[str, Path], with_audit: Path) -> None:
    """Every variable is one of its settings and a file that is mounted; Service and policy lead to that port."""
    without, found = _rendered(binaries, OVERLAYS / "production"), _rendered(binaries, with_audit)
    added = {("Service", "env-controller-audit"), ("NetworkPolicy", "env-controller-audit")}
    assert set(found) - set(without) == added
    assert {key for key in without if found[key] != without[key]} == {("Deployment", "env-controller")}

    before, pod = (each["Deployment", "env-controller"]["spec"]["template"]["spec"] for each in (without, found))
    (old, container) = (each["containers"][0] for each in (before, pod))
    new = [one for one in container["env"] if one not in old["env"]]
    assert {one["name"].removeprefix("CATALYST_").lower() for one in new} <= set(Settings.model_fields)
    (mount,) = (one for one in container["volumeMounts"] if one not in old["volumeMounts"])
    assert {Path(one["value"]).parent for one in new} == {Path(mount["mountPath"])}
    assert {Path(one["value"]).name for one in new} == {"token", "tls.crt", "tls.key"}
    (volume,) = (one for one in pod["volumes"] if one not in before["volumes"])
    assert (volume["name"], volume["secret"]["secretName"]) == (mount["name"], "audit-webhook")

    (port,) = (one for one in container["ports"] if one not in old["ports"])
    assert port["containerPort"] == Settings.model_fields["audit_port"].default
    service, policy = (found[kind, "env-controller-audit"]["spec"] for kind in ("Service", "NetworkPolicy"))
    labels = found["Deployment", "env-controller"]["spec"]["template"]["metadata"]["labels"]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert service["selector"].items() <= labels.items()
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [{"ports": [{"port": port["containerPort"]}]}]


def test_what_the_api_server_reads_fits_the_component() -> None:
    config = yaml.safe_load((AUDIT / "webhook.yaml").read_text())
    server = config["clusters"][0]["cluster"]["server"]
    assert server.startswith("https://"), "to plain HTTP an API server sends no token"
    assert server.endswith(":9443/audit")
    policy = yaml.safe_load((AUDIT / "policy.yaml").read_text())
    assert {rule["level"] for rule in policy["rules"]} == {"None", "Metadata"}, "bodies hold Secrets' values"


def test_scaling_leaves_the_number_of_replicas_to_autoscalers(binaries: dict[str, Path], with_scaling: Path) -> None:
    """Two services have a floor of what the overlay said; the others, who elect one, keep their two."""
    without, found = _rendered(binaries, OVERLAYS / "production"), _rendered(binaries, with_scaling)
    assert {kind for kind, _ in set(found) - set(without)} == {
        "ScaledObject", "HorizontalPodAutoscaler", "Service", "NetworkPolicy",
    }  # fmt: skip
    assert {key for key in without if found[key] != without[key]} == {("Deployment", name) for name in SCALED}
    numbers = {name: each["spec"].get("replicas") for (kind, name), each in found.items() if kind == "Deployment"}
    assert {name for name, number in numbers.items() if number is None} == set(SCALED)
    assert {numbers[name] for name in ("env-controller", "dns-proxy", "notifier")} == {2}

    builder, ingest = (
        found["ScaledObject", "builder"]["spec"],
        found["HorizontalPodAutoscaler", "webhook-ingest"]["spec"],
    )
    assert builder["scaleTargetRef"]["name"] == "builder"
    assert ingest["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "webhook-ingest"}
    floors = {"builder": builder["minReplicaCount"], "webhook-ingest": ingest["minReplicas"]}
    assert floors == {name: without["Deployment", name]["spec"]["replicas"] for name in SCALED}
    for name in SCALED:  # whatever the number is, one at a time
        assert found["PodDisruptionBudget", name]["spec"]["maxUnavailable"] == 1


def test_keda_is_led_to_the_lag_of_builder(binaries: dict[str, Path], with_scaling: Path) -> None:
    """Account, stream and consumer are the ones there are; its door is open to it, and to nobody else."""
    found = _rendered(binaries, with_scaling)
    (trigger,) = found["ScaledObject", "builder"]["spec"]["triggers"]
    asked = trigger["metadata"]
    assert trigger["type"] == "nats-jetstream"
    assert (asked["account"], asked["stream"], asked["consumer"]) == (ACCOUNT, BUILDER.stream, BUILDER.name)
    assert int(asked["lagThreshold"]) == BUILDER.max_ack_pending
    nats = found["StatefulSet", "nats"]["spec"]["template"]
    (port,) = (one for one in nats["spec"]["containers"][0]["ports"] if one["name"] == "monitor")
    service, policy = found["Service", "nats-monitor"], found["NetworkPolicy", "from-keda"]["spec"]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    (way,) = service["spec"]["ports"]
    assert asked["natsServerMonitoringEndpoint"] == f"{host}:{way['port']}"
    # The servers are asked by their own addresses, too, so Service and servers must have one port.
    assert (way["targetPort"], way["port"]) == (port["name"], port["containerPort"])
    for selector in (service["spec"]["selector"], policy["podSelector"]["matchLabels"]):
        assert selector.items() <= nats["metadata"]["labels"].items()
    keda = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}},
        "podSelector": {"matchLabels": {"app": "keda-operator"}},
    }
    assert policy["ingress"] == [{"from": [keda], "ports": [{"port": port["containerPort"]}]}]


def _rendered(binaries: Mapping[str, Path], folder: Path) -> dict[tuple[str, str], Any]:
    command = [str(binaries["kubectl"]), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
