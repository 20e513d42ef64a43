"""A team's reader against all that the server can be asked: each thing refused with its reason, beside what is allowed.

What the server can be asked is read out of the program itself, so a newer one that knows more makes this fail until
somebody has thought of it.
"""

import asyncio
import json
import re
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from catalyst.events.__main__ import main
from catalyst.events.binding import decode, encode
from catalyst.events.event import Event, environment_changed
from catalyst.events.examples import NOW, snapshot
from catalyst.events.keys import read_public_keys, write_keys
from catalyst.events.readers import API, Reader
from catalyst.events.server import nats_server_config
from catalyst.events.topology import streams
from catalyst.model.snapshot import SnapshotIdentity

ACME, BOT, BETA = Reader("acme", "ci"), Reader("acme", "bot"), Reader("beta", "ci")
"""The readers that the server of the tests knows."""
STREAMS = tuple(str(config.name) for config in streams())
OF_A_STREAM = (
    *(f"STREAM.{call}" for call in ("CREATE", "UPDATE", "INFO", "DELETE", "PURGE", "SNAPSHOT", "RESTORE")),
    *(f"STREAM.{call}" for call in ("MSG.DELETE", "MSG.GET", "PEER.REMOVE", "PEER.EVACUATE", "CANCEL_MOVE")),
    "STREAM.LEADER.STEPDOWN",
    "DIRECT.GET",
    *(f"CONSUMER.{call}" for call in ("CREATE", "NAMES", "LIST")),
)
OF_A_CONSUMER = tuple(
    f"CONSUMER.{call}"
    for call in (
        *("DURABLE.CREATE", "INFO", "DELETE", "PAUSE", "RESET", "UNPIN", "MSG.NEXT"),
        *("LEADER.STEPDOWN", "PEER.REMOVE", "PEER.EVACUATE"),
    )
)
OF_THE_SERVER = (
    *("INFO", "STREAM.NAMES", "STREAM.LIST"),
    *("META.LEADER.STEPDOWN", "META.RESCUE", "SERVER.REMOVE", "SERVER.EVACUATE"),
    *("ACCOUNT.PURGE", "ACCOUNT.STREAM.MOVE", "ACCOUNT.STREAM.CANCEL_MOVE"),
)
PREFIXES = ("$JS.API", API)
SYSTEM_ONLY = ("META", "SERVER", "ACCOUNT")
"""What the server answers to nobody outside its system account."""


def event(team: str, version: int = 1) -> Event:
    """News of the team's environment `shop/pr-42`."""
    identity = SnapshotIdentity(team=team, project="shop", environment="pr-42")
    return environment_changed(snapshot(version, uid=team).model_copy(update={"identity": identity}), time=NOW)


@dataclass
class Session:
    """A connection, and what the server refused it."""

    client: Client
    refusals: list[str] = field(default_factory=list)

    async def refused(self, subject: str) -> None:
        """Asserts that nobody may be asked there, and that the reason names the subject."""
        before = len(self.refusals)
        await self.client.publish(subject, b"{}", reply=self.client.new_inbox())
        await self.client.flush()
        async with asyncio.timeout(2):
            while len(self.refusals) == before:
                await asyncio.sleep(0)
        assert self.refusals[before:] == [f'nats: permissions violation for publish to "{subject.lower()}"']

    async def asked(self, subject: str, body: bytes = b"") -> Msg:
        # Not the client's own inbox: it tells answers apart by their subject, and a stored message comes on its own.
        return await self.client.request(subject, body, timeout=3, old_style=True)

    async def next(self, stream: str, consumer: str) -> Msg:
        return await self.asked(f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}", b'{"batch": 1, "no_wait": true}')


@pytest.fixture
async def session_of(connect: Callable[..., Any]) -> AsyncIterator[Callable[[str], Any]]:
    async with AsyncExitStack() as stack:

        async def opened(user: str) -> Session:
            refusals: list[str] = []

            async def failed(error: Exception) -> None:
                refusals.append(str(error))

            client = await connect(user, error_cb=failed)
            stack.push_async_callback(client.close)
            return Session(client, refusals)

        yield opened


async def published(session_of: Any, *events: Event) -> None:
    controller = await session_of("env-controller")
    for each in events:
        body, headers = encode(each)
        await controller.client.jetstream().publish(each.subject, body, headers=headers)


