"""From the release before this one, as it was frozen in tests/data/releases, to this one and back, on a real API server
and a real NATS, while the environment of a pull request is up.

Two services of the older release run as well, from the repository's history, while what is around them is newer already
(docs/operations.md, "Upgrade"); a checkout without history skips that. Elsewhere what they left in the cluster and on
the bus is what the present ones start from, and what they would find again after a rollback is held against their own
types and streams.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig
from processes import process
from stage import SECRET, Stage, operating, services

from catalyst.events import applying
from catalyst.events.binding import decode
from catalyst.events.keys import read_public_keys
from catalyst.events.reading import messages
from catalyst.events.started import last_started
from catalyst.events.topology import consumers
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import Installation, checked, install, wait_for_crds
from catalyst.local.nats import Nats, TopologyFailed
from catalyst.local.process import Part, free_ports
from catalyst.local.supervisor import ROOT

RELEASE: Final = Path(__file__).parents[1] / "data" / "releases" / "36fb23d"
BEFORE: Final[dict[str, Any]] = json.loads((RELEASE / "bus.json").read_text())
KINDS: Final = {"Project": "projects", "Environment": "environments"}
OLD_TEAM: Final = "acme"
NEVER_WRITTEN: Final = {"dev.catalyst.audit.recorded.v1"}
"""Types that the older release had in its catalogue and no service of it published: their fields changed."""
OLDER_SERVICES: Final = ("webhook-ingest", "env-controller")


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as running:
        yield running


def older(plane: ControlPlane) -> None:
    """The older release's types, rights and policies, as its `kubectl apply --server-side -k` applies them."""
    base = gzip.decompress((RELEASE / "base.yaml.gz").read_bytes())
    command: list[str | Path] = [plane.kubectl, "--kubeconfig", plane.admin_kubeconfig, "apply", "--server-side"]
    done = subprocess.run([*command, "--force-conflicts", "-f", "-"], input=base, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    wait_for_crds(plane.admin)


def told(server: Nats, release: dict[str, Any]) -> None:
    """The server's configuration as the older release wrote it, with this server's places, ports and keys."""
    config = server.folder / "nats.conf"
    present, keys = json.loads(config.read_text()), read_public_keys(server.folder / "nkeys" / "users.json")
    wanted = copy.deepcopy(release["server"])
    wanted |= {name: present[name] for name in ("host", "port", "http")}
    wanted["jetstream"]["store_dir"] = present["jetstream"]["store_dir"]
    for user in wanted["accounts"]["CATALYST"]["users"]:
        user["nkey"] = keys[user["nkey"].strip("<>")]
    config.write_text(json.dumps(wanted))


async def operator_of(server: Nats) -> Client:
    return await nats.connect(server.url, nkeys_seed=str(server.seed(OPERATOR)), inbox_prefix=inbox_prefix(OPERATOR))


async def older_topology(client: Client) -> list[applying.Change]:
    """What the older release's `apply` does, which is this one's with its streams and consumers."""
    jetstream = client.jetstream()
    changes = [
        await applying._apply_stream(jetstream, StreamConfig.from_response(copy.deepcopy(one)), dry=False)
        for one in BEFORE["streams"]
    ]
    return changes + [
        await applying._apply_consumer(
            jetstream, one["stream"], ConsumerConfig.from_response(copy.deepcopy(one["config"])), dry=False
        )
        for one in BEFORE["consumers"]
    ]


async def stored(client: Client, stream: str) -> list[tuple[int, str, bytes]]:
    return [(one.sequence, one.subject, one.data) async for one in messages(client, stream, ">")]


def listed(own: Installation, plural: str) -> list[dict[str, Any]]:
    """All of a kind. After its type has changed the API server answers 429 for a moment, now or a little later."""
    for _ in range(20):
        answer = own.admin.get(f"/apis/catalyst.dev/v1alpha1/{plural}")
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            break
        time.sleep(0.5)
    found: list[dict[str, Any]] = checked(answer).json()["items"]
    return found


def objects(own: Installation) -> dict[str, dict[str, Any]]:
    """Every Project and Environment of the older release's team: what was asked for, and who it is."""
    found = {}
    for plural in KINDS.values():
        for item in listed(own, plural):
            if item["metadata"]["namespace"].split("--")[0] == OLD_TEAM:
                found[f"{plural}/{item['metadata']['name']}"] = {
                    "uid": item["metadata"]["uid"],
                    "generation": item["metadata"]["generation"],
                    "spec": item["spec"],
                    "status": item.get("status"),
                }
    return found


def still_valid(own: Installation) -> None:
    """Each stored object could be written as it is, and no field of it is unknown now."""
    for plural in KINDS.values():
        for item in listed(own, plural):
            where = f"/apis/catalyst.dev/v1alpha1/namespaces/{item['metadata']['namespace']}/{plural}"
            params = {"dryRun": "All", "fieldValidation": "Strict"}
            checked(own.admin.put(f"{where}/{item['metadata']['name']}", params=params, json=item))


def older_objects(own: Installation) -> None:
    """The older release's examples, which use every field it had; nobody works on them, since no one granted them."""
    team = {"catalyst.dev/team": OLD_TEAM}
    project = {"catalyst.dev/project": "shop", "catalyst.dev/project-uid": "of-another-life"}
    for name, labels in ((OLD_TEAM, team), (f"{OLD_TEAM}--shop", team | project)):
        own.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    for kind, plural in KINDS.items():
        manifest = copy.deepcopy(BEFORE["objects"][kind])
        status, metadata = manifest.pop("status", None), manifest["metadata"]
        metadata.pop("uid", None), metadata.pop("resourceVersion", None), metadata.pop("generation", None)
        where = f"/apis/catalyst.dev/v1alpha1/namespaces/{metadata['namespace']}/{plural}"
        params = {"fieldValidation": "Strict"}
        made = checked(own.admin.post(where, params=params, json=manifest)).json()
        if status:
            path = f"{where}/{metadata['name']}/status"
            checked(own.admin.put(path, params=params, json={**made, "status": status}))


async def test_types_of_the_older_release_are_read_by_this_one_and_back(plane: ControlPlane, nats: Nats) -> None:
    own = Installation(plane, nats)
    await asyncio.to_thread(older, plane)
    older_objects(own)
    before = objects(own)
    assert {name.split("/")[0] for name in before} == set(KINDS.values())
    await asyncio.to_thread(install, plane)
    assert objects(own) == before
    still_valid(own)
    await asyncio.to_thread(older, plane)
    assert objects(own) == before
    still_valid(own)


async def test_an_environment_is_up_all_the_way_there_and_back(plane: ControlPlane, nats: Nats) -> None:
    await asyncio.to_thread(older, plane)
    await asyncio.to_thread(nats.stop)
    told(nats, BEFORE)
    await asyncio.to_thread(nats.start)
    client = await operator_of(nats)
    await older_topology(client)
    # The configuration first: what the older one promised to its streams leaves no room for another.
    with pytest.raises(TopologyFailed, match="insufficient storage resources"):
        await asyncio.to_thread(nats.apply_topology)
    await client.close()
    ready = Nats(nats.folder, ports=(nats.ports[0], nats.ports[1]))  # writes this release's configuration
    assert ready.url == nats.url
    own = Installation(plane, nats)
    await asyncio.to_thread(nats.restart)
    await asyncio.to_thread(nats.apply_topology)
    async with operating(own) as operator, services(own) as url:
        stage = Stage(own, url, operator)
        stage.grant()
        stage.project()
        await stage.accepted()
        await stage.deliver(stage.pull_request(1))
        environment = await stage.ready("pr-1")
        await stage.handled()
        uid, namespace = stage.uid("pr-1"), stage.namespace("pr-1")
        facts = await stored(operator.bus._client, "SCM")

        await asyncio.to_thread(install, plane)
        await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
        await stage.until(lambda: stage.commit("pr-1") == "b" * 40, "a push after the upgrade has arrived")
        assert (stage.uid("pr-1"), stage.namespace("pr-1")) == (uid, namespace)
        assert environment["spec"]["projectRef"] == (stage.environment("pr-1") or {})["spec"]["projectRef"]
        assert (await stored(operator.bus._client, "SCM"))[: len(facts)] == facts

        # Back: types, rights, streams and consumers of the older release; nothing of the newer one is deleted.
        await asyncio.to_thread(older, plane)
        changes = await older_topology(operator.bus._client)
        assert {change.action for change in changes} <= {"keep", "update"}
        assert await operator.bus._client.jetstream().stream_info("CDEVENTS")
        await stage.deliver(stage.pull_request(1, action="synchronize", sha="c" * 40, before="b" * 40))
        await stage.until(lambda: stage.commit("pr-1") == "c" * 40, "a push after the rollback has arrived")
        assert stage.uid("pr-1") == uid
        await stage.deliver(stage.pull_request(1, action="closed", state="closed", sha="c" * 40))
        await stage.gone("pr-1")
    # And there again.
    await asyncio.to_thread(install, plane)
    await asyncio.to_thread(nats.apply_topology)


def test_events_of_the_older_release_are_understood() -> None:
    written = [one for one in BEFORE["events"] if json.loads(one["body"])["type"] not in NEVER_WRITTEN]
    assert len(written) == len(BEFORE["events"]) - len(NEVER_WRITTEN)
    for message in written:
        event = decode(message["body"].encode(), message["headers"], subject=message["subject"])
        assert event.subject == message["subject"]


def test_a_consumer_never_moves() -> None:
    """A durable consumer's place is by its stream and name: under another it would begin at the beginning."""
    now = {(one.stream, one.name) for one in consumers()}
    assert {(one["stream"], one["config"]["durable_name"]) for one in BEFORE["consumers"]} <= now


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The older release's, to be imported before the present ones."""
    folders = [f"libs/{name}/src" for name in ("events", "forge", "kube", "model", "service")]
    folders += [f"services/{name}/src" for name in OLDER_SERVICES]
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", RELEASE.name, *folders]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no history of {RELEASE.name} here: {done.stderr.decode().strip()}")
    place = tmp_path_factory.mktemp(RELEASE.name)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(place, filter="data")
    return [place / folder for folder in folders]


