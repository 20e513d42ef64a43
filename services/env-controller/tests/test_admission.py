"""Who may begin: pauses, a team's maximum, and the order of those who wait."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import GRANTS, NOW, NOW_TEXT, PLATFORM, at, environment, environment_manifest, project, stored, subject

from catalyst.env_controller.core import baseline
from catalyst.env_controller.core.admission import (
    NO_PAUSE,
    Candidate,
    Pauses,
    Place,
    begin_next,
    candidates,
    look_again,
    maximum,
    paused,
    place,
)
from catalyst.env_controller.core.deploying import deploy
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.project import ProjectWorld, decide_project
from catalyst.env_controller.core.world import Decision, World, object_key
from catalyst.model.environment import Answers, BuildAnswer, EnvironmentStatus, Phase
from catalyst.model.project import Project

EMPTY = World(PLATFORM, project(), GRANTS)
PAUSED = replace(EMPTY, project=project(paused=True))


def told(decision: Decision) -> tuple[Phase, str, str]:
    assert isinstance(decision.status, EnvironmentStatus)
    ready = decision.status.condition("Ready")
    assert ready is not None
    return decision.status.phase, ready.reason, ready.message


# Who waits for what


@pytest.mark.parametrize(
    ("world", "says"),
    [
        (PAUSED, ("Project acme/shop is paused (spec.paused)", "sets that to false")),
        (
            replace(EMPTY, pauses=Pauses(team="moving; ask ann")),
            ("Team acme is paused", "of namespace acme): moving; ask ann.", "the platform's people remove"),
        ),
        (
            replace(PAUSED, pauses=Pauses("upgrade", "moving")),
            ("Catalyst is paused everywhere", "of namespace catalyst-system): upgrade."),
        ),
        (replace(EMPTY, pauses=Pauses(team="")), ("of namespace acme). It goes on",)),
    ],
)
def test_paused_nothing_is_made_and_who_ends_it_is_said(world: World, says: tuple[str, ...]) -> None:
    decision = decide(environment(), world, NOW)
    assert not decision.changes_objects
    phase, reason, message = told(decision)
    assert (phase, reason) == (Phase.WAITING, "Paused")
    assert all(words in message for words in says), message
    assert decision.requeue_after is None, "the end of the pause wakes it"


def test_what_waited_goes_on_when_the_pause_ends() -> None:
    waiting = environment(status=_json(decide(environment(), PAUSED, NOW)))
    going = decide(waiting, EMPTY, at(60))
    assert going.create
    assert told(going)[0] == Phase.PROVISIONING
    assert _admitted(going) == ("True", "Admitted")
    assert _admitted(decide(environment(), EMPTY, NOW)) is None, "who never waited is told nothing"


def _json(decision: Decision) -> dict[str, Any]:
    assert decision.status is not None
    return decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _admitted(decision: Decision) -> tuple[str, str] | None:
    assert isinstance(decision.status, EnvironmentStatus)
    said = decision.status.condition("Admitted")
    return (said.status, said.reason) if said else None


@pytest.mark.parametrize(
    ("where", "reason", "says"),
    [
        (Place(12, 88, 10), "MaximumReached", "Position 12 of 88; the maximum of acme is 10. It begins by itself"),
        (Place(1, 3, None, "ten"), "MaximumInvalid", "expected a whole number such as 10, found 'ten'"),
    ],
)
def test_in_line_the_position_is_said(where: Place, reason: str, says: str) -> None:
    decision = decide(environment(), replace(EMPTY, place=where), NOW)
    assert not decision.changes_objects
    assert told(decision)[:2] == (Phase.WAITING, reason)
    assert says in told(decision)[2]
    assert _admitted(decision) == ("False", reason)


def test_with_a_place_it_begins() -> None:
    decision = decide(environment(), replace(EMPTY, place=Place(0, 88, 10)), NOW)
    assert decision.create
    assert _admitted(decision) == ("True", "Admitted")


def test_in_line_it_is_looked_at_ever_more_rarely_and_never_at_once() -> None:
    delays = [decide(environment(), replace(EMPTY, place=Place(n, 999, 5)), NOW).requeue_after for n in range(1, 999)]
    assert delays == [look_again(n) for n in range(1, 999)]
    assert (delays[0], delays[-1]) == (12.0, 300.0)
    assert sum(1 / look_again(n) for n in range(1, 101)) < 1.5, "writes a second of a hundred that wait"


def test_a_lost_namespace_is_made_anew_in_a_pause_and_beyond_the_maximum() -> None:
    lost = environment(status={"namespace": {"name": "acme--shop--pr-42", "uid": "u"}})
    assert decide(lost, replace(PAUSED, place=Place(3, 3, 1)), NOW).create


@pytest.mark.parametrize("deletion", [None, {"reason": "Closed", "at": NOW_TEXT, "evidence": "delivery d-1"}])
def test_what_is_closed_goes_in_a_pause(deletion: dict[str, Any] | None) -> None:
    assert decide(environment(deletion=deletion), PAUSED, NOW).remove is (deletion is not None)


def test_a_project_says_that_it_is_paused_as_long_as_it_is() -> None:
    shop = project(paused=True)
    first = decide_project(shop, ProjectWorld(PLATFORM, GRANTS), NOW).status
    assert first is not None
    said = first.condition("Paused")
    assert said is not None
    assert (said.status, said.reason) == ("True", "Paused")
    after = project().model_copy(update={"status": first})
    ended = decide_project(after, ProjectWorld(PLATFORM, GRANTS), NOW).status
    assert ended is not None
    assert ended.condition("Paused") is None
    team = decide_project(project(), ProjectWorld(PLATFORM, GRANTS, pauses=Pauses(team="x")), NOW).status
    assert team is not None
    assert team.condition("Paused") is not None


@pytest.mark.parametrize(
    ("text", "means"), [(None, None), ("false", None), (" No ", None), ("off", None), ("", ""), ("true", "true")]
)
def test_an_annotation_pauses_unless_it_says_that_it_does_not(text: str | None, means: str | None) -> None:
    assert paused(text) == means


@pytest.mark.parametrize(
    ("text", "number"),
    [("10", 10), (" 0 ", 0), ("ten", None), ("", None), ("-1", None), ("1.5", None), ("٣", None), ("9" * 4000, None)],
)
def test_a_maximum_is_a_whole_number(text: str, number: int | None) -> None:
    assert maximum(text) == number


# What runs, in a pause

RUNS = Platform(registry="registry.test")
WEB = project(components=[{"name": "web", "image": "nginx:1"}])
BUILT = project(components=[{"name": "web", "build": {}}])


class Running:
    """An environment, what is there of it, and the passes of `deploy` over it; the pods come up by themselves."""

    def __init__(self, shop: Project) -> None:
        self.project = shop
        self.pauses = NO_PAUSE
        self.found: dict[str, Any] = {}
        self.environment = environment(source={"commit": "a" * 40, "branch": "basket"})
        self.namespace = stored(baseline.namespace(subject()), "uid-of-namespace", "7")

    def look(self) -> Decision:
        of = subject(self.environment, self.project, RUNS)
        world = World(RUNS, self.project, GRANTS, self.namespace, self.found, pull="0" * 64, pauses=self.pauses)
        decision = deploy(of, world, self.environment.status or EnvironmentStatus(), NOW)
        self.environment = self.environment.model_copy(update={"status": decision.status})
        return decision

    def settle(self) -> Decision:
        for _ in range(4):
            decision = self.look()
            for manifest in decision.apply:
                metadata = manifest["metadata"]
                good = stored(manifest, f"uid-of-{metadata['name']}", "9")
                good = replace(good, generation=1, status=UP) if manifest["kind"] == "Deployment" else good
                self.found[object_key(manifest["kind"], metadata["namespace"], metadata["name"])] = good
        assert not decision.apply
        return decision

    def built(self) -> None:
        status = self.environment.status
        assert status is not None
        asked = status.builds["web"]
        answer = BuildAnswer(
            key=asked.key, attempt=asked.attempt, outcome="succeeded", at=NOW, digest=f"sha256:{'a' * 64}", ports=(80,)
        )
        answers = Answers(builds={"web": answer})
        self.environment = self.environment.model_copy(
            update={"status": status.model_copy(update={"answers": answers})}
        )


UP = {
    "observedGeneration": 1,
    "replicas": 1,
    "updatedReplicas": 1,
    "readyReplicas": 1,
    "availableReplicas": 1,
    "wanted": 1,
}


def test_in_a_pause_what_runs_stays_and_is_mended() -> None:
    running = Running(WEB)
    before = told(running.settle())
    running.pauses = Pauses(team="moving")
    assert told(running.look()) == before, "nothing waits, so nothing is said"
    gone = running.found.pop(object_key("Deployment", "acme--shop--pr-42", "web"))
    assert [manifest["metadata"]["name"] for manifest in running.look().apply] == [gone.ref.name]
    running.settle()
    key = object_key("Deployment", "acme--shop--pr-42", "web")
    running.found[key] = replace(running.found[key], managed=())  # somebody else has written its content
    assert [manifest["metadata"]["uid"] for manifest in running.look().apply] == [gone.ref.uid]
    running.settle()
    assert told(running.look()) == before


def test_in_a_pause_a_changed_project_waits_and_follows_afterwards() -> None:
    running = Running(WEB)
    running.settle()
    running.pauses = Pauses(team="moving")
    running.project = project(components=[{"name": "web", "image": "nginx:2"}])
    waiting = running.look()
    assert not waiting.changes_objects
    assert told(waiting)[:2] == (Phase.WAITING, "Paused")
    assert "What runs goes on; what is new waits." in told(waiting)[2]
    running.pauses = NO_PAUSE
    (manifest,) = running.look().apply
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"


def test_in_a_pause_a_component_that_is_not_wanted_any_more_is_not_taken_away() -> None:
    running = Running(project(components=[{"name": "web", "image": "nginx:1"}, {"name": "api", "image": "nginx:1"}]))
    running.settle()
    running.pauses, running.project = Pauses(team="moving"), WEB
    assert not running.look().delete
    running.pauses = NO_PAUSE
    assert running.look().delete


def test_in_a_pause_nothing_is_built_and_what_was_built_is_not_rolled_out() -> None:
    running = Running(BUILT)
    running.pauses = Pauses(team="moving")
    waiting = running.look()
    assert waiting.asks == ()
    assert isinstance(waiting.status, EnvironmentStatus)
    assert not waiting.status.builds
    running.pauses = NO_PAUSE
    assert [wish.component for wish in running.look().asks] == ["web"]
    running.pauses = Pauses(team="moving")
    assert told(running.look())[0] == Phase.BUILDING, "a build that was asked for goes on"
    running.built()
    assert told(running.look())[:2] == (Phase.WAITING, "Paused")
    assert not running.look().changes_objects
    running.pauses = NO_PAUSE
    assert running.look().apply


# The line


def of(uid: str, owner: str, created: str, *, has_place: bool = False) -> Candidate:
    return Candidate(uid, owner, created, has_place)


def test_a_person_does_not_wait_behind_a_hundred_requests_of_a_bot() -> None:
    bots = [of(f"b{n:03}", "bot", f"{n:03}", has_place=n < 10) for n in range(98)]
    team = [*bots, of("ann", "ann", "998"), of("ann-2", "ann", "999")]
    assert place("ann", team, "10") == Place(1, 90, 10)
    assert place("ann-2", team, "10") == Place(2, 90, 10)
    assert place("b010", team, "10") == Place(3, 90, 10)
    assert place("b097", team, "10") == Place(90, 90, 10)
    assert place("b000", team, "10") is None
    assert begin_next(team, "10") == ()
    assert begin_next(team, "12") == ("ann", "ann-2")
    assert place("ann", team, "12") == Place(0, 88, 12)
    assert begin_next(team, "ten") == ()


def test_of_one_second_the_smaller_number_is_older() -> None:
    team = [Candidate(uid, "bot", NOW_TEXT, has_place=False, number=n) for uid, n in (("z", 9), ("a", 10), ("b", 8))]
    assert begin_next(team, "9") == ("b", "z", "a")


OWNERS = st.sampled_from(["bot", "ann", "bea", ""])
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "open", "look", "look", "close"]), OWNERS, st.randoms()), max_size=60
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 6))
def test_the_line_is_fair_full_and_never_beyond_the_maximum(steps: list[Any], most: int) -> None:
    team: dict[str, Candidate] = {}
    for number, (step, owner, dice) in enumerate(steps):
        if step == "open":
            team[f"e{number:03}"] = of(f"e{number:03}", owner, f"{number:03}")
        elif step == "close" and team:
            del team[dice.choice(sorted(team))]
        elif step == "look" and team:  # in any order, as keys come
            for uid in dice.sample(sorted(team), k=len(team)):
                _look_at(team, uid, most)
        everyone = list(team.values())
        waiting = [one for one in everyone if not one.has_place]
        places = {one.uid: place(one.uid, everyone, str(most)) for one in waiting}
        free = max(0, most - sum(one.has_place for one in everyone))
        assert sum(one.has_place for one in everyone) <= most
        assert sorted(p.position for p in places.values() if p and p.position) == [
            *range(1, max(0, len(waiting) - free) + 1)
        ], "one of each position, and no place stays empty while somebody waits"
        assert {uid for uid, p in places.items() if p and not p.position} == set(begin_next(everyone, str(most)))


def _look_at(team: dict[str, Candidate], uid: str, most: int) -> None:
    found = place(uid, list(team.values()), str(most))
    if found is None or found.position:
        return
    chosen = team[uid]
    team[uid] = replace(chosen, has_place=True)
    older = [one for one in team.values() if one.owner == chosen.owner and one.age < chosen.age]
    assert all(one.has_place or begins(team, one, most) for one in older), "an owner's own are served by age"
    for one in team.values():
        if not one.has_place and not begins(team, one, most):
            theirs = _count(team, one.owner, most)
            assert _count(team, chosen.owner, 0) <= theirs + 1, "nobody has two more than who waits in vain"


def begins(team: dict[str, Candidate], one: Candidate, most: int) -> bool:
    return one.uid in begin_next(list(team.values()), str(most))


def _count(team: dict[str, Candidate], owner: str, most: int) -> int:
    """The owner's environments that have a place, or for which there is one."""
    return sum(one.has_place or begins(team, one, most) for one in team.values() if one.owner == owner)


