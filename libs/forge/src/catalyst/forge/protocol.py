"""What every forge can do with a webhook; `catalyst.forge.github` is the first.

verify(headers, body, secrets)  →  delivery(headers)  →  translate(delivery, body)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from catalyst.events.catalogue import ScmData

Headers = Mapping[str, str]
"""HTTP headers with lower-case names."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook: its GUID, which a redelivery repeats, and the forge's name for what happened."""

    id: str
    event: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge asks whether anybody is there."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A webhook that says nothing we use yet."""

    reason: str


Translation = ScmData | Ping | Ignored
"""The fact that the webhook tells, or why it tells none."""


class Forge(Protocol):
    """Reading a forge's webhooks."""

    @property
    def name(self) -> str:
        """`github`: the forge's token in subjects."""

    @property
    def events(self) -> frozenset[str]:
        """The forge's names for what can happen: bounds the values of metric labels."""

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes]) -> None:
        """Return if `body` is signed by one of `secrets` (several while one is rotated). Raises `BadSignature`."""

    def delivery(self, headers: Headers) -> Delivery:
        """Which delivery it is. Raises `BadPayload` naming the header."""

    def translate(self, delivery: Delivery, body: bytes) -> Translation:
        """What a verified body says. Raises `BadPayload` naming the field."""
