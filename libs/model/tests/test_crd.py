"""The generated CRDs as the real API server takes them: structural, affordable, and every refusal names the field."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from catalyst.local.control_plane import ControlPlane
from catalyst.model.crd import crds
from catalyst.model.environment import Environment
from catalyst.model.examples import COMMIT, ENVIRONMENT, EXAMPLES, NOW, PROJECT, changed
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project

MODELS = {"Project": Project, "Environment": Environment}
APPLY = {"fieldManager": "test", "force": "true"}
LATER = "2027-01-01T00:00:00Z"
LIVE = changed(ENVIRONMENT, "spec/deletion", ...)


@pytest.fixture(scope="module")
def admin(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Admin of a cluster of its own, with our CRDs and no policy: what is refused here, the schema refuses."""
    with ControlPlane(tmp_path_factory.mktemp("crd"), binaries) as control_plane:
        client = control_plane.admin
        for crd in crds():
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            answer = apply(client, path, crd)
            assert answer.status_code == 201, answer.text
        for manifest in EXAMPLES.values():
            name = manifest["metadata"]["namespace"]
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            assert apply(client, f"/api/v1/namespaces/{name}", namespace).status_code == 201
        deadline = time.monotonic() + 10
        while any(client.get(path_of(manifest)).status_code != 200 for manifest in EXAMPLES.values()):
            assert time.monotonic() < deadline, "the CRDs were not served within 10 s"
            time.sleep(0.05)
        yield client


def apply(client: httpx.Client, path: str, manifest: Manifest, **params: str) -> httpx.Response:
    headers = {"content-type": "application/apply-patch+yaml"}
    return client.patch(path, json=manifest, params=APPLY | params, headers=headers)


def path_of(manifest: Manifest) -> str:
    namespace, plural = manifest["metadata"]["namespace"], f"{manifest['kind'].lower()}s"
    return f"/apis/catalyst.dev/v1alpha1/namespaces/{namespace}/{plural}"


def create(client: httpx.Client, manifest: Manifest, *, dry: bool = True) -> httpx.Response:
    params = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry else {})
    return client.post(path_of(manifest), json=manifest, params=params)


def message(answer: httpx.Response) -> str:
    text: str = answer.json()["message"]
    return text


@pytest.fixture
def stored(admin: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Manifest]:
    """An Environment in the cluster, with recorded deletion if so asked."""
    manifest = changed(getattr(request, "param", LIVE), "metadata/finalizers", [])
    answer = create(admin, manifest, dry=False)
    assert answer.status_code == 201, answer.text
    yield answer.json()
    assert admin.delete(f"{path_of(manifest)}/pr-42").status_code == 200


def test_the_schemas_are_structural_and_established(admin: httpx.Client) -> None:
    for crd in crds():
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        conditions = {c["type"]: (c["status"], c["message"]) for c in admin.get(path).json()["status"]["conditions"]}
        assert conditions["Established"][0] == "True", conditions
        assert "NonStructuralSchema" not in conditions, conditions


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_the_example_is_accepted_and_kept_whole(admin: httpx.Client, kind: str) -> None:
    answer = create(admin, EXAMPLES[kind])
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == MODELS[kind].parse(answer.json()).manifest()["spec"]
    for field, value in EXAMPLES[kind]["spec"].items():
        if field not in ("components", "services"):
            assert answer.json()["spec"][field] == value


def test_status_is_written_by_its_own_door(admin: httpx.Client, stored: Manifest) -> None:
    assert "status" not in stored, "status sent on create is dropped"
    path = f"{path_of(stored)}/pr-42"
    status = {key: ENVIRONMENT[key] for key in ("apiVersion", "kind", "status")} | {"metadata": {"name": "pr-42"}}
    answer = apply(admin, f"{path}/status", status)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == ENVIRONMENT["status"], "what is written is what is stored: no default comes in"
    assert answer.json()["metadata"]["generation"] == stored["metadata"]["generation"]


