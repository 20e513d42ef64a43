"""Makes a server's streams and consumers match the topology: what is missing is made, what differs is changed.

Nothing is ever deleted, and a change that would lose stored messages is refused by name: an operator does that by
hand, knowing. A second run changes nothing.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, StreamConfig, StreamInfo

from catalyst.events.errors import BusError
from catalyst.events.readers import Reader
from catalyst.events.topology import SERVICES, STATE, Budget, consumers, streams

FIXED: Final = ("retention", "storage")
"""Settings of a stream that the server cannot change without making it anew."""


class WouldLose(BusError):
    """The change would drop messages that are stored now."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was, or has to be, done to one stream or consumer; `differences` as `max_age: 1.0 → 2.0`."""

    action: Literal["create", "update", "keep"]
    name: str
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.name}" + (f" ({', '.join(self.differences)})" if self.differences else "")


async def apply(
    jetstream: JetStreamContext,
    *,
    budget: Budget | None = None,
    services: Iterable[str] = SERVICES,
    readers: Iterable[Reader] = (),
    dry: bool = False,
) -> list[Change]:
    """Applies the topology and says what it did; with `dry` only what it would do.

    Raises:
        WouldLose: a stream's limits are to become smaller than what it holds; everything before it was applied.
        nats.errors.Error: the server refused.
    """
    changes = [await _apply_stream(jetstream, wanted, dry=dry) for wanted in streams(budget)]
    wanted = [(consumer.stream, consumer.config()) for consumer in consumers(services)]
    wanted += [place for reader in readers for place in reader.consumers().items()]
    return changes + [await _apply_consumer(jetstream, stream, config, dry=dry) for stream, config in wanted]


async def _apply_stream(jetstream: JetStreamContext, wanted: StreamConfig, *, dry: bool) -> Change:
    name = f"stream {wanted.name}"
    try:
        info = await jetstream.stream_info(str(wanted.name))
    except nats.js.errors.NotFoundError:
        if not dry:
            await jetstream.add_stream(_continued(wanted))
        return Change("create", name)
    differing = differences(info.config, wanted)
    if not differing:
        return Change("keep", name)
    refuse_loss(info, wanted)
    if not dry:
        await jetstream.update_stream(info.config.evolve(**{field: getattr(wanted, field) for field in differing}))
    return Change("update", name, _told(info.config, wanted, differing))


def _continued(wanted: StreamConfig) -> StreamConfig:
    """STATE counts on where a lost one ended: its readers ask for what came after the last they saw. Milliseconds since
    1970 are more than any count of messages that went before.
    """
    return wanted.evolve(first_seq=time.time_ns() // 1_000_000) if wanted.name == STATE else wanted


async def _apply_consumer(jetstream: JetStreamContext, stream: str, wanted: ConsumerConfig, *, dry: bool) -> Change:
    name = f"consumer {stream}/{wanted.durable_name}"
    try:
        info = await jetstream.consumer_info(stream, str(wanted.durable_name))
    except nats.js.errors.NotFoundError:
        if not dry:
            await jetstream.add_consumer(stream, wanted)
        return Change("create", name)
    differing = differences(info.config, wanted)
    if not differing:
        return Change("keep", name)
    if not dry:
        await jetstream.add_consumer(
            stream, info.config.evolve(**{field: getattr(wanted, field) for field in differing})
        )
    return Change("update", name, _told(info.config, wanted, differing))


def differences(current: StreamConfig | ConsumerConfig, wanted: StreamConfig | ConsumerConfig) -> tuple[str, ...]:
    """The fields we set that are not so. What we leave open (None) is the server's to choose. Pure."""
    return tuple(
        field.name
        for field in fields(wanted)
        if getattr(wanted, field.name) is not None
        and _comparable(getattr(current, field.name)) != _comparable(getattr(wanted, field.name))
    )


def stream_differences(config: Mapping[str, Any], wanted: StreamConfig) -> tuple[str, ...]:
    """How a stream, as the server describes it, differs: `max_age: 1 → 2`. Its bytes and copies are the installation's
    own choice. Pure.
    """
    current = StreamConfig.from_response(dict(config))
    chosen = wanted.evolve(max_bytes=current.max_bytes, num_replicas=current.num_replicas)
    return _told(current, chosen, differences(current, chosen))


def consumer_differences(config: Mapping[str, Any], wanted: ConsumerConfig) -> tuple[str, ...]:
    """The same for a consumer. Pure."""
    current = ConsumerConfig.from_response(dict(config))
    return _told(current, wanted, differences(current, wanted))


def refuse_loss(info: StreamInfo, wanted: StreamConfig) -> None:
    """Raises `WouldLose` when the change would drop stored messages. Pure."""
    current, state, name = info.config, info.state, wanted.name
    if state.messages == 0:
        return
    for field in FIXED:
        if _comparable(getattr(current, field)) != _comparable(getattr(wanted, field)):
            raise WouldLose(f"stream {name}: {field} cannot change while {state.messages} messages are stored")
    if 0 < (wanted.max_bytes or 0) < state.bytes:
        raise WouldLose(f"stream {name}: max_bytes {wanted.max_bytes} is less than the {state.bytes} bytes stored")
    if _shrinks(current.max_age, wanted.max_age):
        raise WouldLose(f"stream {name}: max_age {wanted.max_age} s is shorter than {current.max_age or 'unlimited'}")
    if _shrinks(current.max_msgs_per_subject, wanted.max_msgs_per_subject):
        raise WouldLose(f"stream {name}: max_msgs_per_subject {wanted.max_msgs_per_subject} would drop older messages")
    if current.discard == DiscardPolicy.NEW and wanted.discard == DiscardPolicy.OLD:
        raise WouldLose(f"stream {name}: discard old drops the oldest messages when the stream is full")


def _shrinks(current: float | None, wanted: float | None) -> bool:
    """Whether a limit becomes tighter; 0, -1 and None are no limit."""
    if not wanted or wanted < 0:
        return False
    return not current or current < 0 or wanted < current


def _comparable(value: Any) -> Any:
    if value in (None, "", [], {}, False):
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_comparable(item) for item in value]
    if hasattr(value, "filter_subject"):
        return (value.name, value.filter_subject)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return getattr(value, "value", value)


def _told(current: Any, wanted: Any, differing: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        f"{field}: {_comparable(getattr(current, field))} → {_comparable(getattr(wanted, field))}"
        for field in differing
    )
