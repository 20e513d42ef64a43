"""notifier between a real NATS and GitHub's double over HTTP: one comment, whatever happens."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import nats as nats_client
import pytest
from doubles.github.state import CheckRun, Deployment, PullRequest
from faulted import Rule
from nats.aio.client import Client
from processes import Faulted
from snapshots import component, crashing, route, snapshot
from telling import BOT, REPOSITORY, Telling, telling, until

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.users import inbox_prefix
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.comment import MARK

Record = Callable[[str, object], None]
DELETED = {"reason": "Closed", "at": "2026-11-23T20:00:00Z", "evidence": "delivery 1"}


@pytest.fixture
async def on(tmp_path: Path, nats: Nats) -> AsyncIterator[Telling]:
    async with telling(tmp_path, nats) as made:
        yield made


def at(pull: PullRequest, phase: Phase, version: int, **fields: object) -> Snapshot:
    return snapshot(phase, version, number=pull.number, commit=pull.head, **fields)  # type: ignore[arg-type]


def state(deployment: Deployment) -> str:
    """What was said of it last."""
    return deployment.statuses[-1].state if deployment.statuses else ""


def leads(process: Faulted) -> int:
    """How often it has begun to."""
    return process.part.log.read_text().count('"event":"leading"')


async def told(on: Telling, pull: PullRequest, words: str, within: float = 15.0) -> float:
    return await until(lambda: words in on.text(pull), within)


async def test_one_comment_follows_the_stages_and_each_within_two_seconds(on: Telling, record_property: Record) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.PROVISIONING, 1))
    await told(on, pull, "Environment being prepared")
    delays = []
    for version, (phase, words) in enumerate(
        [
            (Phase.BUILDING, "building"),
            (Phase.DEPLOYING, "deploying"),
            (Phase.READY, "ready"),
            (Phase.FAILED, "failed"),
        ],
        2,
    ):
        await asyncio.sleep(0.3)
        await on.say(at(pull, phase, version))
        delays.append(await told(on, pull, f"Environment {words}", within=3))
    record_property("seconds from news to edit", [round(delay, 2) for delay in delays])
    assert max(delays) <= 2.0
    (comment,) = on.comments(pull)
    assert comment.author.login == BOT
    assert on.writes("/comments").count(f"POST /repos/acme/shop/issues/{pull.number}/comments") == 1


async def test_a_forge_that_takes_its_time_is_told_within_two_seconds(on: Telling, record_property: Record) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.PROVISIONING, 1))
    await told(on, pull, "Environment being prepared")
    on.github.fail(r".*", times=100_000, status=0, delay=0.3)
    delays = []
    for version, (phase, words) in enumerate([(Phase.BUILDING, "building"), (Phase.READY, "ready")], 2):
        await asyncio.sleep(3)
        await on.say(at(pull, phase, version))
        delays.append(await told(on, pull, f"Environment {words}", within=5))
    record_property("seconds from news to edit", [round(delay, 2) for delay in delays])
    assert max(delays) <= 2.0, delays


async def test_deployment_and_check_stand_beside_it(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    repository = pull.repository
    await on.say(at(pull, Phase.BUILDING, 1))
    await until(lambda: repository.checks and repository.deployments)
    await on.say(at(pull, Phase.READY, 2))
    (deployment,) = repository.deployments.values()
    (check,) = repository.checks.values()
    await until(lambda: state(deployment) == "success" and check.conclusion == "success")
    assert deployment.statuses[-1].environment_url == "https://pr-1--shop--acme.catalyst.localhost:8443/"
    assert [status.state for status in deployment.statuses] == ["in_progress", "success"]
    assert (check.name, check.sha) == ("catalyst: acme/shop/pr-1", pull.head)

    first = pull.head
    on.github.commit(REPOSITORY, "basket", {"more.txt": "more"})
    assert pull.head != first
    await on.say(at(pull, Phase.BUILDING, 3))
    await until(lambda: len(repository.deployments) == 2 and len(repository.checks) == 2)
    assert state(deployment) == "success", "the old version serves until the new one does"
    await on.say(at(pull, Phase.READY, 4))
    await until(lambda: state(deployment) == "inactive")
    newer = max(repository.deployments.values(), key=lambda each: each.id)
    await asyncio.sleep(0.5)
    assert [status.state for status in newer.statuses][-1] == "success", "only the older one is over"
    await on.say(at(pull, Phase.GONE, 5, deletion=DELETED))
    await until(lambda: state(newer) == "inactive")
    await told(on, pull, "removed: the pull request was closed. Nothing of it is left.")
    assert check.conclusion == "success", "what ended stays as it ended"


async def test_what_was_said_of_former_commits_ends_also_after_a_kill(on: Telling) -> None:
    """A check that nothing came of, and a deployment that a process which is dead had told of."""
    process = on.notifier()
    pull, repository = on.pull_request(), on.github.repository(REPOSITORY)
    await on.say(at(pull, Phase.READY, 1))
    await until(lambda: [state(each) for each in repository.deployments.values()] == ["success"])
    for version in (2, 3):
        on.github.commit(REPOSITORY, "basket", {"more.txt": str(version)})
        await on.say(at(pull, Phase.BUILDING, version))
        await until(lambda: pull.head in {each.sha for each in repository.checks.values()})
        await until(lambda: pull.head in {each.sha for each in repository.deployments.values()})
    _, second, third = (repository.checks[each] for each in sorted(repository.checks))
    await until(lambda: (second.status, second.conclusion) == ("completed", "cancelled"))

    on.github.commit(REPOSITORY, "basket", {"more.txt": "4"})
    process.part.kill()
    process.again()
    await on.say(at(pull, Phase.READY, 4))
    await until(lambda: len(repository.deployments) == 4)
    newest = repository.deployments[max(repository.deployments)]
    await until(lambda: {state(each) for each in repository.deployments.values() if each is not newest} == {"inactive"})
    await until(lambda: (third.status, third.conclusion) == ("completed", "cancelled"))
    assert state(newest) == "success"


async def test_a_deployment_is_not_over_while_its_check_is_open(on: Telling) -> None:
    """Found by chaos: whoever is killed between the two leaves a check that nobody looks for any more."""
    on.notifier()
    pull, repository = on.pull_request(), on.github.repository(REPOSITORY)
    await on.say(at(pull, Phase.BUILDING, 1))
    await until(lambda: repository.checks and [*map(state, repository.deployments.values())] == ["in_progress"])
    ((number, check),) = repository.checks.items()
    fault = on.github.fail(rf"PATCH /repos/{REPOSITORY}/check-runs/{number}", times=1000, status=503)
    await on.say(at(pull, Phase.GONE, 2, deletion=DELETED))
    await told(on, pull, "Nothing of it is left")
    await until(lambda: fault.times < 1000)
    await asyncio.sleep(1)
    assert [*map(state, repository.deployments.values())] == ["in_progress"]
    fault.times = 0
    await until(lambda: [*map(state, repository.deployments.values())] == ["inactive"], within=30)
    assert check.conclusion == "cancelled"


async def test_what_was_said_of_a_reopened_pull_request_ends_also_after_a_kill(on: Telling) -> None:
    """Found by chaos. The check goes on in the second life of the environment, and was looked for by its life."""
    process = on.notifier()
    pull, repository = on.pull_request(), on.github.repository(REPOSITORY)
    await on.say(at(pull, Phase.BUILDING, 1))
    await until(lambda: repository.checks)
    await on.say(at(pull, Phase.GONE, 2, deletion=DELETED))
    (check,) = repository.checks.values()
    await until(lambda: check.conclusion == "cancelled")
    await on.say(at(pull, Phase.BUILDING, 3, uid="uid-of-a-second-life"))
    await until(lambda: check.status == "in_progress")

    process.part.kill()
    on.github.commit(REPOSITORY, "basket", {"more.txt": "more"})
    await on.say(at(pull, Phase.GONE, 4, uid="uid-of-a-second-life", deletion=DELETED))
    process.again()
    await until(lambda: (check.status, check.conclusion) == ("completed", "cancelled"))
    await until(lambda: {state(each) for each in repository.deployments.values()} == {"inactive"})


async def test_a_check_of_another_app_is_not_taken_for_ours(on: Telling) -> None:
    on.notifier()
    pull, repository = on.pull_request(), on.github.repository(REPOSITORY)
    theirs = CheckRun(
        1, pull.head, "catalyst: acme/shop/pr-1", "in_progress", None, "", None, {}, None, None, app_id=15368
    )
    repository.checks[theirs.id] = theirs
    await on.say(at(pull, Phase.READY, 1))
    await until(lambda: [each.conclusion for each in repository.checks.values()] == [None, "success"])


async def test_former_commits_end_though_the_publishers_clock_is_slow(on: Telling) -> None:
    """Found by chaos. Who leads anew asks the forge about what was told lately, by the bus' clock: env-controller's
    said that it was ten minutes ago, so the reports were taken for made, and the former commit's stood for ever.
    """
    process = on.notifier()
    pull, repository = on.pull_request(), on.github.repository(REPOSITORY)
    await on.say(at(pull, Phase.READY, 1))
    await until(lambda: [state(each) for each in repository.deployments.values()] == ["success"])
    on.github.commit(REPOSITORY, "basket", {"more.txt": "2"})
    await on.say(at(pull, Phase.BUILDING, 2), clock_is_off=timedelta(minutes=-10))
    await until(lambda: pull.head in {each.sha for each in repository.deployments.values()})
    await told(on, pull, "Environment building")

    other = on.notifier(name="other")
    process.part.freeze()
    await until(lambda: leads(other) == 1, within=30)
    process.part.thaw()
    await until(lambda: "leadership lost" in process.part.log.read_text())
    await asyncio.to_thread(other.part.stop)
    await until(lambda: leads(process) == 2)
    await asyncio.sleep(1)  # it looks at everything once
    await on.say(at(pull, Phase.READY, 3))
    newest = repository.deployments[max(repository.deployments)]
    await until(lambda: {state(each) for each in repository.deployments.values() if each is not newest} == {"inactive"})
    assert state(newest) == "success"


async def test_all_projects_of_the_repository_share_one_comment(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.READY, 1), at(pull, Phase.BUILDING, 1, project="docs", team="writers"))
    await told(on, pull, "writers/docs/pr-1")
    await told(on, pull, "acme/shop/pr-1")
    assert "Environments: 1 of 2 ready" in on.text(pull)


@pytest.mark.parametrize("point", ["notifier.before-comment", "notifier.comment-created", "notifier.comment-updated"])
async def test_kill_9_around_a_write_leaves_one_comment(point: str, on: Telling) -> None:
    process = on.notifier(Rule(point, "kill"))
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    if point == "notifier.comment-updated":
        await told(on, pull, "building")
        await on.say(at(pull, Phase.DEPLOYING, 2))
    await until(lambda: process.faults() == [f"kill {point}"])
    await on.say(at(pull, Phase.READY, 3))
    process.again()
    await told(on, pull, "Environment ready")
    await asyncio.sleep(1)
    assert len(on.comments(pull)) == 1
    assert len(pull.repository.deployments) == len(pull.repository.checks) == 1


async def test_a_standby_takes_over_and_never_writes_beside_the_leader(on: Telling) -> None:
    first = on.notifier(name="first")
    await asyncio.sleep(1.5)
    on.notifier(name="second")
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "building")
    first.part.kill()
    await on.say(at(pull, Phase.READY, 2))
    took = await told(on, pull, "Environment ready", within=12)
    assert took < 8, "the lock lasts three seconds"
    assert len(on.comments(pull)) == 1


async def test_a_deleted_comment_is_written_anew(on: Telling) -> None:
    on.notifier(resync_seconds=2)
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "building")
    on.github.delete_comment(on.ours(pull)[0], by="mona")
    await on.say(at(pull, Phase.READY, 2))
    await told(on, pull, "Environment ready")
    on.github.delete_comment(on.ours(pull)[0], by="mona")  # and without any news the timer notices
    await told(on, pull, "Environment ready")
    assert len(on.comments(pull)) == 1


async def test_somebody_elses_text_is_put_right_and_a_forged_mark_is_nothing(on: Telling) -> None:
    pull = on.pull_request()
    forged = on.github.write_comment(pull, f"{MARK}\n\nall is well, click here", author="stranger")
    on.notifier(resync_seconds=1)
    await on.say(at(pull, Phase.READY, 1))
    await until(lambda: len(on.ours(pull)) == 2)
    (own,) = (comment for comment in on.ours(pull) if comment.author.login == BOT)
    right = own.body
    on.github.edit_comment(own, f"{MARK}\n\nnonsense", by=on.github.user("mona"))
    await until(lambda: own.body == right)
    assert forged.body.endswith("click here")


async def test_a_double_of_former_times_is_removed(on: Telling) -> None:
    pull = on.pull_request()
    for text in ("one", "two"):
        on.github.write_comment(pull, f"{MARK}\n\n{text}", author=on.github.app.bot, by_app=True)
    on.notifier()
    await on.say(at(pull, Phase.READY, 1))
    await until(lambda: len(on.ours(pull)) == 1 and "ready" in on.text(pull))


async def test_the_comment_api_is_down_for_a_minute(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "building")
    on.github.fail(r".*", times=100_000, status=502)
    await on.say(at(pull, Phase.DEPLOYING, 2), at(pull, Phase.READY, 3))
    before = len(on.github.requests)
    await asyncio.sleep(60)
    tries = len(on.github.requests) - before
    assert 3 <= tries <= 60, "tried now and then, and no hot loop"
    on.github.heal()
    await told(on, pull, "Environment ready", within=20)
    assert len(on.comments(pull)) == 1


async def test_github_is_not_there_at_all_when_the_first_news_comes(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await asyncio.to_thread(on.github.stop)
    await on.say(at(pull, Phase.READY, 1))
    await asyncio.sleep(3)
    await asyncio.to_thread(on.github.start)
    await told(on, pull, "Environment ready")
    assert len(on.comments(pull)) == 1


async def test_an_answer_that_was_lost_is_no_second_comment(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    on.github.fail(r"^POST .*/comments$", times=1, status=504, delay=0.2)
    await on.say(at(pull, Phase.READY, 1))
    await told(on, pull, "Environment ready")
    await asyncio.sleep(1)
    assert len(on.comments(pull)) == 1


@pytest.mark.parametrize("status", [403, 429])
async def test_a_secondary_limit_is_obeyed(status: int, on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "building")
    told_off = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
    on.github.fail(r"^PATCH .*/comments/", times=1, status=status, body=told_off, headers={"retry-after": "4"})
    await on.say(at(pull, Phase.DEPLOYING, 2))
    await until(lambda: not on.github.faults or not on.github.faults[0].times)
    await on.say(at(pull, Phase.READY, 3))
    before = len(on.github.requests)
    await asyncio.sleep(3)
    assert len(on.github.requests) == before, "left alone as it asked"
    await told(on, pull, "Environment ready", within=6)


async def test_a_burst_is_joined(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "building")
    await asyncio.sleep(1)
    before = len(on.writes("/comments"))
    for version in range(2, 202):
        phase = Phase.READY if version == 201 else (Phase.BUILDING, Phase.DEPLOYING)[version % 2]
        await on.say(at(pull, phase, version))
    await told(on, pull, "Environment ready", within=3)
    await asyncio.sleep(1)
    edits = len(on.writes("/comments")) - before
    assert edits <= 4


async def test_many_pull_requests_at_once_stay_within_the_limits(on: Telling, record_property: Record) -> None:
    on.notifier()
    pulls = [on.pull_request(f"branch-{number}") for number in range(10)]
    for version, phase in enumerate((Phase.PROVISIONING, Phase.BUILDING, Phase.DEPLOYING, Phase.READY), 1):
        await on.say(*(at(pull, phase, version) for pull in pulls))
        await asyncio.sleep(1.5)
    took = await until(lambda: all("Environment ready" in on.text(pull) for pull in pulls), within=90)
    record_property("writes", len(on.writes()))
    assert took <= 2.0
    assert on.github.limits.exceeded == 0
    assert all(len(on.comments(pull)) == 1 for pull in pulls)


async def test_hostile_text_is_told_as_text(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    evil = (
        "@acme/admins #1 <img src=https://evil.example/x> ![x](https://evil.example/y) </details>\n```\n@mona "
        + "x" * 8000
    )
    hostile = at(
        pull,
        Phase.FAILED,
        1,
        components=(component("web", ready=False, reason="CrashLoop", message=evil[:8192]),),
        routes=(route(),),
        pull_request={"title": evil[:1000], "author": "mona"},
    )
    await on.say(hostile)
    await told(on, pull, "Environment failed")
    page = await asyncio.to_thread(_page, on, pull)
    assert "evil.example" not in [part for part in page.split('"') if part.startswith("http")]
    assert "<img src=https" not in page


async def test_commands_are_answered_once(on: Telling) -> None:
    process = on.notifier(Rule("bus.before-ack:notifier", "kill", "command"))
    pull = on.pull_request()
    await on.say(at(pull, Phase.READY, 1))
    await told(on, pull, "Environment ready")
    process.phase("command")
    comment = await on.command(pull, "help")
    await until(lambda: process.faults())
    process.again()
    await asyncio.sleep(12)  # until NATS hands the command out again
    assert [reaction.content for reaction in comment.reactions.values()] == ["+1"]
    replies = [each for each in on.comments(pull) if "catalyst:answer" in each.body]
    assert len(replies) == 1
    assert "/catalyst approve" in replies[0].body


async def test_a_consumer_made_anew_hands_out_what_was_answered_and_nothing_is_said_twice(on: Telling) -> None:
    await handed_out_again(on, "")


@pytest.mark.full(sample=1)
async def test_an_answer_without_a_look_is_said_twice(on: Telling) -> None:
    with pytest.raises(AssertionError, match="answered twice"):
        await handed_out_again(on, "answered-without-a-look")


async def handed_out_again(on: Telling, plant: str) -> None:
    process = on.notifier(plant=plant)
    pull = on.pull_request()
    await on.say(at(pull, Phase.READY, 1))
    await told(on, pull, "Environment ready")
    await on.command(pull, "help")
    await until(lambda: len(answers(on, pull)) == 1)
    operator = await _operator(on)
    try:
        jetstream = operator.jetstream()
        await jetstream.delete_consumer("SCM", "notifier")
        await until(lambda: process.said("consumer cannot be read"))
        await asyncio.to_thread(on.nats.apply_topology)
        await until(lambda: process.said("consumer answers again"))
        handed_out = 0
        while not handed_out:  # the old command, once more
            info = await jetstream.consumer_info("SCM", "notifier")
            handed_out = (info.ack_floor.stream_seq if info.ack_floor else 0) or 0
            await asyncio.sleep(0.1)
    finally:
        await operator.close()
    assert len(answers(on, pull)) == 1, "answered twice"
    await on.command(pull, "help")
    await until(lambda: len(answers(on, pull)) == 2)


async def test_the_volume_of_the_bus_is_gone_and_the_comment_is_not_doubled(on: Telling) -> None:
    process = on.notifier()
    pull = on.pull_request()
    await on.say(at(pull, Phase.BUILDING, 1))
    await told(on, pull, "Environment building")
    await asyncio.to_thread(on.nats.stop)
    shutil.rmtree(on.nats.store)
    await asyncio.to_thread(on.nats.start)
    await until(lambda: process.said("lock not read"))  # who does not lead reads no consumer
    assert "building" in on.text(pull), "absence deletes nothing"
    await asyncio.to_thread(on.nats.apply_topology)
    await on.say(at(pull, Phase.READY, 2))
    await told(on, pull, "Environment ready", within=30)
    assert len(on.comments(pull)) == 1


def answers(on: Telling, pull: PullRequest) -> list[str]:
    return [each.body for each in on.comments(pull) if "catalyst:answer" in each.body]


async def _operator(on: Telling) -> Client:
    seed = str(on.nats.seed("operator"))
    return await nats_client.connect(on.nats.url, nkeys_seed=seed, inbox_prefix=inbox_prefix("operator"))


async def test_where_nothing_is_granted_nothing_is_written(on: Telling) -> None:
    on.notifier()
    stranger, known = on.pull_request("a"), on.pull_request("b")
    refused = {"type": "Accepted", "status": "False", "reason": "RepositoryNotGranted"}
    await on.say(
        at(stranger, Phase.FAILED, 1, conditions=({**refused, "lastTransitionTime": "2026-11-23T20:00:00Z"},)),
        at(known, Phase.READY, 1),
    )
    await told(on, known, "Environment ready")
    await asyncio.sleep(1)
    assert on.comments(stranger) == []
    assert not on.writes(f"/issues/{stranger.number}/")


async def test_a_failure_can_be_acted_on(on: Telling) -> None:
    on.notifier()
    pull = on.pull_request()
    await on.say(crashing().model_copy(update=_for(pull)))
    await told(on, pull, "KeyError: 'DATABASE_URL'")
    assert "https://docs.example/runbooks/CrashLoop.md" in on.text(pull)


def _for(pull: PullRequest) -> dict[str, object]:
    mine = at(pull, Phase.FAILED, 1)
    return {"identity": mine.identity, "source": mine.source, "commit": mine.commit, "uid": mine.uid}


def _page(on: Telling, pull: PullRequest) -> str:
    return httpx.get(f"{on.github.git_url}/{REPOSITORY}/pull/{pull.number}").text


async def test_what_happens_is_projected_once_by_whichever_replica(on: Telling) -> None:
    """Two replicas, of which one dies: what is said is said once."""
    first, _ = on.notifier(), on.notifier(name="standby")
    pull = on.pull_request()
    await on.say(
        at(pull, Phase.PROVISIONING, 1),
        at(pull, Phase.READY, 2, components=(component("web", image="registry.example.org/acme/shop/web"),)),
    )
    operator = await Bus.connect(
        BusSettings(on.nats.url, on.nats.seed("operator"), inbox_prefix("operator")), name="operator", clock=utc_now
    )
    try:

        async def projected() -> list[str]:
            found = [stored async for stored in operator.messages("CDEVENTS", "cdevents.env.acme.>")]
            return [stored.subject.removeprefix("cdevents.env.acme.shop.pr-1.") for stored in found]

        async with asyncio.timeout(15):
            while "environment.created" not in await projected():
                await asyncio.sleep(0.05)
        before = await projected()
        first.part.kill()
        await on.say(at(pull, Phase.GONE, 3, deletion=DELETED))
        async with asyncio.timeout(15):
            while "environment.deleted" not in await projected():
                await asyncio.sleep(0.05)
        after = await projected()
        assert after[: len(before)] == before
        assert after.count("environment.created") == after.count("environment.deleted") == 1
    finally:
        await operator.drain()
