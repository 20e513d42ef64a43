"""A team's readers: who may read one team's news and nothing else, each with a durable place in them. Pure.

```
reader--acme--ci     one credential, an account of its own at the server, and consumers of that name:
EVENTS   env.acme.>            its place in the team's news
CDEVENTS cdevents.env.acme.>   its place in their projection
STATE    env.acme.>            the last snapshot of an environment, by a direct get
```

Its requests begin with `CATALYST.API`, a JetStream prefix as any client can be given one. Under `$JS.API` the server
itself answers in every account, here that there is no JetStream: it would be a second answer, and often the first.

Why an account: the server publishes what answers a request, a stored message too, on whatever reply subject the
request names, and asks nobody's permission for it. In our account that subject could be another team's. In an account
of its own nothing else is there. Why no right to make consumers: `CONSUMER.CREATE.EVENTS.*.env.acme.>` would also
change the consumer of a service or of another team, whose name is not part of the filter. See decision 32.
"""

from dataclasses import dataclass
from typing import Final, Self

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from catalyst.events.subjects import escape
from catalyst.events.topology import CDEVENTS, EVENTS, STATE
from catalyst.model.names import MAX_NAME, NAME_PATTERN, is_name

PREFIX: Final = "reader--"
API: Final = "CATALYST.API"
"""What `$JS.API` is to others. `nats` takes it from the context file, libraries as the prefix of their JetStream."""
ACK_WAIT: Final = 60.0
"""Seconds until what nobody acknowledged is handed out again; as often as it takes."""
MAX_ACK_PENDING: Final = 1000


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader of one team. Raises ValueError when a name is no name."""

    team: str
    name: str

    def __post_init__(self) -> None:
        for field, text in (("team", self.team), ("reader", self.name)):
            if not is_name(text):
                raise ValueError(
                    f"{field} {text!r} is no name: expected at most {MAX_NAME} characters that match {NAME_PATTERN}"
                )

    @classmethod
    def of(cls, user: str) -> Self | None:
        """The reader that a user's name means; None when it means none."""
        if not user.startswith(PREFIX):
            return None
        team, found, name = user.removeprefix(PREFIX).partition("--")
        return cls(team, name) if found and is_name(team) and is_name(name) else None

    @property
    def user(self) -> str:
        """`reader--acme--ci`: the user, its account and its consumers. No service's name holds `--`."""
        return f"{PREFIX}{self.team}--{self.name}"

    @property
    def filters(self) -> dict[str, str]:
        """Stream → what of it is the team's, where the reader has a place."""
        news = f"env.{escape(self.team)}.>"
        return {EVENTS: news, CDEVENTS: f"cdevents.{news}"}

    @property
    def heard(self) -> tuple[str, ...]:
        """The subjects it may subscribe to: the team's news as they are published."""
        return tuple(self.filters.values())

    @property
    def asked(self) -> dict[str, str]:
        """The subjects it may send requests to, all about its own → what they are in our account."""
        calls = [
            f"CONSUMER.{call}.{stream}.{self.user}" for stream in self.filters for call in ("INFO", "MSG.NEXT", "RESET")
        ]
        calls.append(f"DIRECT.GET.{STATE}.{self.filters[EVENTS]}")
        acks = [f"$JS.ACK.{stream}.{self.user}.>" for stream in self.filters]
        return {**{f"{API}.{call}": f"$JS.API.{call}" for call in calls}, **{ack: ack for ack in acks}}

    def consumers(self) -> dict[str, ConsumerConfig]:
        """Stream → the consumer that the operator makes for it."""
        return {
            stream: ConsumerConfig(
                durable_name=self.user,
                description=f"{self.name} reads what is {self.team}'s",
                filter_subjects=[subject],
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT,
                max_deliver=-1,
                max_ack_pending=MAX_ACK_PENDING,
            )
            for stream, subject in self.filters.items()
        }