def known_to_the_server() -> set[str]:
    """Every API subject in the program, without wildcards."""
    program = (Path(sys.executable).parent / "nats-server").read_bytes()
    # Machine code that compares with "$JS.API." goes on with single letters.
    found = re.findall(rb"\$JS\.API\.([A-Z_]{2,}(?:\.[A-Z_]+)*)((?:\.[*>%]s?)*)", program)
    return {path.decode() for path, _ in found}


def test_the_matrix_knows_every_api_of_this_server() -> None:
    known = {*OF_A_STREAM, *OF_A_CONSUMER, *OF_THE_SERVER}
    groups = {path.rpartition(".")[0] for path in known} | {"CONSUMER.MSG", "STREAM.MSG", ""}
    groups |= {group.partition(".")[0] for group in groups}
    found = known_to_the_server()
    # In the program one text follows the other without an end, so what has no wildcard may look longer than it is.
    new = {path for path in found if path not in groups and not any(path.startswith(each) for each in known)}
    assert not new, f"nats-server knows APIs that no refusal is tested of: {sorted(new)}"
    missing = {each for each in known if not any(path.startswith(each) for path in found)}
    assert not missing, f"nats-server does not know these: {sorted(missing)}"


async def test_every_api_about_another_is_refused(session_of: Any) -> None:
    session = await session_of(ACME.user)
    for prefix in PREFIXES:
        for call in OF_THE_SERVER:
            await session.refused(f"{prefix}.{call}")
            await session.refused(f"{prefix}.{call}.EVENTS.x")
        for stream in (*STREAMS, "MINE"):
            for call in OF_A_STREAM:
                await session.refused(f"{prefix}.{call}.{stream}")
            for call in OF_A_CONSUMER:
                for consumer in (BETA.user, BOT.user, "env-controller", "mine"):
                    await session.refused(f"{prefix}.{call}.{stream}.{consumer}")


