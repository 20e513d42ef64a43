"""webhook-ingest as a process, with a real nats-server and the double of GitHub: commands are obeyed, and what was lost
is found.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats as nats_py
import orjson
import pytest
from doubles.github import GitHubDouble
from nats.js import JetStreamContext

from catalyst.events.binding import decode
from catalyst.events.catalogue import CommandGiven, CommentWritten, DeadLetter, PullRequestChanged
from catalyst.events.event import Event
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.nats import Nats

SECRET = "a webhook secret"
SHOP = "acme/shop"
PATIENCE = 15.0


@dataclass
class Ingest:
    """A running webhook-ingest."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def webhooks(self) -> str:
        return f"http://127.0.0.1:{self._port('webhooks listening')}/webhooks/github"

    async def metrics(self) -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{self._port('ops listening')}/metrics")).text

    async def follow(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.log.append(orjson.loads(line))

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while not self.said("ready"):
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.02)

    def said(self, message: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log if entry["event"] == message]

    def _port(self, message: str) -> int:
        return int(self.said(message)[0]["port"])


@pytest.fixture(name="bus")
def _bus(nats: Nats) -> Nats:
    nats.apply_topology()
    return nats


@pytest.fixture(name="github")
def _github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as double:
        double.repository(SHOP, private=True)
        double.install("acme")
        double.collaborator(SHOP, "mona", "write")
        double.collaborator(SHOP, "tri", "triage")
        yield double


Start = Callable[..., Any]


@pytest.fixture(name="start")
def _start(bus: Nats, github: GitHubDouble, tmp_path: Path) -> Start:
    key = tmp_path / "app.pem"
    key.write_text(github.private_key)

    @contextlib.asynccontextmanager
    async def running(*, hooked: bool = True, **more: str) -> AsyncIterator[Ingest]:
        environment = {
            "PATH": os.environ["PATH"],
            "CATALYST_NATS_URL": bus.url,
            "CATALYST_NATS_SEED_FILE": str(bus.seed("webhook-ingest")),
            "CATALYST_WEBHOOK_SECRETS": SECRET,
            "CATALYST_HTTP_HOST": "127.0.0.1",
            "CATALYST_HTTP_PORT": "0",
            "CATALYST_OPS_HOST": "127.0.0.1",
            "CATALYST_OPS_PORT": "0",
            "CATALYST_GITHUB_URL": github.url,
            "CATALYST_GITHUB_APP_ID": str(github.app.id),
            "CATALYST_GITHUB_PRIVATE_KEY_FILE": str(key),
            "CATALYST_SWEEP_SECONDS": "3600",
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "catalyst.webhook_ingest", env=environment, stdout=asyncio.subprocess.PIPE
        )
        ingest = Ingest(process)
        following = asyncio.create_task(ingest.follow())
        try:
            await ingest.ready()
            if hooked:
                github.hook(ingest.webhooks, SECRET)
            yield ingest
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await following

    return running


Read = Callable[[], Awaitable[list[Event]]]


@contextlib.asynccontextmanager
async def operator(bus: Nats) -> AsyncIterator[JetStreamContext]:
    async def told(_error: Exception) -> None:
        """Raised where it was asked for."""

    client = await nats_py.connect(
        bus.url, nkeys_seed=str(bus.seed(OPERATOR)), inbox_prefix=inbox_prefix(OPERATOR).encode(), error_cb=told
    )
    try:
        yield client.jetstream()
    finally:
        await client.close()


@pytest.fixture(name="facts")
async def _facts(bus: Nats) -> AsyncIterator[Read]:
    """Everything in SCM, oldest first, read as the operator."""
    async with operator(bus) as stream:

        async def read() -> list[Event]:
            state = (await stream.stream_info("SCM")).state
            numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
            return [decode((await stream.get_msg("SCM", number)).data or b"") for number in numbers]

        yield read


async def until(facts: Read, enough: Callable[[list[Event]], bool], *, within: float = PATIENCE) -> list[Event]:
    ends = time.monotonic() + within
    while True:
        found = await facts()
        if enough(found):
            return found
        assert time.monotonic() < ends, [(event.subject, event.id) for event in found]
        await asyncio.sleep(0.05)


def commands(events: list[Event]) -> list[CommandGiven]:
    return [event.data for event in events if isinstance(event.data, CommandGiven)]


def pulls(events: list[Event]) -> list[PullRequestChanged]:
    return [event.data for event in events if isinstance(event.data, PullRequestChanged)]


def opened(github: GitHubDouble, branch: str = "feature", author: str = "mona") -> Any:
    github.commit(SHOP, branch, {f"{branch}.txt": "x"}, author=author)
    return github.open_pull_request(SHOP, head=branch, author=author)


