"""deploy(subject, world, status, now): builds asked for, components made, routes handed out, and what people are told.

    Building ──digest known──▶ Deploying ──pods ready──▶ routes handed out ──live──▶ Ready
       │ failed                   │ crash loop, quota, probe, …      │ host taken
       └──────────────────────────┴──────────────────────────────────┴──▶ Degraded (some version serves) or Failed

A component's objects are not touched while its next image is not known, so the old version serves until then, and after
that until the new one is ready. Whatever fails is asked for, applied or looked at again; the namespace stays.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from catalyst.env_controller.core import admission, backing, builds, rollout, shares, workload
from catalyst.env_controller.core import routes as hosts
from catalyst.env_controller.core.admission import Wait
from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.components import Part, parts
from catalyst.env_controller.core.conditions import not_admitted, said, unsaid
from catalyst.env_controller.core.difference import Difference, difference
from catalyst.env_controller.core.rollout import LogWish, Trouble
from catalyst.env_controller.core.sharing import (
    CONDITION,
    LACKING_LOOK,
    LOOK,
    Sharing,
    explained,
    sentence,
    sharing,
    unmounted,
)
from catalyst.env_controller.core.stages import begun, begun_anew, ended, find, of_component, without
from catalyst.env_controller.core.workload import Given, Image
from catalyst.env_controller.core.world import BuildWish, Decision, NewSecret, Observed, World, object_key
from catalyst.model import labels
from catalyst.model.environment import BuildQuestion, ComponentStatus, Environment, EnvironmentStatus, Phase, Pull
from catalyst.model.manifest import Manifest
from catalyst.model.names import InvalidName
from catalyst.model.project import Service

LOOKS: Final = ((60.0, 2.0), (600.0, 10.0))
"""While a component is not ready its pods are looked at every so often: (until then, every), later every 30 s."""
SLOW_LOOK: Final = 30.0


def deploy(subject: Subject, world: World, status: EnvironmentStatus, now: datetime) -> Decision:
    """The namespace and its baseline are there."""
    environment = subject.environment
    if environment.spec.hold:
        return Decision(status=_held(status, environment, now))
    wanted = parts(subject.project, environment)
    shared = sharing(subject, world)
    if obstacle := _obstacle(subject, wanted):
        return Decision(status=_idle(status, environment, now, *obstacle), delete=shared.delete)
    before = status
    if shared.blind:
        return Decision(status=_blind(subject, wanted, world, shared.blind, status, now), requeue_after=LACKING_LOOK)
    status = _with_pull(_asked(subject, wanted, status, now), world)
    status = _say_shared(subject, shared, status, now)
    run = _run(subject, wanted, world, shared, status)
    differs = run.difference
    paused = admission.pause(subject.project, world.pauses, world.platform.system_namespace)
    if paused and _is_update(run, before, status):
        return Decision(status=not_admitted(before, environment, _what_runs_goes_on(paused, before), now))
    status = _progress(run, status, now)
    status, url_fault = _routed(run, status)
    status = _told(run, status, url_fault, now)
    return Decision(
        apply=differs.apply,
        delete=(*differs.delete, *shared.delete),
        secrets=_secrets(run, world),
        copies=shared.copies,
        status=status,
        asks=_wishes(run, status, now),
        requeue_after=_look_again(run, status, now),
    )


# What can be done at all


def _obstacle(subject: Subject, wanted: tuple[Part, ...]) -> tuple[str, str] | None:
    """Why nothing is run, as reason and sentence."""
    if subject.environment.spec.type != "Development":
        return "NothingDeployed", "The namespace is ready; deployment environments are not implemented yet."
    if not wanted:
        return "NothingDeployed", "The namespace is ready; the Project names no components."
    if not any(part.is_built for part in wanted):
        return None
    if subject.platform.registry is None:
        return (
            "RegistryNotConfigured",
            "The namespace is ready; nothing is built, because env-controller's setting CATALYST_REGISTRY is missing. "
            "The platform's people name the registry there.",
        )
    if subject.environment.spec.source.commit is None:
        return "CommitNotNamed", "The namespace is ready; name what to build in spec.source.commit."
    return None


def _idle(
    status: EnvironmentStatus, environment: Environment, now: datetime, reason: str, sentence: str
) -> EnvironmentStatus:
    status = said(status, environment, now, "Ready", False, reason, sentence)
    return status.model_copy(update={"phase": Phase.PROVISIONED})


def _held(status: EnvironmentStatus, environment: Environment, now: datetime) -> EnvironmentStatus:
    """What runs stays as it is; nothing new is built or run."""
    hold = environment.spec.hold
    reason, sentence = (hold.reason, hold.message) if hold else ("Held", "")
    status = said(status, environment, now, "Ready", False, reason, sentence)
    return status.model_copy(update={"phase": Phase.WAITING})


# While it is paused


def _is_update(run: "_Run", before: EnvironmentStatus, asked: EnvironmentStatus) -> bool:
    """Something would be built, changed or taken away. To mend what was deployed before is none."""
    images = {component.name: component.image for component in before.components if component.image}
    return (
        dict(before.builds) != dict(asked.builds)
        or bool(run.difference.delete)
        or any(copy.replaces for copy in run.shared.copies)
        or any(not _is_repair(run, manifest, images) for manifest in run.difference.apply)
    )


def _is_repair(run: "_Run", manifest: Manifest, images: Mapping[str, str]) -> bool:
    metadata = manifest["metadata"]
    found = run.world.children.get(object_key(manifest["kind"], metadata["namespace"], metadata["name"]))
    if found is not None:
        return found.applied == str(metadata["annotations"][labels.APPLIED])
    component = metadata["labels"].get(labels.COMPONENT)
    image = run.images.get(component)
    return component in images and (image is None or image.reference == images[component])


def _what_runs_goes_on(paused: Wait, before: EnvironmentStatus) -> Wait:
    runs = any(component.image for component in before.components)
    goes_on = " What runs goes on; what is new waits." if runs else ""
    return replace(paused, message=paused.message + goes_on)


# Builds


def _asked(subject: Subject, wanted: tuple[Part, ...], status: EnvironmentStatus, now: datetime) -> EnvironmentStatus:
    """The status with the questions of now; a new question begins its stages anew."""
    questions = builds.questions(subject, wanted, now)
    changed = {name for name, question in questions.items() if status.builds.get(name) != question}
    was_open = any(builds.answer(status, name) is None for name in status.builds if name in questions)
    status = status.model_copy(update={"builds": questions})
    several = len(wanted) > 1
    if changed:
        status = without(status, {"Deploy"} | {of_component("Deploy", name) for name in changed})
        status = begun(status, "Build", now) if was_open else begun_anew(status, "Build", now)
        for name in sorted(changed) if several else ():
            status = begun_anew(status, of_component("Build", name), now)
    waiting = [name for name in questions if builds.answer(status, name) is None]
    for name in questions if several else ():
        if name not in waiting:
            status = ended(status, of_component("Build", name), now)
    return ended(status, "Build", now) if questions and not waiting else status


def _wishes(run: "_Run", status: EnvironmentStatus, now: datetime) -> tuple[BuildWish, ...]:
    found = []
    for part in run.parts:
        question = status.builds.get(part.name)
        if question and builds.answer(status, part.name) is None:
            again, _ = builds.asked_again(_asked_at(status, part.name, now), now)
            found.append(builds.wish(run.subject, part, question, again))
    return tuple(found)


def _asked_at(status: EnvironmentStatus, component: str, now: datetime) -> datetime:
    stage = find(status, of_component("Build", component)) or find(status, "Build")
    return stage.started_at if stage else now


# What is, against what should be


@dataclass(frozen=True, slots=True)
class _Run:
    """One look at everything. `images`: by component, those that are known; `failed`: builds that did not succeed."""

    subject: Subject
    world: World
    parts: tuple[Part, ...]
    images: Mapping[str, Image]
    failed: Mapping[str, Trouble]
    difference: Difference
    backings: tuple[Service, ...] = ()
    shared: Sharing = field(default_factory=Sharing)

    def deployment(self, name: str) -> Observed | None:
        return self._own("Deployment", name)

    def stateful_set(self, name: str) -> Observed | None:
        return self._own("StatefulSet", name)

    def _own(self, kind: str, name: str) -> Observed | None:
        found = self.world.children.get(object_key(kind, self.subject.namespace, name))
        return found if found and found.labels.get(labels.ENVIRONMENT_UID) == self.subject.uid else None

    def _is_changing(self, kind: str, name: str) -> bool:
        return any(m["kind"] == kind and m["metadata"]["name"] == name for m in self.difference.apply)

    def is_applied(self, name: str) -> bool:
        """The Deployment stands as it is wanted now."""
        return name in self.images and self.deployment(name) is not None and not self._is_changing("Deployment", name)

    def is_ready(self, name: str) -> bool:
        return self.is_applied(name) and rollout.is_complete(self.deployment(name))

    def is_backing_applied(self, name: str) -> bool:
        return self.stateful_set(name) is not None and not self._is_changing("StatefulSet", name)

    def is_backing_ready(self, name: str) -> bool:
        return self.is_backing_applied(name) and rollout.is_complete(self.stateful_set(name))

    def is_all_ready(self) -> bool:
        return all(self.is_ready(part.name) for part in self.parts) and all(
            self.is_backing_ready(service.name) for service in self.backings
        )

    def services(self) -> set[str]:
        """The components whose Service is there."""
        found = (self.world.children.get(object_key("Service", self.subject.namespace, p.name)) for p in self.parts)
        return {one.ref.name for one in found if one and one.labels.get(labels.ENVIRONMENT_UID) == self.subject.uid}


def _run(subject: Subject, wanted: tuple[Part, ...], world: World, shared: Sharing, status: EnvironmentStatus) -> _Run:
    images, failed = {}, {}
    for part in wanted:
        if not part.is_built:
            images[part.name] = workload.given_image(part)
            continue
        answer = builds.answer(status, part.name)
        if answer is None or answer.outcome == "superseded":
            continue
        if answer.outcome == "succeeded":
            images[part.name] = workload.built_image(subject, part, answer)
        else:
            failed[part.name] = Trouble(answer.reason or "BuildFailed", answer.message or "The build failed.")
    held_back = _held_back(subject, wanted, world, shared)
    ready = [part for part in wanted if part.name in images and part.name not in held_back]
    services = backing.backings(subject.project)
    given = Given(_url(subject, wanted), backing.variables(subject.project), shared.copied, shared.version)
    manifests = [m for part in ready for m in workload.manifests(subject, part, images[part.name], given)]
    manifests += [m for service in services for m in backing.manifests(subject, service)]
    frozen = {part.name for part in wanted} - {part.name for part in ready}
    there = {key: found for key, found in world.children.items() if found.ref.kind in workload.KINDS}
    differs = difference(
        subject.uid,
        manifests,
        there,
        once=workload.ONCE,
        keeps=lambda found: found.labels.get(labels.COMPONENT) in frozen,
    )
    known = {part.name: images[part.name] for part in ready}
    return _Run(subject, world, wanted, known, failed, differs, services, shared)


def _held_back(subject: Subject, wanted: tuple[Part, ...], world: World, shared: Sharing) -> set[str]:
    """Components that wait, for the first time, until those are ready that they depend on and all Secrets are there."""
    kinds = {service.name: "StatefulSet" for service in backing.backings(subject.project)}
    kinds |= {part.name: "Deployment" for part in wanted}

    def is_there(name: str) -> Observed | None:
        return world.children.get(object_key(kinds[name], subject.namespace, name))

    return {
        part.name
        for part in wanted
        if not is_there(part.name)
        and (
            shared.trouble
            or any(not rollout.is_complete(is_there(name)) for name in part.component.depends_on if name in kinds)
        )
    }


def _url(subject: Subject, wanted: tuple[Part, ...]) -> str | None:
    try:
        return hosts.url(subject, wanted)
    except InvalidName:
        return None


# How far it is


def _progress(run: _Run, status: EnvironmentStatus, now: datetime) -> EnvironmentStatus:
    """Each component's status, and the stages of deploying."""
    before = {component.name: component for component in status.components}
    several = len(run.parts) > 1
    for part in run.parts:
        stage = of_component("Deploy", part.name)
        for name in (stage, "Deploy") if several else ("Deploy",):
            running = find(status, name)
            if _is_new_version(run, part.name) and running and running.finished_at:
                status = begun_anew(status, name, now)
            elif part.name in run.images:
                status = begun(status, name, now)
        if several and run.is_ready(part.name):
            status = ended(status, stage, now)
    if run.is_all_ready():
        status = ended(status, "Deploy", now)
    found = [_component(run, part, before.get(part.name), now) for part in run.parts]
    since = find(status, "Deploy")
    waiting = (now - since.started_at).total_seconds() if since else 0.0
    found += [_backing(run, service, before.get(service.name), waiting, now) for service in run.backings]
    return status.model_copy(update={"components": tuple(found)})