ADMITTED, REFUSED = {"type": "Admitted", "status": "True"}, {"type": "Accepted", "status": "False"}
HELD = {"reason": "Draft", "message": "wait"}


@pytest.mark.parametrize(
    ("given_", "begun", "seen"),
    [
        ({}, (), False),
        ({"owner": "ann"}, ("uid-of-environment",), True),
        ({"status": {"namespace": {"name": "n", "uid": "u"}}, "hold": HELD}, (), True),
        ({"status": {"conditions": [ADMITTED]}}, (), True),
        ({"status": {"namespace": {"name": "n", "uid": "u"}}, "metadata": {"deletionTimestamp": NOW_TEXT}}, (), True),
        ({"hold": HELD}, (), None),
        ({"deletion": {"reason": "Closed"}}, (), None),
        ({"metadata": {"deletionTimestamp": NOW_TEXT}}, (), None),
        ({"status": {"conditions": [REFUSED]}}, (), None),
        ({"status": {"conditions": [ADMITTED, REFUSED]}}, (), None),
        ({"projectRef": {"team": "acme", "name": "cart"}}, (), None),
    ],
)
def test_who_stands_in_line_and_who_has_a_place(
    given_: dict[str, Any], begun: tuple[str, ...], seen: bool | None
) -> None:
    found = candidates([environment_manifest(**given_)], begun=begun, paused_projects={"cart"})
    assert [one.has_place for one in found] == ([] if seen is None else [seen])


def test_an_environment_that_no_mirror_shows_yet_stands_last() -> None:
    assert place("new", [of("a", "ann", "1")], "0") == Place(2, 2, 0)
