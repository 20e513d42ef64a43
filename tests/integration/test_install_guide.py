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
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from deployed import Deployed
from doubles.cloudflare import CloudflareDouble
from doubles.github import GitHubDouble
from guide import Guide, StepFailed, Walk
from product import until

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
UNHEARD: Final = {"CATALYST_NATS_URL": "nats://127.0.0.1:9"}
HELP: Final = "`/catalyst approve SHA`"


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

        until(lambda: _listens(hooks) and _listens(realm), "webhook-ingest and the realm listen", PATIENCE, logs)
        github.hook(
            f"http://127.0.0.1:{hooks}/webhooks/github", (site.walk.folder / "keys/webhook-secret").read_text().strip()
        )
        github.repository("acme/shop", files={"Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
        github.install("acme", permissions=site.walk.guide.permissions)
        site.walk.step("project")
        until(lambda: _project_ready(site), "the Project is ready", PATIENCE, logs)
        site.walk.step("check")
        github.commit("acme/shop", "change", {"page": "new"})
        pull = github.open_pull_request("acme/shop", head="change")
        until(lambda: pull.comments, "a comment", PATIENCE, logs)
        repository = github.state.repository("acme/shop")
        assert repository
        until(lambda: repository.deployments and repository.checks, "a deployment and a check", PATIENCE, logs)
        # A command is heard only when the App is told of comments.
        github.collaborator("acme/shop", "lisa", "write")
        github.write_comment(pull, "/catalyst help", author="lisa")
        told = "an answer to /catalyst help"
        until(lambda: any(HELP in each.body for each in pull.comments.values()), told, PATIENCE, logs)
        until(lambda: _leads_to_the_edge(site), "Cloudflare leads the zone to the edge", PATIENCE, logs)
        hosts = [rule.get("hostname") for rule in _rules(site)]
        assert set(SERVICE_HOSTS) <= set(hosts), "dns-proxy leaves the platform's own hosts alone"
        until(lambda: f"*.{ZONE}" in _records(site), "the wildcard record", PATIENCE, logs)
        assert _records(site) == {*SERVICE_HOSTS, f"*.{ZONE}"}
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


def _records(site: Site) -> set[str]:
    """The names that lead to the tunnel, by Cloudflare."""
    (tunnel,) = site.cloud.state.tunnels
    records = site.cloud.state.records.values()
    return {each["name"] for each in records if each["content"] == f"{tunnel}.cfargotunnel.com" and each["proxied"]}


def _leads_to_the_edge(site: Site) -> bool:
    return any(rule.get("hostname") == f"*.{ZONE}" and "edge.catalyst-edge" in rule["service"] for rule in _rules(site))


@pytest.mark.full(sample=3)
@pytest.mark.parametrize(("service", "variable"), NEEDED)
def test_a_service_does_not_start_without(site: Site, service: str, variable: str) -> None:
    _ends_naming(variable, site.part(service, UNHEARD, without=variable))


@pytest.mark.full(sample=3)
@pytest.mark.parametrize(
    ("service", "variable"), [each for each in NEEDED if re.search("PRIVATE_KEY|WEBHOOK_SECRETS|REALM_KEY", each[1])]
)
def test_a_service_does_not_start_without_the_file(site: Site, service: str, variable: str) -> None:
    """The setting is there, and what it names is not: a Secret without that key, or a pod that does not mount it."""
    _ends_naming(variable, site.part(service, UNHEARD | {variable: str(site.folder / "nowhere")}))


def _ends_naming(variable: str, part: Part) -> None:
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
        with pytest.raises(StepFailed, match=r"(?s)403.*Authentication error|Authentication error.*403"):
            _at_cloudflare(walk)


@pytest.mark.full(sample=3)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("mistyped\n", r"keys/cloudflare: Cloudflare refuses this token \(403, Invalid access token\); expected .*"),
        ("", r"the file keys/cloudflare holds no secret; .*"),
        (None, r"the file keys/cloudflare cannot be read: FileNotFoundError"),
    ],
)
def test_a_token_that_is_none_is_told(tmp_path: Path, content: str | None, told: str) -> None:
    guide = Guide.read()
    with _cloudflare(guide) as cloud:
        walk = _walk(guide, tmp_path, cloud, None, None)
        token = walk.folder / "keys" / "cloudflare"
        token.unlink() if content is None else token.write_text(content)
        with pytest.raises(StepFailed, match=rf"(?m)\ntunnel: {told}$"):
            walk.step("tunnel")
        token.write_text(f"{cloud.mint(guide.token)}\n")
        walk.step("tunnel")


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


@pytest.mark.full(sample=3)
@pytest.mark.parametrize("file", ["keys/app.pem", "keys/realm.pem", "keys/cloudflare"])
def test_a_file_that_is_not_there_is_named(site: Site, file: str) -> None:
    with pytest.raises(StepFailed, match=f"No such file or directory: '{file}-away'"):
        site.walk.step("secrets", replacing={f"={file} ": f"={file}-away "})


def test_another_registry(site: Site) -> None:
    """The last section: its patch in the overlay, its file instead of the realm's key; and builder begins its work."""
    walk, admin = site.walk, site.cluster.admin
    login = base64.b64encode(b"robot:secret").decode()
    auths = {"auths": {"registry.example.org": {"auth": login}}}
    (walk.folder / "keys" / "config.json").write_text(json.dumps(auths))
    instead = "registry-credentials/config.json=keys/config.json"
    assert f"give `--secret {instead}` instead" in walk.guide.text
    try:
        walk.step("another")
        admin.delete(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/realm-key").raise_for_status()
        walk.step("secrets", replacing={"realm-key/key.pem=keys/realm.pem": instead})
        walk.step("apply")
        with _nats(site) as url:
            walk.step("streams", replacing={"nats://127.0.0.1:4222": url})
            builder = site.part("builder", {"CATALYST_NATS_URL": url})
            builder.start()
            try:
                builder.wait_until(lambda: '"event":"leading"' in tail(builder.log), within=PATIENCE)
            finally:
                builder.stop()
    finally:
        for name in ("overlay", "secrets", "apply"):
            walk.step(name)