def test_defaults_are_filled_in(admin: httpx.Client) -> None:
    least = {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "least", "namespace": "acme"},
        "spec": {"source": {"repository": "acme/shop"}, "components": [{"name": "web", "build": {}}]},
    }
    spec = create(admin, least).json()["spec"]
    assert spec["source"]["forge"] == "github"
    assert spec["paused"] is False
    assert spec["triggers"] == {
        "agents": True,
        "manual": True,
        "pullRequests": {"enabled": True, "drafts": False, "forks": "Approval", "labels": {}},
    }
    assert spec["development"] == {"limits": {}}
    assert spec["components"] == [{"name": "web", "replicas": 1, "build": {"context": ".", "dockerfile": "Dockerfile"}}]
    environment = {**LIVE, "spec": {"projectRef": {"team": "acme", "name": "shop"}}}
    spec = create(admin, environment).json()["spec"]
    assert (spec["type"], spec["desiredState"], spec["source"]) == ("Development", "Running", {})


# Kind, field, refused value, words of the refusal, allowed twin.
Case = tuple[str, str, Any, str, Any]
P, E = "Project", "Environment"
WEB = "spec/components/0"
PROBE = f"{WEB}/livenessProbe"
PATH = "expected a path inside the repository"
PATTERNS: list[Case] = [
    (P, "spec/source/repository", "shop", "spec.source.repository", "Acme/.github"),
    (P, "spec/source/repository", "-a/shop", "spec.source.repository", "a-b/-shop"),
    (P, "spec/source/repository", "acme/..", "spec.source.repository", "acme/a..b"),
    (P, "spec/source/repository", "https://github.com/acme/shop", "spec.source.repository", "acme/shop.js"),
    (P, "spec/source/repository", "acme/shop\n", "spec.source.repository", "acme/shop_"),
    (P, "spec/source/forge", "sourceforge", "spec.source.forge", "github"),
    (P, "spec/source/defaultBranch", "--upload-pack=x", "spec.source.defaultBranch", "feature/ä-1"),
    (P, "spec/source/defaultBranch", "a..b", "expected a git branch", "a.b"),
    (P, "spec/source/defaultBranch", "a b", "spec.source.defaultBranch", "a@b"),
    (P, "spec/source/credentialsRef/name", "A", "spec.source.credentialsRef.name", "a.b"),
    (P, "spec/triggers/branches/0/pattern", "-x", "spec.triggers.branches[0].pattern", "*"),
    (P, "spec/triggers/pullRequests/forks", "Sometimes", "spec.triggers.pullRequests.forks", "Always"),
    (P, f"{WEB}/name", "a--b", "spec.components[0].name", "a-b"),
    (P, f"{WEB}/name", "x" * 61, "spec.components[0].name", "x" * 60),
    (P, f"{WEB}/build/context", "/etc", "spec.components[0].build.context", "etc"),
    (P, f"{WEB}/build/context", "../../x", PATH, "..x/y.."),
    (P, f"{WEB}/build/context", "a/..", PATH, "a/..."),
    (P, f"{WEB}/build/context", "-v", "spec.components[0].build.context", "."),
    (P, f"{WEB}/build/context", "a\\b", "spec.components[0].build.context", "a/ b"),
    (P, f"{WEB}/build/dockerfile", "a/../Dockerfile", PATH, "a/Dockerfile"),
    (P, f"{WEB}/build/target", "--target", "spec.components[0].build.target", "a.b_c"),
    (P, f"{WEB}/build/args", {"1A": "x"}, "spec.components[0].build.args", {"A1": "x"}),
    (P, f"{WEB}/workingDir", "srv", "spec.components[0].workingDir", "/"),
    (P, f"{WEB}/replicas", -1, "spec.components[0].replicas", 0),
    (P, f"{WEB}/replicas", 51, "spec.components[0].replicas", 50),
    (P, f"{WEB}/ports/0/containerPort", 65536, "spec.components[0].ports[0].containerPort", 65535),
    (P, f"{WEB}/ports/0/containerPort", 0, "spec.components[0].ports[0].containerPort", 1),
    (P, f"{WEB}/ports/0/name", "8080", "spec.components[0].ports[0].name", "http-2"),
    (P, f"{WEB}/ports/0/protocol", "SCTP", "spec.components[0].ports[0].protocol", "UDP"),
    (P, f"{WEB}/env/0/name", "1A", "spec.components[0].env[0].name", "_A"),
    (P, f"{WEB}/env/0/name", "A=B", "spec.components[0].env[0].name", "A.B-C"),
    (P, f"{WEB}/env/1/valueFrom/secretKeyRef/key", "a/b", "secretKeyRef.key", "a.b"),
    (P, f"{WEB}/resources/limits", {"cpu": "many"}, "spec.components[0].resources.limits.cpu", {"cpu": "1.5"}),
    (P, f"{WEB}/resources/limits", {"cpu": -1}, "spec.components[0].resources.limits.cpu", {"cpu": 0}),
    (P, f"{WEB}/resources/requests", {"memory": "-1Gi"}, "spec.components[0].resources", {"memory": "1Gi"}),
    (P, f"{WEB}/volumeMounts/0/mountPath", "data", "volumeMounts[0].mountPath", "/da ta"),
    (P, f"{WEB}/volumeMounts/0/subPath", "../x", PATH, "x"),
    (P, f"{WEB}/volumes/0/persistentVolumeClaim/size", "1 GB", "persistentVolumeClaim.size", 1024),
    (P, f"{WEB}/expose/port", 0, "spec.components[0].expose.port", 80),
    (P, f"{WEB}/expose/path", "start", "spec.components[0].expose.path", "/a?b"),
    (P, "spec/components/1/image", "-x", "spec.components[1].image", f"a/b@sha256:{'a' * 64}"),
    (P, "spec/services/0/engine", "oracle", "spec.services[0].engine", "redis"),
    (P, "spec/services/0/backup/keep", 0, "spec.services[0].backup.keep", 365),
    (P, "spec/definition/helm/chart", "/chart", "spec.definition.helm.chart", "chart"),
    (P, "spec/definition/helm/valuesFiles", ["../x"], PATH, ["x"]),
    (P, "spec/development/egress/0/cidr", "10.0.0.1/8", "expected a network", "10.0.0.0/8"),
    (P, "spec/development/egress/0/cidr", "example.org", "expected a network", "2001:db8::/32"),
    (P, "spec/secrets/0/name", "Stripe", "spec.secrets[0].name", "stripe.live"),
    (P, "spec/secrets/0/name", "s" * 201, "spec.secrets[0].name", "s" * 200),  # its copy's name is longer
    (P, "spec/development/egress/0/cidr", "10.0.0.0", "expected a network", "10.0.0.0/32"),
    (P, "spec/development/ttl", "3 days", "spec.development.ttl", "72h"),
    (P, "spec/development/ttl", "0h", "expected a duration above zero", "1s"),
    (P, "spec/development/ttl", "-5m", "spec.development.ttl", "1h5m10s"),
    (P, "spec/development/sleep/after", "", "spec.development.sleep.after", "30m"),
    (P, "spec/deployments/1/approval/required", 11, "spec.deployments[1].approval.required", 10),
    (E, "spec/projectRef/team", "a--b", "spec.projectRef.team", "a-b"),
    (E, "spec/projectRef/name", "Shop", "spec.projectRef.name", "shop"),
    (E, "spec/type", "Production", "spec.type", "Development"),
    (E, "spec/desiredState", "Stopped", "spec.desiredState", "Sleeping"),
    (E, "spec/source/branch", "-b", "spec.source.branch", "b"),
    (E, "spec/source/commit", "0123456", "spec.source.commit", COMMIT),
    (E, "spec/source/commit", COMMIT.upper(), "spec.source.commit", "a" * 64),
    (E, "spec/source/pullRequest/number", 0, "spec.source.pullRequest.number", 1),
    (E, "spec/source/pullRequest/url", "javascript:alert(1)", "pullRequest.url", "http://gitea.example.org:3000/x"),
    (E, "spec/source/pullRequest/headRepository", "../x", "pullRequest.headRepository", "a/-b"),
    (E, "spec/hold/reason", "Because", "spec.hold.reason", "Draft"),
    (E, "spec/expiresAt", "tomorrow", "spec.expiresAt", LATER),
    (E, "spec/deletion", {"reason": "Bored", "at": NOW, "evidence": "x"}, "spec.deletion.reason", ...),
    (E, "spec/overrides/components", {"A": {}}, "spec.overrides.components", {"a": {}}),
    (E, "spec/overrides/components/web/image", "", "spec.overrides.components.web.image", "a"),
]  # fmt: skip
RULES: list[Case] = [
    (P, "metadata/name", "a--b", "metadata.name", "a-b"),
    (P, "metadata/name", "x" * 61, "metadata.name", "x" * 60),
    (E, "metadata/name", "a--b", "metadata.name", "a-b"),
    (E, "metadata/name", "a.b", "metadata.name", "ab"),
    (P, f"{WEB}/image", "a", "exactly one of build and image", ...),
    (P, "spec/components/1/image", ..., "exactly one of build and image", "a"),
    (P, f"{WEB}/env/0/valueFrom", {"secretKeyRef": {"name": "a", "key": "b"}}, "value or valueFrom, not both", ...),
    (P, f"{WEB}/env/1/valueFrom", {}, "exactly one of secretKeyRef", {"configMapKeyRef": {"name": "a", "key": "b"}}),
    (P, f"{WEB}/envFrom/0/configMapRef", {"name": "a"}, "exactly one of configMapRef and secretRef", ...),
    (P, f"{PROBE}/httpGet", {"port": 1}, "a probe needs exactly one", ...),
    (P, PROBE, {"periodSeconds": 1}, "a probe needs exactly one", {"grpc": {"port": 1}}),
    (P, f"{WEB}/volumes/0/emptyDir", {}, "a volume needs exactly one", ...),
    (P, f"{WEB}/volumeMounts/0/name", "nowhere", "must be the name of one of volumes", "tmp"),
    (P, f"{WEB}/volumes", ..., "must be the name of one of volumes", PROJECT["spec"]["components"][0]["volumes"]),
    (P, f"{WEB}/resources/requests", {"coffee": 1}, "resources are cpu, memory", {"example.com/gpu": 1}),
    (P, "spec/definition/compose", "compose.yaml", "a definition needs exactly one", ...),
    (P, "spec/development/quota", {"nodes": 1}, "quota keys are those of", {"services.nodeports": 0}),
    (P, "spec/development/limits/max", {"pods": "1"}, "limits are by resource", {"cpu": "1"}),
    (P, "spec/services/0/name", "web", "a service may not have the name of a component", "db"),
    (P, f"{WEB}/dependsOn", ["nobody"], "dependsOn must be the name", ["db"]),
    (P, "spec/deployments/0/release", "v*", "exactly one of branch, release and promoteFrom", ...),
    (P, "spec/deployments/1/promoteFrom", "nowhere", "promoteFrom must be the name", "nightly"),
    (P, "spec/deployments/1/promoteFrom", "production", "promoteFrom must be the name", "staging"),
    (P, "spec/deployments/2/name", "pr-1", "named like a pull request", "pr-x"),
    (P, "spec/components/1/name", "web", "Duplicate value", "api"),
    (P, "spec/deployments/1/name", "nightly", "Duplicate value", "production"),
    (P, f"{WEB}/env/1/name", "MODE", "Duplicate value", "OTHER"),
    (P, f"{WEB}/volumes/1/name", "data", "Duplicate value", "tmp"),
    (P, "spec/source/repository", ..., "spec.source.repository: Required", "acme/shop"),
    (E, "spec/projectRef", ..., "spec.projectRef: Required", {"team": "acme", "name": "shop"}),
    (P, "spec/reposiotry", "x", 'unknown field "spec.reposiotry"', ...),
    (P, f"{WEB}/securityContext", {"privileged": True}, 'unknown field "spec.components[0].securityContext"', ...),
    (P, f"{WEB}/volumes/0/hostPath", {"path": "/"}, 'unknown field "spec.components[0].volumes[0].hostPath"', ...),
    (E, "spec/source/comit", "x", 'unknown field "spec.source.comit"', ...),
]  # fmt: skip


