"""builder's account: what it needs, and one step beyond, each refusal beside its allowed twin. Real API server."""

from collections.abc import Iterator

import pytest
from asked import PLATFORM

from catalyst.builder.core import job, namespace
from catalyst.builder.core.build import Build, build_of
from catalyst.builder.core.job import Asked
from catalyst.builder.core.kaniko import Kaniko
from catalyst.builder.core.platform import Platform
from catalyst.events import examples
from catalyst.events.catalogue import BuildRequested
from catalyst.local.installation import Installation

from .cluster import RBAC, SYSTEM, Answer, Api, Manifest, object_path, path


@pytest.fixture(scope="module")
def build() -> Build:
    event = examples.examples()["dev.catalyst.build.requested.v1"]
    assert isinstance(event.data, BuildRequested)
    found = build_of(event.data, PLATFORM)
    assert isinstance(found, Build)
    return found


@pytest.fixture(scope="module")
def platform() -> Platform:
    return PLATFORM


@pytest.fixture(scope="module")
def builder(installation: Installation) -> Iterator[Api]:
    api = Api(installation.control_plane.kubeconfig_for(SYSTEM, "builder"))
    yield api
    api.close()


@pytest.fixture(scope="module")
def admin(installation: Installation) -> Iterator[Api]:
    api = Api(installation.control_plane.admin_kubeconfig)
    yield api
    api.close()


@pytest.fixture(scope="module")
def place(builder: Api, admin: Api, build: Build, platform: Platform) -> Iterator[str]:
    """A build namespace made by builder with its own rights, whole."""
    made = builder.request("POST", path("", "", "namespaces"), namespace.namespace(build, platform), dry_run=False)
    assert made.status == 201, made
    bound = apply(builder, namespace.binding(build, platform))
    assert bound.status == 201, bound
    builder.wait_until_may("create", "", "secrets", build.namespace)
    for manifest in namespace.baseline(build, platform):
        answer = apply(builder, manifest)
        assert answer.status in (200, 201), answer
    yield build.namespace
    admin.request("DELETE", path("", "", "namespaces", build.namespace), dry_run=False)


def apply(api: Api, manifest: Manifest, *, dry_run: bool = False) -> Answer:
    return api.apply(_path(manifest), manifest, manager=job.FIELD_MANAGER, dry_run=dry_run)


def _path(manifest: Manifest) -> str:
    if manifest["kind"] == "NetworkPolicy":
        metadata = manifest["metadata"]
        return path("networking.k8s.io", metadata["namespace"], "networkpolicies", metadata["name"])
    return object_path(manifest)


def the_job(build: Build, platform: Platform) -> Manifest:
    event = examples.examples()["dev.catalyst.build.requested.v1"]
    assert isinstance(event.data, BuildRequested)
    return job.job(build, Asked.of(event, event.data, deployment=False), Kaniko(), platform, ())


def refused(answer: Answer, *words: str) -> None:
    assert (answer.status, answer.reason) == (403, "Forbidden"), answer
    for word in words:
        assert word in answer.message, answer


