"""The cluster, judged. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalyst.cli.core.doctor import Finding, hidden, several
from catalyst.cli.core.hidden import Hidden
from catalyst.model.crd import crds as of_this_release
from catalyst.model.manifest import Manifest

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
_KUBELET: Final = (1, 30)
"""From here on user namespaces work with volumes; from `_KUBELET_ASKED` on nobody has to switch them on."""
_KUBELET_ASKED: Final = (1, 33)
_KERNEL: Final = (6, 3)
"""The first whose tmpfs, which Secrets are mounted by, can be mapped."""
_RUNTIMES: Final = {"containerd": (2, 0), "cri-o": (1, 25)}
_FLAG: Final = "or set CATALYST_USER_NAMESPACES=false: every environment is restricted then"


@dataclass(frozen=True, slots=True)
class NetworkProbe:
    """Whether a pod reached another one: before there was a policy against it, and under it."""

    before: bool
    under_policy: bool


@dataclass(frozen=True, slots=True)
class UserNamespaceProbe:
    """`/proc/self/uid_map` in a pod that asked for a user namespace; or the `error` with which it ended."""

    uid_map: str = ""
    error: str = ""


def crds(found: Mapping[str, Manifest | None] | Hidden) -> Finding:
    """`found`: by name, None: not there. What the API server fills in does not count."""
    if isinstance(found, Hidden):
        return hidden("crds", found)
    remedy = "kubectl apply --server-side -k deploy/k8s/crds, of this release"
    wanted = {each["metadata"]["name"]: each for each in of_this_release()}
    missing = [name for name in wanted if not found.get(name)]
    if missing:
        return Finding("crds", "failed", f"{several(missing)}: not there", remedy)
    differing = [
        f"{name}: {path}"
        for name, manifest in wanted.items()
        if (path := next(_differences(manifest["spec"], (found[name] or {})["spec"], "spec"), ""))
    ]
    if differing:
        return Finding("crds", "failed", f"not as this release has them: {several(differing)}", remedy)
    return Finding("crds", "ok", f"{several(wanted)} are as this release has them")


def _differences(wanted: Any, found: Any, path: str) -> Iterator[str]:
    """The paths of what is wanted and is not so. A schema's `properties` may have none besides."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            if key not in found:
                yield f"{path}.{key}"
            else:
                yield from _differences(value, found[key], f"{path}.{key}")
        if path.endswith(".properties"):
            yield from (f"{path}.{key}" for key in found if key not in wanted)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield path
        for number, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif wanted != found:
        yield path


def services(found: Mapping[str, Manifest | None] | Hidden, here: str) -> list[Finding]:
    """`found`: the Deployments by name; `here`: our own version."""
    if isinstance(found, Hidden):
        return [hidden("services", found), hidden("versions", found)]
    missing = [name for name, deployment in found.items() if deployment is None]
    there = {name: deployment for name, deployment in found.items() if deployment is not None}
    if missing:
        finding = Finding(
            "services", "failed", f"no Deployment: {several(missing)}", "kubectl apply --server-side -k my-overlay"
        )
    elif lacking := [f"{name} {_pods(each)}" for name, each in there.items() if not _is_available(each)]:
        how = "kubectl describe deployment, and kubectl logs: a service says which setting it lacks"
        finding = Finding("services", "failed", f"pods are lacking: {several(lacking)}", how)
    else:
        finding = Finding("services", "ok", f"{several(there)} have their pods")
    return [finding, *([_versions(there, here)] if there else [])]


def _pods(deployment: Manifest) -> str:
    status = deployment.get("status") or {}
    return f"{status.get('availableReplicas') or 0} of {deployment['spec'].get('replicas', 1)}"


def _is_available(deployment: Manifest) -> bool:
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    is_seen = (status.get("observedGeneration") or 0) >= (deployment["metadata"].get("generation") or 0)
    return (
        is_seen and (status.get("availableReplicas") or 0) >= wanted and (status.get("updatedReplicas") or 0) >= wanted
    )


def _versions(deployments: Mapping[str, Manifest], here: str) -> Finding:
    tags = {name: _tag(_image(each)) for name, each in deployments.items()}
    untold = [name for name, tag in tags.items() if not tag]
    if untold:
        return Finding(
            "versions",
            "unknown",
            f"the image tells no version: {several(untold)}",
            "name images by tag as well: catalyst/builder:0.1.0@sha256:…",
        )
    by_tag: dict[str, list[str]] = {}
    for name, tag in tags.items():
        by_tag.setdefault(tag, []).append(name)
    if len(by_tag) > 1:
        told = "; ".join(f"{tag}: {', '.join(names)}" for tag, names in sorted(by_tag.items()))
        how = "give all services one tag in your overlay, and apply it"
        return Finding("versions", "failed", f"services are of several versions: {told}", how)
    (tag,) = by_tag
    if tag != here:
        how = f"use the catalyst of version {tag}: explain and doctor judge by their own"
        return Finding("versions", "warning", f"all services are {tag}, and this catalyst is {here}", how)
    return Finding("versions", "ok", f"all services are {tag}")


def _image(deployment: Manifest) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0].get("image", ""))


