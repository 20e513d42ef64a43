"""Services beside the components: what is made of an entry, what is refused of it, and what components are told."""

import re
from string import Template
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import PLATFORM, project, subject

from catalyst.env_controller.core.backing import credentials, environment, manifests, served, unsupported
from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.platform import Platform
from catalyst.model.manifest import Manifest
from catalyst.model.names import NAME_PATTERN

POSTGRES = {"name": "db", "engine": "postgres"}
REDIS = {"name": "cache", "engine": "redis"}


def having(*services: dict[str, Any], platform: Platform = PLATFORM) -> Subject:
    return subject(project_=project(services=list(services)), platform=platform)


def one(found: Subject, kind: str) -> Manifest:
    (manifest,) = (manifest for manifest in manifests(found) if manifest["kind"] == kind)
    return manifest


def variables(found: Subject) -> dict[str, tuple[str, str]]:
    """By name: the Secret and its key."""
    told = {}
    for variable in environment(found):
        ref = variable["valueFrom"]["secretKeyRef"]
        told[variable["name"]] = (ref["name"], ref["key"])
    return told


def test_a_project_without_services_gets_nothing() -> None:
    assert (manifests(having()), credentials(having()), environment(having())) == ([], (), [])


def test_a_postgres() -> None:
    found = having(POSTGRES)
    pod = one(found, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "postgres:15"
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "POSTGRES_USER": "app",
        "POSTGRES_DB": "app",
        "POSTGRES_PASSWORD": None,
        "PGDATA": "/var/lib/postgresql/data/pgdata",
    }
    assert container["readinessProbe"]["exec"]["command"][0] == "pg_isready"
    assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "db.data"}}]
    assert one(found, "PersistentVolumeClaim")["metadata"]["name"] == "db.data"
    assert one(found, "PersistentVolumeClaim")["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    assert one(found, "Service")["spec"]["ports"][0]["port"] == 5432
    assert variables(found) == {
        "DATABASE_URL": ("db", "url"),
        **{f"DB_{key.upper()}": ("db", key) for key in ("host", "port", "user", "database", "password", "url")},
    }


def test_a_redis_reads_its_password_from_a_file() -> None:
    found = having(REDIS)
    pod = one(found, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "redis:7"
    assert container["args"] == ["redis-server", "/etc/catalyst/redis.conf"]
    assert pod["volumes"][1]["secret"]["items"] == [{"key": "redis.conf", "path": "redis.conf"}]
    assert "requirepass $password\n" in credentials(found)[0].values["redis.conf"]
    assert variables(found) == {
        "REDIS_URL": ("cache", "url"),
        **{f"CACHE_{key.upper()}": ("cache", key) for key in ("host", "port", "password", "url")},
    }


def test_what_the_entry_says_counts() -> None:
    found = having(
        POSTGRES
        | {
            "version": "16.4",
            "storage": {"size": "5Gi", "storageClassName": "fast"},
            "credentialsRef": {"name": "db-login"},
            "container": {
                "args": ["postgres", "-c", "fsync=off"],
                "env": [{"name": "TZ", "value": "UTC"}],
                "resources": {"limits": {"memory": "1Gi"}},
            },
        }
    )
    (container,) = one(found, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "postgres:16.4"
    assert container["args"] == ["postgres", "-c", "fsync=off"]
    assert {"name": "TZ", "value": "UTC"} in container["env"]
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    claim = one(found, "PersistentVolumeClaim")["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "5Gi")
    assert credentials(found)[0].name == "db-login"
    assert {secret for secret, _ in variables(found).values()} == {"db-login"}


def test_the_first_of_an_engine_has_the_usual_name_unless_a_service_is_called_so() -> None:
    told = variables(having(POSTGRES, POSTGRES | {"name": "other"}))
    assert told["DATABASE_URL"] == ("db", "url")
    told = variables(having(POSTGRES, POSTGRES | {"name": "database"}))
    assert told["DATABASE_URL"] == ("database", "url")


@pytest.mark.parametrize(
    ("service", "path", "why"),
    [
        (POSTGRES | {"version": "12"}, "version", "13 to 17"),
        (POSTGRES | {"version": "15-alpine"}, "version", "13 to 17"),
        (POSTGRES | {"version": "18"}, "version", "13 to 17"),
        (REDIS | {"version": "6"}, "version", "7 or 8"),
        (POSTGRES | {"version": "15", "container": {"image": "mine:1"}}, "version", "name one of them"),
        ({"name": "files", "engine": "s3"}, "engine", "postgres, redis"),
        (POSTGRES | {"name": "d" * 53}, "name", "at most 52"),
        (POSTGRES | {"name": "catalyst-pull"}, "name", "pull secret"),
        (POSTGRES | {"credentialsRef": {"name": "catalyst-pull"}}, "credentialsRef", "pull secret"),
    ],
)
def test_what_is_not_made_is_named(service: dict[str, Any], path: str, why: str) -> None:
    found = having(service)
    ((field, message),) = unsupported(found.project).items()
    assert field == f"spec.services[{service['name']}].{path}"
    assert why in message
    assert (manifests(found), credentials(found), environment(found)) == ([], (), [])


@pytest.mark.parametrize("version", ["13", "15", "15-bookworm", "16.4", "17"])
def test_versions_that_are_made(version: str) -> None:
    assert unsupported(having(POSTGRES | {"version": version}).project) == {}


def test_two_services_do_not_share_a_password() -> None:
    found = having(POSTGRES, REDIS | {"credentialsRef": {"name": "db"}})
    assert unsupported(found.project) == {
        "spec.services[cache].credentialsRef": "Secret db belongs to db: name another"
    }
    assert [service.name for service in served(found)] == ["db"]


def test_a_backup_is_named_and_the_service_made() -> None:
    found = having(POSTGRES | {"backup": {}})
    assert list(unsupported(found.project)) == ["spec.services[db].backup"]
    assert len(manifests(found)) == 3


def test_the_pod_is_as_restricted_as_can_be() -> None:
    for services in ((POSTGRES,), (REDIS,)):
        pod = one(having(*services), "StatefulSet")["spec"]["template"]["spec"]
        assert pod["hostUsers"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        bare = one(having(*services, platform=Platform(user_namespaces=False)), "StatefulSet")
        assert "hostUsers" not in bare["spec"]["template"]["spec"]


names = st.from_regex(NAME_PATTERN[:-1] + r"\Z").filter(lambda name: len(name) <= 52 and name != "catalyst-pull")
entries = st.lists(
    st.builds(lambda name, engine: {"name": name, "engine": engine}, names, st.sampled_from(["postgres", "redis"])),
    max_size=8,
    unique_by=lambda entry: entry["name"],
)


@given(entries)
def test_every_variable_leads_to_a_secret_that_is_made_and_names_never_meet(services: list[dict[str, str]]) -> None:
    found = having(*services)
    made = {secret.name: secret.values for secret in credentials(found)}
    for secret, key in variables(found).values():
        assert key in made[secret]
    told = [variable["name"] for variable in environment(found)]
    assert len(told) == len(set(told))
    assert all(re.fullmatch("[A-Z_][A-Z0-9_]*", name) for name in told)
    assert sum(name.endswith("_HOST") for name in told) >= len(services)


@given(entries)
def test_no_manifest_holds_a_password(services: list[dict[str, str]]) -> None:
    found = having(*services)
    assert "$password" not in str(manifests(found)) + str(environment(found))
    for secret in credentials(found):
        for text in secret.values.values():
            Template(text).substitute(password="p")