def _is_new_version(run: _Run, name: str) -> bool:
    """The Deployment is about to be made or to be changed by us, not merely repaired."""
    found = run.deployment(name)
    return any(
        m["kind"] == "Deployment"
        and m["metadata"]["name"] == name
        and (found is None or found.applied != m["metadata"]["annotations"][labels.APPLIED])
        for m in run.difference.apply
    )


def _component(run: _Run, part: Part, before: ComponentStatus | None, now: datetime) -> ComponentStatus:
    found, image = run.deployment(part.name), run.images.get(part.name)
    runs = (before or ComponentStatus(name=part.name)).model_copy(
        update={
            "ready": False,
            "reason": None,
            "message": None,
            "replicas": part.component.replicas,
            "ready_replicas": (found.status or {}).get("readyReplicas") or 0 if found else 0,
        }
    )
    if image is not None:
        runs = runs.model_copy(update={"image": image.reference, "digest": image.digest, "commit": image.commit})
    if run.is_ready(part.name):
        return runs.model_copy(update={"ready": True})
    if failed := run.failed.get(part.name):
        return runs.model_copy(update={"reason": failed.reason, "message": failed.sentence})
    if foreign := _foreign(run, part.name):
        return runs.model_copy(update={"reason": foreign.reason, "message": foreign.sentence})
    if run.shared.trouble and found is None:
        return runs.model_copy(update={"reason": run.shared.trouble.reason, "message": run.shared.trouble.sentence})
    if not run.is_applied(part.name) or _is_new_version(run, part.name):
        return runs
    seen = _seen(run, part, image, found, now)
    if seen is not None:
        message = rollout.told(seen, image, run.world.logs, before)
        return runs.model_copy(update={"reason": seen.reason, "message": message})
    if before and before.reason in rollout.REASONS and _is_same(before, runs):
        return runs.model_copy(update={"reason": before.reason, "message": before.message})  # until it is ready
    return runs