def with_value(case: Case, value: Any) -> Manifest:
    manifest = copy.deepcopy(LIVE if case[0] == E else PROJECT)
    try:
        return changed(manifest, case[1], value)
    except KeyError:  # nothing there to remove: the twin is the example itself
        return manifest


def identifier(case: Case) -> str:
    return f"{case[0]}.{case[1].removeprefix('spec/').replace('/', '.')}={str(case[2])[:24]!r}"


@pytest.mark.parametrize("case", [*PATTERNS, *RULES], ids=identifier)
def test_a_refusal_names_the_field_and_its_twin_is_allowed(admin: httpx.Client, case: Case) -> None:
    refused = create(admin, with_value(case, case[2]))
    reason = refused.json()["reason"]
    assert (refused.status_code, reason) in ((422, "Invalid"), (400, "BadRequest")), refused.text
    assert case[3] in message(refused)
    allowed = create(admin, with_value(case, case[4]))
    assert allowed.status_code == 201, allowed.text


@pytest.mark.parametrize("case", PATTERNS, ids=identifier)
def test_the_model_refuses_what_the_server_refuses(case: Case) -> None:
    with pytest.raises(ValidationError):
        MODELS[case[0]].parse(with_value(case, case[2]))
    MODELS[case[0]].parse(with_value(case, case[4]))


