"""What must not grow with the number of environments, and what one who leads again remembers."""

from typing import Any, cast

from in_memory import MemoryBus
from makers import NOW, environment_manifest, project, project_manifest

from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.effects.cluster import Cluster, WithoutManagedFields
from catalyst.env_controller.effects.history import History
from catalyst.events.bus import Bus, Stored
from catalyst.events.event import NO_CAUSE
from catalyst.kube.client import Kube
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot, snapshot_of


def cluster(*environments: Manifest, maximum: str | None = None, **namespaces: str) -> Cluster:
    """A Cluster whose mirrors hold the Project acme/shop and these. `namespaces`: name → the Environment's uid."""
    nobody = cast(Kube, object())
    found = Cluster(nobody, nobody, Platform())
    found.projects.learn(project_manifest() | {"metadata": project_manifest()["metadata"] | {"resourceVersion": "1"}})
    notes = {labels.MAXIMUM: maximum} if maximum else {}
    found.namespaces.learn(namespace("acme", annotations=notes))
    for name, uid in namespaces.items():
        found.namespaces.learn(namespace(name, labels={labels.ENVIRONMENT_UID: uid}))
    for each in environments:
        found.environments.learn(each)
    return found


def namespace(name: str, **metadata: Any) -> Manifest:
    head = {"name": name, "uid": name, "resourceVersion": "1", **metadata}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": head}


def named(name: str) -> Manifest:
    return environment_manifest(name, metadata={"uid": name})


def test_a_projects_environments_are_read_only_when_it_goes() -> None:
    world = cluster(named("pr-1"), named("pr-2"))
    staying = project()
    going = Project.parse(
        project_manifest() | {"metadata": project_manifest()["metadata"] | {"deletionTimestamp": NOW}}
    )
    assert world.observe_project(staying).environments == ()
    assert [each.metadata.name for each in world.observe_project(going).environments] == ["pr-1", "pr-2"]


def test_whose_namespace_is_there_has_a_place_though_its_status_does_not_say_so() -> None:
    first = Environment.parse(named("pr-1"))
    free = cluster(named("pr-1"), named("pr-2"), maximum="1", elsewhere="pr-3").observe(first).place
    taken = cluster(named("pr-1"), named("pr-2"), maximum="1", somewhere="pr-2").observe(first).place
    assert free is not None
    assert taken is not None
    assert (free.position, taken.position) == (0, 1)


def test_who_is_next_in_line_is_found_in_its_team() -> None:
    world = cluster(named("pr-1"), named("pr-2"), maximum="2", somewhere="pr-1")
    assert [each["metadata"]["name"] for each in world.next_in_line("acme")] == ["pr-2"]


def test_what_many_say_is_kept_once_and_managed_fields_not_at_all() -> None:
    keep = WithoutManagedFields()
    said = "Everything that was asked for is allowed."
    one, two = (
        keep(environment_manifest(name, metadata={"managedFields": [{}]}, status={"conditions": [{"message": text}]}))
        for name, text in (("pr-1", said), ("pr-2", "".join(list(said))))
    )
    assert one["status"]["conditions"][0]["message"] is two["status"]["conditions"][0]["message"]
    assert "managedFields" not in one["metadata"]
    assert two == environment_manifest("pr-2", status={"conditions": [{"message": said}]})


def snapshot(phase: str) -> Snapshot:
    return snapshot_of(Environment.parse(environment_manifest(status={"phase": phase})), project())


class Mute(MemoryBus):
    """A bus that says nothing of a single environment."""

    async def state(self, subject: str) -> Stored | None:
        raise AssertionError(f"{subject} was asked for by itself")


async def test_who_has_read_all_that_was_said_asks_for_none_of_it() -> None:
    bus = Mute()
    said = History(cast(Bus, bus), lambda: NOW)
    said._said[snapshot("Provisioned").key] = b""  # it knows that nothing like it was said
    assert await said.announce(snapshot("Provisioned"), again=0, cause=NO_CAUSE, traceparent=None)
    successor = History(cast(Bus, bus), lambda: NOW)
    assert [each.phase async for each in successor.all_last()] == ["Provisioned"]
    assert not await successor.announce(snapshot("Provisioned"), again=0, cause=NO_CAUSE, traceparent=None)
    assert await successor.announce(snapshot("Ready"), again=0, cause=NO_CAUSE, traceparent=None)


async def test_who_leads_again_does_not_believe_its_own_last_words() -> None:
    """Between its two terms another said something else, and the world went back to what it was."""
    bus = MemoryBus()
    first, second = (History(cast(Bus, bus), lambda: NOW) for _ in range(2))
    for history, phase in ((first, "Ready"), (second, "Building")):
        await history.announce(snapshot(phase), again=0, cause=NO_CAUSE, traceparent=None)
    first.led_by_others()
    assert await first.announce(snapshot("Ready"), again=0, cause=NO_CAUSE, traceparent=None)
    assert [phase for _, phase in bus.snapshots()] == ["Ready", "Building", "Ready"]
