"""sharing(subject, world): the copies of shared Secrets that an environment should have, and what it lacks.

    what is seen                                          copy                     said
    some source                                           made from all of them
    no source                                             goes                     SecretNotFound
    no source, and the team's namespace is closed         goes                     SecretNotReadable
    the copy has a source that is now closed              stays as it is           SecretNotReadable
    the project's or the own namespace is closed          stays as it is, if any   SecretNotReadable
    somebody else's Secret has the copy's name            none                     RefusedByCluster

A team that has not let us read its Secrets shares none. Nothing here sees a value: a source is its uid and
resourceVersion, and a copy says of which it was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from catalyst.env_controller.core import shares
from catalyst.env_controller.core.baseline import Subject, digest
from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.rollout import Trouble, newest_of
from catalyst.env_controller.core.world import SecretCopy, SeenSecrets, World
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.names import Identity, project_namespace, workload_namespace

CONDITION: Final = "SecretsReady"
LOOK: Final = 300.0
"""Seconds after which the sources are looked at again at the latest; nobody tells us of a rotation."""
LACKING_LOOK: Final = 30.0
"""The same while something is missing."""
UNMOUNTED: Final = 10.0
"""Seconds that a pod may take to mount its volumes."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """`given`: by the name of a shared Secret, what its copy is made of. `trouble`: why others are not given.
    `blind`: why the workload namespace could not be seen, so that what runs there is left as it is.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[SecretCopy, ...] = ()
    delete: tuple[Ref, ...] = ()
    trouble: Trouble | None = None
    withheld: tuple[str, ...] = ()
    blind: Trouble | None = None

    @property
    def version(self) -> str | None:
        """Another one when a source is another, so that pods are made anew; None when nothing is given."""
        return digest(dict(self.given)) if self.given else None

    @property
    def copied(self) -> dict[str, str]:
        """By the name of a shared Secret, that of its copy."""
        return {name: shares.copy_name(name) for name in self.given}


def sharing(subject: Subject, world: World) -> Sharing:
    wanted = shares.shares(subject.project, subject.environment)
    withheld = shares.withheld(subject.project, subject.environment)
    seen = world.secrets or SeenSecrets(closed=(subject.namespace,))
    if subject.namespace in seen.closed:
        return Sharing(withheld=withheld, blind=_closed(subject, subject.namespace) if wanted else None)
    found = [_one(subject, name, seen) for name in wanted]
    left = [copy.ref for name, copy in seen.copies.items() if name not in wanted]
    return Sharing(
        given={name: each.text for name, each in zip(wanted, found, strict=True) if each.text},
        copies=tuple(each.copy for each in found if each.copy),
        delete=(*left, *(each.delete for each in found if each.delete)),
        trouble=_together({name: each.trouble for name, each in zip(wanted, found, strict=True) if each.trouble}),
        withheld=withheld,
    )


@dataclass(frozen=True, slots=True)
class _One:
    """Of one shared Secret. `text`: what the copy that pods get is made of."""

    text: str = ""
    copy: SecretCopy | None = None
    delete: Ref | None = None
    trouble: Trouble | None = None


def _one(subject: Subject, name: str, seen: SeenSecrets) -> _One:
    team, project, _ = levels(subject.identity)
    if name in seen.taken:
        return _One(trouble=_taken(subject, name))
    closed = [ref.namespace for ref in seen.hidden if ref.name == name]
    there = {ref.namespace: ref for ref in seen.sources if ref.name == name}
    sources = tuple(there[where] for where in levels(subject.identity) if where in there)
    copy = seen.copies.get(name)
    was_from = {part.partition("/")[0] for part in copy.sources.split()} if copy else set()
    if project in closed:
        return _One(text=copy.sources if copy else "", trouble=_closed(subject, project))
    if copy and team in closed and team in was_from:
        return _One(text=copy.sources, trouble=_closed_later(subject, name))
    if not sources:
        trouble = _closed_team(subject, name) if team in closed else _not_found(subject, name)
        return _One(delete=copy.ref if copy else None, trouble=trouble)
    text = made_of(sources)
    if copy and copy.sources == text:
        return _One(text=text)
    wish = SecretCopy(
        namespace=subject.namespace,
        name=shares.copy_name(name),
        shared=name,
        labels=subject.labels,
        sources=sources,
        made_of=text,
        replaces=copy.ref if copy else None,
    )
    return _One(text=text, copy=wish)


def levels(identity: Identity) -> tuple[str, str, str]:
    """The namespaces that a shared Secret may be in, the weakest first. Raises InvalidName."""
    return identity.team, project_namespace(identity.team, identity.project), workload_namespace(identity)


def made_of(sources: Sequence[Ref]) -> str:
    """`acme/<uid>@<resourceVersion> acme--shop/<uid>@<resourceVersion>`: as the copy's annotation says it."""
    return " ".join(f"{ref.namespace}/{ref.uid}@{ref.resource_version}" for ref in sources)