def _seen(run: _Run, part: Part, image: Image | None, found: Observed | None, now: datetime) -> Trouble | None:
    fork = shares.is_fork(run.subject.environment)
    seen = rollout.trouble(part, image, found, run.world.pods, now)
    if seen is None:
        return unmounted(part, run.shared, run.world.pods, now, fork=fork)
    return explained(seen, run.shared, fork=fork)


def _backing(
    run: _Run, service: Service, before: ComponentStatus | None, waiting: float, now: datetime
) -> ComponentStatus:
    """A service, as a component that nobody builds. Of a pod that may not be made only events tell, which nobody reads
    yet: so its absence is said after a while.
    """
    found, image = run.stateful_set(service.name), backing.image(service)
    counts = (found.status or {}) if found else {}
    runs = ComponentStatus(
        name=service.name, image=image.reference, replicas=1, ready_replicas=counts.get("readyReplicas") or 0
    )
    if run.is_backing_ready(service.name):
        return runs.model_copy(update={"ready": True})
    if foreign := _foreign(run, service.name):
        return runs.model_copy(update={"reason": foreign.reason, "message": foreign.sentence})
    if not run.is_backing_applied(service.name):
        return runs
    seen = rollout.trouble(backing.part(service), image, found, run.world.pods, now)
    if seen is None and not counts.get("replicas") and waiting >= rollout.PATIENCE:
        seen = Trouble(
            "Quota",
            f"The cluster makes no pod of {service.name}: its disk or its pod does not fit into the environment's "
            "quota and limits.",
        )
    if seen is not None:
        message = rollout.told(seen, image, run.world.logs, before)
        return runs.model_copy(update={"reason": seen.reason, "message": message})
    if before and before.reason in rollout.REASONS and _is_same(before, runs):
        return runs.model_copy(update={"reason": before.reason, "message": before.message})
    return runs


