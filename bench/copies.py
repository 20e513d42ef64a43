"""Ten thousand Environments without waiting for them: one that env-controller made, copied byte for byte.

What belongs to it lies in etcd under keys that hold its names. Each copy gets names of the same length and uids of its
own, so the bytes stay well-formed, protobuf or JSON. Only one thing in them depends on the names: the digest of what
env-controller wants each child to be, which its own core says for the copy. The last snapshot on the bus is copied too.
A copy that differed from what env-controller would have made would be written anew by it: the benchmark counts writes.
"""

import asyncio
import base64
import re
import ssl
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

import httpx
import orjson

from catalyst.env_controller.core.baseline import Subject, children
from catalyst.env_controller.core.platform import Platform
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.event import Cause, environment_changed
from catalyst.events.subjects import environment_subject
from catalyst.events.users import inbox_prefix
from catalyst.local.installation import Installation
from catalyst.model import labels
from catalyst.model.clock import utc_now
from catalyst.model.environment import Environment
from catalyst.model.names import Identity, project_namespace, workload_namespace
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot

TIME: Final = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UID: Final = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
AT_ONCE: Final = 120
"""Puts in one transaction: etcd takes 128."""
CONTROLLER: Final = "env-controller"


class Etcd:
    """By its JSON gateway."""

    def __init__(self, found: Installation) -> None:
        plane = found.control_plane
        certificate, key = (plane.folder / "pki" / f"etcd-client.{end}" for end in ("crt", "key"))
        context = ssl.create_default_context(cafile=str(plane.ca))
        context.load_cert_chain(certificate, key)
        self._client = httpx.Client(
            base_url=f"https://127.0.0.1:{plane.ports.etcd}", verify=context, timeout=60, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def within(self, prefix: str) -> dict[bytes, bytes]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self._asked("range", {"key": _encoded(prefix.encode()), "range_end": _encoded(end.encode())})
        return {base64.b64decode(kv["key"]): base64.b64decode(kv["value"]) for kv in found.get("kvs", ())}

    def put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        for begin in range(0, len(pairs), AT_ONCE):
            puts = [
                {"requestPut": {"key": _encoded(key), "value": _encoded(value)}}
                for key, value in pairs[begin : begin + AT_ONCE]
            ]
            self._asked("txn", {"success": puts})

    def _asked(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._client.post(f"/v3/kv/{what}", content=orjson.dumps(body))
        answer.raise_for_status()
        found: dict[str, Any] = orjson.loads(answer.content)
        return found


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True, slots=True)
class Template:
    """One Environment as env-controller made it, alone with what is its own. `objects`: by their keys in etcd."""

    identity: Identity
    environment: dict[str, Any]
    project: Project
    objects: Mapping[bytes, bytes]
    snapshot: Snapshot

    @classmethod
    def read(cls, found: Installation, identity: Identity, snapshot: Snapshot) -> Self:
        home = project_namespace(identity.team, identity.project)
        path = "/apis/catalyst.dev/v1alpha1/namespaces"
        environment = found.admin.get(f"{path}/{home}/environments/{identity.environment}").json()
        project = Project.parse(found.admin.get(f"{path}/{identity.team}/projects/{identity.project}").json())
        place = workload_namespace(identity)
        with Etcd(found) as etcd:
            everything = etcd.within("/registry/")
        own = {key: value for key, value in everything.items() if _is_of(key.decode(), place, home, identity)}
        template = cls(identity, environment, project, own, snapshot)
        template._check()
        return template

    def copies(self, identities: Iterable[Identity]) -> Iterator[tuple[list[tuple[bytes, bytes]], Snapshot]]:
        """What to put into etcd, and the last snapshot."""
        uids = sorted({uid for value in self.objects.values() for uid in UID.findall(value)})
        times = sorted(set(TIME.findall(orjson.dumps(self.environment))))
        mine = self._digests(self.environment, self.identity)
        for number, identity in enumerate(identities, 1):
            names = {uid: str(uuid.uuid4()).encode() for uid in uids} | _names(self.identity, identity)
            names |= {time: _earlier(time, number) for time in times}
            told = _replaced(orjson.dumps(self.environment), names)
            digests = self._digests(orjson.loads(told), identity)
            names |= {old: digests[which] for which, old in mine.items()}
            pairs = [(_replaced(key, names), _replaced(value, names)) for key, value in self.objects.items()]
            snapshot = _replaced(self.snapshot.model_dump_json(by_alias=True).encode(), names)
            yield pairs, Snapshot.model_validate_json(snapshot)

    def _digests(self, environment: Mapping[str, Any], identity: Identity) -> dict[tuple[str, str], bytes]:
        subject = Subject(
            identity, environment["metadata"]["uid"], Environment.parse(dict(environment)), self.project, Platform()
        )
        return {
            (child["kind"], child["metadata"]["name"]): child["metadata"]["annotations"][labels.APPLIED].encode()
            for child in children(subject)
        }

    def _check(self) -> None:
        """Raises RuntimeError: another baseline than this code's was made, so its digests cannot be told."""
        stored = b"".join(self.objects.values())
        if missing := [
            which for which, digest in self._digests(self.environment, self.identity).items() if digest not in stored
        ]:
            raise RuntimeError(f"{missing} were not made as the core of env-controller says")


def _is_of(key: str, place: str, home: str, identity: Identity) -> bool:
    """Events apart: they are news, not state."""
    if key.startswith("/registry/events/"):
        return False
    return f"/{place}/" in key or key.endswith((f"/namespaces/{place}", f"/{home}/{identity.environment}"))


def _earlier(time: bytes, seconds: int) -> bytes:
    """Each copy was made at a time of its own, too: who keeps equal texts once must not gain by that."""
    found = datetime.fromisoformat(time.decode()) - timedelta(seconds=seconds)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def _names(old: Identity, new: Identity) -> dict[bytes, bytes]:
    pairs = ((old.team, new.team), (old.project, new.project), (old.environment, new.environment))
    for before, after in pairs:
        if len(before) != len(after):
            raise ValueError(f"{after}: expected as many characters as {before} has")
    return {before.encode(): after.encode() for before, after in pairs}


def _replaced(data: bytes, names: Mapping[bytes, bytes]) -> bytes:
    """At once: what was replaced is not replaced again."""
    found = re.compile(b"|".join(map(re.escape, names)))
    return found.sub(lambda match: names[match[0]], data)


def last_snapshot(found: Installation, identity: Identity) -> Snapshot:
    """As it lies in STATE."""

    async def asked() -> Snapshot:
        bus = await connected(found)
        stored = await bus.state(environment_subject(identity, "environment", "changed"))
        await bus.drain()
        if stored is None:
            raise RuntimeError(f"{identity}: nothing was said of it")
        data = stored.event().data
        if not isinstance(data, EnvironmentChanged):
            raise TypeError(f"{identity}: STATE holds {type(data).__name__}")
        return data.snapshot

    return asyncio.run(asked())


def copy(found: Installation, template: Template, identities: Sequence[Identity]) -> None:
    """All of them, into etcd and onto the bus."""
    asyncio.run(_copy(found, template, identities))


async def _copy(found: Installation, template: Template, identities: Sequence[Identity]) -> None:
    bus = await connected(found)
    snapshots: list[Snapshot] = []

    async def say() -> None:
        events = [environment_changed(each, time=utc_now(), again=0, cause=Cause()) for each in snapshots]
        await asyncio.gather(*map(bus.publish, events))
        snapshots.clear()

    with Etcd(found) as etcd:
        waiting: list[tuple[bytes, bytes]] = []
        for pairs, snapshot in template.copies(identities):
            waiting += pairs
            snapshots.append(snapshot)
            if len(snapshots) == 100:
                etcd.put(waiting)
                waiting.clear()
                await say()
        etcd.put(waiting)
    await say()
    await bus.drain()


async def connected(found: Installation) -> Bus:
    settings = BusSettings(
        url=found.nats.url, seed_file=found.nats.seed(CONTROLLER), inbox_prefix=inbox_prefix(CONTROLLER)
    )
    return await Bus.connect(settings, name=CONTROLLER, clock=utc_now)
