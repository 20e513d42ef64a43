"""`make demo`, demo-push, demo-break, demo-close, demo-down: each a table of stages, then what to know.

Every command returns its exit code, and raises DemoFailed with the stage, what it was, and what to do.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from catalyst.local import cluster
from catalyst.local.demo import parts, setting, source, story
from catalyst.local.demo.forge import Forge, page
from catalyst.local.demo.places import FORGE_PORT, HTTPS_PORT, LOOPBACK, OWNER, DemoFailed, NotNow, Places, Story
from catalyst.local.demo.sight import Sight
from catalyst.local.demo.source import MAIN, Source
from catalyst.local.demo.stages import Stages
from catalyst.local.demo.story import SHORT, Scene
from catalyst.local.demo.visitor import Visitor

_WATCHED: Final = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier")


def up(*, example: str = "hello", own: Path | None = None, live: bool | None = None, at: Places | None = None) -> int:
    """Everything that is missing, until the URL answers."""
    at = at or Places()
    at.make()
    name = source.name_of(own) if own else example
    repository = f"{OWNER}/{name}"
    with _table(f"make demo: {repository}", at, live) as stages:
        scene, state = begun(stages, at, name, repository, own)
        shown = story.follow(stages, scene, scene.source.head, since=scene.changed_at())
    stages.console.print(_what_next(scene, shown, state), markup=False)
    return 0


def push(*, live: bool | None = None, at: Places | None = None) -> int:
    """A new commit, watched until the URL shows it; 1 when requests failed meanwhile."""
    scene = _open(current(at))
    with _table(f"make demo-push: {_title(scene)}", scene.at, live, scene.sight) as stages:
        commit, counted = story.changed(stages, scene)
    stages.console.print(
        f"\n{scene.story.repository}@{commit[:SHORT]} is served. While the version changed: {counted}.\n"
        f"The comment was edited in place: {page(scene.story.repository, scene.story.number)}",
        markup=False,
    )
    return 0 if counted.failed == 0 else 1


def spoil(kind: str, *, live: bool | None = None, at: Places | None = None) -> int:
    """A commit whose build, or whose program, fails; watched until the comment says why."""
    scene = _open(current(at))
    with _table(f"make demo-break: {_title(scene)}", scene.at, live, scene.sight) as stages:
        comment, counted = story.broken(stages, scene, kind)
    serves = f"The version before goes on serving: {counted}.\n" if counted.requests else ""
    stages.console.print(
        f"\nThe comment in the pull request says now:\n\n{story.quoted(comment.body)}\n\n{serves}"
        "`make demo-push` heals it.",
        markup=False,
    )
    return 0


def close(*, live: bool | None = None, at: Places | None = None) -> int:
    """Close the pull request; watched until nothing is left."""
    scene = current(at)
    with _table(f"make demo-close: {_title(scene)}", scene.at, live, scene.sight) as stages:
        comment = story.closed(stages, scene)
    stages.console.print(
        f"\nThe comment says: {comment.first_line()}\n"
        "`make demo` opens the pull request again; `make demo-down` ends everything.",
        markup=False,
    )
    return 0


def down(at: Places | None = None) -> int:
    """End everything; nothing of it is left but what was built into the cache."""
    at = at or Places()
    parts.down(at)
    left = cluster.down()
    shutil.rmtree(at.folder, ignore_errors=True)
    if left:
        print("\n".join(["left behind:", *left]), file=sys.stderr)
        return 1
    print("nothing of the demo is left; binaries and images stay in the cache")
    return 0


def begun(
    stages: Stages, at: Places, name: str, repository: str, own: Path | None
) -> tuple[Scene, cluster.ClusterState]:
    """Everything stands, and the pull request is open."""
    setting.machine(stages)
    state = setting.node(stages)
    forge = setting.github(stages, at, repository)
    setting.catalyst(stages, at, state, repository)
    sight = Sight(Path(state.kubeconfig))
    setting.project(stages, sight, state, name, repository)
    there = Source(at, name)
    known = at.story(name)
    found = _opened(stages, there, forge, name, repository, own) if known is None else _known(stages, forge, known)
    at.write_story(found)
    return Scene(at, found, there, forge, sight), state


def current(at: Places | None = None) -> Scene:
    """Of the pull request that was opened last. Raises DemoFailed."""
    at = at or Places()
    state, found = cluster.running(), at.story()
    if state is None or found is None or parts.Parts.running(at.folder) is None:
        raise DemoFailed("the demo does not run; `make demo` starts it")
    return Scene(at, found, Source(at, found.name), Forge(at), Sight(Path(state.kubeconfig)))


def _open(scene: Scene) -> Scene:
    """Raises NotNow when the pull request is closed: a push would change nothing."""
    if scene.forge.pull(scene.story.repository, scene.story.number)["state"] != "open":
        raise NotNow(f"{_title(scene)} is closed; `make demo` opens it again")
    return scene


def _opened(stages: Stages, there: Source, forge: Forge, name: str, repository: str, own: Path | None) -> Story:
    """Pushed and opened, as a person would."""
    with stages.stage("Push", "git push") as row:
        branch = there.from_own(own, repository) if own else there.from_example(name, repository)
        there.push(f"{branch.base}:{MAIN}", f"HEAD:{branch.name}")
        row.says(f"git push: {MAIN}, {branch.name} at {there.head[:SHORT]}")
    with stages.stage("Pull request") as row:
        number = forge.open(repository, head=branch.name, base=MAIN, title=branch.title, body="Opened by `make demo`.")
        row.says(page(repository, number))
    return Story(name, repository, branch.name, branch.base, number, name, str(own.resolve()) if own else None)


def _known(stages: Stages, forge: Forge, found: Story) -> Story:
    """The pull request that was there; open again, if it was closed."""
    with stages.stage("Pull request") as row:
        was = forge.pull(found.repository, found.number)["state"]
        if was == "closed":
            forge.reopen(found.repository, found.number)
        row.says(f"{'opened again' if was == 'closed' else 'was open'}: {page(found.repository, found.number)}")
    return found


@contextmanager
def _table(title: str, at: Places, live: bool | None, sight: Sight | None = None) -> Iterator[Stages]:
    """What fails inside is told with the stage, what it was, the logs' ends, and what to do."""
    stages = Stages(title, live=live, log=at.folder / "told.log")
    try:
        with stages:
            yield stages
    except NotNow:
        raise
    except (RuntimeError, OSError, LookupError, httpx.HTTPError) as error:
        stage = next((row.name for row in reversed(stages.rows) if row.state == "failed"), title)
        told = "\n".join([f"\n✗ {stage}: {error}", *getattr(error, "__notes__", []), *_logs(sight)])
        raise DemoFailed(
            f"{told}\n\nWhat to do: `make demo` goes on where it was; `make demo-down` ends and removes everything;\n"
            f"`make cluster-status` shows every part and pod. All that was said is in {at.folder / 'told.log'}."
        ) from error


