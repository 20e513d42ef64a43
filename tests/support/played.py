"""The parts that nobody plays in a stage without a node: builder, the kubelet and dns-proxy, of one pull request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stage import Stage

from catalyst.builder.core import outcome
from catalyst.builder.core.executor import Broken
from catalyst.builder.core.kaniko import Kaniko
from catalyst.events.catalogue import BuildFinished, BuildRequested, EnvironmentName, RouteChanged
from catalyst.model import labels


class Story:
    """One pull request of a stage, `acme/shop/pr-<number>`, and the parts that nobody else plays here."""

    def __init__(self, stage: Stage, number: int = 1) -> None:
        self.stage = stage
        self.number = number
        self.name = f"pr-{number}"
        self.host = f"{self.name}--shop--{stage.team}.catalyst.localhost"

    async def opened(self, **spec: Any) -> None:
        self.stage.grant()
        self.stage.project(**spec)
        await self.stage.accepted()
        await self.pulled()

    async def pulled(self, **changes: Any) -> None:
        """The pull request comes; returns when its baseline is there."""
        await self.stage.deliver(self.stage.pull_request(self.number, **{"sha": "a" * 40, **changes}))
        await self.stage.until(lambda: self.condition("BaselineReady").get("status") == "True", "its baseline is there")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.stage.environment(self.name) or {}).get("status", {})
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        return self.stage.condition(self.stage.environment(self.name), kind)

    def identity(self) -> EnvironmentName:
        uid = self.stage.uid(self.name) or ""
        return EnvironmentName(team=self.stage.team, project="shop", environment=self.name, uid=uid)

    # builder

    async def asked(self, commit: str = "a" * 40, attempt: int | None = None) -> dict[str, Any]:
        """The request for that commit, which the snapshot before it names."""
        found: list[dict[str, Any]] = []

        async def is_asked() -> bool:
            subject = f"env.{self.stage.team}.shop.{self.name}.build.requested"
            events = [event["data"] for event in await self.stage._operator.events("EVENTS", subject)]
            wanted = [
                data for data in events if data["commit"] == commit and data["attempt"] == (attempt or data["attempt"])
            ]
            found[:] = wanted[-1:]
            return bool(found)

        await self.stage.until_async(is_asked, "a build is asked for")
        said = [snapshot["builds"] for snapshot in await self.stage.said(self.name)]
        assert {"web": {"key": found[0]["key"], "attempt": found[0]["attempt"]}} in said
        return found[0]

    async def built(self, commit: str = "a" * 40, *, digest: str = "a", **fields: Any) -> None:
        asked = await self.asked(commit)
        await self.finished(commit, asked["attempt"], digest=digest, **fields)

    async def finished(
        self, commit: str, attempt: int, *, outcome: Any = "succeeded", digest: str | None = None, **fields: Any
    ) -> None:
        asked = await self.asked(commit, attempt)
        answer = BuildFinished(
            environment=self.identity(),
            component=asked["component"],
            key=asked["key"],
            attempt=attempt,
            outcome=outcome,
            digest=f"sha256:{digest * 64}" if digest else None,
            duration_seconds=1.0,
            **fields,
        )
        await self.stage.answer("builder", answer, self.name)

    async def build_breaks(self, ended: dict[str, tuple[int, str]], log: str = "") -> None:
        """builder's own reading of a build's pod that failed: container → exit code and termination message."""
        states = [
            {"name": name, "state": {"terminated": {"exitCode": code, "message": message}}}
            for name, (code, message) in ended.items()
        ]
        kaniko, pod = Kaniko(), {"status": {"phase": "Failed", "containerStatuses": states}}
        broken = kaniko.outcome(pod)
        assert isinstance(broken, Broken)
        request = BuildRequested.model_validate(await self.asked())
        await self.stage.answer("builder", outcome.failed(request, kaniko.explained(broken, log), 1.0, log), self.name)

    def service_ports(self) -> list[int]:
        return [port["port"] for port in self.stage.object("Service", self.name, "web")["spec"]["ports"]]

    async def comes_up(self) -> None:
        """Undisturbed from here to Ready."""
        await self.stage.until(lambda: self.status().get("builds") or self.pods(), "it is built or run")
        if self.status().get("builds"):
            await self.built(ports=(8000,))
        self.run(await self.pod())
        await self.routed(self.host, live=True)
        await self.stage.until(lambda: self.stage.phase(self.name) == "Ready", f"{self.name} is ready")

    # The kubelet

    async def pod(self, component: str = "web") -> dict[str, Any]:
        """The component's pod, as soon as it was admitted."""

        def found() -> list[dict[str, Any]]:
            return [pod for pod in self.pods() if pod["metadata"]["labels"].get(labels.COMPONENT) == component]

        await self.stage.until(found, f"a pod of {component} was admitted")
        return found()[0]

    def pods(self) -> list[dict[str, Any]]:
        found = self.stage.get(f"/api/v1/namespaces/{self.stage.team}--shop--{self.name}/pods") or {"items": []}
        return [item for item in found["items"] if "deletionTimestamp" not in item["metadata"]]

    def has_digest(self, pod: dict[str, Any], digest: str) -> bool:
        image: str = pod["spec"]["containers"][0]["image"]
        return image.endswith(f"@sha256:{digest * 64}")

    def run(self, pod: dict[str, Any], name: str = "web") -> None:
        now = _ago(0)
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        container = {"name": name, "state": {"running": {"startedAt": now}}, "ready": True, "started": True}
        self._tell(pod, [ready], container)

    def breaks(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        told = {"ready": False, "restartCount": 0, **container}
        if told.get("lastState") == "ended":
            times = {"startedAt": _ago(20), "finishedAt": _ago(10)}
            told["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", **times}}
        if "running" in told["state"]:
            told["state"] = {"running": {"startedAt": _ago(60)}}
        self._tell(pod, [{"type": "Ready", "status": "False"}], told)

    def _tell(self, pod: dict[str, Any], conditions: list[dict[str, Any]], container: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        image = pod["spec"]["containers"][0]["image"]
        about = {"name": "web", "image": image, "imageID": image, "restartCount": 0}
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [{**about, **container}]}
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        self.stage.patch(path, {"status": status})

    # dns-proxy

    async def routed(self, host: str, *, live: bool, reason: str | None = None) -> None:
        answer = RouteChanged(environment=self.identity(), host=host, live=live, reason=reason)
        await self.stage.until(lambda: self.status().get("routes"), "the route is handed out")
        await self.stage.answer("dns-proxy", answer, self.name)


def _ago(seconds: float) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
