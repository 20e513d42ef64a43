"""Which faults strike, in which order: a pure function of the seed. A deck holds every kind of fault for every victim,
the cheap ones several times; it is shuffled and dealt, and when it is empty the next one is shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["kill", "freeze", "cut", "full", "clock"]

SERVICES: Final = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier")
NATS: Final = ("nats-0", "nats-1", "nats-2")
EDGE: Final = "edge"
PARTS: Final = (
    "kube-apiserver", "kubelet", "registry", "etcd", "kube-controller-manager", "kube-scheduler", "containerd",
    "kube-proxy", "kube-router", "mirror",
)  # fmt: skip
"""Of the node, by the names that its supervisor has for them."""

MOMENTS: Final = ("webhook stored", "namespace made", "build running", "deploying", "route made", "ready", "closing")
"""Of a pull request's life."""

_SERVICE_DECK: Final[dict[Kind, int]] = {"kill": 6, "freeze": 3, "cut": 4, "clock": 2}
_NATS_DECK: Final[dict[Kind, int]] = {"kill": 1, "freeze": 1, "cut": 1, "full": 1}
_DECK: Final[dict[str, dict[Kind, int]]] = {
    **dict.fromkeys(SERVICES, _SERVICE_DECK),
    **dict.fromkeys(NATS, _NATS_DECK),
    EDGE: {"kill": 2, "freeze": 1, "cut": 1},
    "kube-apiserver": {"kill": 1, "freeze": 1, "cut": 1},
    "kubelet": {"kill": 1, "freeze": 1, "cut": 1},
    "registry": {"kill": 1, "freeze": 1, "cut": 1, "full": 1},
    "etcd": {"kill": 1, "freeze": 1},
    "kube-controller-manager": {"kill": 1, "freeze": 1},
    "kube-scheduler": {"kill": 1},
    "containerd": {"kill": 1, "freeze": 1},
    "kube-proxy": {"kill": 1},
    "kube-router": {"kill": 1},
    "mirror": {"kill": 1},
}
_SECONDS: Final[dict[Kind, tuple[float, float]]] = {
    "kill": (0, 0),
    "freeze": (3, 13),  # a lease is 10 s long
    "cut": (3, 13),
    "full": (8, 14),
    "clock": (12, 25),
}
_PAUSE: Final = (1.0, 5.0)
_JUMP: Final = (90, 900)
_NAMED: Final = 0.5
"""Of the faults of services, how many wait for a moment."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`after`: seconds since the one before it began. `seconds`: how long it lasts; 0 for a kill. `moment`: one of
    MOMENTS that is waited for; None: at once. `jump`: seconds by which a clock is moved.
    """

    number: int
    kind: Kind
    victim: str
    after: float
    seconds: float
    moment: str | None = None
    jump: int = 0

    @property
    def name(self) -> str:
        """For people."""
        lasting = f" for {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.kind} {self.victim}{lasting}{f' by {self.jump:+d} s' if self.jump else ''}"


def deck() -> tuple[tuple[Kind, str], ...]:
    """Every kind of every victim, as often as it is in one deck."""
    return tuple(
        (kind, victim) for victim, kinds in _DECK.items() for kind, count in kinds.items() for _ in range(count)
    )


def plan(seed: int) -> Iterator[Fault]:
    """Faults without end; the same ones for the same seed."""
    chance, number = random.Random(seed), 0
    while True:
        cards = list(deck())
        chance.shuffle(cards)
        for kind, victim in cards:
            number += 1
            yield _fault(number, kind, victim, chance)


def _fault(number: int, kind: Kind, victim: str, chance: random.Random) -> Fault:
    pause, seconds = chance.uniform(*_PAUSE), chance.uniform(*_SECONDS[kind])
    moment = chance.choice(MOMENTS) if chance.random() < _NAMED else None
    jump = chance.choice((1, -1)) * chance.randint(*_JUMP)
    wants_moment = victim in SERVICES and kind in ("kill", "freeze", "cut")
    return Fault(
        number,
        kind,
        victim,
        round(pause, 2),
        round(seconds, 1),
        moment if wants_moment else None,
        jump if kind == "clock" else 0,
    )


def group(victim: str) -> str:
    """Of each group one is struck at a time: two NATS servers at once are no majority any more, and a cluster without
    API server and kubelet only shows that nothing happens.
    """
    if victim in NATS:
        return "nats"
    return "node" if victim in PARTS else victim
