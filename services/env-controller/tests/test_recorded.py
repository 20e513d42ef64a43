"""Decisions as records: they read back as they were, decide the same again, and hold nothing that is secret."""

import json
from dataclasses import replace
from typing import Any

import pytest
from makers import GRANTS, HOST, NOW, PLATFORM, A, B, at, command, environment_manifest, fact, project, push
from pydantic import TypeAdapter
from simulated import Simulated

from catalyst.env_controller.core.project import ProjectWorld
from catalyst.env_controller.core.recorded import (
    RULES,
    BranchInputs,
    EnvironmentInputs,
    Head,
    Inputs,
    NotARecord,
    ProjectInputs,
    PullRequestInputs,
    Record,
    decided_json,
    joined,
    read_inputs,
    recorded,
    records,
    rule_of,
)
from catalyst.env_controller.core.world import World
from catalyst.events.payload import Verbatim
from catalyst.model.environment import Environment

HEAD = Head(
    "environment", "decision.acme.shop.pr-42", NOW.isoformat(), "0123456789ab", "EnvironmentKey acme--shop/pr-42"
)


def life() -> list[Inputs]:
    """Everything that one environment is asked on its way, from nothing to nothing."""
    environment = Environment.parse(environment_manifest(expiresAt="2026-11-23T21:00:00Z"))
    simulated = Simulated(environment=environment, project=project())
    asked: list[Inputs] = []
    act = simulated.act

    def noted(decision: Any, now: Any) -> None:
        assert simulated.environment is not None
        asked.append(EnvironmentInputs(simulated.environment, simulated.world, now))
        act(decision, now)

    simulated.act = noted  # type: ignore[method-assign]
    simulated.settle(NOW)
    simulated.settle(at(3600))
    return asked


def others() -> list[Inputs]:
    existing = Environment.parse(environment_manifest(source={"pullRequest": {"number": 42}, "commit": A}))
    said = (command("c-1", "approve"), command("c-2", "deploy"))
    return [
        ProjectInputs(project(), ProjectWorld(PLATFORM, GRANTS), NOW),
        PullRequestInputs(project(), None, (fact("d-1"), fact("d-2", draft=True)), said, None, None, NOW),
        PullRequestInputs(project(), "not granted", (fact("d-1", head=B),), (), existing, None, NOW),
        PullRequestInputs(project(), None, (fact("d-1", state="closed"),), (), existing, None, NOW),
        BranchInputs(
            project(triggers={"branches": [{"pattern": "main"}]}), None, (push("d-1", branch="main"),), None, None, NOW
        ),
    ]


@pytest.mark.parametrize("inputs", [*life(), *others()])
def test_a_record_reads_back_and_decides_the_same(inputs: Inputs) -> None:
    result = inputs.decided()
    line = recorded(replace(HEAD, rule=rule_of(inputs)), inputs, result)
    record = Record.parse(line)
    assert b"\n" not in line
    assert Record.parse(record.text()) == record
    again = read_inputs(record.head.rule, record.inputs)
    assert recorded(record.head, again, result) == line
    assert decided_json(again) == record.result


def test_several_records_are_one_text_and_one_is_as_well() -> None:
    """What was kept before there were several in one message is read as ever."""
    lines = [recorded(replace(HEAD, key=f"{number}"), each, each.decided()) for number, each in enumerate(life())]
    assert [record.head.key for record in records(joined(lines))] == [f"{number}" for number in range(len(lines))]
    assert list(records(lines[0])) == [Record.parse(lines[0])]
    with pytest.raises(NotARecord, match="expected a JSON object"):
        list(records(joined([lines[0], b"{", lines[1]])))


def test_a_record_is_what_pydantic_writes() -> None:
    """The short ways to it are no other form."""
    for inputs in life():
        result = inputs.decided()
        record = Record.parse(recorded(HEAD, inputs, result))
        given = TypeAdapter(type(inputs)).dump_python(inputs, mode="json", by_alias=True, exclude_unset=True)
        assert record.inputs == given
        decided = TypeAdapter(type(result)).dump_python(result, mode="json", by_alias=True, exclude_defaults=True)
        assert record.result == decided


def test_a_newer_version_of_a_project_is_written_anew() -> None:
    names = []
    for name in ("web", "api", "web"):
        given = project(components=[{"name": name, "image": "nginx"}])
        inputs = EnvironmentInputs(Environment.parse(environment_manifest()), World(PLATFORM, given), NOW)
        kept = Record.parse(recorded(HEAD, inputs, inputs.decided())).inputs
        names.append(kept["world"]["project"]["spec"]["components"][0]["name"])
    assert names == ["web", "api", "web"]


def test_the_life_is_one() -> None:
    """Else the test above shows little: it makes, refuses nothing, expires, tears down and lets go."""
    results = [inputs.decided() for inputs in life()]
    assert any(result.create for result in results)  # type: ignore[union-attr]
    assert any(result.amend for result in results)  # type: ignore[union-attr]
    assert any(result.remove for result in results)  # type: ignore[union-attr]
    assert results[-1].release  # type: ignore[union-attr]
    assert HOST not in str(results[0])


def test_what_the_forge_sent_verbatim_is_left_out() -> None:
    """No rule looks at it, and it holds the pull request's whole text."""
    told = fact("d-1")
    data = told.data.model_copy(update={"payload": Verbatim(parsed={"body": "canary-in-the-payload"})})
    inputs = PullRequestInputs(project(), None, (replace(told, data=data),), (), None, None, NOW)
    line = recorded(replace(HEAD, rule="pull_request"), inputs, inputs.decided())
    assert b"canary" not in line
    assert b'"title"' in line
    assert decided_json(read_inputs("pull_request", Record.parse(line).inputs)) == Record.parse(line).result


def test_of_a_resource_only_what_was_given_is_kept() -> None:
    """A default may be another one tomorrow; what the API server filled in is given."""
    inputs = EnvironmentInputs(Environment.parse(environment_manifest()), World(PLATFORM, project()), NOW)
    kept = Record.parse(recorded(HEAD, inputs, inputs.decided())).inputs["environment"]
    assert kept["spec"] == {"projectRef": {"team": "acme", "name": "shop"}}


PLACE = {"rule": "branch", "subject": "decision.acme.shop.main", "at": "now", "code": "c", "key": "k"}
GOOD: dict[str, Any] = {"schema": 1, "head": PLACE, "inputs": {}, "result": {}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "expected a JSON object: "),
        ("[]", "expected a JSON object, found list"),
        (json.dumps(GOOD | {"schema": 2}), "expected schema 1, found 2"),
        (json.dumps(GOOD | {"inputs": None}), "expected the objects head, inputs and result"),
        (json.dumps(GOOD | {"head": {"rule": "branch"}}), "head: "),
        (
            json.dumps(GOOD | {"head": PLACE | {"rule": "moon"}}),
            f"head.rule: expected one of {', '.join(RULES)}, found 'moon'",
        ),
    ],
)
def test_what_is_no_record_says_what_was_expected(text: str, reason: str) -> None:
    assert Record.parse(json.dumps(GOOD)).head.rule == "branch"
    with pytest.raises(NotARecord) as refused:
        Record.parse(text)
    assert str(refused.value).startswith(reason)