def _tag(image: str) -> str:
    """`catalyst/builder:0.1.0@sha256:…` → 0.1.0"""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def storage_class(found: Sequence[Manifest] | Hidden) -> Finding:
    if isinstance(found, Hidden):
        return hidden("storage-class", found)
    names = [each["metadata"]["name"] for each in found]
    chosen = [
        each["metadata"]["name"]
        for each in found
        if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
    ]
    how = f"kubectl annotate storageclass NAME --overwrite {DEFAULT_CLASS}=true"
    if not chosen:
        there = f" of {several(names)}" if names else "; there is no StorageClass at all"
        return Finding("storage-class", "failed", f"none is the default{there}", how)
    if len(chosen) > 1:
        how = f"take the annotation {DEFAULT_CLASS} off all but one"
        return Finding("storage-class", "warning", f"several are the default: {several(chosen)}", how)
    return Finding("storage-class", "ok", f"{chosen[0]} is the default")


def claims(found: Sequence[Manifest] | Hidden, namespace: str) -> Finding:
    if isinstance(found, Hidden):
        return hidden("claims", found)
    if not found:
        how = "look at `kubectl get statefulset nats`: its streams have to be on a disk that stays"
        return Finding("claims", "failed", f"namespace {namespace} has no volume claim", how)
    unbound = [
        f"{each['metadata']['name']} ({(each.get('status') or {}).get('phase', 'Pending')})"
        for each in found
        if (each.get("status") or {}).get("phase") != "Bound"
    ]
    if unbound:
        how = f"kubectl describe persistentvolumeclaim --namespace {namespace}"
        return Finding("claims", "failed", f"not bound: {several(unbound)}", how)
    return Finding("claims", "ok", f"{len(found)} bound")


def user_namespaces(
    nodes: Sequence[Manifest] | Hidden, probe: UserNamespaceProbe | Hidden, wanted: bool | Hidden
) -> Finding:
    """`wanted`: env-controller's setting. A probe knows better than version numbers."""
    check = "user-namespaces"
    if wanted is False:
        return Finding(check, "ok", "not used: CATALYST_USER_NAMESPACES is false, every environment is restricted")
    if isinstance(probe, UserNamespaceProbe):
        if _is_mapped(probe.uid_map):
            return Finding(check, "ok", "a pod with hostUsers: false has its own users")
        how = f"switch them on at the nodes (feature gate UserNamespacesSupport, containerd 2 or CRI-O 1.25), {_FLAG}"
        ended = f"does not run: {probe.error}" if probe.error else "has the node's users"
        return Finding(check, "failed", f"a pod with hostUsers: false {ended}", how)
    if isinstance(nodes, Hidden):
        return hidden(check, nodes)
    if not nodes:
        return Finding(check, "unknown", "the cluster has no nodes", "add nodes")
    told = {node["metadata"]["name"]: _lacks(node["status"]["nodeInfo"]) for node in nodes}
    for status, what in (("failed", "too old"), ("unknown", "not known"), ("warning", "has to be asked for")):
        if found := [f"{name}: {lack[1]}" for name, lack in told.items() if lack and lack[0] == status]:
            how = f"update the nodes, {_FLAG}" if status == "failed" else f"--probe tries it; {_FLAG}"
            return Finding(check, status, f"{what}: {several(found, 3)}", how)  # type: ignore[arg-type]
    return Finding(check, "ok", f"kubelet, runtime and kernel of {len(nodes)} nodes can; --probe would try it")


def _is_mapped(uid_map: str) -> bool:
    """Root inside is not root outside: the first column's 0 stands beside another number."""
    rows = [line.split() for line in uid_map.splitlines() if line.strip()]
    return bool(rows) and all(len(row) == 3 and row[1] != "0" for row in rows)


def _lacks(info: Mapping[str, str]) -> tuple[str, str] | None:
    """The worst of a node, with its status."""
    kubelet, kernel = _version(info.get("kubeletVersion", "")), _version(info.get("kernelVersion", ""))
    runtime, _, text = info.get("containerRuntimeVersion", "").partition("://")
    if kubelet and kubelet < _KUBELET:
        return "failed", f"kubelet {info['kubeletVersion']}, expected 1.30 or newer"
    if runtime in _RUNTIMES and (version := _version(text)) and version < _RUNTIMES[runtime]:
        return "failed", f"{runtime} {text}, expected {'.'.join(map(str, _RUNTIMES[runtime]))} or newer"
    if kernel and kernel < _KERNEL:
        return "failed", f"Linux {info['kernelVersion']}, expected 6.3 or newer"
    if not (kubelet and kernel and runtime in _RUNTIMES and _version(text)):
        return "unknown", f"kubelet {info.get('kubeletVersion')}, {info.get('containerRuntimeVersion')}"
    if kubelet < _KUBELET_ASKED:
        return "warning", f"kubelet {info['kubeletVersion']} needs the feature gate UserNamespacesSupport"
    return None


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def network_policy(probe: NetworkProbe | Hidden) -> Finding:
    check = "network-policy"
    if isinstance(probe, Hidden):
        return hidden(check, probe)
    if not probe.before:
        how = "pods have to reach each other where no policy forbids it: look at the network plugin"
        return Finding(check, "unknown", "one pod could not reach another even without a policy", how)
    if probe.under_policy:
        how = "use a network plugin that enforces NetworkPolicy (Calico, Cilium): environments are open to each other"
        return Finding(check, "failed", "a policy that forbids it did not keep one pod from another", how)
    return Finding(check, "ok", "one pod reached another, and under a policy that forbids it did not")
