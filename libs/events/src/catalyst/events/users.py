"""Who may say and read what: one NATS user a service, with the least it needs. Pure data.

| User | Publishes | Consumes | Reads directly |
|---|---|---|---|
| webhook-ingest | `scm.>`, own `dead.` | SCM, only comments | – |
| env-controller | `environment.changed`, `build.requested`, `audit.>`, own `dead.`¹ | SCM, EVENTS | + STATE, AUDIT² |
| builder | `build.finished`, `build.cleaned`, own `dead.` | EVENTS | STATE |
| dns-proxy | `route.changed`, `lock.dns-proxy`, own `dead.` | EVENTS | STATE, LOCKS |
| notifier | own `lock.`, `settled.`, `dead.`; `cdevents.>` | SCM (both kinds), EVENTS | STATE, LOCKS, EVENTS |
| operator | nothing but requests to the server | – | everything; applies the topology |
| oncall | again what some consumer reads, `dead.oncall` | – | all events; asks for no consumer |

A team's readers are no users of this account: readers.py.

¹ and `decision.>`, the records of what it decided, which are no events. ² And DEAD, to count the dead;
of every stream it asks how full it is.

Each service may also say which version started (`started.<service>`), and ask how far its own consumers are: a metric.

An event is a hint, never authority, and a service may not even hint at what another one says. No user may delete a
stream, and nobody but the operator may ask for a consumer: a consumer with a chosen delivery subject would publish in
the server's name. No permission can forbid the reply subject of a request, on which the server publishes, too
(docs/security.md, "What is not covered"): these are walls against mistakes more than against a stolen seed. Each user
hears answers on a private inbox only. `catalogue.Data.WRITERS` decides who publishes what, so a new event brings its
right along.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from catalyst.events.catalogue import (
    CATALOGUE,
    AuditRecord,
    Data,
    DeadLetter,
    DeadSettled,
    EnvironmentChanged,
    EnvironmentData,
    ScmData,
)
from catalyst.events.subjects import dead_subject, lock_subject, settled_subject, started_subject
from catalyst.events.topology import (
    AUDIT,
    CDEVENTS,
    DEAD,
    DECISIONS,
    EVENTS,
    LOCKS,
    SCM,
    SERVICES,
    STATE,
    consumers,
    streams,
)

OPERATOR: Final = "operator"
ONCALL: Final = "oncall"
"""Who looks, and deals with dead letters: `catalyst`, the command line."""
PEOPLE: Final = (OPERATOR, ONCALL)
"""Users whose seeds never enter the cluster."""

READS: Final = {
    "env-controller": (SCM, EVENTS, STATE, AUDIT, DEAD),
    "builder": (STATE,),
    "dns-proxy": (STATE, LOCKS),
    "notifier": (STATE, LOCKS, EVENTS),
}
"""The streams whose stored messages a service asks for."""
MEASURES: Final = {"env-controller": tuple(str(config.name) for config in streams())}
"""The streams that a service asks how full they are, for everybody; not what is in them."""
LOCKED: Final = ("dns-proxy", "notifier")
"""The services whose replicas elect one by a lock on the bus, because they have no rights in the cluster."""
SETTLED: Final = ("notifier",)
"""The services whose lead says up to when nothing is left to do, for the next one."""
PROJECTS: Final = ("notifier",)
"""The services that say our facts again in the words of CDEvents."""
RECORDED: Final = ("env-controller",)
"""The services that record what they decide. Only the operator reads it."""


@dataclass(frozen=True, slots=True)
class User:
    """One user and its permissions, as subjects. What is not allowed is refused."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_deny: tuple[str, ...] = ()

    @property
    def inbox_prefix(self) -> str:
        """Where answers to this user arrive; nobody else may listen there."""
        return inbox_prefix(self.name)


def inbox_prefix(name: str) -> str:
    """`_INBOX_env-controller`"""
    return f"_INBOX_{name}"


