"""Questions to builder: when they change, when they are asked again, and which answer counts."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import NOW, NOW_TEXT, A, B, at, environment, project, subject

from catalyst.env_controller.core import builds
from catalyst.env_controller.core.components import Part, parts
from catalyst.model import labels
from catalyst.model.environment import BuildAnswer, BuildQuestion, EnvironmentStatus
from catalyst.model.project import Build, Component


def status_of(questions: dict[str, BuildQuestion], **answer: Any) -> dict[str, Any]:
    asked = questions["web"]
    told = {"key": asked.key, "attempt": asked.attempt, "at": NOW_TEXT, "outcome": "failed", **answer}
    found: dict[str, Any] = {"builds": {"web": asked.model_dump()}}
    return {**found, "answers": {"builds": {"web": told}}} if answer else found


def asked(commit: str = A, status: dict[str, Any] | None = None, seconds: int = 0) -> dict[str, BuildQuestion]:
    found = environment(source={"commit": commit}, status=status)
    return builds.questions(subject(found), parts(project(), found), at(seconds))


def test_back_and_forth_is_three_questions() -> None:
    first = asked(A)
    second = asked(B, status_of(first))
    third = asked(A, status_of(second))
    assert [question["web"].attempt for question in (first, second, third)] == [1, 2, 3]
    assert first["web"].key == third["web"].key != second["web"].key
    assert asked(A, status_of(third)) == third


@pytest.mark.parametrize(
    ("answer", "seconds", "attempt"),
    [
        ({"outcome": "succeeded"}, 99999, 1),
        ({"reason": "BuildFailed"}, 99999, 1),
        ({"reason": "BuildLost"}, 4, 1),
        ({"reason": "BuildLost"}, 5, 2),
        ({"outcome": "superseded"}, 5, 2),
        ({"reason": "RegistryRefused"}, 59, 1),
        ({"reason": "RegistryRefused"}, 60, 2),
    ],
)
def test_what_may_pass_is_tried_again(answer: dict[str, Any], seconds: int, attempt: int) -> None:
    assert asked(A, status_of(asked(A), **answer), seconds)["web"].attempt == attempt


def test_a_deploy_said_since_tries_a_failed_build_again_once() -> None:
    def again(status: dict[str, Any], said: str) -> BuildQuestion:
        found = environment(source={"commit": A}, status=status, metadata={"annotations": {labels.DEPLOY: said}})
        return builds.questions(subject(found), parts(project(), found), NOW)["web"]

    failed = {"reason": "BuildFailed"}
    second = again(status_of(asked(), **failed), "c-1")
    assert (second.attempt, second.deploy) == (2, "c-1")
    assert again(status_of({"web": second}, **failed), "c-1") == second
    assert again(status_of({"web": second}, **failed), "c-2").attempt == 3
    assert again(status_of({"web": second}, outcome="succeeded"), "c-2") == second
    assert again(status_of({"web": second}), "c-2") == second


@pytest.mark.parametrize(
    ("reason", "seconds"), [("BuildLost", (5, 10, 20, 3600)), ("RegistryRefused", (60, 120, 240, 3600))]
)
def test_trying_again_slows_down(reason: str, seconds: tuple[int, ...]) -> None:
    given_ = BuildAnswer(key="k", outcome="failed", reason=reason, at=NOW)
    waits = [builds.retry_at(BuildQuestion(key="k", retries=n), given_) for n in (None, 1, 2, 50)]
    assert waits == [NOW + timedelta(seconds=s) for s in seconds]


def test_another_commit_does_not_wait_for_what_failed_before() -> None:
    """Found by chaos: the fourth commit of a pull request was tried again after eight minutes."""
    lost = {"reason": "BuildLost"}
    again = asked(A, status_of(asked(A), **lost), 5)
    assert (again["web"].attempt, again["web"].retries) == (2, 1)
    assert asked(A, status_of(again, **lost), 9) == again
    assert asked(A, status_of(again, **lost), 10)["web"].retries == 2
    other = asked(B, status_of(again, **lost), 10)
    assert (other["web"].attempt, other["web"].retries) == (3, None)
    assert asked(B, status_of(other, **lost), 5)["web"].attempt == 4


@given(st.floats(0, 1e7))
def test_a_question_is_repeated_ever_more_rarely_and_never_at_once(seconds: float) -> None:
    times, wait = builds.asked_again(NOW, NOW + timedelta(seconds=seconds))
    assert times <= 20
    assert wait > 0
    later, _ = builds.asked_again(NOW, NOW + timedelta(seconds=seconds + wait + 0.01))
    assert later == times + 1


def test_only_the_answer_to_exactly_that_question_counts() -> None:
    question = BuildQuestion(key="k", attempt=2)

    def counted(**answer: Any) -> BuildAnswer | None:
        told = {"key": "k", "attempt": 2, "outcome": "succeeded", "at": NOW_TEXT, **answer}
        status = EnvironmentStatus.model_validate(
            {"builds": {"web": question}, "answers": {"builds": {"web": told}}}, by_name=True, by_alias=True
        )
        return builds.answer(status, "web")

    assert counted() is not None
    assert counted(attempt=1) is None
    assert counted(key="other") is None
    assert builds.answer(EnvironmentStatus(), "web") is None


def test_everything_that_decides_what_comes_out_is_in_the_key() -> None:
    def key(part: Part, **source: Any) -> str:
        return builds.key(subject(environment(source={"commit": A, **source})), part)

    def built(**fields: Any) -> Part:
        return Part(Component(name="web", build=Build(**fields)))

    pull_request = {"number": 1, "headRepository": "stranger/shop", "fork": True}
    keys = [
        key(built()),
        key(built(), commit=B),
        key(built(dockerfile="x")),
        key(built(context="x")),
        key(built(target="x")),
        key(built(args={"a": "b"})),
        key(built(args={"ab": ""})),
        key(built(), pullRequest=pull_request),
    ]
    assert len(set(keys)) == len(keys)
    assert key(built()) == key(built(), branch="other"), "another environment of the same commit shares it"


def test_a_forks_code_is_never_trusted_and_read_from_the_projects_repository_only() -> None:
    """Whoever may write an Environment may name any repository as the fork's: `victim/private`, too."""
    pull_request = {"number": 1, "headRepository": "victim/private", "fork": True}
    fork = subject(environment(source={"commit": A, "pullRequest": pull_request}))
    (part,) = parts(fork.project, fork.environment)
    wish = builds.wish(fork, part, BuildQuestion(key="k"), 0)
    assert (wish.fork, wish.repository) == (True, "acme/shop")
    own = subject(environment(source={"commit": A, "pullRequest": {**pull_request, "fork": False}}))
    wish = builds.wish(own, part, BuildQuestion(key="k"), 0)
    assert (wish.fork, wish.repository) == (False, "acme/shop")