async def test_a_command_becomes_a_fact(start: Start, github: GitHubDouble, facts: Read) -> None:
    pull = opened(github)
    async with start():
        comment = github.write_comment(pull, "\n  /catalyst approve\nthank you", author="mona")
        found = await until(facts, lambda events: bool(commands(events)))
        asked, answered = [event for event in found if isinstance(event.data, CommentWritten | CommandGiven)]
        command = answered.data
        assert isinstance(command, CommandGiven)
        assert (command.command, command.author, command.permission) == ("approve", "mona", "write")
        assert (command.head_sha, command.comment_id, command.number) == (pull.head, comment.id, 1)
        assert command.url.endswith(f"#issuecomment-{comment.id}")
        assert answered.subject == "scm.github.acme.shop.command.1"
        assert answered.id == f"{asked.id}/command"
        assert (answered.causation_id, answered.correlation_id) == (asked.message_id, asked.message_id)
        assert answered.actor == "github:mona"
        assert command.payload is None, "the comment has it"


async def test_whoever_may_not_write_is_ignored_and_counted(start: Start, github: GitHubDouble, facts: Read) -> None:
    pull = opened(github)
    async with start() as ingest:
        for login in ("tri", "stranger"):
            github.write_comment(pull, "/catalyst deploy", author=login)
        github.write_comment(pull, "please /catalyst deploy", author="mona")
        github.write_comment(pull, "> /catalyst deploy", author="mona")
        comment = github.write_comment(pull, "nothing", author="mona")
        github.edit_comment(comment, "/catalyst deploy", by=comment.author)
        github.write_comment(pull, "/catalyst stop", author="mona")
        found = await until(facts, lambda events: bool(commands(events)))
        assert [command.command for command in commands(found)] == ["stop"]
        counted = await ingest.metrics()
        assert 'catalyst_commands_total{command="deploy",result="ignored"} 2.0' in counted
        assert 'catalyst_commands_total{command="stop",result="given"} 1.0' in counted
        assert 'catalyst_webhooks_total{event="issue_comment",forge="github",result="ignored"} 4.0' in counted


async def test_an_approval_of_a_fork_is_void_for_what_was_pushed_since(
    start: Start, github: GitHubDouble, facts: Read
) -> None:
    github.fork(SHOP, "eve")
    seen = github.commit("eve/shop", "evil", {"a": "harmless"})
    pull = github.open_pull_request(SHOP, head="eve:evil")
    async with start():
        github.slow("/permission", 2.5)
        github.write_comment(pull, "/catalyst approve", author="mona")
        await asyncio.sleep(1.1)  # GitHub's clock has whole seconds
        github.commit("eve/shop", "evil", {"a": "harmful"})
        assert pull.head != seen
        found = await until(facts, lambda events: bool(commands(events)))
        (command,) = commands(found)
        assert (command.command, command.arguments, command.head_sha) == ("help", ("approve",), None)
        github.write_comment(pull, f"/catalyst approve {seen[:10]}", author="mona")
        github.write_comment(pull, f"/catalyst approve {pull.head[:10]}", author="mona")
        found = await until(facts, lambda events: len(commands(events)) == 3)
        assert [(c.command, c.head_sha) for c in commands(found)[1:]] == [("help", None), ("approve", pull.head)]


async def test_a_forge_that_is_away_delays_the_command_and_not_the_answer(
    start: Start, github: GitHubDouble, facts: Read
) -> None:
    pull = opened(github)
    async with start():
        fault = github.fail("/installation", times=1, status=503, delay=2)
        github.write_comment(pull, "/catalyst deploy", author="mona")
        await until(facts, lambda events: any(isinstance(event.data, CommentWritten) for event in events))
        github.drained(within=1)
        (attempt,) = [a for a in github.webhooks.attempts.values() if a.webhook.event == "issue_comment"]
        assert (attempt.status_code, attempt.duration < 1) == (202, True)
        assert commands(await facts()) == []
        found = await until(facts, lambda events: bool(commands(events)))
        assert (fault.times, len(commands(found))) == (0, 1)


async def test_a_repository_that_is_gone_makes_a_dead_letter(start: Start, github: GitHubDouble, bus: Nats) -> None:
    pull = opened(github)
    async with start() as ingest, operator(bus) as stream:
        github.fail("GET /repos/acme/shop/installation", times=50, status=404, body={"message": "Not Found"})
        github.write_comment(pull, "/catalyst deploy", author="mona")
        async with asyncio.timeout(PATIENCE):
            while not (await stream.stream_info("DEAD")).state.messages:
                await asyncio.sleep(0.05)
        letter = decode((await stream.get_msg("DEAD", 1)).data or b"").data
        assert isinstance(letter, DeadLetter)
        assert (letter.service, "Not Found" in letter.reason) == ("webhook-ingest", True)
        assert ingest.process.returncode is None


