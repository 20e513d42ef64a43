"""Which digest was built for which key: immutable ConfigMaps in the build namespace, written by builder alone.

Not tags in the registry: whoever may push an image could write those. Trusted builds and forks have different
namespaces, so a fork's record never answers a trusted question.
"""

import hashlib
from typing import Final

from pydantic import BaseModel, ConfigDict

from catalyst.builder.core.build import Build
from catalyst.builder.core.job import BUILD_LABEL
from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.snapshot import Snapshot

LABEL: Final = f"{labels.GROUP}/build-record"
KEY: Final = "record.json"
MAX_KNOWN: Final = 40
"""Fingerprints handed to a build: the newest ones."""


class Record(BaseModel):
    """One image that was built. `repository` without the registry."""

    model_config = ConfigDict(frozen=True)

    component: str
    key: str
    repository: str
    digest: str
    ports: tuple[int, ...] = ()
    user: str | None = None
    fingerprint: str | None = None
    deployment: bool = False


def record_name(component: str, key: str, *, deployment: bool) -> str:
    """`record-` and 40 hex digits. What runs in production is never what a pull request's build recorded."""
    text = f"{len(component)}:{component}{key}{' deployment' if deployment else ''}"
    return f"record-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def record_manifest(record: Record, build: Build) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": record_name(record.component, record.key, deployment=record.deployment),
            "namespace": build.namespace,
            "labels": {
                labels.TEAM: build.identity.team,
                labels.PROJECT: build.identity.project,
                LABEL: "true",
                BUILD_LABEL: build.job,
            },
        },
        "immutable": True,
        "data": {KEY: record.model_dump_json(exclude_none=True)},
    }


def record_of(found: Manifest) -> Record | None:
    """None when it is no record that can be read."""
    try:
        return Record.model_validate_json(found.get("data", {}).get(KEY, ""))
    except ValueError:
        return None


def known(records: list[tuple[Manifest, Record]], build: Build) -> tuple[str, ...]:
    """What of the source is built already, for this component: the newest first."""
    newest = sorted(records, key=lambda pair: pair[0]["metadata"].get("creationTimestamp", ""), reverse=True)
    found = (record.fingerprint for _, record in newest if _is_for(record, build) and record.fingerprint)
    return tuple(dict.fromkeys(found))[:MAX_KNOWN]


def with_fingerprint(records: list[tuple[Manifest, Record]], build: Build, fingerprint: str) -> Record | None:
    return next((r for _, r in records if _is_for(r, build) and r.fingerprint == fingerprint), None)


def _is_for(record: Record, build: Build) -> bool:
    return record.component == build.component and record.deployment == build.deployment


def is_referenced(record: Record, snapshots: list[Snapshot]) -> bool:
    """Whether one of these environments runs the image, or asks for it."""
    return any(
        any(component.digest == record.digest for component in snapshot.components)
        or any(name == record.component and asked.key == record.key for name, asked in snapshot.builds.items())
        for snapshot in snapshots
    )
