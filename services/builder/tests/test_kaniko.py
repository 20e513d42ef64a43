"""The pod of a build: who mounts what, and what is read from a pod that ended."""

import json
from dataclasses import replace
from typing import Any

import pytest
from asked import PLATFORM, built

from catalyst.builder.core.build import Build
from catalyst.builder.core.executor import Broken, Built, Unchanged
from catalyst.builder.core.kaniko import Kaniko
from catalyst.builder.core.platform import Platform

DIGEST = f"sha256:{'d' * 64}"


def containers(build: Build, platform: Platform = PLATFORM) -> dict[str, Any]:
    pod = Kaniko().pod(build, platform, ())
    return {each["name"]: each for each in (*pod["initContainers"], *pod["containers"])}


def mounted(container: Any) -> set[str]:
    return {mount["name"] for mount in container["volumeMounts"]}


def test_trusted_kaniko_holds_its_push_credential_and_never_the_read_token() -> None:
    found = containers(built())
    assert list(found) == ["fetch", "kaniko"]
    assert mounted(found["fetch"]) == {"workspace", "read"}
    assert mounted(found["kaniko"]) == {"workspace", "push"}
    arguments = found["kaniko"]["args"]
    assert "--cache-repo=registry.example.org/acme/shop/cache/development" in arguments
    assert "--no-push" not in arguments


@pytest.mark.parametrize(
    ("build", "platform"), [(built(trusted=False), PLATFORM), (built(), replace(PLATFORM, push="given"))]
)
def test_who_must_not_read_a_credential_pushes_nothing_itself(build: Build, platform: Platform) -> None:
    pod = Kaniko().pod(build, platform, ())
    assert [each["name"] for each in pod["initContainers"]] == ["fetch", "kaniko"]
    found = containers(build, platform)
    assert mounted(found["kaniko"]) == {"workspace", "out"}
    assert mounted(found["push"]) == {"out", "push"}
    arguments = found["kaniko"]["args"]
    assert "--no-push" in arguments
    assert "--tar-path=/out/image.tar" in arguments
    assert not any(argument.startswith("--cache") for argument in arguments)
    assert found["push"]["securityContext"]["runAsNonRoot"]


def test_nothing_from_outside_becomes_a_command() -> None:
    build = built(inputs={"arg.X": "$(SOURCE_URL) --destination=evil", "context": "apps/$(X)"})
    found = containers(build)
    fetch, kaniko = found["fetch"], found["kaniko"]
    assert "apps/" not in json.dumps(fetch["command"])
    assert {"name": "CONTEXT", "value": "apps/$$(X)"} in fetch["env"]
    assert "--build-arg=X=$$(SOURCE_URL) --destination=evil" in kaniko["args"]
    assert kaniko["command"] == ["/kaniko/executor"]
    assert "--context=dir:///workspace/source/apps/$$(X)" in kaniko["args"]


def test_plain_http_only_where_the_platform_says_so() -> None:
    secure, local = containers(built()), containers(built(), replace(PLATFORM, insecure=True, mirrors=("mirror:5000",)))
    assert not any("insecure" in argument for argument in secure["kaniko"]["args"])
    assert "--insecure" in local["kaniko"]["args"]
    assert "--registry-mirror=mirror:5000" in local["kaniko"]["args"]


