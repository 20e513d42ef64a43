"""Our facts in the words of CDEvents 0.5, for other people's tools. Pure: the same message always gives the same.

| Ours | CDEvents |
|---|---|
| `pull_request.changed`: opened | `change.created` |
| … synchronize, edited, reopened, ready_for_review, converted_to_draft | `change.updated` |
| … closed | `change.merged`, or `change.abandoned` |
| `environment.changed`: the first of a uid | `environment.created` |
| … of another generation than the one before it | `environment.modified` |
| … `Gone` | `environment.deleted`, and `service.removed` for each component that ran |
| … a component runs an image; another one; none any more | `service.deployed`; `service.upgraded`; `service.removed` |
| `build.requested` | `build.queued` |
| `build.finished` | `build.finished`; `artifact.published` when it succeeded |

What changed is seen beside the snapshot before it in the stream. Not said: what no fact of ours says, such as when a
build began to run, and what nobody asked for, such as a label. An id is made of what happened, so that a message read
again says nothing new.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from catalyst.events.catalogue import BuildFinished, BuildRequested, EnvironmentChanged, PullRequestChanged
from catalyst.events.event import Event
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

SPEC: Final = "0.5.0"
SOURCE: Final = "/catalyst/"
"""`context.source` is this and the service that stated our fact."""
VERSIONS: Final = {"change.created": "0.4.0"}
"""Event → its own version, where that is not `VERSION`."""
VERSION: Final = "0.3.0"
UPDATES: Final = ("synchronize", "edited", "reopened", "ready_for_review", "converted_to_draft")


@dataclass(frozen=True, slots=True)
class Said:
    """One CDEvent: which (`change.created`), about what, and what it is made of."""

    kind: str
    id: str
    about: str
    content: Mapping[str, Any]
    custom: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Projected:
    """A CDEvent as it is published: `body` is a CloudEvent, structured."""

    subject: str
    id: str
    body: bytes


def projected(event: Event, before: Snapshot | None) -> tuple[Projected, ...]:
    """What `event` is in CDEvents. `before`: the snapshot of that environment that came before it, if one did."""
    return tuple(_projected(event, said) for said in _said(event, before))


def _said(event: Event, before: Snapshot | None) -> Iterator[Said]:
    match event.data:
        case PullRequestChanged() as data:
            yield from _change(data, event.id)
        case EnvironmentChanged(snapshot=snapshot):
            yield from _environment(before if before and before.uid == snapshot.uid else None, snapshot)
        case BuildRequested() as data:
            yield Said("build.queued", f"{_build(data)}/queued", _build(data), {}, {"commit": data.commit})
        case BuildFinished() as data:
            yield from _finished(data)


def _change(data: PullRequestChanged, id_: str) -> Iterator[Said]:
    repository = {"repository": {"id": f"{data.repository.forge}/{data.repository.full_name}"}}
    custom = {"url": data.url, "head": data.head.sha, "base": data.base.ref, "author": data.author}
    if data.action == "opened":
        described = {"description": data.title} if data.title else {}
        yield Said("change.created", f"{id_}/created", data.about(), {**described, **repository}, custom)
    elif data.action == "closed":
        verb = "merged" if data.merged else "abandoned"
        yield Said(f"change.{verb}", f"{id_}/{verb}", data.about(), repository, custom)
    elif data.action in UPDATES:
        yield Said("change.updated", f"{id_}/updated", data.about(), repository, custom)


def _environment(before: Snapshot | None, now: Snapshot) -> Iterator[Said]:
    about = str(now.key)
    custom = {"phase": now.phase, "commit": now.source.commit, "reason": now.reason}
    if now.phase == Phase.GONE:
        yield from _services(_images(before or now), {}, now)
        yield Said("environment.deleted", f"{now.uid}/deleted", about, {"name": about}, custom)
        return
    content = {"name": about, **({"uri": now.url} if now.url else {})}
    if before is None:
        yield Said("environment.created", f"{now.uid}/created", about, content, custom)
    elif before.generation != now.generation:
        yield Said("environment.modified", f"{now.uid}/{now.generation}/modified", about, content, custom)
    yield from _services(_images(before) if before else {}, _images(now), now)


def _services(before: Mapping[str, str], now: Mapping[str, str], at: Snapshot) -> Iterator[Said]:
    environment = {"environment": {"id": str(at.key)}}
    for component in sorted({*before, *now}):
        old, new = before.get(component), now.get(component)
        if old == new:
            continue
        verb = "removed" if new is None else "upgraded" if old else "deployed"
        artifact = {"artifactId": new} if new else {}
        yield Said(
            f"service.{verb}",
            f"{at.uid}/{at.resource_version}/{component}/{verb}",
            f"{at.key}/{component}",
            {**environment, **artifact},
        )


def _finished(data: BuildFinished) -> Iterator[Said]:
    build, succeeded = _build(data), data.outcome == "succeeded"
    artifact = _package(data.image, data.digest)
    custom = {"outcome": data.outcome, "reason": data.reason, "seconds": data.duration_seconds}
    content = {"artifactId": artifact} if succeeded and artifact else {}
    yield Said("build.finished", f"{build}/{data.outcome}", build, content, custom)
    if succeeded and artifact:
        yield Said("artifact.published", f"{build}/published", artifact, {})


def _build(data: BuildRequested | BuildFinished) -> str:
    return f"{data.environment.uid}/{data.component}/{data.key}/{data.attempt}"


def _images(snapshot: Snapshot) -> dict[str, str]:
    """Component → the artifact that it runs."""
    found = {each.name: _package(each.image, each.digest) for each in snapshot.components}
    return {name: artifact for name, artifact in found.items() if artifact}


def _package(image: str | None, digest: str | None) -> str | None:
    """`pkg:oci/web@sha256%3A…?repository_url=registry.example.org/acme/shop/web`: an image's package URL."""
    if not image or not digest:
        return None
    repository = image.partition("@")[0]
    host, slash, path = repository.rpartition("/")
    repository = f"{host}{slash}{path.partition(':')[0]}"  # a tag says less than the digest
    name = repository.rpartition("/")[2].lower()
    return f"pkg:oci/{quote(name, safe='')}@{quote(digest, safe='')}?repository_url={quote(repository, safe='/:')}"


def _projected(event: Event, said: Said) -> Projected:
    source, version = f"{SOURCE}{event.source}", VERSIONS.get(said.kind, VERSION)
    type_, time = f"dev.cdevents.{said.kind}.{version}", event.time.isoformat()
    document = {
        "context": {
            "specversion": SPEC,
            "id": said.id,
            "source": source,
            "type": type_,
            "timestamp": time,
            "chainId": event.correlation_id,
        },
        "subject": {"id": said.about, "source": source, "content": said.content},
    }
    if said.custom is not None:
        document |= {"customData": said.custom, "customDataContentType": "application/json"}
    cloud_event = {
        "specversion": "1.0",
        "id": said.id,
        "source": source,
        "type": type_,
        "subject": said.about,
        "time": time,
        "datacontenttype": "application/json",
        "data": document,
    }
    return Projected(_subject(event, said.kind), f"{source}/{said.id}", orjson.dumps(cloud_event))


def _subject(event: Event, kind: str) -> str:
    """`cdevents.env.acme.shop.pr-42.service.deployed`: where our fact is, with the last words replaced."""
    tokens = event.subject.split(".")
    place = tokens if tokens[0] == "scm" else tokens[:4]
    return ".".join(("cdevents", *place, kind))
