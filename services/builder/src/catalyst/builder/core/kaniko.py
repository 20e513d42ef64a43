"""Builds by Kaniko. Its RUN steps are root in the executor's own container: what that container can read, a Dockerfile
can. Hence who holds what:

```
                 fetch (git)           kaniko                        push (crane)
trusted          read token            push credential, cache        –
fork             read token            nothing                       push credential, no shared cache
given credential read token            nothing                       the credential of the registry
```

Kaniko gets files, never git. `fetch` and `kaniko` of a fork are init containers: what a RUN step left running is gone
with its container before the one that holds the credential starts.
"""

from importlib.resources import files
from typing import Any, Final

from catalyst.builder.core.build import Build
from catalyst.builder.core.executor import (
    CONFIG_KEY,
    PUSH_SECRET,
    READ_SECRET,
    TOKEN_KEY,
    Broken,
    Built,
    Outcome,
    Unchanged,
)
from catalyst.builder.core.platform import Platform
from catalyst.builder.core.registry_names import digest_in
from catalyst.model.logs import scrubbed
from catalyst.model.manifest import Manifest

FETCH, KANIKO, PUSH = "fetch", "kaniko", "push"
WORKSPACE: Final = "/workspace"
SOURCE: Final = f"{WORKSPACE}/source"
TAR: Final = "/out/image.tar"
RESULT: Final = "/dev/termination-log"
GIT_USER: Final = 65532

_SCRIPT: Final = files("catalyst.builder.core").joinpath("fetch.sh").read_text(encoding="utf-8")


class Kaniko:
    """The executor in three containers at most."""

    def pod(self, build: Build, platform: Platform, known: tuple[str, ...]) -> dict[str, Any]:
        apart = pushes_apart(build, platform)
        volumes = [
            {"name": "workspace", "emptyDir": {"sizeLimit": platform.limits.disk}},
            {"name": READ_SECRET, "secret": {"secretName": f"{build.job}-{READ_SECRET}", "defaultMode": 0o440}},
            {
                "name": PUSH_SECRET,
                "secret": {
                    "secretName": f"{build.job}-{PUSH_SECRET}",
                    "defaultMode": 0o440,
                    "items": [{"key": CONFIG_KEY, "path": CONFIG_KEY}],
                },
            },
        ]
        if not apart:
            return {
                "initContainers": [_fetch(build, platform, known)],
                "containers": [_kaniko(build, platform, apart=False)],
                "volumes": volumes,
            }
        return {
            "initContainers": [_fetch(build, platform, known), _kaniko(build, platform, apart=True)],
            "containers": [_push(build, platform)],
            "volumes": [*volumes, {"name": "out", "emptyDir": {"sizeLimit": platform.limits.disk}}],
        }

    def outcome(self, pod: Manifest) -> Outcome:
        status = pod.get("status", {})
        ended = {
            found["name"]: found.get("state", {}).get("terminated") or {}
            for found in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
        }
        fetched = str(ended.get(FETCH, {}).get("message", ""))
        if fetched.startswith("unchanged "):
            return Unchanged(fetched.removeprefix("unchanged "))
        if status.get("phase") == "Succeeded":
            said = str((ended.get(PUSH) or ended.get(KANIKO) or {}).get("message", ""))
            digest = digest_in(said)
            if digest is None:
                return Broken("BuildFailed", "the build ended without naming its image. Build it again.", KANIKO)
            return Built(digest, fetched.removeprefix("source ") if fetched.startswith("source ") else None)
        return _broken(status, ended, fetched)

    def explained(self, broken: Broken, log: str) -> Broken:
        if broken.reason not in ("BuildFailed", "PushFailed"):
            return broken
        end = "\n".join(log.strip().split("\n")[-3:]).lower()
        if any(sign in end for sign in (_PUSH_TRIED, _PULLING)) and any(sign in end for sign in _UNREACHED):
            return Broken(
                "RegistryUnavailable", "a registry could not be reached; the log says which.", broken.container
            )
        for signs, reason, message in _SIGNS:
            if any(sign in end for sign in signs):
                return Broken(reason, message, broken.container)
        return broken