async def test_of_its_own_consumer_too_only_what_reads(session_of: Any) -> None:
    session = await session_of(ACME.user)
    info = json.loads((await session.asked(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}")).data)
    assert info["name"] == ACME.user
    for call in OF_A_CONSUMER:
        if call not in ("CONSUMER.INFO", "CONSUMER.MSG.NEXT", "CONSUMER.RESET"):
            await session.refused(f"{API}.{call}.EVENTS.{ACME.user}")
        await session.refused(f"$JS.API.{call}.EVENTS.{ACME.user}")


async def test_it_makes_no_consumer_in_whatever_form(session_of: Any) -> None:
    session = await session_of(ACME.user)
    for tail in (
        "",
        ".x",
        f".{ACME.user}",
        ".x.env.beta.>",
        ".x.>",
        ".x.env.*.>",
        ".x.env.acme.>",
        ".x.env.acme.shop.>",
    ):
        for stream in ("EVENTS", "STATE", "CDEVENTS"):
            for prefix in PREFIXES:
                await session.refused(f"{prefix}.CONSUMER.CREATE.{stream}{tail}")


async def test_the_same_requests_are_answered_where_they_are_allowed(session_of: Any) -> None:
    """So that a refusal is not a request that nobody would answer."""
    operator = await session_of("operator")
    for call in (*OF_A_STREAM, *OF_A_CONSUMER, *OF_THE_SERVER):
        subject = f"$JS.API.{call}"
        whose = BOT.user if call == "CONSUMER.RESET" else "nobody"  # without a consumer nobody answers a reset
        subject += "" if call in OF_THE_SERVER else f".EVENTS.{whose}" if call in OF_A_CONSUMER else ".EVENTS"
        if call in ("STREAM.DELETE", "STREAM.MSG.DELETE", "STREAM.PURGE"):
            await operator.refused(subject)  # to anybody
        elif not call.startswith(SYSTEM_ONLY) and call != "CONSUMER.MSG.NEXT":
            assert (await operator.asked(subject, b"{}")).data or call == "DIRECT.GET", call


async def test_it_reads_what_is_its_teams_in_order_and_nothing_else(session_of: Any) -> None:
    await published(session_of, event("acme", 1), event("beta", 1), event("acme", 2))
    acme, beta = await session_of(ACME.user), await session_of(BETA.user)
    found = [await acme.next("EVENTS", ACME.user) for _ in range(3)]
    assert [message.headers.get("Status") if message.headers else None for message in found][-1] == "404"
    assert {message.subject for message in found[:2]} == {"env.acme.shop.pr-42.environment.changed"}
    assert [json.loads(message.data)["id"] for message in found[:2]] == ["acme/1", "acme/2"]
    assert json.loads((await beta.next("EVENTS", BETA.user)).data)["id"] == "beta/1"


async def test_it_acknowledges_its_own_and_no_others(session_of: Any) -> None:
    await published(session_of, event("acme"), event("beta"))
    acme, beta = await session_of(ACME.user), await session_of(BETA.user)
    own, others = await acme.next("EVENTS", ACME.user), await beta.next("EVENTS", BETA.user)
    assert own.reply.startswith(f"$JS.ACK.EVENTS.{ACME.user}.")
    await acme.asked(own.reply, b"+ACK")  # confirmed by the server
    await acme.refused(others.reply)
    info = json.loads((await beta.asked(f"{API}.CONSUMER.INFO.EVENTS.{BETA.user}")).data)
    assert (info["num_ack_pending"], info["ack_floor"]["stream_seq"]) == (1, 0)
    info = json.loads((await acme.asked(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}")).data)
    assert (info["num_ack_pending"], info["ack_floor"]["stream_seq"]) == (0, 1)


async def test_it_asks_for_the_state_of_its_own_environments(session_of: Any) -> None:
    await published(session_of, event("acme", 1), event("acme", 2), event("beta"))
    acme = await session_of(ACME.user)
    state = API + ".DIRECT.GET.STATE.env.{}.shop.pr-42.environment.changed"
    async with asyncio.timeout(5):  # STATE is a copy, a moment later
        while json.loads((await acme.asked(state.format("acme"))).data or b'{"id": ""}')["id"] != "acme/2":
            await asyncio.sleep(0.02)
    await acme.refused(state.format("beta"))
    # What a body could ask for beside the subject.
    for body in (b'{"last_by_subj": "env.beta.>"}', b'{"seq": 3}', b'{"multi_last": ["env.>"], "batch": 9}'):
        assert (await acme.asked(state.format("acme"), body)).headers["Status"] == "408"


async def test_it_hears_its_team_and_nobody_else(session_of: Any) -> None:
    acme = await session_of(ACME.user)
    heard: asyncio.Queue[Msg] = asyncio.Queue()

    async def arrived(message: Msg) -> None:
        await heard.put(message)

    await acme.client.subscribe("env.acme.>", cb=arrived)
    foreign = (
        *("env.>", ">", "env.beta.>", "env.*.shop.>", "cdevents.>", "cdevents.scm.>", "cdevents.env.beta.>"),
        *("scm.>", "audit.>", "audit.acme.>", "dead.>", "lock.>", "decision.acme.>", "$JS.EVENT.>", "$JS.ACK.>"),
        *("$JS.API.>", "$JS.EVENT.ADVISORY.API", "$SYS.>", "_INBOX.>", "_R_.>", f"_INBOX_{BETA.user}.>"),
        f"_INBOX_{BOT.user}.>",
        "_INBOX_env-controller.>",
    )
    for subject in foreign:
        before = len(acme.refusals)
        await acme.client.subscribe(subject)
        await acme.client.flush()
        async with asyncio.timeout(2):
            while len(acme.refusals) == before:
                await asyncio.sleep(0)
        assert acme.refusals[before].startswith(f'nats: permissions violation for subscription to "{subject.lower()}"')
    await published(session_of, event("beta"), event("acme"))
    assert (await asyncio.wait_for(heard.get(), 3)).subject == "env.acme.shop.pr-42.environment.changed"
    assert heard.empty()


async def test_it_says_nothing(session_of: Any) -> None:
    session = await session_of(ACME.user)
    for subject in (
        "env.acme.shop.pr-42.environment.changed",
        "scm.github.acme.shop.pull_request.1",
        "cdevents.env.acme.x",
    ):
        await session.refused(subject)
    for subject in (f"_INBOX_{BETA.user}.x", "lock.notifier", "$SYS.REQ.SERVER.PING", "$JS.FC.EVENTS.x.y"):
        await session.refused(subject)


FOREIGN = (
    "env.beta.shop.pr-42.environment.changed",
    "$JS.API.STREAM.PURGE.EVENTS",
    "$JS.API.STREAM.DELETE.DEAD",
    "$JS.API.CONSUMER.DELETE.EVENTS.builder",
    f"{API}.CONSUMER.RESET.EVENTS.{BETA.user}",
)
"""Where an answer does harm: a fact of another team, and requests."""


async def kept(operator: Client) -> tuple[int, int, int, int]:
    """What such an answer would change: EVENTS' last sequence and messages, the streams, the consumers of EVENTS."""
    jetstream = operator.jetstream()
    state = (await jetstream.stream_info("EVENTS")).state
    return (
        state.last_seq,
        state.messages,
        len(await jetstream.streams_info()),
        len(await jetstream.consumers_info("EVENTS")),
    )


async def test_an_answer_cannot_be_sent_to_another_team(session_of: Any, operator: Client) -> None:
    """The server publishes an answer on whatever reply subject a request names and asks no permission for that. From a
    reader it stays in the reader's account. Beside it the same from a service, in whose account it does not.
    """
    await published(session_of, event("acme"), event("beta"))
    acme, before = await session_of(ACME.user), await kept(operator)
    for target in FOREIGN:
        pull = f"{API}.CONSUMER.MSG.NEXT.EVENTS.{ACME.user}"
        await acme.client.publish(pull, b'{"batch": 1, "no_wait": true}', reply=target)
        await acme.client.publish(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}", reply=target)
        await acme.client.publish(f"{API}.DIRECT.GET.STATE.env.acme.shop.pr-42.environment.changed", b"", reply=target)
    await acme.client.flush()
    await asyncio.sleep(0.3)
    assert await kept(operator) == before
    info = json.loads((await acme.asked(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}")).data)
    assert info["num_ack_pending"] == 1, "what it asked for did go out"
    service = await session_of("notifier")
    await service.client.publish("$JS.API.DIRECT.GET.LOCKS", b"", reply=FOREIGN[0])
    await changes(operator, before)


async def changes(operator: Client, before: tuple[int, int, int, int]) -> None:
    async with asyncio.timeout(3):
        while await kept(operator) == before:
            await asyncio.sleep(0.02)


async def test_a_service_can_have_answers_sent_where_it_may_not_publish(session_of: Any, operator: Client) -> None:
    """A limit of the services' shared account that docs/security.md admits. When this fails, it is gone: say so there.

    notifier keeps a forged fact in its own lock and has it sent as another's; an empty answer purges and deletes.
    """
    await published(session_of, event("beta"))
    service, forged = await session_of("notifier"), event("beta", 7)
    body, headers = encode(forged)
    own = {name: text for name, text in headers.items() if name != "Nats-Msg-Id"}
    await service.refused(forged.subject)
    await service.client.jetstream().publish("lock.notifier", body, headers=own)
    before = await kept(operator)
    await service.client.publish("$JS.API.DIRECT.GET.LOCKS", b'{"last_by_subj": "lock.notifier"}', reply=forged.subject)
    await changes(operator, before)
    stored = await operator.jetstream().get_last_msg("EVENTS", forged.subject)
    assert decode(stored.data or b"", stored.headers, subject=stored.subject).id == forged.id, "and it is believed"
    for request, index, left in ((FOREIGN[1], 1, 0), (FOREIGN[2], 2, before[2] - 1), (FOREIGN[3], 3, before[3] - 1)):
        await service.refused(request)
        now = await kept(operator)
        await service.client.publish("$JS.API.DIRECT.GET.LOCKS", b"", reply=request)
        await changes(operator, now)
        assert (await kept(operator))[index] == left


async def test_the_account_alone_would_keep_it_in(server: Any, connect: Callable[..., Any]) -> None:
    """The same without any permission of the user: what the account does not import is not there."""
    config = json.loads(server.config.read_text())
    for reader in (ACME, BOT, BETA):
        del config["accounts"][reader.user]["users"][0]["permissions"]
    server.config.write_text(json.dumps(config))
    server.restart()
    client = await connect(ACME.user)
    try:
        for call in (*OF_A_STREAM, *OF_A_CONSUMER):
            subject = f"{call}.EVENTS" + (f".{BETA.user}" if call in OF_A_CONSUMER else "")
            with pytest.raises(nats.errors.NoRespondersError):
                await client.request(f"{API}.{subject}", b"{}", timeout=3)
            try:
                answer = json.loads((await client.request(f"$JS.API.{subject}", b"{}", timeout=0.3)).data)
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                continue
            # No JetStream in this account; and what is refused before it is looked for: no cluster, no group.
            assert answer["error"]["err_code"] in (10039, 10010, 10025), (subject, answer)
        info = await client.request(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}", timeout=3)
        assert json.loads(info.data)["name"] == ACME.user
    finally:
        await client.close()


async def test_a_place_is_kept_while_nobody_reads_and_over_a_restart(
    server: Any, connect: Callable[..., Any], session_of: Any
) -> None:
    await published(session_of, event("acme", 1), event("acme", 2))
    first = await connect(ACME.user)
    session = Session(first)
    for _ in range(2):
        message = await session.next("EVENTS", ACME.user)
        await session.asked(message.reply, b"+ACK")
    await first.close()
    await published(session_of, event("acme", 3))
    server.restart()
    await server.answers()
    await published(session_of, event("acme", 4))
    second = await connect(ACME.user)
    try:
        session = Session(second)
        info = json.loads((await session.asked(f"{API}.CONSUMER.INFO.EVENTS.{ACME.user}")).data)
        assert info["ack_floor"]["stream_seq"] == 2
        missed = [json.loads((await session.next("EVENTS", ACME.user)).data)["id"] for _ in range(2)]
        assert missed == ["acme/3", "acme/4"]
    finally:
        await second.close()


async def test_it_goes_back_to_a_place_of_its_choice(session_of: Any) -> None:
    await published(session_of, event("acme", 1), event("acme", 2), event("acme", 3))
    session = await session_of(ACME.user)
    for _ in range(3):
        await session.asked((await session.next("EVENTS", ACME.user)).reply, b"+ACK")
    answer = json.loads((await session.asked(f"{API}.CONSUMER.RESET.EVENTS.{ACME.user}", b'{"seq": 2}')).data)
    assert "error" not in answer, answer
    assert json.loads((await session.next("EVENTS", ACME.user)).data)["id"] == "acme/2"
    await session.refused(f"{API}.CONSUMER.RESET.EVENTS.{BETA.user}")


async def test_what_a_reader_gives_up_is_no_dead_letter(session_of: Any, operator: Client) -> None:
    await published(session_of, event("acme"))
    session = await session_of(ACME.user)
    await session.asked((await session.next("EVENTS", ACME.user)).reply, b"+TERM mine")
    await asyncio.sleep(0.2)
    assert (await operator.jetstream().stream_info("DEAD")).state.messages == 0


def test_a_reader_is_written_once_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reader", str(tmp_path), "acme", "ci", "--url", "nats://nats.example.org:4222"]
    assert main(command) == 0
    context = tmp_path / "reader--acme--ci.json"
    written, public = context.read_text(), read_public_keys(tmp_path / "users.json")
    assert stat.S_IMODE(context.stat().st_mode) == 0o600
    assert main(command) == 0
    assert context.read_text() == written
    seed = (tmp_path / "reader--acme--ci.seed").read_text().strip()
    assert seed not in capsys.readouterr().out
    assert write_keys(tmp_path, ["operator"]).keys() == {"operator", "reader--acme--ci"}
    config = json.loads(nats_server_config(store_dir="x", port=1, public_keys=public))
    assert seed not in json.dumps(config)
    assert set(config["accounts"]) == {"CATALYST", "reader--acme--ci"}
    (tmp_path / "reader--acme--ci.seed").unlink()
    assert "reader--acme--ci" not in write_keys(tmp_path, ["operator"])


@pytest.mark.parametrize(
    ("team", "name"), [("Acme", "ci"), ("a--b", "ci"), ("acme", "c.i"), ("acme", ">"), ("*", "ci")]
)
def test_a_name_that_is_none_is_refused(
    team: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reader", str(tmp_path), team, name, "--url", "nats://x:1"]) == 2
    assert "is no name: expected at most 60 characters that match" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_users_name_means_one_reader_at_most() -> None:
    assert Reader.of(ACME.user) == ACME
    for name in ("reader--acme", "reader--acme--ci--x", "env-controller", "reader----ci", "reader--a.b--ci"):
        assert Reader.of(name) is None
