"""From a commit to a URL: builds asked for, pods made by real controllers under real policies, a route, Ready.

There is no node here, so the story plays three parts: builder (answers builds), the kubelet (writes the status of pods
that the Deployment controller made and the API server admitted), and dns-proxy (answers routes).
"""

from __future__ import annotations

import base64
from typing import Any

import pytest
from played import Story
from stage import Stage

from catalyst.events.catalogue import BuildCleaned

REGISTRY = "registry.test:5000"


@pytest.fixture
def controller_settings() -> dict[str, Any]:
    return {"registry": REGISTRY, "public_port": 8443}


async def test_a_bare_dockerfile_comes_up_is_replaced_and_goes(stage: Stage) -> None:
    story = Story(stage)
    await story.opened()
    before = stage.everything()

    # Asked for: one build of the Dockerfile at the root, of that commit, where the forge says the repository is.
    asked = await story.asked()
    assert (asked["component"], asked["commit"], asked["attempt"]) == ("web", "a" * 40, 1)
    assert asked["inputs"] == {"dockerfile": "Dockerfile", "context": "."}
    assert asked["trusted"] is True
    assert asked["repository"]["fullName"] == stage.repository
    assert stage.phase("pr-1") == "Building"
    secret = stage.object("Secret", "pr-1", "catalyst-pull")
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    digest = secret["metadata"]["annotations"]["catalyst.dev/pull-sha256"]
    await stage.until(lambda: story.status().get("pull") == {"sha256": digest}, "the pull secret's digest is said")

    # Built: a Deployment by digest, and a Service, under all the policies of an environment.
    await story.built(ports=(8000,), user="65532")
    await stage.until(lambda: story.pods(), "the pod was admitted")
    (pod,) = story.pods()
    (container,) = pod["spec"]["containers"]
    assert container["image"] == f"{REGISTRY}/{stage.team}/shop/web@sha256:{'a' * 64}"
    assert pod["spec"]["hostUsers"] is False
    assert pod["spec"]["imagePullSecrets"] == [{"name": "catalyst-pull"}]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    host = f"pr-1--shop--{stage.team}.catalyst.localhost"
    assert variables == {
        "CATALYST_URL": f"https://{host}:8443/",
        "CATALYST_ENVIRONMENT": "pr-1",
        "CATALYST_COMMIT": "a" * 40,
        "PORT": "8000",
    }
    assert stage.object("Service", "pr-1", "web")["spec"]["ports"][0]["port"] == 8000
    await stage.until(lambda: story.status().get("routes"), "the route is handed out")
    assert stage.phase("pr-1") == "Deploying"
    routes = story.status()["routes"]
    assert [(route["host"], route["service"], route["port"]) for route in routes] == [(host, "web", 8000)]

    # Ready pods are not enough: the URL must answer.
    story.run(pod)
    await stage.until(lambda: story.condition("Deployed")["status"] == "True", "the pod is ready")
    assert stage.phase("pr-1") == "Deploying"
    assert story.condition("Ready")["reason"] == "Routing"
    await story.routed(host, live=True)
    await stage.until(lambda: stage.phase("pr-1") == "Ready", "it is ready")
    assert story.status()["url"] == f"https://{host}:8443/"
    assert {each["name"]: "finishedAt" in each for each in story.status()["stages"]} == dict.fromkeys(
        ("Accepted", "Namespace", "Baseline", "Build", "Deploy", "Route"), True
    )

    async def told() -> bool:
        return [phase for phase in await stage.phases_said("pr-1") if phase in PHASES] == PHASES

    await stage.until_async(told, "every phase was said")

    # At rest: nothing is written.
    mark = stage.installation.audit.marker()
    await stage.deliver(stage.pull_request(1, action="labeled", sha="a" * 40, labels=["x"]))
    await stage.handled()
    assert [write for write in stage.writes(mark) if "environments" not in str(write)] == []

    # Pushed: the old version serves until the new one is built and ready.
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    asked = await story.asked(commit="b" * 40)
    assert asked["attempt"] == 2
    assert [found["metadata"]["uid"] for found in story.pods()] == [pod["metadata"]["uid"]]
    assert stage.phase("pr-1") == "Building"
    await story.finished("a" * 40, 1, digest="c")  # an old build's answer comes late
    await story.built("b" * 40, digest="b", ports=(8000,), user="65532")
    await stage.until(lambda: len(story.pods()) == 2, "the new pod is beside the old one")
    new = next(found for found in story.pods() if found["metadata"]["uid"] != pod["metadata"]["uid"])
    assert new["spec"]["containers"][0]["image"].endswith("@sha256:" + "b" * 64)
    story.run(new)
    await stage.until(lambda: stage.phase("pr-1") == "Ready", "the new version is ready")
    await stage.until(lambda: len(story.pods()) == 1, "the old one is gone")

    # Back to the first commit: asked anew, under a new attempt.
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="a" * 40, before="b" * 40))
    assert (await story.asked(commit="a" * 40, attempt=3))["key"] != asked["key"]

    # Closed: the route first, then the builds, then everything.
    await stage.deliver(stage.pull_request(1, action="closed", state="closed", sha="a" * 40))
    await stage.until(lambda: stage.phase("pr-1") == "Terminating", "it is terminating")
    await story.routed(host, live=False)
    await stage.answer("builder", BuildCleaned(environment=story.identity()), "pr-1")
    await stage.gone("pr-1")
    assert stage.everything() - before == frozenset()


