"""The snapshot says everything in public, and comes back from JSON unchanged."""

import pytest

from catalyst.model.environment import Environment, Phase
from catalyst.model.examples import ENVIRONMENT, NOW, PROJECT, changed
from catalyst.model.manifest import Manifest
from catalyst.model.names import Identity
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot, snapshot_of


def stored(manifest: Manifest = ENVIRONMENT) -> Environment:
    return Environment.parse(changed(changed(manifest, "metadata/uid", "u1"), "metadata/resourceVersion", "7"))


def test_it_tells_the_whole_public_state() -> None:
    snapshot = snapshot_of(stored(), Project.parse(PROJECT))
    status = stored().status
    assert status is not None
    assert (snapshot.uid, snapshot.resource_version, snapshot.key) == ("u1", "7", Identity("acme", "shop", "pr-42"))
    assert (snapshot.phase, snapshot.reason, snapshot.message) == (Phase.DEGRADED, "CrashLoop", "web: exit 1")
    assert (snapshot.source.forge, snapshot.source.repository) == ("github", "acme/shop")
    assert snapshot.source.pull_request is not None
    assert (snapshot.source.pull_request.number, snapshot.source.pull_request.fork) == (42, True)
    assert (snapshot.routes, snapshot.builds, snapshot.components) == (status.routes, status.builds, status.components)
    assert snapshot.deletion is not None
    assert snapshot.deletion.reason == "Closed"


def test_it_round_trips_as_json() -> None:
    snapshot = snapshot_of(stored(), Project.parse(PROJECT))
    assert Snapshot.model_validate_json(snapshot.model_dump_json()) == snapshot
    assert Snapshot.model_validate(snapshot.model_dump(mode="json")) == snapshot


def test_a_reader_ignores_what_it_does_not_know() -> None:
    snapshot = snapshot_of(stored())
    body = snapshot.model_dump(mode="json")
    body["new"] = body["conditions"][0]["new"] = body["routes"][0]["new"] = 1
    assert Snapshot.model_validate(body) == snapshot


def test_the_same_version_gives_the_same_snapshot() -> None:
    assert snapshot_of(stored()).model_dump_json() == snapshot_of(stored()).model_dump_json()


def test_without_status_it_is_pending() -> None:
    snapshot = snapshot_of(stored(changed(ENVIRONMENT, "status", ...)))
    assert (snapshot.phase, snapshot.reason, snapshot.source.repository) == (Phase.PENDING, "", None)


def test_the_last_one_says_gone() -> None:
    assert snapshot_of(stored(), phase=Phase.GONE).phase is Phase.GONE


def test_a_deleted_resource_is_evidence() -> None:
    manifest = changed(changed(ENVIRONMENT, "spec/deletion", ...), "metadata/deletionTimestamp", NOW)
    deletion = snapshot_of(stored(manifest)).deletion
    assert deletion is not None
    assert (deletion.reason, deletion.evidence) == ("Requested", "the Environment resource was deleted")


def test_what_was_never_stored_has_no_snapshot() -> None:
    with pytest.raises(ValueError, match=r"expected metadata\.uid"):
        snapshot_of(Environment.parse(ENVIRONMENT))
