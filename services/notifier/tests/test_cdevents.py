"""What our facts are in the words of CDEvents: each by the published schema, the same however often, and only news."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from snapshots import snapshot

from catalyst.events.catalogue import CATALOGUE, BuildFinished, BuildRequested, EnvironmentChanged, PullRequestChanged
from catalyst.events.event import Event, build_finished, environment_changed
from catalyst.events.examples import NOW, examples, pull_request
from catalyst.model.environment import ComponentStatus, Phase
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.cdevents import Projected, projected
from catalyst.notifier.projecting import PROJECTED

SCHEMAS = Path(__file__).parents[3] / "tests" / "data" / "cdevents"
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def document(each: Projected) -> dict[str, Any]:
    """The CDEvent in a CloudEvent, valid by the schema of its kind."""
    cloud_event = json.loads(each.body)
    found: dict[str, Any] = cloud_event["data"]
    kind = found["context"]["type"].removeprefix("dev.cdevents.").rsplit(".", 3)[0]
    schema = json.loads((SCHEMAS / f"{kind.replace('.', '-')}.schema.json").read_text())
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(found)
    assert (cloud_event["id"], cloud_event["type"]) == (found["context"]["id"], found["context"]["type"])
    assert found["context"]["specversion"] == "0.5.0"
    return found


def kinds(event: Event, before: Snapshot | None = None) -> list[str]:
    return [document(each)["context"]["type"].removeprefix("dev.cdevents.")[:-6] for each in projected(event, before)]


def at(phase: Phase, version: int, digest: str | None = None, **fields: Any) -> Snapshot:
    runs = (ComponentStatus(name="web", image="registry.example.org/acme/shop/web:x", digest=digest),) if digest else ()
    return snapshot(phase, version, components=runs, **fields)


def changed(now: Snapshot) -> Event:
    return environment_changed(now, time=NOW)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"action": "opened"}, ["change.created"]),
        ({"action": "synchronize"}, ["change.updated"]),
        ({"action": "reopened"}, ["change.updated"]),
        ({"action": "closed", "state": "closed", "merged": True}, ["change.merged"]),
        ({"action": "closed", "state": "closed"}, ["change.abandoned"]),
        ({"action": "labeled"}, []),
    ],
)
def test_a_pull_request_is_a_change(fields: dict[str, Any], expected: list[str]) -> None:
    assert kinds(pull_request(**fields)) == expected


def test_the_life_of_an_environment() -> None:
    first = at(Phase.PENDING, 1).model_copy(update={"generation": 1})
    built = at(Phase.READY, 2, DIGEST).model_copy(update={"generation": 1})
    pushed = at(Phase.BUILDING, 3, DIGEST).model_copy(update={"generation": 2})
    upgraded = at(Phase.READY, 4, OTHER).model_copy(update={"generation": 2})
    gone = at(Phase.GONE, 5).model_copy(update={"generation": 2})
    assert kinds(changed(first)) == ["environment.created"]
    assert kinds(changed(built), first) == ["service.deployed"]
    assert kinds(changed(built), built) == []
    assert kinds(changed(pushed), built) == ["environment.modified"]
    assert kinds(changed(upgraded), pushed) == ["service.upgraded"]
    assert kinds(changed(gone), upgraded) == ["service.removed", "environment.deleted"]


def test_another_life_under_the_same_name_begins_anew() -> None:
    before, now = at(Phase.GONE, 5), at(Phase.PENDING, 6).model_copy(update={"uid": "another"})
    assert kinds(changed(now), before) == ["environment.created"]


def test_what_runs_is_named_by_its_package() -> None:
    (_, deployed) = projected(changed(at(Phase.READY, 2, DIGEST)), None)
    assert document(deployed)["subject"]["content"]["artifactId"] == (
        f"pkg:oci/web@sha256%3A{'a' * 64}?repository_url=registry.example.org/acme/shop/web"
    )
    assert deployed.subject == "cdevents.env.acme.shop.pr-42.service.deployed"


def test_builds_end_with_what_they_published_or_without() -> None:
    requested, finished = (examples()[each.TYPE] for each in (BuildRequested, BuildFinished))
    assert kinds(requested) == ["build.queued"]
    assert kinds(finished) == ["build.finished", "artifact.published"]
    assert isinstance(finished.data, BuildFinished)
    failed = finished.data.model_copy(update={"outcome": "failed", "digest": None, "reason": "BuildFailed"})
    (told,) = projected(build_finished(failed, time=NOW), None)
    assert document(told)["customData"]["reason"] == "BuildFailed"


def test_the_same_message_says_the_same_and_another_something_else() -> None:
    changes = [pull_request(action=action) for action in ("opened", "synchronize")]
    changes += [pull_request(action="closed", state="closed", merged=merged) for merged in (True, False)]
    builds = [examples()[each.TYPE] for each in (BuildRequested, BuildFinished)]
    gone = changed(at(Phase.GONE, 3, DIGEST))
    for event in (*changes, *builds, changed(at(Phase.READY, 2, DIGEST)), gone):
        assert projected(event, None)
        assert projected(event, None) == projected(event, None)
    ids = [each.id for number in range(3) for each in projected(pull_request(delivery=f"d-{number}"), None)]
    assert len(set(ids)) == 3


def test_a_build_asked_for_again_is_no_other_build() -> None:
    event = examples()[BuildRequested.TYPE]
    again = replace(event, id=f"{event.id}/again-1")
    assert [each.id for each in projected(again, None)] == [each.id for each in projected(event, None)]


def test_every_event_is_either_projected_or_known_not_to_be() -> None:
    """A new event of the catalogue has to be thought of here."""
    assert set(PROJECTED) == {PullRequestChanged, EnvironmentChanged, BuildRequested, BuildFinished}
    silent = {type_.rpartition(".v")[0].removeprefix("dev.catalyst.") for type_ in CATALOGUE}
    silent -= {data.short_type() for data in PROJECTED}
    assert silent == {
        "scm.branch.pushed",
        "scm.comment.written",
        "scm.command.given",
        "build.cleaned",
        "route.changed",
        "session.opened",
        "session.closed",
        "audit.recorded",
        "dead.letter",
        "dead.settled",
    }


def test_a_schema_of_each_kind_refuses_what_is_not_one() -> None:
    (created,) = projected(changed(at(Phase.PENDING, 1)), None)
    broken = replace(created, body=created.body.replace(b'"name"', b'"nome"'))
    with pytest.raises(jsonschema.ValidationError, match="nome"):
        document(broken)