IMMUTABLE: list[tuple[str, Any, str, str, Any]] = [
    ("spec/projectRef/name", "other", "projectRef is immutable", "spec/owner", "bob"),
    ("spec/projectRef/team", "other", "projectRef is immutable", "spec/desiredState", "Sleeping"),
    ("spec/type", "Deployment", "type is immutable", "spec/expiresAt", LATER),
]


@pytest.mark.parametrize(("field", "value", "words", "other", "allowed"), IMMUTABLE)
def test_what_an_environment_is_never_changes(
    admin: httpx.Client, stored: Manifest, field: str, value: Any, words: str, other: str, allowed: Any
) -> None:
    path = f"{path_of(stored)}/pr-42"
    refused = admin.put(path, json=changed(stored, field, value), params={"dryRun": "All"})
    assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")
    assert words in message(refused)
    assert admin.put(path, json=changed(stored, other, allowed), params={"dryRun": "All"}).status_code == 200


def test_only_development_environments_expire(admin: httpx.Client) -> None:
    deployment = changed(LIVE, "spec/type", "Deployment")
    refused = create(admin, deployment)
    assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")
    assert "expiresAt is for the type Development only" in message(refused)
    assert create(admin, changed(deployment, "spec/expiresAt", ...)).status_code == 201


