"""The inbox of acknowledgements against a real server: each answer to its own question, none to nobody's."""

import asyncio
from collections.abc import Callable
from typing import Any

import nats
import nats.js.errors
import pytest

from catalyst.events.acks import Acks
from catalyst.events.topology import SCM
from catalyst.events.users import inbox_prefix

USER = "webhook-ingest"
SUBJECT = "scm.github.acme.shop.pr.42"


@pytest.fixture
async def acks(connect: Callable[..., Any]) -> Any:
    client = await connect(USER)
    acks = Acks(client)
    await acks.listen()
    yield acks
    await client.close()


async def publish(acks: Acks, key: str, *, within: float = 5) -> Any:
    return await acks.publish(SUBJECT, b"{}", {"Nats-Msg-Id": key}, within=within)


async def test_many_at_once_each_get_their_own_answer(acks: Acks) -> None:
    first = await asyncio.gather(*(publish(acks, f"{number}") for number in range(200)))
    again = await asyncio.gather(*(publish(acks, f"{number}") for number in range(200)))
    assert sorted(answer.sequence for answer in first) == list(range(1, 201))
    assert {answer.stream for answer in first} == {SCM}
    assert not any(answer.duplicate for answer in first)
    assert [(answer.sequence, answer.duplicate) for answer in again] == [(answer.sequence, True) for answer in first]


async def test_an_answer_that_is_late_is_nobodys(acks: Acks) -> None:
    with pytest.raises(TimeoutError):
        await publish(acks, "late", within=0)
    told = await publish(acks, "next")
    assert (told.sequence, told.duplicate) == (2, False)
    assert (await publish(acks, "late")).duplicate


async def test_a_cancelled_publish_is_cancelled(acks: Acks) -> None:
    asking = asyncio.create_task(publish(acks, "given up"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not (await publish(acks, "another")).duplicate


async def test_a_server_without_streams(bare_server: Any) -> None:
    await bare_server.answers()
    client = await nats.connect(
        bare_server.url, nkeys_seed=str(bare_server.seed(USER)), inbox_prefix=inbox_prefix(USER)
    )
    try:
        acks = Acks(client)
        await acks.listen()
        with pytest.raises(nats.js.errors.NoStreamResponseError):
            await publish(acks, "nowhere")
    finally:
        await client.close()
