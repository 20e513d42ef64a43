"""What is seen of a Deployment and its pods, and the word for it: one row a situation, each beside one that is well."""

from typing import Any

import pytest
from makers import NOW, at

from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.rollout import LogWish, Trouble, is_complete, newest_of, told, trouble, was_told
from catalyst.env_controller.core.workload import Image
from catalyst.env_controller.core.world import Observed
from catalyst.model.environment import ComponentStatus
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.project import Component, Expose

EXPOSED = Part(Component(name="web", expose=Expose(port=8000)))
PROBED = Part(
    Component.model_validate(
        {"name": "web", "expose": {"port": 8000}, "readinessProbe": {"httpGet": {"path": "/", "port": 8000}}}
    )
)
DIGEST = "sha256:" + "a" * 64
IMAGE = Image(f"r/acme/shop/web@{DIGEST}", DIGEST)
ENDED: dict[str, Any] = {"terminated": {"exitCode": 1, "reason": "Error"}}


def seen(**status: Any) -> Observed:
    counted = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "wanted": 1}
    return Observed(Ref("apps/v1", "Deployment", "n", "web"), generation=2, status={**counted, **status})


def pod(
    *containers: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    scheduled: dict[str, Any] | None = None,
    **more: Any,
) -> Manifest:
    metadata = {"name": "web-1", "labels": {"catalyst.dev/component": "web", "pod-template-hash": "1"}, **more}
    about = {"name": "web", "image": "i", "restartCount": 0, "ready": False, "lastState": {}}
    return {
        "metadata": metadata,
        "status": {
            "conditions": [{"type": "PodScheduled", "status": "True", **(scheduled or {})}],
            "initContainerStatuses": [{**about, **each} for each in init],
            "containerStatuses": [{**about, **each} for each in containers],
        },
    }


@pytest.mark.parametrize(
    ("status", "complete"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"updatedReplicas": 0, "availableReplicas": 1}, False),
        ({"replicas": 2}, False),
        ({"availableReplicas": 0}, False),
        ({"wanted": 2}, False),
        ({"wanted": 0, "replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}, True),
    ],
)
def test_complete_is_what_kubectl_calls_rolled_out(status: dict[str, Any], complete: bool) -> None:
    assert is_complete(seen(**status)) is complete
    assert not is_complete(None)


WAITING = {"availableReplicas": 0}


def waits(reason: str, message: str = "m") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("found", "reason", "log"),
    [
        (pod(waits("ContainerCreating")), None, None),
        (pod(waits("ErrImagePull")), "ImagePull", None),
        (pod(waits("ImagePullBackOff")), "ImagePull", None),
        (pod(waits("InvalidImageName")), "ImagePull", None),
        (pod(waits("CreateContainerConfigError", 'secret "db" not found')), "SecretNotFound", None),
        (pod(waits("CreateContainerConfigError", "image will run as root")), "RefusedByCluster", None),
        (pod(waits("PodInitializing"), init=({"name": "migrate", "state": ENDED},)), "InitFailed", "web-1/migrate"),
        (pod(init=({"name": "migrate", "state": {"terminated": {"exitCode": 0}}},)), None, None),
        (pod({**waits("CrashLoopBackOff"), "lastState": ENDED}), "CrashLoop", "web-1/web"),
        (pod({"state": ENDED, "restartCount": 0}), None, None),
        (pod({"state": {"running": {}}, "lastState": ENDED, "restartCount": 2}), "CrashLoop", "web-1/web"),
        (pod({"state": {"running": {}}, "lastState": ENDED, "restartCount": 9, "ready": True}), None, None),
        (
            pod({**waits("CrashLoopBackOff"), "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            "OutOfMemory",
            "web-1/web",
        ),
        (pod({"state": {"running": {"startedAt": at(-31).isoformat()}}}), "PortNotListening", "web-1/web"),
        (pod({"state": {"running": {"startedAt": at(-29).isoformat()}}}), None, None),
        (pod(scheduled={"status": "False", "lastTransitionTime": at(-11).isoformat()}), "Unschedulable", None),
        (pod(scheduled={"status": "False", "lastTransitionTime": at(-9).isoformat()}), None, None),
        (pod({**waits("ErrImagePull")}, deletionTimestamp="x"), None, None),
    ],
)
def test_the_word_for_what_is_seen(found: Manifest, reason: str | None, log: str | None) -> None:
    said = trouble(EXPOSED, IMAGE, seen(**WAITING), [found], NOW)
    assert (said and said.reason) == reason
    assert (said.log.key if said and said.log else None) == log


def test_a_probe_of_the_projects_own_fails_under_its_own_name() -> None:
    silent = pod({"state": {"running": {"startedAt": at(-60).isoformat()}}})
    said = trouble(PROBED, IMAGE, seen(**WAITING), [silent], NOW)
    assert said is not None
    assert said.reason == "ProbeFailing"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "web" is forbidden: exceeded quota: environment, requested: pods=1', "Quota"),
        ("maximum cpu usage per Container is 2, but limit is 3", "Quota"),
        ("violates PodSecurity", "RefusedByCluster"),
    ],
)
def test_what_the_cluster_does_not_let_in(message: str, reason: str) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    said = trouble(EXPOSED, IMAGE, seen(**WAITING, conditions=[failure]), [], NOW)
    assert said is not None
    assert (said.reason, message in said.sentence) == (reason, True)


def test_too_late() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    said = trouble(EXPOSED, IMAGE, seen(**WAITING, conditions=[late]), [pod({"state": {"running": {}}})], NOW)
    assert said == Trouble("DeadlineExceeded", "web did not become ready in time.", LogWish("web-1", "web"))


def test_only_the_newest_version_says_something() -> None:
    old = pod(waits("ErrImagePull"), creationTimestamp="2026-11-23T19:00:00Z")
    new = pod({"state": {"running": {}}, "ready": True}, creationTimestamp="2026-11-23T20:00:00Z")
    new["metadata"] |= {"name": "web-2", "labels": {**new["metadata"]["labels"], "pod-template-hash": "2"}}
    assert newest_of("web", [old, new]) == [new]
    assert newest_of("api", [old, new]) == []
    assert trouble(EXPOSED, IMAGE, seen(**WAITING), [old, new], NOW) is None


def test_the_log_follows_the_sentence_without_secrets_and_stays_as_it_was_said() -> None:
    crash = Trouble("CrashLoop", "web ended\nwith exit status 1.", LogWish("web-1", "web"))
    logs = {"web-1/web": "starting\nPASSWORD=hunter2hunter2\nboom\n"}
    message = told(crash, IMAGE, logs, None)
    assert message == "web ended with exit status 1.\nstarting\nPASSWORD=[redacted]\nboom"
    before = ComponentStatus(name="web", digest=DIGEST, reason="CrashLoop", message=message)
    assert was_told(crash, IMAGE, before)
    assert told(crash, IMAGE, {"web-1/web": "another run"}, before) == message
    other = before.model_copy(update={"digest": "sha256:" + "b" * 64})
    assert told(crash, IMAGE, {"web-1/web": "another run"}, other) == "web ended with exit status 1.\nanother run"
    assert len(told(crash, IMAGE, {"web-1/web": "x y" * 100000}, None)) <= 8192


def test_a_log_that_could_not_be_read_is_asked_for_again() -> None:
    crash = Trouble("CrashLoop", "web ended.", LogWish("web-1", "web"))
    before = ComponentStatus(name="web", digest=DIGEST, reason="CrashLoop", message=told(crash, IMAGE, {}, None))
    assert before.message == "web ended."
    assert not was_told(crash, IMAGE, before)