def _is_same(before: ComponentStatus, now: ComponentStatus) -> bool:
    return (before.image, before.digest, before.commit) == (now.image, now.digest, now.commit)


def _foreign(run: _Run, component: str) -> Trouble | None:
    for found in run.difference.foreign:
        if found.ref.name == component or found.labels.get(labels.COMPONENT) == component:
            return Trouble(
                "RefusedByCluster",
                f"{found.ref.kind} {found.ref.name} exists and was not made for this environment: "
                "remove it, or give the component another name.",
            )
    return None


# Where it answers


def _routed(run: _Run, status: EnvironmentStatus) -> tuple[EnvironmentStatus, hosts.Fault | None]:
    try:
        found = hosts.routes(run.subject, run.parts, run.images, run.services(), status.routes)
        url = hosts.url(run.subject, run.parts) if found else None
    except InvalidName as error:
        return status, hosts.Fault(None, "InvalidHost", f"{error}. Rename the environment or the component.")
    return status.model_copy(update={"routes": found, "url": url}), None


# What people are told


def _told(run: _Run, status: EnvironmentStatus, url_fault: hosts.Fault | None, now: datetime) -> EnvironmentStatus:
    environment = run.subject.environment
    if _was_refused(environment, run):
        return status.model_copy(update={"phase": _down(run)})
    building = [name for name in status.builds if builds.answer(status, name) is None or _is_superseded(status, name)]
    broken = [component for component in status.components if component.reason]
    unready = [component.name for component in status.components if not component.ready]
    fault = url_fault or hosts.fault(status)
    silent = hosts.unanswered(status)

    status = _say_built(run, status, building, now)
    bad = [component for component in broken if component.name not in run.failed]
    if bad:
        status = said(status, environment, now, "Deployed", False, _word(bad[0]), _sentence(bad[0]))
    elif unready:
        sentence = f"Not ready yet: {', '.join(unready)}."
        status = said(status, environment, now, "Deployed", False, "Deploying", sentence)
    else:
        status = said(status, environment, now, "Deployed", True, "Available", "Every component is ready.")
    if fault:
        status = said(status, environment, now, "Routed", False, fault.reason, fault.sentence)
    elif status.routes and not silent:
        status = said(status, environment, now, "Routed", True, "Live", "Every host answers.")
        status = ended(status, "Route", now)
    elif status.routes:
        status = begun(status, "Route", now)
        sentence = f"Not answering yet: {', '.join(silent)}."
        status = said(status, environment, now, "Routed", False, "Routing", sentence)
    elif any(part.is_exposed for part in run.parts):
        status = said(status, environment, now, "Routed", False, "Routing", "There is no Service to lead to yet.")
    else:
        status = said(status, environment, now, "Routed", True, "NotExposed", "No component is exposed.")
    return _concluded(run, status, bool(building), bool(broken or fault or run.shared.trouble), now)


