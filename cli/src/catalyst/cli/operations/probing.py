"""Two questions that only pods can answer, in a namespace of its own that is removed whatever happens.

    network-policy     a server, a client that reaches it, a policy that lets nobody in, a client that should not
    user-namespaces    a pod with hostUsers: false, which tells how its users are mapped

The image is one that the installation runs anyway: it has Python, and nodes can pull it.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from catalyst.cli.core.doctor.cluster import NetworkProbe, UserNamespaceProbe
from catalyst.cli.core.hidden import Hidden
from catalyst.kube.client import Kube
from catalyst.kube.errors import Conflict, Forbidden, KubeError, NotFound
from catalyst.model.manifest import Manifest, Ref

PREFIX: Final = "catalyst-doctor-"
PORT: Final = 8080
LOOK: Final = 0.5
"""Seconds between two looks at a pod."""
PATIENCE: Final = 30.0
"""Seconds in which a pod should have reached another one."""
WATCHED: Final = 12.0
"""Seconds for which it goes on trying under a policy; a plugin may take some of them to take that up …"""
LAST: Final = 5.0
"""… but in the last of them nothing may get through."""
_NAME: Final = {"app.kubernetes.io/name": "catalyst-doctor"}
_CLIENT: Final = """
import socket, sys, time
ends, reached = time.monotonic() + {seconds}, None
while time.monotonic() < ends and not ({once} and reached):
    try:
        socket.create_connection(({host!r}, {port}), timeout=1).close()
        reached = time.monotonic()
    except OSError:
        pass
    time.sleep(0.2)
late = reached is not None and ({once} or ends - reached < {last})
open("/dev/termination-log", "w").write("reached" if late else "not reached")
"""
_MAPPED: Final = 'open("/dev/termination-log", "w").write(open("/proc/self/uid_map").read())'
_NEEDS: Final = "a credential that may create and delete namespaces, and create pods and network policies in them"


@dataclass(frozen=True, slots=True)
class Probed:
    network: NetworkProbe | Hidden
    users: UserNamespaceProbe | Hidden


async def probe(kube: Kube, image: str, deadline: float) -> Probed:
    """Both, within `deadline` seconds together; what could not be tried says why. Raises `Unavailable`."""
    try:
        async with _namespace(kube) as namespace:
            network, users = await asyncio.gather(
                _within(deadline, kube, namespace, _network(kube, namespace, image)),
                _within(deadline, kube, namespace, _users(kube, namespace, image)),
            )
            return Probed(network, users)
    except Forbidden as exc:
        refused = Hidden(f"the probe may not be made: {exc.message}", _NEEDS)
        return Probed(refused, refused)


@asynccontextmanager
async def _namespace(kube: Kube) -> AsyncIterator[str]:
    """Removed also when this is interrupted while it is being made: its name is known before."""
    name, may = f"{PREFIX}{secrets.token_hex(4)}", True
    try:
        try:
            await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _NAME}})
        except Forbidden:
            may = False
            raise
        yield name
    finally:
        if may:
            await asyncio.shield(_remove(kube, name))


async def _remove(kube: Kube, name: str) -> None:
    try:
        found = await kube.get(Ref("v1", "Namespace", "", name), metadata_only=True)
        await kube.delete(Ref("v1", "Namespace", "", name), uid=found["metadata"]["uid"])
    except NotFound:
        return  # it was not made
    except KubeError as exc:
        sys.stderr.write(f"catalyst: namespace {name} is left behind: {exc.message}; kubectl delete namespace {name}\n")


async def _within(deadline: float, kube: Kube, namespace: str, probing: Any) -> Any:
    try:
        async with asyncio.timeout(deadline):
            return await probing
    except TimeoutError:
        why = await _what_waits(kube, namespace)
        return Hidden(
            f"no answer within {deadline:g} s: {why}",
            "look at the nodes and the image; --probe-deadline gives more time",
        )
    except Forbidden as exc:
        return Hidden(f"the probe may not be made: {exc.message}", _NEEDS)
    except KubeError as exc:
        return Hidden(f"the API server: {exc.message}", "an API server that answers")


async def _what_waits(kube: Kube, namespace: str) -> str:
    """The first pod that does not run, in the cluster's own words."""
    try:
        for name in ("server", "before", "after", "users"):
            pod = await _pod(kube, namespace, name) or {}
            status = pod.get("status") or {}
            if not pod or status.get("phase") in ("Running", "Succeeded"):
                continue
            waiting = [
                state["waiting"].get("reason", "")
                for container in status.get("containerStatuses") or ()
                if (state := container.get("state") or {}).get("waiting")
            ]
            unscheduled = [
                each.get("message", "") for each in status.get("conditions") or () if each.get("status") == "False"
            ]
            words = " ".join(filter(None, [*waiting, *unscheduled])) or "no node has taken it"
            return f"pod {name} is {status.get('phase', 'Pending')}, {words}"
    except KubeError as exc:
        return exc.message
    return "no pod was made"