def test_a_job_of_ours_is_accepted_and_one_with_more_is_not(
    builder: Api, place: str, build: Build, platform: Platform
) -> None:
    where = path("batch", place, "jobs")
    made = the_job(build, platform)
    accepted = builder.request("POST", where, made)
    assert accepted.status == 201, accepted
    pod = made["spec"]["template"]["spec"]
    for change, word in (
        ({"automountServiceAccountToken": True}, "automountServiceAccountToken"),
        ({"serviceAccountName": "default"}, "serviceAccountName"),
        ({"hostUsers": True}, "hostUsers"),
        ({"volumes": [*pod["volumes"], {"name": "x", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [*pod["volumes"], {"name": "x", "projected": {"sources": []}}]}, "projected"),
    ):
        worse = {**made, "spec": {**made["spec"], "template": {**made["spec"]["template"], "spec": {**pod, **change}}}}
        refused(builder.request("POST", where, worse), word)


def test_outside_build_namespaces_it_writes_nothing(builder: Api, place: str, build: Build, platform: Platform) -> None:
    for where in ("default", "kube-system", SYSTEM):
        moved = {**namespace.binding(build, platform)}
        moved["metadata"] = {**moved["metadata"], "namespace": where}
        refused(apply(builder, moved, dry_run=True), "no build namespace")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": where}}
        refused(apply(builder, secret, dry_run=True))
        refused(builder.request("GET", path("", where, "secrets")))
        refused(builder.request("GET", path("", where, "configmaps")))
        refused(builder.request("DELETE", path("", "", "namespaces", where)))
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": place}}
    assert apply(builder, own, dry_run=True).status == 201


def test_it_makes_build_namespaces_only(builder: Api, place: str, build: Build, platform: Platform) -> None:
    where = path("", "", "namespaces")
    good = namespace.namespace(build, platform)

    def variant(name: str, **labels: str | None) -> Manifest:
        merged = {**good["metadata"]["labels"], **labels}
        kept = {key: value for key, value in merged.items() if value is not None}
        return {**good, "metadata": {"name": name, "labels": kept}}

    fine = "catalyst-builds-trusted-" + "0" * 39
    assert builder.request("POST", where, variant(fine)).status == 201
    refused(builder.request("POST", where, variant("acme")), "metadata.name")
    refused(builder.request("POST", where, variant("catalyst-builds-fork-x")), "metadata.name")
    refused(builder.request("POST", where, variant(fine, **{"catalyst.dev/trust": "all"})), "no build namespace")
    refused(builder.request("POST", where, variant(fine, **{"catalyst.dev/trust": None})), "no build namespace")
    refused(
        builder.request("POST", where, variant(fine, **{"catalyst.dev/environment-uid": "u"})), "no build namespace"
    )
    privileged = {"pod-security.kubernetes.io/enforce": "privileged"}
    refused(builder.request("POST", where, variant(fine, **privileged)), "pod-security.kubernetes.io/enforce")


def test_nobody_gets_rights_in_a_build_namespace(
    builder: Api, admin: Api, place: str, build: Build, platform: Platform
) -> None:
    good = namespace.binding(build, platform)
    assert apply(builder, good, dry_run=True).status == 200
    for name, change in (
        ("subject", {"subjects": [{"kind": "ServiceAccount", "name": "build", "namespace": place}]}),
        ("group", {"subjects": [{"kind": "Group", "apiGroup": RBAC, "name": "system:authenticated"}]}),
        ("role", {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "catalyst-observer"}}),
    ):
        worse = {**good, **change, "metadata": {**good["metadata"], "name": name}}
        answer = apply(builder, worse, dry_run=True)
        assert answer.status == 403, answer
        if name != "role":  # that one RBAC refuses itself: builder holds no `bind` on it
            refused(apply(admin, worse, dry_run=True), "subjects")


@pytest.mark.parametrize(
    ("verb", "group", "resource"),
    [
        ("get", "", "secrets"),
        ("list", "", "secrets"),
        ("create", "", "pods"),
        ("create", "", "pods/exec"),
        ("create", "", "serviceaccounts/token"),
        ("update", "", "configmaps"),
        ("patch", "", "namespaces"),
        ("delete", "networking.k8s.io", "networkpolicies"),
        ("create", RBAC, "roles"),
        ("escalate", RBAC, "roles"),
        ("impersonate", "", "serviceaccounts"),
    ],
)
def test_what_it_does_not_hold_even_there(builder: Api, place: str, verb: str, group: str, resource: str) -> None:
    assert not builder.may(verb, group, resource, place)


@pytest.mark.parametrize(
    ("verb", "group", "resource"),
    [
        ("create", "", "secrets"),
        ("patch", "", "secrets"),
        ("delete", "", "secrets"),
        ("get", "", "pods/log"),
        ("list", "", "pods"),
        ("patch", "batch", "jobs"),
        ("list", "", "configmaps"),
    ],
)
def test_what_it_holds_there_and_nowhere_else(builder: Api, place: str, verb: str, group: str, resource: str) -> None:
    assert builder.may(verb, group, resource, place)
    for elsewhere in ("default", "kube-system", SYSTEM):
        assert not builder.may(verb, group, resource, elsewhere)
