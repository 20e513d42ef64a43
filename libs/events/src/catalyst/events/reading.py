"""Reading what is stored, without a consumer: batched direct gets and the subjects of a stream.

A direct get asks the stream itself, needs no acknowledgement and leaves nothing behind on the server. Answers come in
pages; a page ends with a status that says how many messages are left.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from catalyst.events.errors import Unread
from catalyst.events.stored import Stored

T = TypeVar("T")

PAGE: Final = 500
"""Messages a page at the most."""
PAGE_BYTES: Final = 8 * 1024 * 1024
PATIENCE: Final = 5.0
"""Seconds without any part of an answer."""
_OWN_HEADERS: Final = frozenset(
    {
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
        "Nats-UpTo-Sequence",
    }
)


_MOST_SUBJECTS: Final = 1024
"""The server's own limit of one answer to `multi_last`."""
_NOT_FOUND: Final = 404


class _Absent(Unread):
    """The stream that was asked does not exist."""


async def answered(answer: Awaitable[T]) -> T:
    """What nats-py answers; but a cancellation that came together with the answer still counts.

    `asyncio.wait_for`, on which nats-py waits, swallows such a one before Python 3.12: the task would live on. One that
    came before is not it: a task that was cancelled may still ask while it cleans up.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await answer
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def messages(
    client: Client, stream: str, subject: str, *, start: int = 1, since: datetime | None = None
) -> AsyncIterator[Stored]:
    """Every message of `subject` (a filter may be given) in order of sequence, from `start`, or from those stored at
    `since` on, up to the end at the time of asking.

    Raises:
        Unread: no answer in time, or the server refuses.
    """
    first: dict[str, Any] = {"seq": start} if since is None else {"start_time": _timestamp(since)}
    while True:
        page, left = await _page(
            client, stream, {"batch": PAGE, "max_bytes": PAGE_BYTES, "next_by_subj": subject, **first}
        )
        for stored in page:
            yield stored
        if left == 0 or not page:
            return
        first = {"seq": page[-1].sequence + 1}


async def message(client: Client, stream: str, sequence: int) -> Stored | None:
    """The message with that sequence, or None. Raises `Unread`."""
    return await _direct(client, stream, {"seq": sequence})


async def lasts(client: Client, stream: str, filters: Sequence[str], *, at: datetime | None = None) -> list[Stored]:
    """The newest message of every subject that matches, in order of sequence; with `at` as the stream stood then: what
    was stored in that very microsecond is in. At most 1024 subjects may match. Raises `Unread`.
    """
    request: dict[str, Any] = {"multi_last": list(filters), "batch": _MOST_SUBJECTS}
    if at is not None:
        request["up_to_time"] = _timestamp(at + timedelta(microseconds=1))
    page, _ = await _page(client, stream, request)
    return page


async def last_message(client: Client, stream: str, subject: str) -> Stored | None:
    """The newest message of a subject, or None. Raises `Unread`."""
    return await _direct(client, stream, {"last_by_subj": subject})


async def last_before(client: Client, stream: str, subject: str, sequence: int) -> Stored | None:
    """The newest message of a subject among those before `sequence`, or None. Raises `Unread`."""
    if sequence <= 1:
        return None  # to the server 0 is no limit
    page, _ = await _page(client, stream, {"multi_last": [subject], "up_to_seq": sequence - 1, "batch": 1})
    return page[0] if page else None


async def stream_info(client: Client, stream: str) -> dict[str, Any] | None:
    """What the server says about a stream: `config`, `state`, `cluster`; None when there is none. Raises `Unread`."""
    try:
        return await _api(client, f"STREAM.INFO.{stream}", {})
    except _Absent:
        return None


async def consumer_infos(client: Client, stream: str) -> list[dict[str, Any]]:
    """What the server says about each consumer of a stream, as its leader sees it. Raises `Unread`."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await _api(client, f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        page = answer.get("consumers") or []
        found.extend(page)
        if not page or len(found) >= answer.get("total", 0):
            return found


async def consumer_info(client: Client, stream: str, name: str) -> dict[str, Any] | None:
    """What the server says about one consumer, as its leader sees it; None when there is none. Raises `Unread`."""
    try:
        return await _api(client, f"CONSUMER.INFO.{stream}.{name}", {})
    except _Absent:
        return None


async def _direct(client: Client, stream: str, request: Mapping[str, Any]) -> Stored | None:
    try:
        answer = await answered(
            client.request(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), timeout=PATIENCE)
        )
    except nats.errors.Error as exc:
        raise Unread(f"stream {stream} did not answer: {_explained(exc)}") from exc
    status = (answer.headers or {}).get("Status")
    if status == "404":
        return None
    if status is not None:
        raise Unread(f"stream {stream} refused: {status} {(answer.headers or {}).get('Description', '')}")
    return _stored(answer)


async def subjects(client: Client, stream: str, filter_subject: str) -> list[str]:
    """Every subject of a stream that matches and has a message, sorted. Raises `Unread`."""
    found: list[str] = []
    while True:
        request = {"subjects_filter": filter_subject, "offset": len(found)}
        info = await _api(client, f"STREAM.INFO.{stream}", request)
        page = info["state"].get("subjects") or {}
        found.extend(page)
        if not page or len(found) >= info.get("total", 0):
            return sorted(found)


async def _api(client: Client, call: str, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        answer = await answered(client.request(f"$JS.API.{call}", json.dumps(request).encode(), timeout=PATIENCE))
    except nats.errors.Error as exc:
        raise Unread(f"{call} got no answer: {_explained(exc)}") from exc
    document: dict[str, Any] = json.loads(answer.data)
    if "error" in document:
        if document["error"].get("code") == _NOT_FOUND:
            raise _Absent(f"{call}: {document['error'].get('description')}")
        raise Unread(f"{call} was refused: {document['error'].get('description')}")
    return document


async def _page(client: Client, stream: str, request: Mapping[str, Any]) -> tuple[list[Stored], int]:
    """One page of a batched direct get, and how many messages are left after it."""
    page: list[Stored] = []
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    heard = asyncio.Event()

    async def arrived(message: Msg) -> None:
        heard.set()
        headers = message.headers or {}
        status = headers.get("Status")
        if status is None:
            page.append(_stored(message))
        elif ended.done():
            return
        elif status == "204":
            ended.set_result(int(headers.get("Nats-Num-Pending", 0)))
        elif status == "404":
            ended.set_result(0)
        else:
            ended.set_exception(Unread(f"stream {stream} refused: {status} {headers.get('Description', '')}"))

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=arrived)
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
        while True:
            done, _ = await asyncio.wait([ended], timeout=PATIENCE)
            if done:
                return page, ended.result()
            if not heard.is_set():
                raise Unread(f"stream {stream} did not answer within {PATIENCE:g} s")
            heard.clear()
    except nats.errors.Error as exc:
        raise Unread(f"stream {stream} could not be asked: {_explained(exc)}") from exc
    finally:
        if not client.is_closed and not client.is_draining:
            await subscription.unsubscribe()


def _stored(message: Msg) -> Stored:
    headers = message.headers or {}
    return Stored(
        stream=headers["Nats-Stream"],
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        data=message.data,
        headers={name: value for name, value in headers.items() if name not in _OWN_HEADERS},
        nanoseconds=_nanoseconds(headers["Nats-Time-Stamp"]),
    )


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _nanoseconds(timestamp: str) -> int:
    """`2026-11-23T20:00:00.123456789Z` → nanoseconds since 1970; datetime alone would cut to microseconds."""
    seconds, _, fraction = timestamp.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)


def _explained(error: Exception) -> str:
    return str(error) or type(error).__name__