def _logs(sight: Sight | None) -> Iterator[str]:
    for service in _WATCHED if sight else ():
        try:
            yield f"── {sight.log_end(service, 8) if sight else ''}"
        except httpx.HTTPError as error:
            yield f"── {service}: its log cannot be read: {error}"


def _title(scene: Scene) -> str:
    return f"{scene.story.repository}#{scene.story.number}"


def _what_next(scene: Scene, shown: Visitor, state: cluster.ClusterState) -> str:
    found, authority = scene.story, scene.at.authority
    after = f" (make a commit in {found.own} first)" if found.own else ""
    return f"""
URL            {shown.url}
Pull request   {page(found.repository, found.number)}
               or http://{LOOPBACK}:{FORGE_PORT}/{found.repository}/pull/{found.number}
Certificate    {authority}
               the edge's own authority, for its zones alone: import it into the browser, or accept the warning
Repository     {scene.source.folder}   (git push works there)

A browser finds *.localhost by itself. For curl:
  curl --cacert {authority} --resolve {shown.host}:{HTTPS_PORT}:{LOOPBACK} {shown.url}

Next:
  make demo-push    a new version, without an outage{after}
  make demo-break   a commit that fails: the comment says why (BREAK=app: the program, not the build)
  make demo-close   everything goes
  make demo-shell   where somebody on call sits: `catalyst`, kubectl (docs/incidents.md)
  make demo-down    the cluster, too
  export KUBECONFIG={state.kubeconfig}; kubectl get environments -A"""