def users(services: Iterable[str] = SERVICES) -> tuple[User, ...]:
    """The operator, who is on call, and one user a service."""
    return (operator(), oncall(), *(service_user(service) for service in services))


def service_user(service: str) -> User:
    """A service's rights: what the catalogue says it writes, its own consumers, and the streams it reads."""
    publish = [
        pattern for data in CATALOGUE.values() if service in data.WRITERS for pattern in _patterns(service, data)
    ]
    publish.append(started_subject(service))
    if service in LOCKED:
        publish.append(lock_subject(service))
    if service in SETTLED:
        publish.append(settled_subject(service))
    if service in RECORDED:
        publish.append("decision.>")
    if service in PROJECTS:
        publish.append("cdevents.>")
    for consumer in consumers([service]):
        publish.append(f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}")
        publish.append(f"$JS.API.CONSUMER.INFO.{consumer.stream}.{consumer.name}")
        publish.append(f"$JS.ACK.{consumer.stream}.{consumer.name}.>")
    for stream in READS.get(service, ()):
        publish.append(f"$JS.API.DIRECT.GET.{stream}")
        publish.append(f"$JS.API.STREAM.INFO.{stream}")
    publish += [f"$JS.API.STREAM.INFO.{stream}" for stream in MEASURES.get(service, ())]
    return User(service, tuple(dict.fromkeys(publish)), (f"{inbox_prefix(service)}.>",))


def operator() -> User:
    """Reads everything, applies the topology, makes backups; states no facts, and cannot make any disappear. It can
    restore into an empty server, and there only: a stream that exists is never replaced.
    """
    return User(
        OPERATOR,
        publish=("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$JS.SNAPSHOT.>"),  # the last: backup and restore
        subscribe=(f"{inbox_prefix(OPERATOR)}.>", "scm.>", "env.>", "audit.>", "dead.>", "cdevents.>", "$JS.EVENT.>"),
        # STATE may be purged by subject: snapshots of environments gone for 90 days.
        publish_deny=(
            "$JS.API.STREAM.DELETE.>",
            "$JS.API.STREAM.MSG.DELETE.>",
            *(f"$JS.API.STREAM.PURGE.{stream}" for stream in (SCM, EVENTS, AUDIT, DEAD, LOCKS, DECISIONS, CDEVENTS)),
        ),
    )


def oncall() -> User:
    """Reads all events by direct gets and live news, makes nothing disappear, and asks for no consumer. It may publish
    what some consumer reads, because only that becomes a dead letter and is sent again. The server cannot tell a fact
    sent again from a forged one, so this seed is for people who may also say so with kubectl.
    """
    streams = (SCM, EVENTS, STATE, AUDIT, DEAD, LOCKS, CDEVENTS)
    return User(
        ONCALL,
        publish=(
            *dict.fromkeys(pattern for consumer in consumers() for pattern in consumer.filters),
            dead_subject(ONCALL),
            *(f"$JS.API.DIRECT.GET.{stream}" for stream in streams),
            # How full DECISIONS is, not what is in it.
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in (*streams, DECISIONS)),
            *(f"$JS.API.CONSUMER.LIST.{stream}" for stream in (*streams, DECISIONS)),
        ),
        subscribe=(f"{inbox_prefix(ONCALL)}.>", "scm.>", "env.>", "audit.>", "dead.>", "cdevents.>"),
    )


def _patterns(service: str, data: type[Data]) -> Iterable[str]:
    if issubclass(data, ScmData):
        return ["scm.>"]
    if issubclass(data, EnvironmentChanged):
        return ["env.*.*.*.environment.changed"]
    if issubclass(data, EnvironmentData):
        return [f"env.*.*.*.{data.NOUN}.{data.VERB}"]
    if issubclass(data, AuditRecord):
        return ["audit.>"]
    if issubclass(data, DeadLetter | DeadSettled):
        return [dead_subject(service)]
    raise TypeError(f"{data.__name__} has no subject pattern: add it here")
