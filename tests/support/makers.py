"""Small values that env-controller's tests begin with: one project, one environment, one fact, and what differs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.facts import (
    Branch,
    BranchFact,
    CommandFact,
    PullRequest,
    PullRequestFact,
    fold_pull_request,
)
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import FIELD_MANAGER, Observed
from catalyst.events import examples
from catalyst.events.catalogue import BranchPushed, CommandGiven, PullRequestChanged
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest, Ref, ref_of
from catalyst.model.project import Project

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
NOW_TEXT = "2026-11-23T20:00:00Z"
PLATFORM = Platform()
GRANTS = ("github/acme/*",)
HOST = "pr-42--shop--acme.catalyst.localhost"
A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
NOTHING = "0" * 40
"""The commit a branch had before it was made, and has after it was deleted."""


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def project_manifest(name: str = "shop", team: str = "acme", **spec: Any) -> Manifest:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "Project",
        "metadata": {
            "name": name,
            "namespace": team,
            "uid": f"uid-of-{team}-{name}",
            "resourceVersion": "1",
            "generation": 1,
            "finalizers": [labels.FINALIZER],
        },
        "spec": {"source": {"repository": "acme/shop"}, **spec},
    }


def project(name: str = "shop", team: str = "acme", **spec: Any) -> Project:
    return Project.parse(project_manifest(name, team, **spec))


def environment_manifest(
    name: str = "pr-42", *, metadata: Mapping[str, Any] | None = None, status: Manifest | None = None, **spec: Any
) -> Manifest:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "Environment",
        "metadata": {
            "name": name,
            "namespace": "acme--shop",
            "uid": "uid-of-environment",
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": NOW_TEXT,
            "finalizers": [labels.FINALIZER],
            **(metadata or {}),
        },
        "spec": {"projectRef": {"team": "acme", "name": "shop"}, **spec},
        **({"status": status} if status else {}),
    }


def environment(
    name: str = "pr-42", *, metadata: Mapping[str, Any] | None = None, status: Manifest | None = None, **spec: Any
) -> Environment:
    return Environment.parse(environment_manifest(name, metadata=metadata, status=status, **spec))


def subject(of: Environment | None = None, project_: Project | None = None, platform: Platform = PLATFORM) -> Subject:
    found = of or environment()
    return Subject(found.identity, found.metadata.uid or "", found, project_ or project(), platform)


def pull_request_data(**fields: Any) -> PullRequestChanged:
    """An open pull request, number 42, head A; `head` and `base` may be given as their one changing part."""
    if isinstance(fields.get("head"), str):
        fields["head"] = {"ref": "basket", "sha": fields["head"], "repository": "Acme/Shop"}
    data = examples.pull_request(**{"created_at": NOW, "updated_at": NOW, **fields}).data
    assert isinstance(data, PullRequestChanged)
    return data


def fact(id_: str, **fields: Any) -> PullRequestFact:
    return PullRequestFact(id_, pull_request_data(**fields))


def command(id_: str, command_: str = "deploy", **fields: Any) -> CommandFact:
    """`given_at` NOW, an approval is of head A, unless said otherwise."""
    fields.setdefault("head_sha", A if command_ == "approve" else None)
    data = examples.command(**{"command": command_, "given_at": NOW, "author": "lisa", **fields}).data
    assert isinstance(data, CommandGiven)
    return CommandFact(id_, data)


def pull_request(commands: Sequence[CommandFact] = (), **fields: Any) -> PullRequest:
    folded = fold_pull_request([fact("d-1", **fields)], commands)
    assert folded is not None
    return folded


def branch_data(**fields: Any) -> BranchPushed:
    data = examples.push(**{"before": A, "after": B, "pushed_at": NOW, "head_commit": None, **fields}).data
    assert isinstance(data, BranchPushed)
    return data


def push(id_: str, **fields: Any) -> BranchFact:
    return BranchFact(id_, branch_data(**fields))


def branch(**fields: Any) -> Branch:
    return Branch(branch_data(**fields), "d-1")


def booked(manifest: Manifest, manager: str = FIELD_MANAGER, operation: str = "Apply") -> Manifest:
    """The managedFields entry of one who set all of `manifest`."""
    unbooked = ("name", "namespace", "uid", "resourceVersion")
    content = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "status")}
    content["metadata"] = {key: value for key, value in manifest["metadata"].items() if key not in unbooked}
    return {"manager": manager, "operation": operation, "fieldsV1": _tree(content)}


def _tree(value: Any) -> Manifest:
    return {f"f:{key}": _tree(item) for key, item in value.items()} if isinstance(value, dict) else {}


def stored(manifest: Manifest, uid: str, version: str = "1", *, terminating: bool = False) -> Observed:
    """The object as the mirror shows it after we applied `manifest`."""
    metadata = manifest["metadata"]
    ref = ref_of(manifest)
    return Observed(
        ref=Ref(ref.api_version, ref.kind, ref.namespace, ref.name, uid, version),
        labels=dict(metadata.get("labels", {})),
        applied=metadata.get("annotations", {}).get(labels.APPLIED),
        managed=[booked(manifest)],
        terminating=terminating,
    )


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386), applied as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
