"""An environment by hand: what somebody applies who knows exactly what is wanted, each object as soon as it can be,
over a warm connection.

    namespaces ─▶ Secrets, Service ─▶ Job, route ─▶ Complete ─▶ Deployment of its digest ─▶ rolled out, the URL answers

Arguments: kubeconfig, plan (file), admin (address of a Caddy's admin endpoint), edge (its address for visitors),
authority (file, its root certificate), host, expects (what the answer must contain).

The plan is `{"namespaces", "first", "job", "deployment", "route"}`: manifests, `first` a list of Secrets and Services;
`@DIGEST@` in the Deployment stands for the built image's digest, `@UPSTREAM@` in the route (null: it is there already)
for the address of the plan's Service.

Answers: seconds, and stages (what → seconds since the beginning).
"""

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop

from bench.limits.arguments import answer, contents, given
from bench.limits.kubernetes import Connection, Refused, Server

PATIENCE: Final = 300.0
LOOK: Final = 0.1
"""Seconds between two looks at the URL."""
PLACES: Final = {
    "Namespace": "/api/v1/namespaces",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

Manifest = dict[str, Any]


class Hand:
    """Applies and waits."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    async def apply(self, manifest: Manifest) -> Manifest:
        target = f"{_place(manifest)}/{manifest['metadata']['name']}?fieldManager=hand&force=true"
        status, text = await self._connection.request(
            "PATCH", target, json.dumps(manifest), "application/apply-patch+yaml"
        )
        if status >= 300:
            raise Refused(f"{target}: {status} {text[:1000]!r}")
        found: Manifest = json.loads(text)
        return found

    async def get(self, target: str) -> Manifest | None:
        status, text = await self._connection.request("GET", target)
        found: Manifest | None = json.loads(text) if status == 200 else None
        return found

    async def new_namespace(self, manifest: Manifest) -> None:
        """Until pods can be made in it, which takes its ServiceAccount."""
        await self.apply(manifest)
        account = f"/api/v1/namespaces/{manifest['metadata']['name']}/serviceaccounts/default"
        while True:
            if await self.get(account) is not None:
                return
            await asyncio.sleep(0.01)

    async def until(self, manifest: Manifest, holds: Callable[[Manifest], bool]) -> Manifest:
        """The object, as a watch first shows that it holds. Raises what `holds` raises, and TimeoutError."""
        seen: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()

        def heard(line: bytes) -> None:
            event = json.loads(line)
            try:
                if event.get("type") in ("ADDED", "MODIFIED") and holds(event["object"]) and not seen.done():
                    seen.set_result(event["object"])
            except Refused as error:
                seen.set_exception(error)

        connection = await Connection.open(self._server, heard)
        target = f"{_place(manifest)}?watch=true&fieldSelector=metadata.name={manifest['metadata']['name']}"
        watch = asyncio.create_task(connection.request("GET", target))
        try:
            async with asyncio.timeout(PATIENCE):
                return await seen
        finally:
            connection.close()
            await asyncio.gather(watch, return_exceptions=True)


def _place(manifest: Manifest) -> str:
    return PLACES[manifest["kind"]].format(manifest["metadata"].get("namespace"))


def _is_built(job: Manifest) -> bool:
    ended = {each["type"] for each in job.get("status", {}).get("conditions", ()) if each["status"] == "True"}
    if "Failed" in ended:
        raise Refused(f"the build failed: {job['status']}")
    return "Complete" in ended


def _is_rolled_out(generation: int) -> Callable[[Manifest], bool]:
    """As `kubectl rollout status` sees it."""

    def holds(deployment: Manifest) -> bool:
        status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
        updated = status.get("updatedReplicas", 0)
        return bool(
            status.get("observedGeneration", 0) >= generation
            and updated >= wanted
            and status.get("replicas", 0) <= updated <= status.get("availableReplicas", 0)
        )

    return holds


async def _digest(hand: Hand, job: Manifest) -> str:
    """From the last words of the Job's pod."""
    metadata = job["metadata"]
    pods = await hand.get(f"/api/v1/namespaces/{metadata['namespace']}/pods?labelSelector=job-name={metadata['name']}")
    ended = [
        found[0]
        for each in (pods or {})["items"]
        for status in each["status"]["containerStatuses"]
        if (found := DIGEST.fullmatch(status["state"].get("terminated", {}).get("message", "").strip()))
    ]
    if not ended:
        raise Refused(f"the build of {metadata['name']} named no image")
    return ended[0]


async def _until_it_answers(arguments: dict[str, Any]) -> None:
    trust = ssl.create_default_context(cadata=contents(arguments["authority"]).decode())
    headers, name = {"host": arguments["host"]}, {"sni_hostname": arguments["host"]}
    async with asyncio.timeout(PATIENCE):
        while True:
            # A connection of its own each time, as a visitor who comes to see.
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(verify=trust, trust_env=False) as visitor:
                    found = await visitor.get(f"https://{arguments['edge']}/", headers=headers, extensions=name)
                    if found.status_code == httpx.codes.OK and arguments["expects"] in found.text:
                        return
            await asyncio.sleep(LOOK)


async def main() -> None:
    arguments = given()
    plan = json.loads(contents(arguments["plan"]))
    server = Server(Path(arguments["kubeconfig"]))
    hand = Hand(server, await Connection.open(server))
    stages: dict[str, float] = {}
    began = time.perf_counter()

    def passed(what: str) -> None:
        stages[what] = time.perf_counter() - began

    for manifest in plan["namespaces"]:
        await hand.new_namespace(manifest)
    made = [await hand.apply(manifest) for manifest in plan["first"]]
    await hand.apply(plan["job"])
    if plan["route"] is not None:
        spec = next(each["spec"] for each in made if each["kind"] == "Service")
        upstream = f"{spec['clusterIP']}:{spec['ports'][0]['port']}"
        route = json.dumps(plan["route"]).replace("@UPSTREAM@", upstream)
        async with httpx.AsyncClient(trust_env=False) as admin:
            place = f"http://{arguments['admin']}/config/apps/http/servers/hand/routes"
            done = await admin.post(place, content=route, headers={"content-type": "application/json"})
            done.raise_for_status()
    passed("applied")
    built = await hand.until(plan["job"], _is_built)
    passed("built")
    digest = await _digest(hand, built)
    deployment = json.loads(json.dumps(plan["deployment"]).replace("@DIGEST@", digest))
    applied = await hand.apply(deployment)

    async def rolled_out() -> None:
        await hand.until(deployment, _is_rolled_out(applied["metadata"]["generation"]))
        passed("rolled out")

    async def answers() -> None:
        await _until_it_answers(arguments)
        passed("the URL answers")

    await asyncio.gather(rolled_out(), answers())
    answer(seconds=max(stages.values()), stages=stages)


if __name__ == "__main__":
    uvloop.run(main())