def pod(phase: str, **states: Any) -> dict[str, Any]:
    def status(name: str) -> dict[str, Any]:
        code, message, *reason = states[name]
        return {
            "name": name,
            "state": {"terminated": {"exitCode": code, "message": message, "reason": (reason or [""])[0]}},
        }

    inits = [status(name) for name in ("fetch",) if name in states]
    rest = [status(name) for name in ("kaniko", "push") if name in states]
    return {
        "metadata": {"name": "p"},
        "status": {"phase": phase, "initContainerStatuses": inits, "containerStatuses": rest},
    }


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (pod("Succeeded", fetch=(0, "source f"), kaniko=(0, DIGEST)), Built(DIGEST, "f")),
        (pod("Succeeded", fetch=(0, "source f"), kaniko=(0, ""), push=(0, f"r/x@{DIGEST}\n")), Built(DIGEST, "f")),
        (pod("Succeeded", fetch=(0, ""), kaniko=(0, DIGEST)), Built(DIGEST, None)),
        (pod("Failed", fetch=(10, "unchanged f")), Unchanged("f")),
    ],
)
def test_good_ends(ended: dict[str, Any], outcome: Any) -> None:
    assert Kaniko().outcome(ended) == outcome


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (pod("Succeeded", fetch=(0, "source f"), kaniko=(0, "evil.example/x:latest")), "BuildFailed"),
        (pod("Succeeded", fetch=(0, "source f"), kaniko=(0, DIGEST + "x")), "BuildFailed"),
        (pod("Failed", fetch=(1, "CommitNotFound: it is gone.")), "CommitNotFound"),
        (pod("Failed", fetch=(128, "")), "SourceUnavailable"),
        (pod("Failed", fetch=(0, "source f"), kaniko=(1, "")), "BuildFailed"),
        (pod("Failed", fetch=(0, "source f"), kaniko=(137, "", "OOMKilled")), "OutOfMemory"),
        (pod("Failed", fetch=(0, "source f"), kaniko=(0, ""), push=(1, "")), "PushFailed"),
        (pod("Failed"), "BuildLost"),
        ({"status": {"phase": "Failed", "reason": "DeadlineExceeded"}}, "BuildTimedOut"),
        ({"status": {"phase": "Failed", "reason": "Evicted", "message": "disk"}}, "BuildEvicted"),
        ({}, "BuildLost"),
    ],
)
def test_bad_ends(ended: dict[str, Any], reason: str) -> None:
    outcome = Kaniko().outcome(ended)
    assert isinstance(outcome, Broken)
    assert outcome.reason == reason
    assert outcome.message.endswith((".", "failed."))


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("error pushing image: UNAUTHORIZED: authentication required", "RegistryRefused"),
        ("error checking push permissions -- try again: GET https://r/v2/: UNAUTHORIZED", "RegistryRefused"),
        ("error checking push permissions -- try again: GET https://r/v2/: DENIED: no", "RegistryRefused"),
        (
            'error checking push permissions -- try again: Get "https://r/v2/": dial tcp: i/o timeout',
            "RegistryUnavailable",
        ),
        ("error building image: retrieving image: dial tcp: connect: connection refused", "RegistryUnavailable"),
        ("error building image: retrieving image: dial tcp: lookup nowhere: no such host", "BaseImageNotFound"),
        ("error building image: MANIFEST_UNKNOWN: manifest unknown", "BaseImageNotFound"),
        (
            "error building image: parsing dockerfile: dockerfile parse error on line 3: unknown instruction: FRMO",
            "DockerfileInvalid",
        ),
        ("write /x: no space left on device", "OutOfDisk"),
        ("error building image: waiting for process to exit: exit status 1", "BuildFailed"),
    ],
)
def test_the_log_says_more(log: str, reason: str) -> None:
    assert Kaniko().explained(Broken("BuildFailed", "m", "kaniko"), f"step\n{log}\n").reason == reason
    assert Kaniko().explained(Broken("OutOfMemory", "m", "kaniko"), log).reason == "OutOfMemory"


@pytest.mark.parametrize("tried", ["error checking push permissions -- try again", "retrieving image"])
@pytest.mark.parametrize(
    "what",
    [
        "dial tcp: i/o timeout",
        "net/http: TLS handshake timeout",
        "connect: connection refused",
        "read: connection reset by peer",
        "connect: no route to host",
        'Get "https://r/v2/": EOF',
        "unexpected status code 502 Bad Gateway",
        "unexpected status code 503 Service Unavailable",
    ],
)
def test_a_registry_that_is_not_reached_is_told_from_one_that_refuses(tried: str, what: str) -> None:
    assert Kaniko().explained(Broken("BuildFailed", "m", "kaniko"), f"{tried}: {what}").reason == "RegistryUnavailable"
    ran = "error building image: waiting for process to exit"
    assert Kaniko().explained(Broken("BuildFailed", "m", "kaniko"), f"{ran}: {what}").reason == "BuildFailed"