async def test_a_rate_limit_is_waited_for(start: Start, github: GitHubDouble, facts: Read) -> None:
    pull = opened(github)
    async with start():
        github.fail("/permission", status=403, body={"message": "secondary rate limit"}, headers={"retry-after": "2"})
        begun = time.monotonic()
        github.write_comment(pull, "/catalyst deploy", author="mona")
        await until(facts, lambda events: bool(commands(events)))
        assert time.monotonic() - begun >= 1.9
        assert sum(path.endswith("/permission") for _, path, _ in github.requests) == 2


async def test_killed_while_it_asks_the_next_one_publishes_it_once(
    start: Start, github: GitHubDouble, facts: Read
) -> None:
    pull = opened(github)
    async with start() as ingest:
        github.slow("/permission", 60)
        github.write_comment(pull, "/catalyst deploy", author="mona")
        async with asyncio.timeout(PATIENCE):
            while all(fault.times for fault in github.faults):
                await asyncio.sleep(0.02)
        ingest.process.kill()
        await ingest.process.wait()
    github.heal()
    async with start():
        found = await until(facts, lambda events: bool(commands(events)), within=40)
        assert len(commands(found)) == 1


async def test_a_webhook_lost_while_nobody_listened_is_found(start: Start, github: GitHubDouble, facts: Read) -> None:
    github.hook("http://127.0.0.1:9/webhooks/github", SECRET)
    pull = opened(github)
    github.write_comment(pull, "/catalyst deploy", author="mona")
    github.drained()
    guids = {a.webhook.event: a.webhook.guid for a in github.webhooks.attempts.values()}
    async with start(hooked=False):
        found = await until(facts, lambda events: bool(commands(events)))
    ids = {event.id for event in found}
    assert {guids["push"], guids["pull_request"], guids["issue_comment"]} <= ids
    (told,) = [event for event in found if event.id == guids["pull_request"]]
    assert isinstance(told.data, PullRequestChanged)
    assert (told.data.action, told.data.head.sha) == ("opened", pull.head)


async def test_what_vanished_without_a_trace_is_found(start: Start, github: GitHubDouble, facts: Read) -> None:
    async with start(CATALYST_SWEEP_SECONDS="0.3") as ingest:
        github.lose_webhooks(2, recorded=False)
        pull = opened(github)
        (fact,) = pulls(await until(facts, lambda events: bool(pulls(events))))
        assert (fact.action, fact.state, fact.head.sha) == ("swept", "open", pull.head)
        github.lose_webhooks(recorded=False)
        github.close(pull)
        found = pulls(await until(facts, lambda events: len(pulls(events)) == 2))
        assert (found[-1].action, found[-1].state) == ("swept", "closed")
        await asyncio.sleep(1)
        assert len(pulls(await facts())) == 2, "said once"
        assert 'kind="pull_request",result="published"} 2.0' in await ingest.metrics()


async def test_what_was_heard_already_is_published_by_nobody_twice(
    start: Start, github: GitHubDouble, facts: Read
) -> None:
    github.hook("http://127.0.0.1:9/webhooks/github", SECRET)
    opened(github)
    github.drained()
    async with start(hooked=False), start(hooked=False), start(hooked=False):
        await until(facts, lambda events: len(pulls(events)) == 2)
        await asyncio.sleep(1)
    ids = [event.id for event in await facts()]
    assert len(ids) == len(set(ids)) == 3, "a push, the opening, the state as swept"


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": None}, {"status": 200, "body": []}, {"status": 200, "body": {"message": "?"}}],
    ids=["500", "no answer", "an empty list", "nonsense"],
)
async def test_a_forge_that_errs_or_answers_nothing_says_nothing(
    start: Start, github: GitHubDouble, facts: Read, fault: dict[str, Any]
) -> None:
    opened(github)
    async with start(CATALYST_SWEEP_SECONDS="0.3") as ingest:
        before = pulls(await until(facts, lambda events: bool(pulls(events))))
        fault_struck = github.fail("GET /repos/acme/shop/pulls", times=6, **fault)
        async with asyncio.timeout(PATIENCE):
            while fault_struck.times:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert pulls(await facts()) == before
        assert ingest.process.returncode is None
        github.lose_webhooks(2, recorded=False)
        opened(github, "another")
        await until(facts, lambda events: len({fact.number for fact in pulls(events)}) == 2)


async def test_a_delivery_that_cannot_be_read_stops_nothing(start: Start, github: GitHubDouble, facts: Read) -> None:
    github.hook("http://127.0.0.1:9/webhooks/github", SECRET)
    github.webhooks.tell("pull_request", {"action": "opened"}, installation=None, repository=None)
    opened(github)
    github.drained()
    async with start(hooked=False) as ingest:
        await until(facts, lambda events: any(fact.action == "opened" for fact in pulls(events)))
        assert len(ingest.said("a failed delivery cannot be read")) == 1
