"""The queue on virtual time, and against a model of what a queue of keys promises."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalyst.kube.queue import BULK, INTERACTIVE, NORMAL, Backoff, Queue, Stopped
from catalyst.local.virtual_time import virtual_loop

STEADY = Backoff(jitter=0.0)


def virtually(coroutine: Coroutine[Any, Any, None]) -> None:
    with virtual_loop() as runner:
        runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


async def processed(queue: Queue[str], seconds: float = 1000.0, work: float = 0.0, workers: int = 1) -> list[str]:
    """What comes out within that time, in order."""
    order: list[str] = []

    async def worker(key: str) -> None:
        order.append(key)
        await asyncio.sleep(work)

    running = asyncio.create_task(queue.run(worker, workers))
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait({running})
    return order


def test_a_key_waits_once_however_often_it_is_added() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        for _ in range(5):
            queue.add("a")
        assert (queue.depth, queue.added) == (1, 5)
        assert await processed(queue) == ["a"]

    virtually(story())


def test_a_key_added_while_it_is_processed_is_processed_again_afterwards() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        queue.add("a")
        assert (queue.depth, queue.processing) == (0, 1)
        queue.done(key)
        assert (queue.depth, queue.processing) == (1, 0)

    virtually(story())


def test_interactive_keys_overtake_bulk_ones_also_when_raised_later() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        for key in ("b1", "b2", "b3"):
            queue.add(key, priority=BULK)
        queue.add("n", priority=NORMAL)
        queue.add("b3", priority=INTERACTIVE)
        queue.add("b3", priority=BULK)
        assert await processed(queue) == ["b3", "n", "b1", "b2"]

    virtually(story())


def test_bulk_keys_do_not_starve() -> None:
    async def story() -> None:
        queue: Queue[int] = Queue()
        queue.add(-1, priority=BULK)
        served = 0
        for number in range(100):
            queue.add(number, priority=INTERACTIVE)
            queue.add(number + 1000, priority=INTERACTIVE)
            key = await queue.get()
            queue.done(key)
            served += 1
            if key == -1:
                break
        assert served <= 8

    virtually(story())


def test_a_delayed_key_comes_when_its_time_has_come() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        queue.add("late", after=10)
        queue.add("late", after=20)
        queue.add("soon", after=3)
        queue.add("late", after=5)
        assert (queue.depth, queue.delayed) == (0, 2)
        assert (await queue.get(), now()) == ("soon", 3)
        assert (await queue.get(), now()) == ("late", 5)
        assert queue.delayed == 0

    virtually(story())


def test_the_oldest_is_measured() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        assert queue.oldest == 0
        queue.add("a")
        await asyncio.sleep(7)
        queue.add("b", priority=INTERACTIVE)
        assert queue.oldest == 7

    virtually(story())


def test_failures_wait_longer_each_time_until_forgotten() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue(backoff=Backoff(base=1, cap=5, jitter=0))
        assert [queue.retry("a") for _ in range(5)] == [1, 2, 4, 5, 5]
        assert (queue.failures("a"), queue.failing, queue.retried) == (5, 1, 5)
        queue.forget("a")
        assert queue.retry("a") == 1

    virtually(story())


@given(failures=st.integers(1, 10_000), spread=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_spread_around_its_exact_value_and_capped(failures: int, spread: float) -> None:
    backoff = Backoff(base=0.05, cap=60, jitter=0.25)
    exact = min(60, 0.05 * 2 ** min(failures - 1, 60))
    assert exact * 0.75 <= backoff.delay(failures, spread) <= exact * 1.25


@pytest.mark.parametrize("outage", [5.0, 30.0, 600.0])
def test_after_an_outage_of_any_length_a_key_is_tried_three_times_within_a_minute(outage: float) -> None:
    """What is back may still refuse the first two: roles and quotas are known a moment later."""

    async def story() -> None:
        tried: list[float] = []

        async def worker(key: str) -> None:
            tried.append(now())
            queue.retry(key)

        queue: Queue[str] = Queue(spread=lambda: 0.999)
        queue.add("a")
        running = asyncio.create_task(queue.run(worker, 1))
        await asyncio.sleep(outage + 60)
        assert len([at for at in tried if at > outage]) >= 3
        running.cancel()
        await asyncio.wait({running})

    virtually(story())


def test_all_retries_together_keep_to_the_rate() -> None:
    async def story() -> None:
        queue: Queue[int] = Queue(backoff=Backoff(base=0.01, jitter=0, rate=10, burst=20))
        delays = [queue.retry(key) for key in range(120)]
        assert max(delays[:20]) < 0.11
        assert 9.5 < delays[-1] < 10.5

    virtually(story())


def test_a_worker_that_raises_is_retried_and_reported_one_that_returns_is_well() -> None:
    async def story() -> None:
        reported: list[tuple[str, str, float]] = []
        queue: Queue[str] = Queue(
            backoff=Backoff(base=1, jitter=0),
            on_error=lambda key, error, delay: reported.append((key, str(error), delay)),
        )
        attempts: list[float] = []

        async def worker(_: str) -> None:
            attempts.append(now())
            if len(attempts) < 3:
                raise RuntimeError(f"failed {len(attempts)}")

        queue.add("a")
        running = asyncio.create_task(queue.run(worker, 2))
        await asyncio.sleep(60)
        assert attempts == [0, 1, 3]
        assert reported == [("a", "failed 1", 1), ("a", "failed 2", 2)]
        assert queue.failing == 0
        running.cancel()
        await asyncio.wait({running})

    virtually(story())


def test_a_worker_that_asks_for_a_retry_keeps_its_count() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue(backoff=Backoff(base=1, jitter=0))
        attempts: list[float] = []

        async def worker(key: str) -> None:
            attempts.append(now())
            queue.retry(key)

        queue.add("a")
        running = asyncio.create_task(queue.run(worker, 1))
        await asyncio.sleep(8)
        assert attempts == [0, 1, 3, 7]
        running.cancel()
        await asyncio.wait({running})

    virtually(story())


def test_a_cancelled_worker_leaves_its_key_for_the_next_run() -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        assert await processed(queue, seconds=1, work=1000) == ["a"]
        assert (queue.depth, queue.processing) == (1, 0)
        assert await processed(queue) == ["a"]
        assert queue.depth == 0

    virtually(story())


@pytest.mark.parametrize(("drain", "expected"), [(True, ["a", "b", "c"]), (False, ["a"])])
def test_shutdown_waits_for_what_is_under_way(drain: bool, expected: list[str]) -> None:
    async def story() -> None:
        queue: Queue[str] = Queue()
        begun, ended = [], []

        async def worker(key: str) -> None:
            begun.append(key)
            await asyncio.sleep(5)
            ended.append(key)

        for key in ("a", "b", "c"):
            queue.add(key)
        queue.add("later", after=100)
        running = asyncio.create_task(queue.run(worker, 1))
        await asyncio.sleep(1)
        await queue.shutdown(drain=drain)
        assert ended == begun == expected
        queue.add("too late")
        await running
        assert (queue.depth, queue.delayed, queue.processing) == (0, 0, 0)
        with pytest.raises(Stopped):
            await queue.get()

    virtually(story())


# What a queue promises, whatever happens: never two workers on one key, and every add is followed by a processing.

steps = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["add", "later", "interactive", "retry"]),
        st.floats(0, 3, allow_nan=False),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(steps=steps, workers=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_no_key_is_lost_and_none_is_processed_twice_at_once(
    steps: list[tuple[str, str, float]], workers: int, seed: int
) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        queue: Queue[str] = Queue(backoff=Backoff(base=0.1, cap=2.0), spread=chance.random, on_error=lambda *_: None)
        under_way: set[str] = set()
        asked: dict[str, float] = {}
        begun: dict[str, float] = {}

        async def worker(key: str) -> None:
            assert key not in under_way
            under_way.add(key)
            try:
                begun[key] = now()
                await asyncio.sleep(chance.random())
                if chance.random() < 0.3:
                    raise RuntimeError("planted")
                if chance.random() < 0.2:
                    queue.retry(key)
            finally:
                under_way.remove(key)

        running = asyncio.create_task(queue.run(worker, workers))
        for key, what, pause in steps:
            asked[key] = now()
            if what == "retry":
                queue.retry(key)
            else:
                queue.add(key, after=pause if what == "later" else 0, priority=-10 if what == "interactive" else 10)
            await asyncio.sleep(pause / 3)
        await asyncio.sleep(60)
        assert not running.done()
        assert all(begun[key] >= asked[key] for key in asked)
        running.cancel()
        await asyncio.wait({running})
        assert queue.processing == 0

    virtually(story())


def test_a_worker_that_loses_a_cancellation_ends_all_the_same() -> None:
    """As `asyncio.wait_for` does before Python 3.12, when the answer comes together with the cancellation."""

    async def story() -> None:
        queue: Queue[str] = Queue()
        begun = asyncio.Event()

        async def deaf(_key: str) -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

        queue.add("key")
        running = asyncio.create_task(queue.run(deaf, 1))
        await begun.wait()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=5)
        assert done

    asyncio.run(story())