def _say_built(run: _Run, status: EnvironmentStatus, building: list[str], now: datetime) -> EnvironmentStatus:
    environment = run.subject.environment
    for name, failed in run.failed.items():
        return said(status, environment, now, "Built", False, failed.reason, f"{name}: {_first(failed.sentence)}")
    if building:
        return said(status, environment, now, "Built", False, "Building", f"Being built: {', '.join(building)}.")
    return said(status, environment, now, "Built", True, "Built", "Every image is known.")


def _concluded(
    run: _Run, status: EnvironmentStatus, is_building: bool, is_broken: bool, now: datetime
) -> EnvironmentStatus:
    """The phase, and Ready, which gives the reason of what comes first."""
    environment = run.subject.environment
    aspects = (status.condition(kind) for kind in ("Built", CONDITION, "Deployed", "Routed"))
    missing = [aspect for aspect in aspects if aspect and aspect.status == "False"]
    if not missing:
        sentence = f"It runs at {status.url}." if status.url else "It runs."
        status = said(status, environment, now, "Ready", True, "Ready", sentence)
        return status.model_copy(update={"phase": Phase.READY})
    busy = ("Building", "Deploying", "Routing")
    cause = next((aspect for aspect in missing if aspect.reason not in busy), missing[0]) if is_broken else missing[0]
    status = said(status, environment, now, "Ready", False, cause.reason, cause.message)
    phase = _down(run) if is_broken else Phase.BUILDING if is_building else Phase.DEPLOYING
    return status.model_copy(update={"phase": phase})