def pushes_apart(build: Build, platform: Platform) -> bool:
    """Whether the image is pushed by a container of its own, so that no Dockerfile can read the credential: a fork's
    always, and everybody's where the credential is a long-lived one.
    """
    return build.trust == "fork" or platform.push == "given"


def _fetch(build: Build, platform: Platform, known: tuple[str, ...]) -> dict[str, Any]:
    environment = {
        "SOURCE_URL": build.source.url,
        "SOURCE_COMMIT": build.source.commit,
        "DOCKERFILE": build.dockerfile,
        "CONTEXT": build.context,
        "INPUTS": build.inputs,
        "KNOWN": " ".join(known),
        "TOKEN_FILE": f"/credentials/{TOKEN_KEY}",
        "WORKSPACE": WORKSPACE,
        "RESULT": RESULT,
    }
    return {
        "name": FETCH,
        "image": platform.images.fetch,
        "command": ["/bin/sh", "-c", _literal(_SCRIPT)],
        "env": _environment(environment),
        "volumeMounts": [
            {"name": "workspace", "mountPath": WORKSPACE},
            {"name": READ_SECRET, "mountPath": "/credentials", "readOnly": True},
        ],
        "resources": _resources("100m", "64Mi", "1", "512Mi"),
        "terminationMessagePath": RESULT,
        "securityContext": _unprivileged(),
    }


def _kaniko(build: Build, platform: Platform, *, apart: bool) -> dict[str, Any]:
    destination = f"{platform.registry}/{build.repository}:{build.job}"
    context = SOURCE if build.context == "." else f"{SOURCE}/{build.context.removeprefix('./')}"
    arguments = [
        f"--context=dir://{context}",
        f"--dockerfile={SOURCE}/{build.dockerfile.removeprefix('./')}",
        f"--destination={destination}",
        "--force",  # it runs in a container; how it would find that out differs by runtime
        "--snapshot-mode=redo",
        "--log-timestamp=false",
        "--compressed-caching=false",
        "--ignore-path=/out",
        f"--ignore-path={WORKSPACE}",
        *(f"--registry-mirror={mirror}" for mirror in platform.mirrors),
        *(["--insecure", "--insecure-pull", f"--insecure-registry={platform.registry}"] if platform.insecure else []),
        *(f"--insecure-registry={mirror}" for mirror in platform.mirrors if platform.insecure),
        *([f"--target={build.target}"] if build.target else []),
        *(f"--build-arg={name}={build.arguments[name]}" for name in sorted(build.arguments)),
    ]
    mounts: list[dict[str, Any]] = [{"name": "workspace", "mountPath": WORKSPACE}]
    if apart:
        arguments += ["--no-push", f"--tar-path={TAR}"]
        mounts.append({"name": "out", "mountPath": "/out"})
    else:
        arguments += [f"--digest-file={RESULT}", "--push-retry=2"]
        mounts.append({"name": PUSH_SECRET, "mountPath": "/kaniko/.docker", "readOnly": True})
        if build.cache is not None:
            arguments += ["--cache=true", f"--cache-repo={platform.registry}/{build.cache}"]
    limits = platform.limits
    return {
        "name": KANIKO,
        "image": platform.images.kaniko,
        "command": ["/kaniko/executor"],
        "args": [_literal(argument) for argument in arguments],
        "volumeMounts": mounts,
        "resources": _resources("250m", "512Mi", limits.cpu, limits.memory, limits.disk),
        "terminationMessagePath": RESULT,
        "securityContext": {"allowPrivilegeEscalation": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }


def _push(build: Build, platform: Platform) -> dict[str, Any]:
    return {
        "name": PUSH,
        "image": platform.images.crane,
        "command": ["crane"],
        "args": [
            "push",
            *(["--insecure"] if platform.insecure else []),
            f"--image-refs={RESULT}",
            TAR,
            f"{platform.registry}/{build.repository}:{build.job}",
        ],
        "env": _environment({"DOCKER_CONFIG": "/credentials", "HOME": "/tmp"}),  # noqa: S108 - inside the container
        "volumeMounts": [
            {"name": "out", "mountPath": "/out", "readOnly": True},
            {"name": PUSH_SECRET, "mountPath": "/credentials", "readOnly": True},
        ],
        "resources": _resources("100m", "64Mi", "1", "512Mi"),
        "terminationMessagePath": RESULT,
        "securityContext": _unprivileged(),
    }


def _environment(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": _literal(value)} for name, value in values.items()]


def _literal(text: str) -> str:
    """`$` doubled: Kubernetes would expand `$(NAME)`."""
    return text.replace("$", "$$")


def _unprivileged() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": GIT_USER,
        "runAsGroup": GIT_USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(cpu: str, memory: str, most_cpu: str, most_memory: str, most_disk: str = "1Gi") -> dict[str, Any]:
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "256Mi"},
        "limits": {"cpu": most_cpu, "memory": most_memory, "ephemeral-storage": most_disk},
    }


