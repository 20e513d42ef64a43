"""docs/install.md, walked: its commands are typed in its order against a clean API server and the doubles of GitHub and
Cloudflare; then the services run as processes with what their Deployments mount, until a pull request has a comment, a
deployment and a check, and Cloudflare leads the zone to the edge. Pods run nowhere here.

Each mistake that a reader could make, or the page, stops with a sentence that names it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from deployed import Deployed
from doubles.cloudflare import CloudflareDouble
from doubles.github import GitHubDouble
from guide import Guide, StepFailed, Walk

from catalyst.events.topology import SERVICES
from catalyst.forge.client import NEEDED_EVENTS, needed_permissions
from catalyst.local import nats as local_nats
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.process import Part, PartFailed, free_ports, tail
from catalyst.local.supervisor import ROOT

PATIENCE: Final = 60.0
ZONE: Final = "preview.example.org"
SERVICE_HOSTS: Final = ("hooks.example.org", "realm.example.org")
NEEDED: Final = (
    *((name, "CATALYST_NATS_URL") for name in SERVICES),
    *((name, "CATALYST_NATS_SEED_FILE") for name in ("env-controller", "builder", "dns-proxy")),
    *((name, "CATALYST_GITHUB_APP_ID") for name in ("webhook-ingest", "builder", "notifier")),
    *((name, "CATALYST_GITHUB_PRIVATE_KEY_FILE") for name in ("webhook-ingest", "builder", "notifier")),
    ("webhook-ingest", "CATALYST_WEBHOOK_SECRETS_FILE"),
    *(("builder", f"CATALYST_{name}") for name in ("REGISTRY", "FETCH_IMAGE", "KANIKO_IMAGE", "CRANE_IMAGE")),
    ("builder", "CATALYST_REALM_KEY_FILE"),
    *(("dns-proxy", f"CATALYST_{name}") for name in ("CLOUDFLARE_ACCOUNT", "CLOUDFLARE_ZONE", "EDGE_HOSTS")),
    *(("dns-proxy", f"CATALYST_EDGE_{name}_FILE") for name in ("AUTHORITY", "CERTIFICATE", "KEY")),
)
"""Settings without which a service of this installation is not to start."""


@dataclass
class Site:
    """A reader at work: the clean cluster, the clouds, and the shell."""

    walk: Walk
    cluster: ControlPlane
    github: GitHubDouble
    cloud: CloudflareDouble
    folder: Path

    def deployed(self, service: str) -> Deployed:
        return Deployed.of(self.cluster.admin, service, self.folder / "mounted" / service)

    def part(self, service: str, here: Mapping[str, str], *, without: str = "") -> Part:
        """A service as its Deployment says, but for addresses of this machine."""
        own = {
            "CATALYST_GITHUB_URL": self.github.url,
            "CATALYST_GIT_URL": self.github.git_url,
            "CATALYST_GIT_INSECURE": "true",
            "CATALYST_CLOUDFLARE_URL": self.cloud.url,
            "CATALYST_EDGE_HOSTS": "127.0.0.1",
            "CATALYST_HTTP_HOST": "127.0.0.1",
            "CATALYST_HTTP_PORT": "0",
            "CATALYST_REALM_HOST": "127.0.0.1",
            "CATALYST_REALM_PORT": "0",
            "CATALYST_KUBECONFIG": str(self.cluster.kubeconfig_for(SYSTEM_NAMESPACE, service)),
        }
        log = self.folder / "logs" / f"{service}{without}.log"
        return self.deployed(service).part(log, {**own, **here}, without=without)


@pytest.fixture(scope="module")
def site(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page typed as far as `kubectl apply -k`."""
    folder, guide = tmp_path_factory.mktemp("guide"), Guide.read()
    with ExitStack() as stack:
        cluster = stack.enter_context(ControlPlane(folder / "control-plane", binaries))
        cloud = stack.enter_context(_cloudflare(guide))
        github = stack.enter_context(GitHubDouble(folder / "github"))
        github.app.permissions, github.app.events = guide.permissions, sorted(guide.events)
        walk = _walk(guide, folder, cloud, github, cluster)
        for name in ("keys", "app", "realm", "tunnel", "hosts", "overlay", "secrets", "apply"):
            walk.step(name)
        yield Site(walk, cluster, github, cloud, folder)