PHASES = ["Building", "Deploying", "Ready"]


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "401"}}}, "ImagePull"),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3, "lastState": "ended"}, "CrashLoop"),
        ({"state": {"running": {"startedAt": "before"}}}, "PortNotListening"),
    ],
)
async def test_what_fails_says_why_and_the_next_good_commit_heals_it(
    stage: Stage, container: dict[str, Any], reason: str
) -> None:
    story = Story(stage)
    await story.opened()
    await story.asked()
    await story.built(ports=(8000,))
    await stage.until(lambda: story.pods(), "the pod was admitted")
    story.breaks(story.pods()[0], container)
    await stage.until(lambda: stage.phase("pr-1") == "Failed", "it failed", within=15)
    (component,) = story.status()["components"]
    assert (component["ready"], component["reason"]) == (False, reason)
    assert component["message"].startswith(("web ", "The image "))
    assert story.condition("Ready")["reason"] == reason
    assert (stage.namespace("pr-1") or {})["status"]["phase"] == "Active"

    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await story.asked(commit="b" * 40)
    await story.built("b" * 40, digest="b", ports=(8000,))
    await stage.until(lambda: [found for found in story.pods() if story.has_digest(found, "b")], "the new pod")
    story.run(next(found for found in story.pods() if story.has_digest(found, "b")))
    await story.routed(f"pr-1--shop--{stage.team}.catalyst.localhost", live=True)
    await stage.until(lambda: stage.phase("pr-1") == "Ready", "it is healed")
    assert "reason" not in story.status()["components"][0]


async def test_a_build_that_fails_says_why_while_the_old_version_serves(stage: Stage) -> None:
    story = Story(stage)
    await story.opened()
    await story.asked()
    await story.built(ports=(8000,))
    await stage.until(lambda: story.pods(), "the pod was admitted")
    story.run(story.pods()[0])
    await story.routed(f"pr-1--shop--{stage.team}.catalyst.localhost", live=True)
    await stage.until(lambda: stage.phase("pr-1") == "Ready", "it is ready")
    served = story.pods()[0]["metadata"]["uid"]

    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await story.asked(commit="b" * 40)
    await story.finished("b" * 40, 2, outcome="failed", reason="BuildFailed", message="make: no rule", log_tail="x\ny")
    await stage.until(lambda: stage.phase("pr-1") == "Degraded", "it is degraded")
    (component,) = story.status()["components"]
    assert (component["reason"], component["message"]) == ("BuildFailed", "make: no rule\nx\ny")
    assert component["digest"] == "sha256:" + "a" * 64
    assert [found["metadata"]["uid"] for found in story.pods()] == [served]


async def test_beyond_the_quota(stage: Stage) -> None:
    story = Story(stage)
    await story.opened(development={"quota": {"pods": 0}})
    await story.asked()
    await story.built(ports=(8000,))
    await stage.until(lambda: stage.phase("pr-1") == "Failed", "it failed", within=15)
    (component,) = story.status()["components"]
    assert component["reason"] == "Quota"
    assert "exceeded quota" in component["message"]