def _down(run: _Run) -> Phase:
    """Something is wrong: does any version of anything serve?"""
    return Phase.DEGRADED if any(rollout.serves(run.deployment(part.name)) for part in run.parts) else Phase.FAILED


def _was_refused(environment: Environment, run: _Run) -> bool:
    """The API server refused what is still to be applied, and nobody has changed anything since: that stays said."""
    deployed = environment.status.condition("Deployed") if environment.status else None
    return (
        bool(run.difference.apply)
        and deployed is not None
        and deployed.reason in ("RefusedByCluster", "Quota")
        and deployed.observed_generation == environment.metadata.generation
    )


def refused(status: EnvironmentStatus, environment: Environment, reason: str, now: datetime) -> EnvironmentStatus:
    """The API server would not take a part of it."""
    sentence = f"The API server refuses a part of the environment: {reason}"[:1024]
    word = "Quota" if "exceeded quota" in reason else "RefusedByCluster"
    status = said(status, environment, now, "Deployed", False, word, sentence)
    status = said(status, environment, now, "Ready", False, word, sentence)
    serves = any(component.ready for component in status.components)
    return status.model_copy(update={"phase": Phase.DEGRADED if serves else Phase.FAILED})


def _is_superseded(status: EnvironmentStatus, name: str) -> bool:
    answer = builds.answer(status, name)
    return answer is not None and answer.outcome == "superseded"


def _word(component: ComponentStatus) -> str:
    return component.reason or "NotReady"


def _sentence(component: ComponentStatus) -> str:
    return f"{component.name}: {_first(component.message or '')}"


def _first(text: str) -> str:
    return text.partition("\n")[0]


# Secrets


def _say_shared(subject: Subject, shared: Sharing, status: EnvironmentStatus, now: datetime) -> EnvironmentStatus:
    """Nothing is said where the Project shares no Secret."""
    environment = subject.environment
    if why := shared.trouble:
        return said(status, environment, now, CONDITION, False, why.reason, why.sentence)
    if not subject.project.spec.secrets:
        return unsaid(status, CONDITION)
    what = sentence(shared, fork=shares.is_fork(environment))
    return said(status, environment, now, CONDITION, True, "Shared", what)


def _blind(
    subject: Subject,
    wanted: tuple[Part, ...],
    world: World,
    why: Trouble,
    status: EnvironmentStatus,
    now: datetime,
) -> EnvironmentStatus:
    """What runs stays as it is until its Secrets can be seen again."""
    for kind in (CONDITION, "Ready"):
        status = said(status, subject.environment, now, kind, False, why.reason, why.sentence)
    there = (world.children.get(object_key("Deployment", subject.namespace, part.name)) for part in wanted)
    return status.model_copy(update={"phase": Phase.DEGRADED if any(map(rollout.serves, there)) else Phase.FAILED})


def _secrets(run: _Run, world: World) -> tuple[NewSecret, ...]:
    """The pull secret, and the credentials of each service that is about to be made: that one is there says for ever
    that they were made before it.
    """
    look = look_for(run.subject.environment, world)
    found = [pull_secret(run.subject)] if look.pull and world.pull is None else []
    namespace = run.subject.namespace
    new = {m["metadata"]["name"] for m in run.difference.apply if m["kind"] == "StatefulSet"} - {
        service.name for service in run.backings if object_key("StatefulSet", namespace, service.name) in world.children
    }
    found += [backing.credentials(run.subject, service) for service in run.backings if service.name in new]
    return tuple(found)