# Reading a pod that failed


def _broken(status: Manifest, ended: dict[str, Manifest], fetched: str) -> Broken:
    if status.get("reason") == "DeadlineExceeded":
        return Broken(
            "BuildTimedOut",
            "the build took longer than it may. Make it smaller, or ask for a longer deadline.",
            _last_started(ended),
        )
    if status.get("reason") == "Evicted":
        why = scrubbed(str(status.get("message", "")))[:300]
        return Broken("BuildEvicted", f"the node stopped the build: {why} Build it again, or make it smaller.")
    failed = next((name for name in (FETCH, KANIKO, PUSH) if ended.get(name, {}).get("exitCode")), None)
    if failed is None:
        return Broken("BuildLost", "the build's pod ended without saying why: its node went away. Build it again.")
    if ended[failed].get("reason") == "OOMKilled":
        return Broken("OutOfMemory", "the build needed more memory than it may have. Make it smaller.", failed)
    if failed == FETCH:
        reason, colon, message = fetched.partition(": ")
        if colon and reason.isalnum():
            return Broken(reason, message)
        return Broken("SourceUnavailable", "the source could not be fetched; the log says why.", FETCH)
    if failed == PUSH:
        return Broken("PushFailed", "the image was built but could not be pushed; the log says why.", PUSH)
    return Broken("BuildFailed", "the Dockerfile could not be built; the log says which step failed.", KANIKO)


def _last_started(ended: dict[str, Manifest]) -> str | None:
    return next((name for name in (PUSH, KANIKO, FETCH) if ended.get(name, {}).get("startedAt")), None)


_PUSH_TRIED: Final = "error checking push permissions"
_PULLING: Final = "retrieving image"
_UNREACHED: Final = ("timeout", "connection refused", "connection reset", "no route to host", ": eof", " 502", " 503")
_SIGNS: Final = (
    (("unauthorized", "denied: ", "insufficient_scope", _PUSH_TRIED), "RegistryRefused",
     "the registry refused the build's credential. The platform's people look at the registry and its token realm."),
    (("manifest_unknown", "manifest unknown", "name_unknown", "no such host", _PULLING),
     "BaseImageNotFound",
     "an image that the Dockerfile names in FROM cannot be pulled. Correct its name, or make it public."),
    (("dockerfile parse error", "unknown instruction", "error parsing dockerfile"), "DockerfileInvalid",
     "the Dockerfile cannot be read; the log names the line."),
    (("no space left on device",), "OutOfDisk", "the build needed more disk than it may have. Make it smaller."),
)  # fmt: skip