async def test_a_component_that_is_taken_away_goes_and_a_changed_one_is_repaired(stage: Stage) -> None:
    story, images = Story(stage), [{"name": "web", "image": "nginx"}, {"name": "api", "image": "api"}]
    await story.opened(components=images)
    await stage.until(lambda: stage.names_of("Deployment", "pr-1") == {"web", "api"}, "both are made")
    path = stage.path_of("Deployment", "pr-1", "web")
    stage.patch(path, {"spec": {"replicas": 3}})
    await stage.until(lambda: stage.object("Deployment", "pr-1", "web")["spec"]["replicas"] == 1, "it is repaired")
    stage.project(components=[{**images[0], "ports": [{"containerPort": 80}]}, images[1]])
    await stage.until(lambda: stage.names_of("Service", "pr-1") == {"web"}, "its Service is made")
    port = {"name": "x", "port": 81, "protocol": "TCP"}
    stage.patch(stage.path_of("Service", "pr-1", "web"), {"spec": {"ports": [port]}})
    await stage.until(lambda: story.service_ports() == [80], "it is repaired")
    stage.project(components=images[:1])
    await stage.until(lambda: stage.names_of("Service", "pr-1") == set(), "without a port there is no Service")
    await stage.until(lambda: stage.names_of("Deployment", "pr-1") == {"web"}, "the other is gone")


async def test_a_host_that_is_taken_is_said(stage: Stage) -> None:
    story = Story(stage)
    await story.opened(components=[{"name": "web", "image": "nginx", "expose": {"port": 80}}])
    await stage.until(lambda: story.pods(), "the pod was admitted")
    story.run(story.pods()[0])
    host = f"pr-1--shop--{stage.team}.catalyst.localhost"
    taken = f"host {host}: claimed by acme/a/b and by {stage.team}/shop/pr-1; the older, acme/a/b, keeps it. Rename it."
    await story.routed(host, live=False, reason=taken)
    await stage.until(lambda: story.condition("Ready").get("reason") == "HostTaken", "it is said")
    assert story.condition("Routed")["message"] == taken
    await stage.until(lambda: stage.phase("pr-1") == "Degraded", "what runs is seen, too")


async def test_a_database_is_there_before_those_that_depend_on_it(stage: Stage) -> None:
    story, web = Story(stage), {"name": "web", "image": "nginx", "dependsOn": ["db"]}
    await story.opened(components=[web], services=[{"name": "db", "engine": "postgres"}])
    await stage.until(lambda: story.pods(), "the database's pod was admitted")
    (pod,) = story.pods()
    assert pod["metadata"]["name"] == "db-0"
    assert pod["spec"]["hostUsers"] is False
    secret = stage.object("Secret", "pr-1", "db-credentials")
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values["url"] == f"postgresql://app:{values['password']}@db:5432/app"
    assert stage.names_of("PersistentVolumeClaim", "pr-1") == {"data-db-0"}
    assert stage.names_of("Deployment", "pr-1") == set()

    story.run(pod, name="db")
    await stage.until(lambda: len(story.pods()) == 2, "the component follows")
    web_pod = next(found for found in story.pods() if found["metadata"]["name"] != "db-0")
    env = {each["name"]: each for each in web_pod["spec"]["containers"][0]["env"]}
    assert env["DATABASE_URL"]["valueFrom"] == {"secretKeyRef": {"name": "db-credentials", "key": "url"}}
    assert values["password"] not in str(story.status())
    story.run(web_pod)
    await stage.until(lambda: stage.phase("pr-1") == "Ready", "it is ready")
    assert {each["name"]: each["ready"] for each in story.status()["components"]} == {"web": True, "db": True}

    # At rest nothing is written; what somebody changes is repaired, the password stays.
    stage.patch(stage.path_of("StatefulSet", "pr-1", "db"), {"spec": {"replicas": 2}})
    await stage.until(lambda: stage.object("StatefulSet", "pr-1", "db")["spec"]["replicas"] == 1, "it is repaired")
    assert stage.object("Secret", "pr-1", "db-credentials")["data"] == secret["data"]

    stage.project(components=[{"name": "web", "image": "nginx"}])
    await stage.until(lambda: stage.names_of("StatefulSet", "pr-1") == set(), "the database is gone")
    await stage.until(lambda: "db" not in stage.names_of("Service", "pr-1"), "its Service, too")