def pull_secret(subject: Subject) -> NewSecret:
    """How its pods show at the registry's token realm who they are; status.pull says the password's digest."""
    login = {"username": f"env:{subject.uid}", "password": "$password"}
    return NewSecret(
        namespace=subject.namespace,
        name=workload.PULL_SECRET,
        labels=subject.labels,
        values={".dockerconfigjson": json.dumps({"auths": {subject.platform.registry or "": login}})},
        type="kubernetes.io/dockerconfigjson",
        digest_in=labels.PULL_DIGEST,
    )


# When to look, and at what


@dataclass(frozen=True, slots=True)
class Look:
    """What must be asked of the API server before it can be decided."""

    pods: bool = False
    pull: bool = False
    secrets: bool = False


def look_for(environment: Environment, world: World) -> Look:
    """Pods while something is not ready; the pull secret until it is known, and when an image cannot be pulled; Secrets
    where we may.
    """
    status = environment.status
    if environment.metadata.deletion_timestamp or environment.spec.hold or not (world.namespace and world.project):
        return Look()
    running = [found for found in world.children.values() if found.ref.kind in workload.RUNS]
    unpulled = any(component.reason == "ImagePull" for component in status.components) if status else False
    pulls = world.platform.registry is not None and any(part.is_built for part in parts(world.project, environment))
    return Look(
        pods=any(not rollout.is_complete(found) for found in running),
        pull=pulls and (status is None or status.pull is None or unpulled),
        secrets=object_key("RoleBinding", world.namespace.ref.name, shares.BINDING) in world.children,
    )


def logs_for(environment: Environment, world: World, now: datetime) -> tuple[LogWish, ...]:
    """The logs that say why a component fails, but for those that the status holds already."""
    if world.project is None or environment.status is None:
        return ()
    before = {component.name: component for component in environment.status.components}
    found = []
    namespace = world.namespace.ref.name if world.namespace else ""
    wanted = [("Deployment", part) for part in parts(world.project, environment)]
    wanted += [("StatefulSet", backing.part(service)) for service in backing.backings(world.project)]
    for kind, part in wanted:
        known = before.get(part.name)
        image = Image(known.image or "", known.digest) if known else None
        key = object_key(kind, namespace, part.name)
        seen = rollout.trouble(part, image, world.children.get(key), world.pods, now)
        if seen and seen.log and not rollout.was_told(seen, image, known):
            found.append(seen.log)
    return tuple(found)


def _look_again(run: _Run, status: EnvironmentStatus, now: datetime) -> float | None:
    """Seconds until time alone may change something."""
    waits: list[float] = []
    for name, question in status.builds.items():
        waits.extend(_until_next(status, name, question, now))
    if any(not run.is_ready(part.name) for part in run.parts if run.deployment(part.name)):
        waits.append(_pace(status, now))
    if any(not run.is_backing_ready(service.name) for service in run.backings):
        waits.append(_pace(status, now))
    if shares.shares(run.subject.project, run.subject.environment):
        waits.append(LACKING_LOOK if run.shared.trouble else LOOK)
    return min(waits, default=None)


def _until_next(status: EnvironmentStatus, name: str, question: BuildQuestion, now: datetime) -> list[float]:
    answer = builds.answer(status, name)
    if answer is None:
        return [builds.asked_again(_asked_at(status, name, now), now)[1]]
    at = builds.retry_at(question, answer)
    return [max(0.1, (at - now).total_seconds())] if at else []


def _pace(status: EnvironmentStatus, now: datetime) -> float:
    stage = find(status, "Deploy")
    age = (now - stage.started_at).total_seconds() if stage else 0.0
    return next((every for until, every in LOOKS if age < until), SLOW_LOOK)


def _with_pull(status: EnvironmentStatus, world: World) -> EnvironmentStatus:
    return status.model_copy(update={"pull": Pull(sha256=world.pull)}) if world.pull else status
