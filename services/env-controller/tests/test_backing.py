"""A postgres and a redis beside the components: what is made, what components are told, and how it is followed."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import GRANTS, NOW, at, environment, project, stored, subject

from catalyst.env_controller.core import backing
from catalyst.env_controller.core.deploying import deploy, look_for
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Decision, Observed, World
from catalyst.model.environment import Environment, EnvironmentStatus
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.project import Project

DB: dict[str, Any] = {"name": "db", "engine": "postgres"}
CACHE: dict[str, Any] = {"name": "my-cache", "engine": "redis"}
WEB: dict[str, Any] = {"name": "web", "image": "nginx"}
READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "wanted": 1}


def asked(*services: dict[str, Any], **web: Any) -> Project:
    return project(components=[{**WEB, **web}], services=list(services))


def decided(
    of: Project, *there: Observed, status: EnvironmentStatus | None = None, now: Any = NOW, **world: Any
) -> Decision:
    about: Environment = environment(source={"commit": "a" * 40})
    namespace = Observed(Ref("v1", "Namespace", "", "acme--shop--pr-42", "u", "1"))
    seen = World(Platform(), of, GRANTS, namespace, {one.key: one for one in there}, **world)
    return deploy(subject(about, of), seen, status or EnvironmentStatus(), now)


def is_there(manifest: Manifest, **status: Any) -> Observed:
    return replace(stored(manifest, "uid-1"), generation=1, status={**READY, **status})


def kinds(manifests: tuple[Manifest, ...]) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in manifests}


def set_of(of: Project, index: int = 0) -> Manifest:
    return backing.manifests(subject(project_=of), of.spec.services[index])[0]


def test_a_postgres_runs_as_its_own_user_with_a_disk() -> None:
    made = set_of(asked(DB))
    spec = made["spec"]
    pod, (claim,) = spec["template"]["spec"], spec["volumeClaimTemplates"]
    (container,) = pod["containers"]
    assert claim == {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    assert container["image"] == "postgres:15"
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "POSTGRES_USER": "app",
        "POSTGRES_DB": "app",
        "POSTGRES_PASSWORD": None,
        "PGDATA": "/data/pgdata",
    }
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (999, 999)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"], pod["hostUsers"]) == (False, False, False)
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_version_and_disk_as_asked() -> None:
    spec = set_of(asked({**CACHE, "version": "7.2", "storage": {"size": "3Gi", "storageClassName": "fast"}}))["spec"]
    assert spec["template"]["spec"]["containers"][0]["image"] == "redis:7.2"
    claim = spec["volumeClaimTemplates"][0]["spec"]
    assert (claim["resources"]["requests"]["storage"], claim["storageClassName"]) == ("3Gi", "fast")


def test_what_components_are_told_without_any_password_in_it() -> None:
    (deployment,) = [m for m in decided(asked(DB, CACHE)).apply if m["kind"] == "Deployment"]
    env = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert {
        name: each["value"] for name, each in env.items() if name.startswith(("DB_", "MY_")) and "value" in each
    } == {
        "DB_HOST": "db",
        "DB_PORT": "5432",
        "DB_USER": "app",
        "DB_DATABASE": "app",
        "MY_CACHE_HOST": "my-cache",
        "MY_CACHE_PORT": "6379",
    }
    for name, secret, key in (
        ("DATABASE_URL", "db", "url"),
        ("DB_URL", "db", "url"),
        ("DB_PASSWORD", "db", "password"),
        ("REDIS_URL", "my-cache", "url"),
        ("MY_CACHE_PASSWORD", "my-cache", "password"),
    ):
        wanted = {"secretKeyRef": {"name": f"{secret}-credentials", "key": key}}
        assert env[name] == {"name": name, "valueFrom": wanted}


def test_what_the_project_says_itself_counts() -> None:
    of = asked(DB, env=[{"name": "DATABASE_URL", "value": "mine"}])
    (deployment,) = [m for m in decided(of).apply if m["kind"] == "Deployment"]
    env = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["DATABASE_URL"] == {"name": "DATABASE_URL", "value": "mine"}


def test_short_names_are_the_first_of_each_engine() -> None:
    of = asked({"name": "database", "engine": "redis"}, DB, {**DB, "name": "second"})
    told = {each["name"]: each for each in backing.variables(of)}
    assert told["DATABASE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "db-credentials"
    assert told["REDIS_URL"]["valueFrom"]["secretKeyRef"]["name"] == "database-credentials"


def test_credentials_are_made_with_the_service_and_never_again() -> None:
    of = asked(DB, CACHE)
    first = decided(of)
    assert {secret.name: dict(secret.values) for secret in first.secrets} == {
        "db-credentials": {"password": "$password", "url": "postgresql://app:$password@db:5432/app"},
        "my-cache-credentials": {"password": "$password", "url": "redis://:$password@my-cache:6379/0"},
    }
    assert [secret.name for secret in decided(of, is_there(set_of(of))).secrets] == ["my-cache-credentials"]
    changed = is_there({**set_of(of), "metadata": {**set_of(of)["metadata"], "annotations": {}}})
    repaired = decided(of, changed, is_there(set_of(of, 1)))
    assert ("StatefulSet", "db") in kinds(repaired.apply)
    assert repaired.secrets == ()


def test_who_depends_on_it_waits_for_it_and_nobody_else_does() -> None:
    of = asked(DB, dependsOn=["db"])
    assert kinds(decided(of).apply) == {("StatefulSet", "db"), ("Service", "db")}
    assert ("Deployment", "web") not in kinds(decided(of, is_there(set_of(of), availableReplicas=0)).apply)
    assert ("Deployment", "web") in kinds(decided(of, is_there(set_of(of))).apply)
    assert ("Deployment", "web") in kinds(decided(asked(DB)).apply)


def test_its_state_is_said_beside_the_components() -> None:
    of = asked(DB)
    unready = is_there(set_of(of), availableReplicas=0)
    status = decided(of, unready).status
    assert isinstance(status, EnvironmentStatus)
    said = {component.name: component for component in status.components}
    assert (said["db"].ready, said["db"].reason, said["db"].image) == (False, None, "postgres:15")
    deployed = status.condition("Deployed")
    assert deployed is not None
    assert deployed.message == "Not ready yet: web, db."

    waits = {
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "404"}},
        "name": "db",
        "image": "postgres:15",
    }
    pod = {
        "metadata": {"name": "db-0", "labels": {"catalyst.dev/component": "db"}},
        "status": {"containerStatuses": [waits]},
    }
    broken = decided(of, unready, pods=[pod]).status
    assert isinstance(broken, EnvironmentStatus)
    deployed = broken.condition("Deployed")
    assert deployed is not None
    assert (deployed.reason, deployed.message.partition(" of ")[0]) == ("ImagePull", "db: The image postgres:15")

    ready = decided(of, is_there(set_of(of))).status
    assert isinstance(ready, EnvironmentStatus)
    assert {component.name: component.ready for component in ready.components} == {"web": False, "db": True}


def test_a_pod_that_may_not_be_made_is_said_after_a_while() -> None:
    of = asked(DB)
    none = is_there(set_of(of), replicas=0, availableReplicas=0, updatedReplicas=0)
    first = decided(of, none)
    assert isinstance(first.status, EnvironmentStatus)
    assert first.requeue_after == 2.0
    later = decided(of, none, status=first.status, now=at(31)).status
    assert isinstance(later, EnvironmentStatus)
    assert [c.reason for c in later.components if c.name == "db"] == ["Quota"]


def test_its_pods_are_looked_at_while_it_is_not_ready() -> None:
    of, about = asked(DB), environment()
    namespace = Observed(Ref("v1", "Namespace", "", "n", "u", "1"))
    for status, looks in (({"availableReplicas": 0}, True), ({}, False)):
        one = is_there(set_of(of), **status)
        assert look_for(about, World(Platform(), of, GRANTS, namespace, {one.key: one})).pods is looks


def test_what_is_taken_out_goes() -> None:
    of = asked(DB)
    there = [
        stored(manifest, f"uid-{n}") for n, manifest in enumerate(backing.manifests(subject(), of.spec.services[0]))
    ]
    gone = decided(asked(), *there)
    assert {(ref.kind, ref.name) for ref in gone.delete} == {("StatefulSet", "db"), ("Service", "db")}


@pytest.mark.parametrize("engine", list(backing.ENGINES))
@given(data=st.data())
def test_whatever_its_name_the_password_stands_only_in_its_secret(engine: str, data: st.DataObject) -> None:
    name = data.draw(st.from_regex(r"[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,5}){0,3}", fullmatch=True))
    of = asked({"name": name, "engine": engine})
    (service,) = backing.backings(of)
    (secret,) = [backing.credentials(subject(project_=of), service)]
    assert set(secret.values) == {"password", "url"}
    names = [each["name"] for each in backing.variables(of)]
    assert len(names) == len(set(names))
    assert all(each.isidentifier() for each in names)
    assert "$password" not in str(backing.manifests(subject(project_=of), service)) + str(backing.variables(of))
    assert set(secret.labels) >= {"catalyst.dev/environment-uid", "catalyst.dev/component"}
