"""A cluster as values: decisions are acted on, time passes, and it is asked again until nothing is left to change.

Every act checks the guarantees of env-controller on its way: nothing is written into a namespace that does not carry
our uid label, no namespace is deleted but by its recorded uid, and every write is meant for the object it meets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from makers import GRANTS, PLATFORM, merged, stored

from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Decision, Observed, Patch, World, object_key
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest, Ref, ref_of
from catalyst.model.project import Project

MOST_ROUNDS = 60


@dataclass
class Simulated:
    """One Environment and what is around it."""

    environment: Environment | None
    namespace: Observed | None = None
    children: dict[str, Observed] = field(default_factory=dict)
    project: Project | None = None
    grants: tuple[str, ...] | None = GRANTS
    platform: Platform = PLATFORM
    decisions: list[Decision] = field(default_factory=list)
    writes: int = 0

    @property
    def world(self) -> World:
        return World(self.platform, self.project, self.grants, self.namespace, dict(self.children))

    def settle(self, now: datetime) -> datetime:
        """Ask, act and let time pass until nothing changes any more. Returns when that was."""
        for _ in range(MOST_ROUNDS):
            if self.environment is None:
                return now
            decision = decide(self.environment, self.world, now)
            self.decisions.append(decision)
            before = self.writes
            self.act(decision, now)
            if decision.changes_objects or self.writes != before or self._finish_what_is_going():
                now += timedelta(seconds=1)
            elif decision.requeue_after == 0:
                raise AssertionError("asked to look again at once, and nothing had changed")
            else:
                return now
        raise AssertionError(f"no fixed point after {MOST_ROUNDS} rounds: {self.decisions[-2:]}")

    # Acts, in the controller's order

    def act(self, decision: Decision, now: datetime) -> None:
        assert self.environment is not None
        if decision.amend is not None:
            return self._change(merged(self._manifest(), decision.amend))
        if decision.remove:
            return self._remove(now)
        if decision.release:
            return self._release()
        for manifest in decision.create:
            self._create(manifest)
        if decision.status is not None and decision.status != self.environment.status:
            self._change({**self._manifest(), "status": decision.status.model_dump(mode="json", exclude_none=True)})
        for manifest in decision.apply:
            self._apply(manifest)
        for patch in decision.patch:
            self._patch(patch)
        for ref in decision.delete:
            self._delete(ref)
        return None

    def _manifest(self) -> Manifest:
        assert self.environment is not None
        return self.environment.manifest()

    def _change(self, manifest: Manifest) -> None:
        self.writes += 1
        self.environment = Environment.parse(manifest)

    def _remove(self, now: datetime) -> None:
        assert self.environment is not None
        if self.environment.metadata.finalizers:
            self._change(merged(self._manifest(), {"metadata": {"deletionTimestamp": now.isoformat()}}))
        else:
            self.environment = None

    def _release(self) -> None:
        assert self.environment is not None
        assert self.environment.metadata.deletion_timestamp is not None
        assert self.own_namespace is None, "the finalizer goes last"
        answers = self.environment.status.answers if self.environment.status else None
        for route in self.environment.status.routes if self.environment.status else ():
            assert answers is not None
            assert answers.routes[route.host].live is False, "no finalizer goes without its answers"
        if self.environment.status and self.environment.status.builds:
            assert answers is not None
            assert answers.builds_cleaned, "no finalizer goes without its answers"
        left = [name for name in self.environment.metadata.finalizers if name != labels.FINALIZER]
        if left:
            self._change(merged(self._manifest(), {"metadata": {"finalizers": left}}))
        else:
            self.environment = None

    def _create(self, manifest: Manifest) -> None:
        assert self.namespace is None, "AlreadyExists"
        self.writes += 1
        self.namespace = stored(manifest, f"uid-of-namespace-{self.writes}", f"{self.writes}")
        for key in [key for key, child in self.children.items() if child.ref.namespace == self.namespace.ref.name]:
            del self.children[key]

    def _apply(self, manifest: Manifest) -> None:
        assert self.environment is not None
        ref = ref_of(manifest)
        key = object_key(ref.kind, ref.namespace, ref.name)
        found = self.children.get(key)
        if ref.namespace != self.environment.metadata.namespace:
            assert self.namespace is not None, "NotFound: no namespace"
            assert self.namespace.ref.name == ref.namespace
            assert self.namespace.labels.get(labels.ENVIRONMENT_UID) == self.environment.metadata.uid, "foreign"
            assert not self.namespace.terminating, "Forbidden: the namespace is going"
        if found is None:
            assert ref.uid is None, "Conflict: nothing is there with that uid"
        else:
            assert (ref.uid, ref.resource_version) == (found.ref.uid, found.ref.resource_version), "Conflict"
        self.writes += 1
        uid = found.ref.uid if found else f"uid-of-child-{self.writes}"
        self.children[key] = stored(manifest, uid or "", f"{self.writes}")

    def _patch(self, patch: Patch) -> None:
        assert self.namespace is not None
        assert self.environment is not None
        assert patch.ref == self.namespace.ref, "Conflict"
        assert self.namespace.labels.get(labels.ENVIRONMENT_UID) == self.environment.metadata.uid, "foreign"
        self.writes += 1
        self.namespace = _with_labels(self.namespace, patch.body["metadata"]["labels"], f"{self.writes}")

    def _delete(self, ref: Ref) -> None:
        assert self.environment is not None
        self.writes += 1
        if ref.kind != "Namespace":
            found = self.children.pop(object_key(ref.kind, ref.namespace, ref.name))
            assert found.ref.uid == ref.uid
            return
        recorded = self.environment.status.namespace if self.environment.status else None
        assert self.environment.metadata.deletion_timestamp is not None, "no evidence"
        assert recorded is not None, "never deleted before it is recorded"
        assert self.namespace is not None
        assert ref.uid == recorded.uid == self.namespace.ref.uid, "not the recorded namespace"
        self.namespace = _going(self.namespace)

    # Time

    def _finish_what_is_going(self) -> bool:
        """What terminates is gone a little later."""
        going = [key for key, child in self.children.items() if child.terminating]
        for key in going:
            del self.children[key]
        if self.namespace is None or not self.namespace.terminating:
            return bool(going)
        name = self.namespace.ref.name
        self.namespace = None
        self.children = {key: child for key, child in self.children.items() if child.ref.namespace != name}
        return True

    # Questions

    @property
    def own_namespace(self) -> Observed | None:
        """The namespace, if it is the recorded one or carries our label."""
        assert self.environment is not None
        recorded = self.environment.status.namespace if self.environment.status else None
        found = self.namespace
        if found is None:
            return None
        is_recorded = recorded is not None and recorded.uid == found.ref.uid
        return found if is_recorded or _uid(found) == self.environment.metadata.uid else None


def _uid(found: Observed) -> str | None:
    return found.labels.get(labels.ENVIRONMENT_UID)


def _with_labels(found: Observed, more: Mapping[str, str], version: str) -> Observed:
    ref = Ref(found.ref.api_version, found.ref.kind, found.ref.namespace, found.ref.name, found.ref.uid, version)
    return Observed(ref, {**found.labels, **more}, found.applied, found.managed, found.terminating)


def _going(found: Observed) -> Observed:
    return Observed(found.ref, found.labels, found.applied, found.managed, terminating=True)
