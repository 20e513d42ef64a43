"""KEDA and metrics-server in the cluster of this machine: what `deploy/k8s/scaling` wants of one. As pods, from images
built like the node's others, by the manifests that their own Go modules bring.

    <folder>/                      .run/cluster/autoscaling
      kustomization.yaml           their manifests, with our images and what fits a small node

Only `make scale` installs them: building KEDA takes minutes, and nothing else needs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

import yaml

from catalyst.local import components
from catalyst.local.cluster import ClusterState
from catalyst.local.components import AUTOSCALING, MODULES
from catalyst.local.node.images import ROOTS, Image, digest, seed

NAMESPACE: Final = "keda"
KEDA: Final = ("kedacore/keda", "kedacore/keda-metrics-apiserver")
METRICS_SERVER: Final = "metrics-server/metrics-server"
MANIFESTS: Final = {
    "keda": ("github.com/kedacore/keda/v2", "config/minimal"),
    "metrics-server": ("sigs.k8s.io/metrics-server", "manifests/base"),
}
"""Component → its module, and the folder of its kustomization there. `minimal`: KEDA without its admission webhooks."""
SERVED: Final = ("v1beta1.external.metrics.k8s.io", "v1beta1.metrics.k8s.io")
WORKLOADS: Final = (
    (NAMESPACE, "keda-operator"),
    (NAMESPACE, "keda-metrics-apiserver"),
    ("kube-system", "metrics-server"),
)


class AutoscalingFailed(RuntimeError):
    """Something of it could not be had, or does not come up. The text says which, and why."""


def up(state: ClusterState, out: TextIO, *, within: float = 180) -> None:
    """Builds what is missing, applies, and returns when both metrics APIs answer. Again: changes what differs.

    Raises AutoscalingFailed, ComponentError, SeedingFailed.
    """
    binaries = components.binaries(components=components.COMPONENTS + components.NODE + AUTOSCALING, progress=out)
    kubectl = [str(binaries["kubectl"]), "--kubeconfig", state.kubeconfig]
    believed = ["--namespace=kube-system", "get", "configmap", "extension-apiserver-authentication", "--output=yaml"]
    if "requestheader-client-ca-file" not in _run([*kubectl, *believed]):
        raise AutoscalingFailed(
            "this cluster's API server hands no request on to other APIs: it was started by an older checkout. "
            "`make cluster-down`, then the same again."
        )
    seed(binaries, out, images=images(binaries))
    folder = _customized(Path(state.kubeconfig).parent / "autoscaling")
    _run([*kubectl, "apply", "--server-side", "--force-conflicts", "-k", str(folder)])
    for namespace, name in WORKLOADS:
        wait = f"--timeout={within:g}s"
        _run([*kubectl, "--namespace", namespace, "rollout", "status", f"deployment/{name}", wait])
    for name in SERVED:
        _run([*kubectl, "wait", "--for=condition=Available", f"apiservice/{name}", f"--timeout={within:g}s"])


def down(state: ClusterState) -> None:
    """All of it goes, and every ScaledObject before it: what KEDA has to say goodbye to needs KEDA. The metrics APIs go
    before their servers, since a namespace is not deleted while an API of the cluster does not answer.
    """
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    kubectl = [str(binary), "--kubeconfig", state.kubeconfig]
    if "scaledobjects" in _run([*kubectl, "api-resources", "--api-group=keda.sh", "--output=name"]):
        _run([*kubectl, "delete", "scaledobjects.keda.sh", "--all", "--all-namespaces", "--timeout=60s"])
    _run([*kubectl, "delete", "apiservice", *SERVED, "--ignore-not-found"])
    folder = Path(state.kubeconfig).parent / "autoscaling"
    if folder.exists():
        _run([*kubectl, "delete", "--ignore-not-found", "--timeout=120s", "-k", str(folder)])
        shutil.rmtree(folder)


def images(binaries: Mapping[str, Path]) -> tuple[Image, ...]:
    """For the mirror, by the names that their manifests have."""
    keda = {name: binaries[name] for name in ("keda-operator", "keda-adapter")}
    metrics = {"metrics-server": binaries["metrics-server"]}
    roots = {"ca-certificates.crt": ROOTS}
    return (
        Image("keda", tuple(f"{name}:local" for name in KEDA), {**keda, **roots}, parent=""),
        Image("metrics-server", (f"{METRICS_SERVER}:local",), {**metrics, **roots}, parent=""),
    )


def _customized(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    place = folder.resolve()
    named = {
        **{f"ghcr.io/{name}": name for name in KEDA},
        "gcr.io/k8s-staging-metrics-server/metrics-server": METRICS_SERVER,
    }
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # kustomize takes no absolute paths.
        "resources": [os.path.relpath(_module(name) / path, place) for name, (_, path) in MANIFESTS.items()],
        "images": [{"name": name, "newName": ours, "digest": digest(f"{ours}:local")} for name, ours in named.items()],
        "patches": [_patch(name, _small()) for _, name in WORKLOADS] + [_patch("metrics-server", _trusting())],
    }
    (place / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return place


def _module(component: str) -> Path:
    """The folder of its sources: go.sum says that they are the right ones. Raises AutoscalingFailed."""
    module, _ = MANIFESTS[component]
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], cwd=MODULES / component, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise AutoscalingFailed(f"the sources of {module} could not be had:\n{done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"]).resolve()


def _small() -> list[dict[str, Any]]:
    """Two cores have no tenth of one to reserve for each."""
    requests = "/spec/template/spec/containers/0/resources/requests"
    return [{"op": "replace", "path": requests, "value": {"cpu": "10m", "memory": "64Mi"}}]


def _trusting() -> list[dict[str, Any]]:
    """The kubelet's certificate is of the cluster's authority, which pods have."""
    authority = "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    return [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": authority}]


def _patch(name: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"target": {"kind": "Deployment", "name": name}, "patch": json.dumps(operations)}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AutoscalingFailed(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