async def _network(kube: Kube, namespace: str, image: str) -> NetworkProbe:
    await _run(kube, _pod_of(namespace, "server", image, ["-m", "http.server", str(PORT)]))
    host = await _address(kube, namespace, "server")
    before = await _reached(kube, namespace, "before", image, host=host, seconds=PATIENCE, once=True, last=0)
    await kube.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "nobody", "namespace": namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        }
    )
    after = await _reached(kube, namespace, "after", image, host=host, seconds=WATCHED, once=False, last=LAST)
    return NetworkProbe(before, after)


async def _address(kube: Kube, namespace: str, name: str) -> str:
    while True:
        status = (await _pod(kube, namespace, name) or {}).get("status") or {}
        if status.get("podIP"):
            return str(status["podIP"])
        await asyncio.sleep(LOOK)


async def _reached(kube: Kube, namespace: str, name: str, image: str, **how: Any) -> bool:
    script = _CLIENT.format(port=PORT, **how)
    try:
        return await _said(kube, _pod_of(namespace, name, image, ["-c", script])) == "reached"
    except _Failed:
        return False


async def _users(kube: Kube, namespace: str, image: str) -> UserNamespaceProbe:
    pod = _pod_of(namespace, "users", image, ["-c", _MAPPED])
    pod["spec"]["hostUsers"] = False
    try:
        return UserNamespaceProbe(await _said(kube, pod))
    except _Failed as exc:
        return UserNamespaceProbe(error=str(exc))


class _Failed(Exception):
    """A pod ended without having said anything."""


async def _said(kube: Kube, pod: Manifest) -> str:
    """What it leaves as its last message. Raises `_Failed`."""
    await _run(kube, pod)
    metadata = pod["metadata"]
    while True:
        status = (await _pod(kube, metadata["namespace"], metadata["name"]) or {}).get("status") or {}
        for container in status.get("containerStatuses") or ():
            if ended := (container.get("state") or {}).get("terminated"):
                if ended.get("exitCode"):
                    raise _Failed(ended.get("message") or ended.get("reason") or f"exit code {ended['exitCode']}")
                return str(ended.get("message", ""))
        if status.get("phase") == "Failed":  # the node would not even try
            raise _Failed(status.get("message") or status.get("reason") or "it failed")
        await asyncio.sleep(LOOK)


async def _run(kube: Kube, pod: Manifest) -> None:
    """As soon as the namespace has its ServiceAccount, which takes the cluster a moment."""
    while True:
        try:
            await kube.create(pod)
        except Forbidden as exc:
            if "serviceaccount" not in exc.message.replace(" ", "").lower() or "not found" not in exc.message:
                raise
            await asyncio.sleep(LOOK)
        except Conflict:
            await asyncio.sleep(LOOK)
        else:
            return


async def _pod(kube: Kube, namespace: str, name: str) -> Manifest | None:
    try:
        return await kube.get(Ref("v1", "Pod", namespace, name))
    except NotFound:
        return None


def _pod_of(namespace: str, name: str, image: str, arguments: list[str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": _NAME},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "command": ["python3", *arguments],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"cpu": "500m", "memory": "64Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
