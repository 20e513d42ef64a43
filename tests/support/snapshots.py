"""Snapshots to tell of, and what a reader of the told text would see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, Final

from markdown_it import MarkdownIt

from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

NOW: Final = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
HOST: Final = "pr-42--shop--acme.catalyst.localhost"
ACCEPTED: Final = {"type": "Accepted", "status": "True", "reason": "Accepted", "lastTransitionTime": NOW}


def condition(kind: str, holds: bool, reason: str, message: str = "") -> dict[str, Any]:
    status = "True" if holds else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": NOW}


def stage(name: str, began: float, took: float | None) -> dict[str, Any]:
    started = NOW + timedelta(seconds=began)
    return {
        "name": name,
        "startedAt": started,
        "finishedAt": started + timedelta(seconds=took) if took is not None else None,
    }


def snapshot(
    phase: Phase = Phase.READY,
    version: int = 1,
    *,
    project: str = "shop",
    team: str = "acme",
    number: int = 42,
    uid: str | None = None,
    commit: str | None = COMMIT,
    repository: str | None = "acme/shop",
    conditions: tuple[Mapping[str, Any], ...] = (ACCEPTED,),
    pull_request: Mapping[str, Any] | None = None,
    branch: str = "basket",
    **fields: Any,
) -> Snapshot:
    """One environment of pull request 42 of acme/shop, in whatever state."""
    return Snapshot.model_validate(
        {
            "uid": uid or f"uid-{team}-{project}-{number}",
            "resourceVersion": str(version),
            "createdAt": NOW,
            "identity": {"team": team, "project": project, "environment": f"pr-{number}"},
            "phase": phase,
            "url": f"https://pr-{number}--{project}--{team}.catalyst.localhost:8443/",
            "commit": commit,
            "source": {
                "forge": "github" if repository else None,
                "repository": repository,
                "branch": branch,
                "commit": commit,
                "pullRequest": {"number": number, "author": "mona", "title": "Add a basket", **(pull_request or {})},
            },
            "conditions": conditions,
            **fields,
        }
    )


def component(name: str = "web", *, ready: bool = True, **fields: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "digest": f"sha256:{'d' * 64}", "commit": COMMIT, **fields}


def route(name: str = "web", host: str = HOST) -> dict[str, Any]:
    return {"host": host, "namespace": "acme--shop--pr-42", "service": name, "port": 8080, "component": name}


def ready() -> Snapshot:
    """Two components that run, one of them with an address."""
    return snapshot(
        components=(component("web"), component("api")),
        builds={"web": {"key": "k"}, "api": {"key": "k"}},
        routes=(route(),),
        stages=(
            stage("Accepted", 0, 0.1),
            stage("Namespace", 0.1, 0.4),
            stage("BuildWeb", 1, 12.2),
            stage("BuildApi", 1, 65),
            stage("DeployWeb", 13, 4),
            stage("DeployApi", 66, 5),
        ),
    )


def crashing(log: str = "Traceback\nKeyError: 'DATABASE_URL'") -> Snapshot:
    """One component whose program ends at once."""
    message = f"web: exit code 1, restarted 4 times\n{log}"
    return snapshot(
        Phase.FAILED,
        components=(component("web", ready=False, reason="CrashLoop", message=message), component("api")),
        routes=(route(),),
        reason="CrashLoop",
    )


def fork() -> Snapshot:
    """A fork's pull request that nobody approved yet."""
    held = condition("Approved", False, "Fork", "waits for an approval")
    return snapshot(Phase.WAITING, conditions=(ACCEPTED, held), reason="Fork", pull_request={"fork": True})


def gone() -> Snapshot:
    """After the pull request was closed."""
    return snapshot(Phase.GONE, 9, deletion={"reason": "Closed", "at": NOW, "evidence": "delivery 1"})


@dataclass
class Page(HTMLParser):
    """Markdown as a forge would show it: tags, links, images, and the text in and outside of code."""

    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    text: str = ""
    code: str = ""
    _inside: int = 0

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if tag == "a":
            self.links.append(values.get("href") or "")
        if tag == "img":
            self.images.append(values.get("src") or "")
        if tag in ("code", "pre"):
            self._inside += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("code", "pre"):
            self._inside -= 1

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code += data
        else:
            self.text += data


def shown(markdown: str) -> Page:
    """What a reader sees: GitHub's flavour, HTML let through as it is, so that whatever slipped past is seen."""
    page = Page()
    page.feed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown))
    page.close()
    return page