def part(service: str, own: Installation, folder: Path, sources: list[Path], port: int, ops: int) -> Part:
    """A service of the older release as a process."""
    settings = {
        **own.settings(service),
        "CATALYST_OPS_HOST": "127.0.0.1",
        "CATALYST_OPS_PORT": str(ops),
        "CATALYST_HTTP_HOST": "127.0.0.1",
        "CATALYST_HTTP_PORT": str(port),
        "CATALYST_WEBHOOK_SECRETS": SECRET,
        "CATALYST_LEASE_SECONDS": "3",
        "PYTHONPATH": ":".join(map(str, sources)),
    }
    command = [sys.executable, "-m", f"catalyst.{service.replace('-', '_')}"]
    return Part(f"older {service}", command, folder / f"older-{service}.log", env=settings, stop_within=10)


def answers(ops: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{ops}/readyz", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def test_older_services_go_on_while_the_rest_is_newer(
    plane: ControlPlane, nats: Nats, sources: list[Path], tmp_path: Path
) -> None:
    own = Installation(plane, nats)
    await asyncio.to_thread(older, plane)
    await asyncio.to_thread(nats.apply_topology)  # of this release, while theirs run
    hooks, *ops = free_ports(3)
    async with operating(own) as operator:
        stage = Stage(own, f"http://127.0.0.1:{hooks}/webhooks/github", operator)
        with ExitStack() as beside, ExitStack() as before:
            for service, port in zip(OLDER_SERVICES, ops, strict=True):
                one = part(service, own, tmp_path, sources, hooks, port)
                before.callback(one.stop)
                one.start()
                await asyncio.to_thread(one.wait_until, partial(answers, port), within=30)
            stage.grant()
            stage.project()
            await stage.accepted()
            await stage.deliver(stage.pull_request(1))
            await stage.ready("pr-1")
            uid, namespace = stage.uid("pr-1"), stage.namespace("pr-1")
            await asyncio.to_thread(install, plane)
            await pushed(stage, "a", "b", "the older services follow a push, under newer types and rights")
            assert await last_started(operator.bus, "env-controller") is None, "the older release does not say it"

            ingest, controller = (process(service, own, tmp_path, lease_seconds=3) for service in OLDER_SERVICES)
            for newer in (ingest, controller):
                beside.callback(newer.part.stop)
                newer.part.start()
                await asyncio.to_thread(newer.part.wait_until, partial(answers, newer.ops_port), within=30)
            await pushed(stage, "b", "c", "with the newer ones beside them")
            await asyncio.to_thread(before.close)
            stage._webhook_url = ingest.url
            await pushed(stage, "c", "d", "by the newer ones alone")
            assert (stage.uid("pr-1"), stage.namespace("pr-1")) == (uid, namespace)
            assert await last_started(operator.bus, "env-controller")
            await stage.deliver(stage.pull_request(1, action="closed", state="closed", sha="d" * 40))
            await stage.gone("pr-1")


async def pushed(stage: Stage, before: str, after: str, who: str) -> None:
    answer = await stage.deliver(stage.pull_request(1, action="synchronize", sha=after * 40, before=before * 40))
    assert answer.status_code == httpx.codes.ACCEPTED
    await stage.until(lambda: stage.commit("pr-1") == after * 40, who, within=30)
