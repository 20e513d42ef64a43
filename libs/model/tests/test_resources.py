"""Reading is tolerant, writing exact; what the model refuses names the field."""

from typing import Any

import pytest
from pydantic import ValidationError

from catalyst.model.environment import Environment, EnvironmentSpec, EnvironmentStatus, Phase, ProjectRef
from catalyst.model.examples import ENVIRONMENT, EXAMPLES, PROJECT, changed
from catalyst.model.fields import Json
from catalyst.model.manifest import Manifest, ref_of
from catalyst.model.names import Identity, InvalidName
from catalyst.model.project import Project, ProjectSpec, Source
from catalyst.model.resource import ObjectMeta, Resource

MODELS: dict[str, type[Resource]] = {"Project": Project, "Environment": Environment}
kinds = pytest.mark.parametrize("kind", sorted(MODELS))


def everywhere(value: Any, key: str) -> Any:
    """The same JSON with one more key in every object."""
    if isinstance(value, dict):
        return {name: everywhere(child, key) for name, child in value.items()} | {key: {"x": 1}}
    return [everywhere(child, key) for child in value] if isinstance(value, list) else value


def fields_of(node: Json, definitions: Json) -> set[str]:
    """The paths of all fields of a JSON Schema, lists and maps read through."""
    if "$ref" in node:
        return fields_of(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    inside = [*node.get("anyOf", ()), node.get("items"), node.get("additionalProperties")]
    inside += node.get("patternProperties", {}).values()
    found = {path for child in inside if isinstance(child, dict) for path in fields_of(child, definitions)}
    for name, child in node.get("properties", {}).items():
        found |= {name} | {f"{name}.{path}" for path in fields_of(child, definitions)}
    return found


def used_fields(value: Any, under: Json, definitions: Json) -> set[str]:
    """The paths of the schema that a value uses; keys of maps are not fields."""
    if "$ref" in under:
        return used_fields(value, definitions[under["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in under:
        return {path for choice in under["anyOf"] for path in used_fields(value, choice, definitions)}
    if isinstance(value, list):
        return {path for child in value for path in used_fields(child, under.get("items", {}), definitions)}
    if not isinstance(value, dict):
        return set()
    if "properties" not in under:
        values = next(iter(under.get("patternProperties", {}).values()), under.get("additionalProperties", {}))
        children = value.values() if isinstance(values, dict) else ()
        return {path for child in children for path in used_fields(child, values, definitions)}
    found = set()
    for name, child in value.items():
        inner = used_fields(child, under["properties"][name], definitions)
        found |= {name} | {f"{name}.{path}" for path in inner}
    return found


@kinds
def test_what_is_read_is_written_again(kind: str) -> None:
    parsed = MODELS[kind].parse(EXAMPLES[kind])
    assert parsed.manifest() == EXAMPLES[kind]
    assert MODELS[kind].parse(parsed.manifest()) == parsed


@kinds
def test_unknown_fields_are_read_over_and_never_written(kind: str) -> None:
    newer = everywhere(EXAMPLES[kind], "fromTheFuture")
    # A map takes any key, so there an unknown one would be an entry: those are put back.
    for path in (
        "spec/overrides/components",
        "status/builds",
        "status/answers/routes",
        "status/answers/builds",
        "metadata/labels",
        "metadata/annotations",
    ):
        newer = restored(newer, EXAMPLES[kind], path)
    for path in (
        "spec/components/0/build/args",
        "spec/components/0/resources/requests",
        "spec/components/0/resources/limits",
        "spec/services/0/container/resources/limits",
        "spec/definition/helm/values",
        "spec/development/quota",
        "spec/development/limits/default",
        "spec/development/limits/defaultRequest",
        "spec/development/limits/max",
    ):
        newer = restored(newer, EXAMPLES[kind], path)
    assert "fromTheFuture" in str(newer["spec"])
    assert MODELS[kind].parse(newer).manifest() == EXAMPLES[kind]


def restored(manifest: Manifest, original: Manifest, path: str) -> Manifest:
    node: Any = original
    for part in path.split("/"):
        key = int(part) if part.isdigit() else part
        if isinstance(node, dict) and key not in node:
            return manifest
        node = node[key]
    return changed(manifest, path, node)


@kinds
def test_defaults_nobody_chose_are_not_written(kind: str) -> None:
    spec: dict[str, Manifest] = {
        "Project": {"source": {"repository": "acme/shop"}},
        "Environment": {"projectRef": {"team": "acme", "name": "shop"}},
    }
    least = {"apiVersion": "catalyst.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec[kind]}
    assert MODELS[kind].parse(least).manifest() == least


def test_defaults_are_known_to_the_reader() -> None:
    project = Project(metadata=ObjectMeta(name="shop"), spec=ProjectSpec(source=Source(repository="acme/shop")))
    triggers = project.spec.triggers
    assert (triggers.manual, triggers.agents, triggers.pull_requests.enabled) == (True, True, True)
    assert (triggers.pull_requests.drafts, triggers.pull_requests.forks) == (False, "Approval")
    environment = Environment(
        metadata=ObjectMeta(name="main"), spec=EnvironmentSpec(project_ref=ProjectRef(team="acme", name="shop"))
    )
    assert (environment.spec.type, environment.spec.desired_state) == ("Development", "Running")
    assert environment.manifest()["spec"] == {"projectRef": {"team": "acme", "name": "shop"}}


def test_a_default_chosen_or_not_is_the_same_value() -> None:
    assert EnvironmentStatus() == EnvironmentStatus(phase=Phase.PENDING)


def test_the_writer_refuses_a_field_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="reposiotry"):
        Source.model_validate({"repository": "acme/shop", "reposiotry": "x"})


@kinds
def test_the_example_uses_every_field(kind: str) -> None:
    schema = MODELS[kind].model_json_schema(by_alias=True)
    for part in ("spec", "status"):
        every = fields_of(schema["properties"][part], schema["$defs"])
        used = used_fields(EXAMPLES[kind][part], schema["properties"][part], schema["$defs"])
        # One of several alternatives, and settings shared by containers, need not be used at each place.
        missing = {path for path in every - used if path.count(".") <= 2}
        assert missing <= OPTIONAL, f"{kind}.{part}: show it in examples.py"


OPTIONAL = {
    "components.initContainers.args", "components.initContainers.env", "components.initContainers.envFrom",
    "components.initContainers.resources", "components.initContainers.volumeMounts",
    "components.initContainers.workingDir",
    "components.livenessProbe.exec", "components.livenessProbe.failureThreshold", "components.livenessProbe.grpc",
    "components.livenessProbe.httpGet", "components.livenessProbe.initialDelaySeconds",
    "components.livenessProbe.successThreshold", "components.livenessProbe.timeoutSeconds",
    "components.readinessProbe.exec", "components.readinessProbe.failureThreshold", "components.readinessProbe.grpc",
    "components.readinessProbe.initialDelaySeconds", "components.readinessProbe.periodSeconds",
    "components.readinessProbe.successThreshold", "components.readinessProbe.tcpSocket",
    "components.readinessProbe.timeoutSeconds",
    "components.startupProbe.grpc", "components.startupProbe.httpGet", "components.startupProbe.initialDelaySeconds",
    "components.startupProbe.periodSeconds", "components.startupProbe.successThreshold",
    "components.startupProbe.tcpSocket", "components.startupProbe.timeoutSeconds",
    "services.container.args", "services.container.command", "services.container.env", "services.container.envFrom",
    "services.container.image", "services.container.volumeMounts", "services.container.workingDir",
    "definition.compose", "definition.devcontainer", "definition.manifests", "definition.manifests.kustomize",
    "definition.manifests.paths", "deployments.approval.checks",
    "overrides.components.image", "overrides.components.resources", "answers.routes.reason",
}  # fmt: skip


def test_the_identity_of_an_environment() -> None:
    assert Environment.parse(ENVIRONMENT).identity == Identity("acme", "shop", "pr-42")
    with pytest.raises(InvalidName, match="environment 'a--b'"):
        _ = Environment.parse(changed(ENVIRONMENT, "metadata/name", "a--b")).identity


def test_a_ref_names_object_life_and_version() -> None:
    stored = changed(changed(ENVIRONMENT, "metadata/uid", "u1"), "metadata/resourceVersion", "7")
    ref = Environment.parse(stored).ref
    assert (ref, ref.uid, ref.resource_version) == (ref_of(stored), "u1", "7")
    assert str(ref) == "Environment acme--shop/pr-42"
    assert str(ref_of({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acme"}})) == "Namespace acme"


def test_the_team_is_the_namespace() -> None:
    assert Project.parse(PROJECT).team == "acme"


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="expiresAt"):
        Environment.parse(changed(ENVIRONMENT, "spec/expiresAt", "2026-11-23T20:00:00"))
