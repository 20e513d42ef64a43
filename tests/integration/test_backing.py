"""Services beside the components, as a real API server sees them: env-controller may make them, and their pods pass
Pod Security `restricted` and all policies. All are dry runs; no image runs here.
"""

import copy
from collections.abc import Iterator

import pytest
from makers import PLATFORM, project, subject

from catalyst.env_controller.core import backing
from catalyst.env_controller.core.platform import Platform
from catalyst.local.installation import Installation

from .cluster import DEPLOYMENT, DEVELOPMENT, Manifest, Tenancy, path

RESTRICTED = Platform(user_namespaces=False)
SERVICES = [{"name": "db", "engine": "postgres"}, {"name": "cache", "engine": "redis"}]
PLACES = {"StatefulSet": ("apps", "statefulsets"), "Service": ("", "services")}
CASES = [(DEVELOPMENT, PLATFORM), (DEPLOYMENT, RESTRICTED)]


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    tenancy = Tenancy(installation.control_plane).create()
    try:
        yield tenancy
    finally:
        tenancy.close()


def made(where: str, platform: Platform) -> list[Manifest]:
    """Moved into a namespace of the tenancy."""
    of, shop = project(services=SERVICES), subject(project_=project(services=SERVICES), platform=platform)
    found = [manifest for service in backing.backings(of) for manifest in backing.manifests(shop, service)]
    return [{**manifest, "metadata": {**manifest["metadata"], "namespace": where}} for manifest in found]


def pods(where: str, platform: Platform) -> list[Manifest]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{manifest['metadata']['name']}-0", "namespace": where},
            "spec": _with_claims(manifest["spec"]),
        }
        for manifest in made(where, platform)
        if manifest["kind"] == "StatefulSet"
    ]


@pytest.mark.parametrize(("where", "platform"), CASES)
def test_env_controller_may_make_them(tenancy: Tenancy, where: str, platform: Platform) -> None:
    for manifest in made(where, platform):
        group, plural = PLACES.get(manifest["kind"], ("", "persistentvolumeclaims"))
        answer = tenancy.env_controller.request("POST", path(group, where, plural), manifest)
        assert answer.status == 201, answer.message


@pytest.mark.parametrize(("where", "platform"), CASES)
def test_their_pods_are_let_in(tenancy: Tenancy, where: str, platform: Platform) -> None:
    for pod in pods(where, platform):
        answer = tenancy.admin.request("POST", path("", where, "pods"), pod)
        assert answer.status == 201, answer.message
        for relaxed in ("allowPrivilegeEscalation", "capabilities"):
            loose = copy.deepcopy(pod)
            del loose["spec"]["containers"][0]["securityContext"][relaxed]
            refused = tenancy.admin.request("POST", path("", DEPLOYMENT, "pods"), _in(loose, DEPLOYMENT))
            assert refused.status == 403, f"{pod['metadata']['name']} without {relaxed}: {refused}"
            assert relaxed in refused.message


def _with_claims(spec: Manifest) -> Manifest:
    """As the StatefulSet's controller makes the pod: a volume for each claim's template."""
    pod = copy.deepcopy(spec["template"]["spec"])
    claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())]
    mounted = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims]
    return {**pod, "volumes": [*pod.get("volumes", []), *mounted]}


def _in(pod: Manifest, where: str) -> Manifest:
    return {**pod, "metadata": {**pod["metadata"], "namespace": where}}
