"""Users against a real server: each right suffices, and one step beyond is refused, beside its allowed twin."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from catalyst.events.binding import encode
from catalyst.events.event import Event
from catalyst.events.examples import examples, pull_request, push
from catalyst.events.topology import EVENTS, SCM, SERVICES, consumers
from catalyst.events.users import READS, users


@dataclass
class Session:
    """A bare connection that remembers what the server refused."""

    client: Client
    refusals: list[str]

    async def publish(self, event: Event) -> bool:
        body, headers = encode(event)
        return await self.try_(event.subject, body, headers)

    async def try_(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bool:
        """Whether the server let a request on this subject through; its refusal names the subject."""
        return await self.answer(subject, body, headers) is not None

    async def answer(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Msg | None:
        before = len(self.refusals)
        request = asyncio.create_task(self.client.request(subject, body, timeout=3, headers=headers))
        while not request.done() and len(self.refusals) == before:
            await asyncio.sleep(0.005)
        if request.done():
            return await request
        request.cancel()
        assert self.refusals[-1] == f'nats: permissions violation for publish to "{subject.lower()}"'
        return None


@pytest.fixture
async def session_of(connect: Callable[..., Any]) -> Any:
    async with AsyncExitStack() as stack:

        async def opened(user: str) -> Session:
            refusals: list[str] = []

            async def refused(error: Exception) -> None:
                refusals.append(str(error))

            client = await connect(user, error_cb=refused)
            stack.push_async_callback(client.close)
            return Session(client, refusals)

        yield opened


async def test_webhook_ingest_publishes_facts_and_nothing_else(session_of: Any) -> None:
    session = await session_of("webhook-ingest")
    assert await session.publish(pull_request())
    assert await session.publish(push())
    for event in examples().values():
        if not event.subject.startswith("scm."):
            assert not await session.publish(event), event.subject
    assert not await session.try_("$JS.API.DIRECT.GET.SCM", b'{"seq": 1}')
    assert not await session.try_("$JS.API.STREAM.INFO.SCM")
    assert not await session.try_("$JS.API.CONSUMER.MSG.NEXT.SCM.env-controller", b"{}")


async def test_env_controller_publishes_what_the_table_says(session_of: Any) -> None:
    session = await session_of("env-controller")
    allowed = {type_ for type_, event in examples().items() if await session.publish(event)}
    assert allowed == {
        "dev.catalyst.environment.changed.v1",
        "dev.catalyst.build.requested.v1",
        "dev.catalyst.audit.recorded.v1",
        "dev.catalyst.dead.letter.v1",
    }
    assert not await session.try_("dead.builder", b"{}")
    assert await session.try_("dead.env-controller", b"{}")


@pytest.mark.parametrize("user", ["webhook-ingest", "builder", "dns-proxy", "notifier", "operator"])
async def test_only_env_controller_records_decisions_and_cannot_read_them(user: str, session_of: Any) -> None:
    controller, other = await session_of("env-controller"), await session_of(user)
    assert await controller.try_("decision.acme.shop.pr-42", b"x")
    assert not await other.try_("decision.acme.shop.pr-42", b"x")
    assert not await controller.try_("$JS.API.DIRECT.GET.DECISIONS", b'{"seq": 1}')
    assert await other.try_("$JS.API.DIRECT.GET.DECISIONS", b'{"seq": 1}') == (user == "operator")


@pytest.mark.parametrize("user", ["webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier"])
async def test_a_service_is_told_how_far_its_own_consumers_are_and_no_others(user: str, session_of: Any) -> None:
    session = await session_of(user)
    for consumer in consumers():
        call = f"$JS.API.CONSUMER.INFO.{consumer.stream}.{consumer.name}"
        assert await session.try_(call) == (consumer.service == user), call


@pytest.mark.parametrize("user", ["webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier", "oncall"])
async def test_a_service_says_its_own_version_and_no_others(user: str, session_of: Any) -> None:
    session = await session_of(user)
    for service in SERVICES:
        assert await session.try_(f"started.{service}", b"{}") == (service == user), service


async def test_env_controller_reads_what_it_needs(session_of: Any) -> None:
    session = await session_of("env-controller")
    for stream in READS["env-controller"]:
        assert await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')
        assert await session.try_(f"$JS.API.STREAM.INFO.{stream}")
    for stream in ("LOCKS", "DECISIONS", "CDEVENTS"):
        assert not await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')
        assert await session.try_(f"$JS.API.STREAM.INFO.{stream}")  # how full it is
    # The other door to the same messages, which no filter and no subject can narrow.
    assert not await session.try_("$JS.API.STREAM.MSG.GET.SCM", b'{"seq": 1}')


async def test_env_controller_consumes_as_itself_only(session_of: Any) -> None:
    session = await session_of("env-controller")
    pull = json.dumps({"batch": 1, "no_wait": True}).encode()
    for stream in (SCM, EVENTS):
        answer = await session.answer(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.env-controller", pull)
        assert answer.headers["Status"] == "404"  # nothing there, and allowed to ask
        assert not await session.try_(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.builder", pull)
        assert not await session.try_(f"$JS.ACK.{stream}.builder.1.1.1.1.0", b"+ACK")


async def test_builder_answers_reads_state_and_nothing_else(session_of: Any) -> None:
    session = await session_of("builder")
    allowed = {type_ for type_, event in examples().items() if await session.publish(event)}
    assert allowed == {"dev.catalyst.build.finished.v1", "dev.catalyst.build.cleaned.v1"}
    assert await session.try_("dead.builder", b"{}")
    assert not await session.try_("dead.env-controller", b"{}")
    assert await session.try_("$JS.API.DIRECT.GET.STATE", b'{"seq": 1}')
    for stream in (SCM, EVENTS, "AUDIT", "DEAD"):
        assert not await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')
    pull = json.dumps({"batch": 1, "no_wait": True}).encode()
    assert (await session.answer("$JS.API.CONSUMER.MSG.NEXT.EVENTS.builder", pull)).headers["Status"] == "404"
    assert not await session.try_("$JS.API.CONSUMER.MSG.NEXT.EVENTS.env-controller", pull)


async def test_dns_proxy_answers_about_routes_and_nothing_else(session_of: Any) -> None:
    session = await session_of("dns-proxy")
    allowed = {type_ for type_, event in examples().items() if await session.publish(event)}
    assert allowed == {"dev.catalyst.route.changed.v1"}
    assert await session.try_("dead.dns-proxy", b"{}")
    assert await session.try_("lock.dns-proxy", b"{}")
    assert not await session.try_("lock.env-controller", b"{}")
    for stream in ("STATE", "LOCKS"):
        assert await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')
    for stream in ("SCM", "EVENTS", "AUDIT", "DEAD"):
        assert not await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')


async def test_notifier_states_no_facts_and_holds_its_own_lock_only(session_of: Any) -> None:
    session = await session_of("notifier")
    for event in examples().values():
        assert not await session.publish(event), event.subject
    assert await session.try_("dead.notifier", b"{}")
    assert await session.try_("lock.notifier", b"me")
    assert not await session.try_("lock.dns-proxy", b"me")
    assert await session.try_("settled.notifier", b"{}")
    assert await session.try_("$JS.API.DIRECT.GET.STATE", b'{"seq": 1}')
    assert not await session.try_("$JS.API.DIRECT.GET.SCM", b'{"seq": 1}')
    pull = json.dumps({"batch": 1, "no_wait": True}).encode()
    for stream in (SCM, EVENTS):
        answer = await session.answer(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.notifier", pull)
        assert answer.headers["Status"] == "404"
        assert not await session.try_(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.env-controller", pull)


@pytest.mark.parametrize("user", ["webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier"])
@pytest.mark.parametrize("stream", ["SCM", "EVENTS", "STATE", "AUDIT", "DEAD", "LOCKS", "DECISIONS", "CDEVENTS"])
async def test_no_service_can_make_history_disappear(user: str, stream: str, session_of: Any) -> None:
    session = await session_of(user)
    for call in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.CREATE", "STREAM.MSG.DELETE"):
        assert not await session.try_(f"$JS.API.{call}.{stream}", b"{}")
    for call in ("CONSUMER.DELETE", "CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.PAUSE"):
        assert not await session.try_(f"$JS.API.{call}.{stream}.env-controller", b"{}")


async def test_the_operator_reads_all_and_deletes_nothing(session_of: Any, operator: Client) -> None:
    session = await session_of("operator")
    for stream in ("SCM", "EVENTS", "STATE", "AUDIT", "DEAD", "LOCKS", "DECISIONS", "CDEVENTS"):
        assert await session.try_(f"$JS.API.STREAM.INFO.{stream}")
        assert await session.try_(f"$JS.API.DIRECT.GET.{stream}", b'{"seq": 1}')
        assert not await session.try_(f"$JS.API.STREAM.DELETE.{stream}")
        assert not await session.try_(f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq": 1}')
        assert await session.try_(f"$JS.API.STREAM.PURGE.{stream}", b"{}") == (stream == "STATE")
    for event in examples().values():
        assert not await session.publish(event), "an operator states no facts"


async def test_nobody_hears_answers_meant_for_another(session_of: Any) -> None:
    session = await session_of("webhook-ingest")
    for subject in ("_INBOX_env-controller.>", "_INBOX.>", "scm.>", ">", "$JS.EVENT.>"):
        await session.client.subscribe(subject)
        await session.client.flush()
        while not session.refusals or f'"{subject.lower()}"' not in session.refusals[-1]:
            await asyncio.sleep(0.005)
        assert session.refusals[-1].startswith(f'nats: permissions violation for subscription to "{subject.lower()}"')
    await session.client.subscribe("_INBOX_webhook-ingest.x.>")
    await session.client.flush()
    assert "_inbox_webhook-ingest" not in "".join(session.refusals)


async def test_audit_cannot_be_thinned_out_even_by_the_operator(session_of: Any, operator: Client) -> None:
    controller = await session_of("env-controller")
    assert await controller.publish(examples()["dev.catalyst.audit.recorded.v1"])
    jetstream = operator.jetstream()
    config = (await jetstream.stream_info("AUDIT")).config
    with pytest.raises(nats.js.errors.APIError, match="deny"):
        await jetstream.update_stream(config.evolve(deny_purge=False))


def test_the_users_in_full() -> None:
    """The whole table, so that a widened right is seen in a review."""
    found = {user.name: user for user in users()}
    assert set(found) == {"operator", "oncall", "webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier"}
    assert found["webhook-ingest"].publish == (
        "scm.>",
        "dead.webhook-ingest",
        "started.webhook-ingest",
        "$JS.API.CONSUMER.MSG.NEXT.SCM.webhook-ingest",
        "$JS.API.CONSUMER.INFO.SCM.webhook-ingest",
        "$JS.ACK.SCM.webhook-ingest.>",
    )
    assert found["oncall"].subscribe == ("_INBOX_oncall.>", "scm.>", "env.>", "audit.>", "dead.>", "cdevents.>")
    assert found["oncall"].publish == (
        "scm.*.*.*.comment.*",
        "scm.*.*.*.pull_request.*",
        "scm.*.*.*.branch.*",
        "scm.*.*.*.command.*",
        "env.*.*.*.build.cleaned",
        "env.*.*.*.build.finished",
        "env.*.*.*.route.changed",
        "env.*.*.*.build.requested",
        "env.*.*.*.environment.changed",
        "dead.oncall",
        *(
            f"$JS.API.{call}.{stream}"
            for call in ("DIRECT.GET", "STREAM.INFO", "CONSUMER.LIST")
            for stream in ("SCM", "EVENTS", "STATE", "AUDIT", "DEAD", "LOCKS", "CDEVENTS", "DECISIONS")
            if (call, stream) != ("DIRECT.GET", "DECISIONS")
        ),
    )
    assert found["webhook-ingest"].subscribe == ("_INBOX_webhook-ingest.>",)
    assert found["env-controller"].subscribe == ("_INBOX_env-controller.>",)
    assert found["env-controller"].publish == (
        "env.*.*.*.environment.changed",
        "env.*.*.*.build.requested",
        "audit.>",
        "dead.env-controller",
        "started.env-controller",
        "decision.>",
        "$JS.API.CONSUMER.MSG.NEXT.SCM.env-controller",
        "$JS.API.CONSUMER.INFO.SCM.env-controller",
        "$JS.ACK.SCM.env-controller.>",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.env-controller",
        "$JS.API.CONSUMER.INFO.EVENTS.env-controller",
        "$JS.ACK.EVENTS.env-controller.>",
        "$JS.API.DIRECT.GET.SCM",
        "$JS.API.STREAM.INFO.SCM",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.DIRECT.GET.STATE",
        "$JS.API.STREAM.INFO.STATE",
        "$JS.API.DIRECT.GET.AUDIT",
        "$JS.API.STREAM.INFO.AUDIT",
        "$JS.API.DIRECT.GET.DEAD",
        "$JS.API.STREAM.INFO.DEAD",
        "$JS.API.STREAM.INFO.LOCKS",
        "$JS.API.STREAM.INFO.DECISIONS",
        "$JS.API.STREAM.INFO.CDEVENTS",
    )
    assert found["builder"].subscribe == ("_INBOX_builder.>",)
    assert found["builder"].publish == (
        "env.*.*.*.build.finished",
        "env.*.*.*.build.cleaned",
        "dead.builder",
        "started.builder",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.builder",
        "$JS.API.CONSUMER.INFO.EVENTS.builder",
        "$JS.ACK.EVENTS.builder.>",
        "$JS.API.DIRECT.GET.STATE",
        "$JS.API.STREAM.INFO.STATE",
    )
    assert found["dns-proxy"].subscribe == ("_INBOX_dns-proxy.>",)
    assert found["dns-proxy"].publish == (
        "env.*.*.*.route.changed",
        "dead.dns-proxy",
        "started.dns-proxy",
        "lock.dns-proxy",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.dns-proxy",
        "$JS.API.CONSUMER.INFO.EVENTS.dns-proxy",
        "$JS.ACK.EVENTS.dns-proxy.>",
        "$JS.API.DIRECT.GET.STATE",
        "$JS.API.STREAM.INFO.STATE",
        "$JS.API.DIRECT.GET.LOCKS",
        "$JS.API.STREAM.INFO.LOCKS",
    )
    assert found["notifier"].publish == (
        "dead.notifier",
        "started.notifier",
        "lock.notifier",
        "settled.notifier",
        "cdevents.>",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.notifier",
        "$JS.API.CONSUMER.INFO.EVENTS.notifier",
        "$JS.ACK.EVENTS.notifier.>",
        "$JS.API.CONSUMER.MSG.NEXT.SCM.notifier",
        "$JS.API.CONSUMER.INFO.SCM.notifier",
        "$JS.ACK.SCM.notifier.>",
        "$JS.API.CONSUMER.MSG.NEXT.SCM.cdevents",
        "$JS.API.CONSUMER.INFO.SCM.cdevents",
        "$JS.ACK.SCM.cdevents.>",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.cdevents",
        "$JS.API.CONSUMER.INFO.EVENTS.cdevents",
        "$JS.ACK.EVENTS.cdevents.>",
        "$JS.API.DIRECT.GET.STATE",
        "$JS.API.STREAM.INFO.STATE",
        "$JS.API.DIRECT.GET.LOCKS",
        "$JS.API.STREAM.INFO.LOCKS",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.STREAM.INFO.EVENTS",
    )


async def test_who_is_on_call_reads_all_and_says_again_what_is_consumed(session_of: Any) -> None:
    session = await session_of("oncall")
    for stream in ("SCM", "EVENTS", "STATE", "AUDIT", "DEAD", "LOCKS"):
        for call in ("STREAM.INFO", "DIRECT.GET", "CONSUMER.LIST"):
            assert await session.try_(f"$JS.API.{call}.{stream}", b'{"seq": 1}' if call == "DIRECT.GET" else b"{}")
        for call in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.CREATE", "STREAM.MSG.DELETE"):
            assert not await session.try_(f"$JS.API.{call}.{stream}", b"{}")
        for call in ("CONSUMER.DELETE", "CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.PAUSE"):
            assert not await session.try_(f"$JS.API.{call}.{stream}.env-controller", b"{}")
        assert not await session.try_(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.env-controller", b"{}")
        assert not await session.try_(f"$JS.ACK.{stream}.env-controller.1.1.1.1.0", b"+ACK")
    assert await session.try_("$JS.API.STREAM.INFO.DECISIONS", b"{}")
    assert not await session.try_("$JS.API.DIRECT.GET.DECISIONS", b'{"seq": 1}')
    allowed = {type_ for type_, event in examples().items() if await session.publish(event)}
    assert allowed == {
        "dev.catalyst.scm.pull_request.changed.v1",
        "dev.catalyst.scm.branch.pushed.v1",
        "dev.catalyst.scm.comment.written.v1",
        "dev.catalyst.scm.command.given.v1",
        "dev.catalyst.environment.changed.v1",
        "dev.catalyst.build.requested.v1",
        "dev.catalyst.build.finished.v1",
        "dev.catalyst.build.cleaned.v1",
        "dev.catalyst.route.changed.v1",
        "dev.catalyst.dead.settled.v1",
    }
    assert not await session.try_("dead.env-controller", b"{}")
    assert not await session.try_("lock.notifier", b"me")
    await session.client.subscribe("$JS.EVENT.>")
    await session.client.flush()
    while not session.refusals or '"$js.event.>"' not in session.refusals[-1]:
        await asyncio.sleep(0.005)
    before = len(session.refusals)
    for subject in ("scm.>", "env.>", "audit.>", "dead.>"):
        await session.client.subscribe(subject)
    await session.client.flush()
    assert len(session.refusals) == before


@pytest.mark.parametrize("user", ["webhook-ingest", "builder", "dns-proxy", "notifier", "operator", "oncall"])
async def test_only_env_controller_writes_the_audit(user: str, session_of: Any) -> None:
    controller, other = await session_of("env-controller"), await session_of(user)
    assert await controller.try_("audit.acme.shop.pr-42", b"x")
    assert not await other.try_("audit.acme.shop.pr-42", b"x")


async def test_nobody_takes_a_record_away(session_of: Any) -> None:
    controller = await session_of("env-controller")
    assert await controller.try_("audit.acme.shop.pr-42", b"x")
    for user in ("env-controller", "oncall", "operator"):
        session = await session_of(user)
        for call in ("STREAM.PURGE", "STREAM.DELETE", "STREAM.MSG.DELETE"):
            assert not await session.try_(f"$JS.API.{call}.AUDIT", b'{"seq": 1}'), (user, call)
        assert await session.try_("$JS.API.STREAM.INFO.AUDIT"), f"{user} may look"
