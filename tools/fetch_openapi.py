"""Fetch GitHub's description of its API, pinned, into tests/data/github-openapi. `make generate` calls it.

The package describes some 1,100 operations in 13 MB. Kept are those that the double answers (`OPERATIONS`) and the
webhooks that it sends (`WEBHOOKS`), with every schema they refer to; prose and examples are left out.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from npm_package import DATA, Files, Package

PACKAGE = Package(
    "@octokit/openapi",
    "23.0.2",
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg==",
)
DESCRIPTION = "generated/api.github.com.json"
OPERATIONS = (
    "apps/create-installation-access-token",
    "apps/get-authenticated",
    "apps/get-installation",
    "apps/get-repo-installation",
    "apps/get-webhook-delivery",
    "apps/list-installations",
    "apps/list-repos-accessible-to-installation",
    "apps/list-webhook-deliveries",
    "apps/redeliver-webhook-delivery",
    "apps/revoke-installation-access-token",
    "checks/create",
    "checks/get",
    "checks/list-for-ref",
    "checks/update",
    "git/get-commit",
    "git/get-tree",
    "issues/add-labels",
    "issues/create-comment",
    "issues/delete-comment",
    "issues/get-comment",
    "issues/list-comments",
    "issues/remove-label",
    "issues/update-comment",
    "pulls/create",
    "pulls/get",
    "pulls/list",
    "pulls/update",
    "rate-limit/get",
    "reactions/create-for-issue-comment",
    "reactions/delete-for-issue-comment",
    "reactions/list-for-issue-comment",
    "repos/create-deployment",
    "repos/create-deployment-status",
    "repos/get",
    "repos/get-collaborator-permission-level",
    "repos/get-deployment",
    "repos/list-deployment-statuses",
    "repos/list-deployments",
    "users/get-authenticated",
)
WEBHOOKS = (
    "issue-comment-created",
    "issue-comment-deleted",
    "issue-comment-edited",
    "ping",
    "pull-request-closed",
    "pull-request-converted-to-draft",
    "pull-request-edited",
    "pull-request-labeled",
    "pull-request-opened",
    "pull-request-ready-for-review",
    "pull-request-reopened",
    "pull-request-synchronize",
    "pull-request-unlabeled",
    "push",
)
PROSE = frozenset(
    ("description", "example", "examples", "externalDocs", "summary", "tags", "title", "x-github", "x-octokit")
)


def contents(files: Files) -> dict[str, str]:
    """File name → text."""
    whole = files.json(DESCRIPTION)
    kept: dict[str, Any] = {
        "openapi": whole["openapi"],
        "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
        "paths": _operations(whole),
        "x-webhooks": {name: _without_prose(whole["x-webhooks"][name]) for name in WEBHOOKS},
    }
    kept["components"] = _components(whole, kept)
    return {
        "api.github.com.json": json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        "LICENSE": files.text("LICENSE"),
    }


def _operations(whole: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for path, operations in whole["paths"].items():
        for verb, operation in operations.items():
            if operation["operationId"] in OPERATIONS:
                paths.setdefault(path, {})[verb] = _without_prose(operation)
    found = {operation["operationId"] for operations in paths.values() for operation in operations.values()}
    if missing := sorted(set(OPERATIONS) - found):
        sys.exit(f"{PACKAGE} does not describe {', '.join(missing)}")
    return paths


def _components(whole: dict[str, Any], kept: Any) -> dict[str, Any]:
    """Everything that `kept` refers to, and what that refers to."""
    components: dict[str, Any] = {}
    waiting = list(_references(kept))
    waiting.append("#/components/schemas/basic-error")  # what an error is that an operation does not describe
    while waiting:
        _, _, kind, name = waiting.pop().split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = _without_prose(whole["components"][kind][name])
            waiting.extend(_references(components[kind][name]))
    return components


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for inner in value.values():
                yield from _references(inner)
        case list():
            for inner in value:
                yield from _references(inner)


def _without_prose(value: Any, *, names: bool = False) -> Any:
    """`names`: the keys of this dictionary are names of fields, and a field may be called `description`."""
    match value:
        case dict():
            return {
                key: _without_prose(inner, names=key == "properties" and not names)
                for key, inner in value.items()
                if names or key not in PROSE
            }
        case list():
            return [_without_prose(inner) for inner in value]
        case _:
            return value


if __name__ == "__main__":
    sys.exit(PACKAGE.main(DATA / "github-openapi", contents, __doc__))
