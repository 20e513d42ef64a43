"""Drift as the real server books it: each change is made by kubectl or another manager, judged and repaired.

The same metadata, captured from such a run (CAPTURE=1), lies in data/managed_fields.json for the pure test.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catalyst.kube.client import Kube
from catalyst.kube.drift import Slim, drifted, owned
from catalyst.kube.errors import Conflict
from catalyst.kube.repair import prune, repair
from catalyst.kube.resources import CONFIG_MAP, SECRET
from catalyst.kube.settings import KubeSettings
from catalyst.local.control_plane import ControlPlane
from catalyst.model.manifest import Manifest, ref_of

Until = Callable[..., Awaitable[None]]
GOLDEN = Path(__file__).parent / "data" / "managed_fields.json"
MANAGER = "catalyst-test"


def labelled(namespace: str, name: str) -> dict[str, Any]:
    return {"namespace": namespace, "name": name, "labels": {"catalyst.dev/team": "acme"}}


def quota(namespace: str) -> Manifest:
    hard = {"pods": "20", "services": "10", "requests.cpu": "2"}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": labelled(namespace, "baseline"),
        "spec": {"hard": hard},
    }


def policy(namespace: str) -> Manifest:
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": labelled(namespace, "egress"),
        "spec": spec,
    }


def account(namespace: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": labelled(namespace, "default"),
        "automountServiceAccountToken": False,
    }


def binding(namespace: str) -> Manifest:
    group = {"kind": "Group", "name": "catalyst:acme:shop:owner", "apiGroup": "rbac.authorization.k8s.io"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": labelled(namespace, "owner"),
        "roleRef": {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [group],
    }


@dataclass(frozen=True)
class Case:
    """What somebody does to which object; whether that is drift by metadata alone, and with the manifest."""

    name: str
    make: Callable[[str], Manifest]
    arguments: tuple[str, ...]
    drift: bool
    drift_with_manifest: bool
    editor: str = ""


def patched(body: Any, kind: str = "merge") -> tuple[str, ...]:
    return ("patch", "{object}", f"--type={kind}", "-p", json.dumps(body))


STRANGER = {"kind": "Group", "name": "strangers", "apiGroup": "rbac.authorization.k8s.io"}

CASES = [
    Case("untouched quota, status by the controller", quota, (), False, False),
    Case("untouched default account", account, (), False, False),
    Case("untouched role binding", binding, (), False, False),
    Case("untouched policy", policy, (), False, False),
    Case("a quota's number edited", quota, ("edit", "{object}"), True, True, 's/pods: "20"/pods: "50"/'),
    Case("a quota's number added", quota, patched({"spec": {"hard": {"secrets": "1"}}}), True, True),
    Case("a quota's number removed", quota, patched({"spec": {"hard": {"pods": None}}}), False, True),
    Case("a policy's egress edited", policy, ("edit", "{object}"), True, True, "s/10.0.0.0/11.0.0.0/"),
    Case("a policy's ingress opened", policy, patched({"spec": {"ingress": [{}]}}), True, True),
    Case("a policy's egress removed", policy, patched({"spec": {"egress": None}}), False, True),
    Case("a binding's subjects replaced", binding, patched({"subjects": [STRANGER]}), True, True),
    Case("a binding's subjects removed", binding, patched({"subjects": []}), False, True),
    Case("an account's token mounted", account, patched({"automountServiceAccountToken": True}), True, True),
    Case("our label changed", quota, ("label", "--overwrite", "{object}", "catalyst.dev/team=evil"), True, True),
    Case("our label removed", quota, ("label", "{object}", "catalyst.dev/team-"), False, True),
    Case("a reserved label added", quota, ("label", "{object}", "catalyst.dev/extra=1"), True, True),
    Case("a label of their own", quota, ("label", "{object}", "example.com/theirs=1"), False, False),
    Case("an annotation of their own", policy, ("annotate", "{object}", "example.com/note=hello"), False, False),
    Case("applied by another with the same values", quota, ("apply", "same"), False, False),
    Case("applied by another with other values", quota, ("apply", "other"), True, True),
    Case("applied by another with more", quota, ("apply", "more"), True, True),
]


async def disturb(case: Case, made: Manifest, kube: Kube, settings: KubeSettings, run: Any, until: Until) -> None:
    if not case.arguments:
        return
    if case.arguments[0] == "apply":
        hard = {"same": {"pods": "20"}, "other": {"pods": "50"}, "more": {"secrets": "1"}}[case.arguments[1]]
        async with await Kube.connect(settings, field_manager="somebody") as other:
            metadata = {"namespace": made["metadata"]["namespace"], "name": made["metadata"]["name"]}
            await other.apply({**made, "metadata": metadata, "spec": {"hard": hard}, "status": None} | {"status": {}})
        return
    target = f"{made['kind']}/{made['metadata']['name']}"
    await run(*(argument.format(object=target) if "{object}" in argument else argument for argument in case.arguments))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_somebody_did_is_judged_and_repaired(
    case: Case, plane: ControlPlane, kubectl: Path, kube: Kube, settings: KubeSettings, namespace: str, until: Until
) -> None:
    manifest = case.make(namespace)
    made = await kube.apply(manifest)
    assert not drifted(made["metadata"], MANAGER, manifest)
    if manifest["kind"] == "ResourceQuota":
        while "used" not in (made := await kube.get(ref_of(manifest))).get("status", {}):
            await asyncio.sleep(0.05)

    async def run(*arguments: str) -> None:
        environment = os.environ | {"KUBECONFIG": str(plane.admin_kubeconfig), "KUBE_EDITOR": f"sed -i '{case.editor}'"}
        process = await asyncio.create_subprocess_exec(
            kubectl, "-n", namespace, *arguments, env=environment, stderr=-1, stdout=-1
        )
        out, err = await process.communicate()
        assert process.returncode == 0, (out, err)

    await disturb(case, made, kube, settings, run, until)
    found = await kube.get(ref_of(manifest))
    capture(case.name, found, manifest)
    assert drifted(found["metadata"], MANAGER) is case.drift
    assert drifted(found["metadata"], MANAGER, manifest) is case.drift_with_manifest
    slim = Slim()(found)
    assert drifted(slim["metadata"], MANAGER, manifest) is case.drift_with_manifest

    repaired = await insisting(kube, manifest, found["metadata"]["uid"])
    assert not drifted(repaired["metadata"], MANAGER, manifest)
    content = {key: value for key, value in manifest.items() if key != "metadata"}
    assert {key: repaired[key] for key in content} == content
    again = await insisting(kube, manifest, found["metadata"]["uid"])
    assert booked(again) == booked(repaired)


async def insisting(kube: Kube, manifest: Manifest, uid: str, tries: int = 5) -> Manifest:
    """A controller that writes the status between the two writes is a conflict: as whoever repairs does, once more."""
    for _ in range(tries - 1):
        with suppress(Conflict):
            return await repair(kube, manifest, uid=uid)
    return await repair(kube, manifest, uid=uid)


def booked(found: Manifest) -> list[Any]:
    """Who owns what, without the status, which a controller may write at any time."""
    return [entry for entry in found["metadata"]["managedFields"] if not entry.get("subresource")]


def capture(name: str, found: Manifest, manifest: Manifest) -> None:
    """With CAPTURE set, writes what the server answered into the golden file."""
    if not os.environ.get("CAPTURE"):
        return
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    golden[name] = {"manifest": manifest, "metadata": found["metadata"]}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_judgement_of_what_was_captured(case: Case) -> None:
    golden = json.loads(GOLDEN.read_text())[case.name]
    assert drifted(golden["metadata"], MANAGER) is case.drift
    assert drifted(golden["metadata"], MANAGER, golden["manifest"]) is case.drift_with_manifest


def test_an_object_we_never_applied_has_drifted() -> None:
    assert drifted({}, MANAGER)
    assert owned({}, MANAGER) is None
    golden = json.loads(GOLDEN.read_text())["untouched policy"]
    assert drifted(golden["metadata"], "another-manager")


async def test_repair_refuses_another_life(kube: Kube, namespace: str) -> None:
    await kube.apply(quota(namespace))
    with pytest.raises(Conflict):
        await repair(kube, quota(namespace), uid="00000000-0000-0000-0000-000000000000")


# Pruning


async def test_prune_deletes_what_is_ours_and_unwanted_only(kube: Kube, namespace: str) -> None:
    def thing(kind: str, name: str, owner: str) -> Manifest:
        metadata = {"namespace": namespace, "name": name, "labels": {"catalyst.dev/environment-uid": owner}}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata}

    wanted = await kube.create(thing("ConfigMap", "wanted", "me"))
    await kube.create(thing("ConfigMap", "old", "me"))
    await kube.create(thing("ConfigMap", "theirs", "you"))
    await kube.create(thing("Secret", "wanted", "me"))  # the name is kept only for the ConfigMap
    gone = await prune(kube, [CONFIG_MAP, SECRET], namespace, "catalyst.dev/environment-uid=me", [ref_of(wanted)])
    assert sorted((ref.kind, ref.name) for ref in gone) == [("ConfigMap", "old"), ("Secret", "wanted")]
    left = [item["metadata"]["name"] async for page in kube.list(CONFIG_MAP, namespace) for item in page.items]
    assert {"wanted", "theirs"} <= set(left)
    assert "old" not in left
    with pytest.raises(ValueError, match="expected the owner's label"):
        await prune(kube, [CONFIG_MAP], namespace, "", [])