# What people are told


def _not_found(subject: Subject, name: str) -> Trouble:
    team, project, own = levels(subject.identity)
    return Trouble(
        "SecretNotFound",
        f"The Project shares Secret {name}, but neither namespace {team} nor {project} nor {own} has it. "
        f"Create it ({_creating(name, project)}), or take it out of the Project's spec.secrets.",
    )


def _taken(subject: Subject, name: str) -> Trouble:
    return Trouble(
        "RefusedByCluster",
        f"Secret {shares.copy_name(name)} exists in namespace {subject.namespace} and was not made for this "
        "environment: remove it.",
    )


def _closed_team(subject: Subject, name: str) -> Trouble:
    team, project, own = levels(subject.identity)
    return Trouble(
        "SecretNotReadable",
        f"The Project shares Secret {name}, but neither namespace {project} nor {own} has it, and that of team {team} "
        f"may not be read. Create it ({_creating(name, project)}), or the platform's people let it be read "
        f"({_letting_in(subject)}).",
    )


def _closed_later(subject: Subject, name: str) -> Trouble:
    return Trouble(
        "SecretNotReadable",
        f"Secret {name} has keys of team {subject.identity.team}, whose namespace may not be read any more: what was "
        f"given stays as it is. The platform's people let it be read again ({_letting_in(subject)}), or it is taken "
        "out of the Project's spec.secrets.",
    )


def _closed(subject: Subject, namespace: str) -> Trouble:
    return Trouble(
        "SecretNotReadable",
        f"The Secrets of the Project's spec.secrets cannot be read in namespace {namespace}: RoleBinding "
        f"{shares.BINDING} there, or its ClusterRole, does not let env-controller in. "
        "The platform's people compare it with deploy/k8s (kubectl describe rolebinding "
        f"{shares.BINDING} --namespace {namespace}).",
    )


def _creating(name: str, namespace: str) -> str:
    return f"kubectl create secret generic {name} --namespace {namespace} --from-env-file FILE"


def _letting_in(subject: Subject) -> str:
    account = f"{subject.platform.system_namespace}:{shares.ACCOUNT}"
    return (
        f"kubectl create rolebinding {shares.BINDING} --namespace {subject.identity.team} "
        f"--clusterrole {shares.READER} --serviceaccount {account}"
    )


def _together(troubles: Mapping[str, Trouble]) -> Trouble | None:
    """The first one, and of which others there is something to say, too."""
    if not troubles:
        return None
    first, *others = troubles
    more = f" Not given either: {', '.join(others)}." if others else ""
    return Trouble(troubles[first].reason, troubles[first].sentence + more)


def sentence(found: Sharing, *, fork: bool) -> str:
    """What is given, and what is not."""
    given = f"Given: {', '.join(found.given)}." if found.given else ""
    to = "environments of forks" if fork else "this type of environment"
    kept = f"Not given to {to}: {', '.join(found.withheld)}." if found.withheld else ""
    return " ".join(part for part in (given, kept) if part)


def explained(trouble: Trouble, found: Sharing, *, fork: bool) -> Trouble:
    """A container that waits for a Secret which the Project keeps from this environment."""
    named = [name for name in found.withheld if f'secret "{name}"' in trouble.sentence]
    if trouble.reason != "SecretNotFound" or not named:
        return trouble
    return Trouble(trouble.reason, f"{trouble.sentence} {_kept(named[0], fork=fork)}", trouble.log)


def unmounted(part: Part, found: Sharing, pods: Sequence[Manifest], now: datetime, *, fork: bool) -> Trouble | None:
    """Of a Secret that is mounted and not there the kubelet tells in events only: the pod's sandbox is never made."""
    mounted = {volume.secret.name for volume in part.component.volumes if volume.secret}
    kept = [name for name in found.withheld if name in mounted]
    pod = next(iter(newest_of(part.name, pods)), None)
    if not kept or pod is None:
        return None
    conditions = pod.get("status", {}).get("conditions", ())
    waits = (each for each in conditions if each["type"] == "PodReadyToStartContainers" and each["status"] == "False")
    since = next((each.get("lastTransitionTime") for each in waits), None)
    if since is None or (now - datetime.fromisoformat(since)).total_seconds() < UNMOUNTED:
        return None
    return Trouble("SecretNotFound", f"{part.name} mounts Secret {kept[0]} and waits. {_kept(kept[0], fork=fork)}")


def _kept(name: str, *, fork: bool) -> str:
    to = "environments of forks (forks: false)" if fork else "this type of environment (types)"
    return (
        f"The Project's spec.secrets does not give {name} to {to}. Mark the reference optional, create a Secret of "
        "that name in the environment, or change it in the Project."
    )
