"""Quota, limits, network policies, accounts and roles deleted or changed by hand are back within two seconds."""

from functools import partial
from typing import Any

import pytest
from stage import Stage

WITHIN = 2.0

DELETED = [
    ("ResourceQuota", "environment"),
    ("LimitRange", "environment"),
    ("NetworkPolicy", "default-deny"),
    ("NetworkPolicy", "allow-egress-public"),
    ("ServiceAccount", "workload"),
    ("RoleBinding", "catalyst-owner"),
]

CHANGED: list[tuple[str, str, dict[str, Any]]] = [
    ("ResourceQuota", "environment", {"spec": {"hard": {"pods": "999"}}}),
    ("ResourceQuota", "environment", {"spec": {"hard": {"pods": None}}}),
    ("ResourceQuota", "environment", {"spec": {"hard": {"count/jobs.batch": "0", "requests.cpu": "64"}}}),
    ("LimitRange", "environment", {"spec": {"limits": []}}),
    ("NetworkPolicy", "default-deny", {"spec": {"egress": [{}]}}),
    ("NetworkPolicy", "allow-egress-public", {"spec": {"egress": [{}]}}),
    ("ServiceAccount", "default", {"automountServiceAccountToken": True}),
    ("RoleBinding", "catalyst-observer", {"subjects": []}),
    ("NetworkPolicy", "allow-dns", {"metadata": {"labels": {"catalyst.dev/environment": "other"}}}),
]


async def _one(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")


async def test_deleted(stage: Stage) -> None:
    await _one(stage)
    for kind, name in DELETED:
        before = stage.object(kind, "pr-1", name)
        stage.delete(stage.path_of(kind, "pr-1", name))
        await stage.until(partial(_is_there, stage, kind, name), f"{kind} {name} is back", within=WITHIN)
        assert _intent(stage.object(kind, "pr-1", name)) == _intent(before)


def _is_there(stage: Stage, kind: str, name: str) -> bool:
    return name in stage.names_of(kind, "pr-1")


@pytest.mark.parametrize(("kind", "name", "change"), CHANGED)
async def test_changed(stage: Stage, kind: str, name: str, change: dict[str, Any]) -> None:
    await _one(stage)
    before = stage.object(kind, "pr-1", name)
    changed = stage.patch(stage.path_of(kind, "pr-1", name), change)
    assert _intent(changed) != _intent(before)
    await stage.until(
        lambda: _intent(stage.object(kind, "pr-1", name)) == _intent(before),
        f"{kind} {name} is as it was",
        within=WITHIN,
    )


async def test_the_namespace_itself(stage: Stage) -> None:
    await _one(stage)
    before = (stage.namespace("pr-1") or {})["metadata"]
    stage.patch(
        f"/api/v1/namespaces/{before['name']}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    )
    await stage.until(
        lambda: (stage.namespace("pr-1") or {})["metadata"]["labels"] == before["labels"],
        "labels are back",
        within=WITHIN,
    )

    # Deleted by force: made anew, and recorded anew.
    stage.delete(f"/api/v1/namespaces/{before['name']}")
    await stage.until(
        lambda: (stage.namespace("pr-1") or {"metadata": {"uid": before["uid"]}})["metadata"]["uid"] != before["uid"],
        "a new namespace",
        within=30,
    )
    await stage.until(
        lambda: (stage.environment("pr-1") or {})["status"]["namespace"]["uid"] != before["uid"], "its uid is recorded"
    )
    ready = await stage.ready("pr-1")
    assert ready["status"]["namespace"]["uid"] == (stage.namespace("pr-1") or {})["metadata"]["uid"]


@pytest.mark.parametrize("whose", ["readers", "owners"])
async def test_the_projects_own_bindings(stage: Stage, whose: str) -> None:
    await _one(stage)
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.team}--shop/rolebindings"
    path = f"{bindings}/catalyst-environment-{whose}"
    before = stage.get(path)
    stage.patch(path, {"subjects": []})
    await stage.until(lambda: _intent(stage.get(path)) == _intent(before), "the binding is back", within=WITHIN)
    stage.delete(path)
    await stage.until(lambda: stage.get(path) is not None, "the binding is made again", within=WITHIN)


def _intent(found: dict[str, Any] | None) -> dict[str, Any]:
    """The object without what the API server adds and counts."""
    assert found is not None
    metadata = {key: found["metadata"].get(key) for key in ("labels", "annotations")}
    return {**{key: value for key, value in found.items() if key not in ("metadata", "status")}, "metadata": metadata}