def _walk(
    guide: Guide, folder: Path, cloud: CloudflareDouble, github: GitHubDouble | None, cluster: ControlPlane | None
) -> Walk:
    """With what GitHub and Cloudflare show to whoever has clicked there as the page says."""
    work = folder / "work"
    (work / "keys").mkdir(parents=True)
    (work / "catalyst").symlink_to(ROOT)
    (work / "keys" / "cloudflare").write_text(f"{cloud.mint(guide.token)}\n")
    walk = Walk(guide, work)
    own = {"ACCOUNT": cloud.state.account, "DNS_ZONE": cloud.state.zone, "CATALYST_CLOUDFLARE_URL": cloud.url}
    if github and cluster:
        (work / "keys" / "app.pem").write_text(github.private_key)
        walk.environment |= {"KUBECONFIG": str(cluster.admin_kubeconfig)}
        walk.environment["PATH"] = f"{cluster.kubectl.parent}{os.pathsep}{walk.environment['PATH']}"
        own |= {"APP_ID": str(github.app.id)}
    walk.names(**own, NATS_SERVERS="1")
    return walk


@contextmanager
def _cloudflare(guide: Guide) -> Iterator[CloudflareDouble]:
    """In a loop of its own, so that commands may be waited for meanwhile."""
    cloud, loop = CloudflareDouble(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(cloud.__aenter__(), loop).result(20)
    try:
        yield cloud
    finally:
        asyncio.run_coroutine_threadsafe(cloud.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@contextmanager
def _nats(site: Site) -> Iterator[str]:
    """One server with the configuration that the cluster's would have, as far as one machine goes. Gives its URL."""
    secret = site.cluster.admin.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/nats-config").raise_for_status()
    config: dict[str, Any] = json.loads(base64.b64decode(secret.json()["data"]["nats.conf"]))
    assert len(config.pop("cluster")["routes"]) == 3
    port, monitoring = free_ports(2)
    config |= {"host": "127.0.0.1", "port": port, "http": f"127.0.0.1:{monitoring}"}
    config["jetstream"]["store_dir"] = str(site.folder / "store")
    place = site.folder / "nats.conf"
    place.write_text(json.dumps(config))
    part = Part("nats-server", [local_nats.executable(), "-c", place], site.folder / "logs" / "nats.log")
    part.start()
    try:
        part.wait_until(lambda: "Server is ready" in tail(part.log), within=20)
        yield f"nats://127.0.0.1:{port}"
    finally:
        part.stop()


def _until(look: Callable[[], Any], what: str, why: Callable[[], str]) -> None:
    ends = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < ends, f"{what}: not within {PATIENCE:g} s\n{why()}"
        time.sleep(0.2)


def test_who_types_the_page_has_an_installation_that_answers_a_pull_request(site: Site) -> None:
    github, (hooks, realm) = site.github, free_ports(2)
    with ExitStack() as stack:
        url = stack.enter_context(_nats(site))
        site.walk.step("streams", replacing={"nats://127.0.0.1:4222": url})
        parts = [
            site.part(
                name,
                {"CATALYST_NATS_URL": url, "CATALYST_REALM_PORT": str(realm)}
                | ({"CATALYST_HTTP_PORT": str(hooks)} if name == "webhook-ingest" else {}),
            )
            for name in SERVICES
        ]
        for part in parts:
            part.start()
            stack.callback(part.stop)

        def logs() -> str:
            return "\n".join(f"── {part.name}\n{tail(part.log)}" for part in parts)

        _until(lambda: _listens(hooks) and _listens(realm), "webhook-ingest and the realm listen", logs)
        github.hook(
            f"http://127.0.0.1:{hooks}/webhooks/github", (site.walk.folder / "keys/webhook-secret").read_text().strip()
        )
        github.repository("acme/shop", files={"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        github.install("acme", permissions=site.walk.guide.permissions)
        site.walk.step("project")
        _until(lambda: _project_ready(site), "the Project is ready", logs)
        site.walk.step("check")
        github.commit("acme/shop", "change", {"page": "new"})
        pull = github.open_pull_request("acme/shop", head="change")
        _until(lambda: pull.comments, "a comment", logs)
        repository = github.state.repository("acme/shop")
        assert repository
        _until(lambda: repository.deployments and repository.checks, "a deployment and a check", logs)
        # A command is heard only when the App is told of comments.
        pull_comments = len(pull.comments)
        github.collaborator("acme/shop", "lisa", "write")
        github.write_comment(pull, "/catalyst help", author="lisa")
        _until(lambda: len(pull.comments) > pull_comments + 1, "an answer to /catalyst help", logs)
        _until(lambda: _leads_to_the_edge(site), "Cloudflare leads the zone to the edge", logs)
        hosts = [rule.get("hostname") for rule in _rules(site)]
        assert set(SERVICE_HOSTS) <= set(hosts), "dns-proxy leaves the platform's own hosts alone"
        _until(lambda: f"*.{ZONE}" in _recorded(site), "the wildcard record", logs)
        assert _recorded(site) == {*SERVICE_HOSTS, f"*.{ZONE}"}
        builds = site.cluster.admin.get("/apis/batch/v1/jobs").raise_for_status().json()["items"]
        images = [each["image"] for job in builds for each in job["spec"]["template"]["spec"]["containers"]]
        assert "images.example.org/catalyst/kaniko:v1.25.0" in images, logs()


def _project_ready(site: Site) -> bool:
    found = site.cluster.admin.get("/apis/catalyst.dev/v1alpha1/namespaces/acme/projects/shop")
    conditions = found.json().get("status", {}).get("conditions", []) if found.is_success else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _rules(site: Site) -> list[dict[str, Any]]:
    (tunnel,) = site.cloud.state.tunnels
    return list((site.cloud.state.configuration(tunnel)["config"] or {}).get("ingress", []))


def _recorded(site: Site) -> set[str]:
    return {str(record["name"]) for record in site.cloud.state.records.values()}


def _leads_to_the_edge(site: Site) -> bool:
    return any(rule.get("hostname") == f"*.{ZONE}" and "edge.catalyst-edge" in rule["service"] for rule in _rules(site))


def test_with_another_registry_builder_has_its_login_instead_of_the_key(site: Site, tmp_path: Path) -> None:
    (tmp_path / "catalyst").symlink_to(ROOT)
    walk = Walk(site.walk.guide, tmp_path, {**site.walk.environment})
    for name in ("overlay", "another"):
        walk.step(name)
    rendered = list(yaml.safe_load_all((tmp_path / "rendered.yaml").read_text()))
    (settings,) = (
        each["data"]
        for each in rendered
        if each["kind"] == "ConfigMap"
        and each["metadata"]["namespace"] == SYSTEM_NAMESPACE
        and "CATALYST_REGISTRY" in each["data"]
    )
    assert "CATALYST_REALM_KEY_FILE" not in settings
    (builder,) = (
        each["spec"]["template"]["spec"]
        for each in rendered
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "builder")
    )
    places = {mount["name"]: mount["mountPath"] for mount in builder["containers"][0]["volumeMounts"]}
    (volume,) = (v for v in builder["volumes"] if v.get("secret", {}).get("secretName") == "registry-credentials")
    assert settings["CATALYST_REGISTRY_CREDENTIALS_FILE"] == f"{places[volume['name']]}/config.json"


@pytest.mark.full(sample=4)
@pytest.mark.parametrize(("service", "variable"), NEEDED)
def test_a_service_does_not_start_without(site: Site, service: str, variable: str) -> None:
    part = site.part(service, {"CATALYST_NATS_URL": "nats://127.0.0.1:9"}, without=variable)
    part.start()
    with suppress(PartFailed):  # that it ends is what is waited for
        part.wait_until(lambda: False, within=30)
    part.stop()
    assert (part.exit_code, variable in tail(part.log)) == (2, True), tail(part.log)


def test_permissions_on_the_page_are_what_the_services_ask_for() -> None:
    """And the events that are read."""
    assert Guide.read().permissions == needed_permissions()
    assert Guide.read().events == NEEDED_EVENTS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| Account | Cloudflare Tunnel | Edit |", "| Account | Cloudflare Tunnel | Read |"),
        ("| Zone | DNS | Edit |\n", ""),
        ("| Zone | DNS | Edit |", "| Zone | DNS | Read |"),
    ],
)
def test_a_token_that_may_less_stops_the_walk(tmp_path: Path, old: str, new: str) -> None:
    text = Guide.read().text
    assert old in text
    guide = Guide(text.replace(old, new))
    with _cloudflare(guide) as cloud:
        walk = _walk(guide, tmp_path, cloud, None, None)
        walk.step("keys")
        with pytest.raises(StepFailed, match="403"):
            _at_cloudflare(walk)


def _at_cloudflare(walk: Walk) -> None:
    for name in ("tunnel", "hosts"):
        walk.step(name)


@pytest.mark.parametrize("given", ["forge/app.pem", "cloudflare/token", "cloudflared/token"])
def test_a_key_that_is_not_given_is_named(site: Site, given: str) -> None:
    """In a cluster that has none yet: what is there already need not be given again."""
    name = given.partition("/")[0]
    where = "catalyst-edge" if name == "cloudflared" else SYSTEM_NAMESPACE
    site.cluster.admin.delete(f"/api/v1/namespaces/{where}/secrets/{name}").raise_for_status()
    words = re.search(rf"--secret {given}=\S+", site.walk.guide.blocks["secrets"])
    assert words
    with pytest.raises(StepFailed, match=f"no Secret {where}/{name}"):
        site.walk.step("secrets", replacing={words[0]: ""})
    site.walk.step("secrets")