@pytest.mark.parametrize("stored", [ENVIRONMENT], indirect=True)
@pytest.mark.parametrize(
    ("field", "value"), [("spec/deletion", ...), ("spec/deletion/reason", "Requested"), ("spec/deletion/at", LATER)]
)
def test_recorded_evidence_stays(admin: httpx.Client, stored: Manifest, field: str, value: Any) -> None:
    path = f"{path_of(stored)}/pr-42"
    refused = admin.put(path, json=changed(stored, field, value), params={"dryRun": "All"})
    assert (refused.status_code, refused.json()["reason"]) == (422, "Invalid")
    assert "deletion is final" in message(refused)
    assert admin.put(path, json=changed(stored, "spec/owner", "bob"), params={"dryRun": "All"}).status_code == 200


def test_evidence_may_be_recorded_later(admin: httpx.Client, stored: Manifest) -> None:
    recorded = changed(stored, "spec/deletion", ENVIRONMENT["spec"]["deletion"])
    assert admin.put(f"{path_of(stored)}/pr-42", json=recorded, params={"dryRun": "All"}).status_code == 200


def test_two_managers_share_a_list_entry_by_entry(admin: httpx.Client) -> None:
    head = {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "shared", "namespace": "acme"},
    }
    mine = {"source": {"repository": "acme/shop"}, "components": [{"name": "web", "image": "a"}]}
    theirs = {"components": [{"name": "api", "image": "b"}]}
    path = f"{path_of(head)}/shared"
    try:
        assert apply(admin, path, head | {"spec": mine}, fieldManager="one").status_code == 201
        merged = apply(admin, path, head | {"spec": theirs}, fieldManager="two")
        assert merged.status_code == 200, merged.text
        assert [component["name"] for component in merged.json()["spec"]["components"]] == ["web", "api"]
    finally:
        admin.delete(path)


@pytest.mark.parametrize(("plural", "short"), [("environments", {"env", "envs"}), ("projects", {"proj"})])
def test_people_find_it_and_see_what_they_want(
    admin: httpx.Client, stored: Manifest, plural: str, short: set[str]
) -> None:
    discovery = admin.get("/apis/catalyst.dev/v1alpha1").json()["resources"]
    (resource,) = (entry for entry in discovery if entry["name"] == plural)
    assert (set(resource["shortNames"]), resource["categories"]) == (short, ["catalyst"])
    table = admin.get(
        f"/apis/catalyst.dev/v1alpha1/{plural}", headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    ).json()
    narrow = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    assert narrow == {
        "environments": ["Name", "Phase", "Reason", "URL", "PR", "Age"],
        "projects": ["Name", "Repository", "Accepted", "Reason", "Age"],
    }[plural]  # fmt: skip


def test_environments_are_selected_by_type(admin: httpx.Client, stored: Manifest) -> None:
    def found(selector: str) -> list[str]:
        items = admin.get(path_of(stored), params={"fieldSelector": selector}).json()["items"]
        return [item["metadata"]["name"] for item in items]

    assert found("spec.type=Development") == ["pr-42"]
    assert found("spec.type=Deployment") == []
