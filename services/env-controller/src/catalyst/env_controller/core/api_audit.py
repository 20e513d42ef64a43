"""What the API server's audit tells, as entries of ours. Pure.

Recorded is what a principal tried to change, every way into a pod, and every look at a Secret: of our resource types,
and of anything in a project's or an environment's namespace. Not recorded: other reads, and what Kubernetes and
Catalyst do by themselves. Read of an event are the fields below and nothing else: no bodies, no URI (an exec's command
is in it), no messages (a refusal quotes what was refused).

Source: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from catalyst.env_controller.core.audit import DONE, UNKNOWN, Entry, Judgement
from catalyst.events.catalogue import Principal
from catalyst.model import labels
from catalyst.model.names import Identity, InvalidName, is_name

CHANGING: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
CONNECTING: Final = frozenset({"exec", "attach", "portforward", "proxy"})
LOOKING: Final = frozenset({"get", "list", "watch"})
GROUP: Final = labels.API_VERSION.partition("/")[0]

_MACHINES: Final = frozenset({"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"})
_WORD: Final = re.compile(r"[A-Za-z]{1,64}\Z")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True)


class ApiUser(_Part):
    """Who asked."""

    username: str = ""
    uid: str | None = None


class ObjectRef(_Part):
    """What the request was for."""

    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str | None = None
    api_group: str = ""
    subresource: str = ""


class ApiStatus(_Part):
    """How it was answered."""

    code: int = 0
    reason: str | None = None


class ApiEvent(_Part):
    """One request at one stage."""

    audit_id: str = Field(alias="auditID", pattern=r"^[!-~]{1,128}$")
    stage: str
    verb: str
    user: ApiUser
    impersonated_user: ApiUser | None = None
    object_ref: ObjectRef | None = None
    response_status: ApiStatus | None = None
    request_received_timestamp: AwareDatetime


@dataclass(frozen=True, slots=True)
class Place:
    """Whose namespace it is."""

    team: str
    project: str
    environment: str | None = None


Whose = Callable[[str], Place | None]
"""A namespace → whose it is; None: nobody's that we know of."""


def place_of(namespace: str, its_labels: dict[str, Any]) -> Place | None:
    """By its name, which tells it for ever; a hashed one by its labels."""
    parts = namespace.split("--")
    if len(parts) == 1:
        parts = [its_labels.get(name, "") for name in (labels.TEAM, labels.PROJECT, labels.ENVIRONMENT)]
        parts = parts if parts[2] else parts[:2]
    if len(parts) not in (2, 3) or not all(isinstance(part, str) and is_name(part) for part in parts):
        return None
    return Place(*parts)


def machines(*namespaces: str) -> Callable[[str], bool]:
    """Whether a user is Kubernetes itself, or a ServiceAccount of one of these namespaces."""
    prefixes = ("system:node:", *(f"system:serviceaccount:{each}:" for each in ("kube-system", *namespaces)))
    return lambda user: user in _MACHINES or user.startswith(prefixes)


def entry_of(event: ApiEvent, whose: Whose, is_machine: Callable[[str], bool]) -> Entry | None:
    """None: it is nothing that is recorded."""
    ref = event.object_ref
    if ref is None or is_machine(event.user.username) or not _counts(event, ref):
        return None
    place = _place(ref, whose)
    if place is None:
        return None
    is_environment = ref.resource == "environments" and ref.api_group == GROUP
    return Entry(
        id=f"kubernetes/{event.audit_id}",
        team=place.team,
        project=place.project,
        environment=place.environment,
        uid=(ref.uid or "")[:256] or None if is_environment else None,
        principal=_principal(event),
        door="kubectl",
        operation=f"{event.verb[:64]} {ref.subresource[:64]}".strip(),
        target=_target(ref),
        judgement=_judgement(event),
        at=event.request_received_timestamp,
    )


def latest(events: Iterable[ApiEvent]) -> list[ApiEvent]:
    """One a request: its end, if both its beginning and its end are among them."""
    found: dict[str, ApiEvent] = {}
    for event in events:
        if event.audit_id not in found or event.stage != "ResponseStarted":
            found[event.audit_id] = event
    return list(found.values())


def _counts(event: ApiEvent, ref: ObjectRef) -> bool:
    is_way_in = ref.subresource in CONNECTING
    if event.stage == "ResponseStarted":
        return is_way_in  # a session is recorded when it begins: it may last
    if event.stage not in ("ResponseComplete", "Panic"):
        return False
    return event.verb in CHANGING or is_way_in or (ref.resource == "secrets" and event.verb in LOOKING)


def _place(ref: ObjectRef, whose: Whose) -> Place | None:
    if ref.api_group == GROUP and ref.resource == "projects":
        known = is_name(ref.namespace) and is_name(ref.name)
        return Place(ref.namespace, ref.name) if known else None
    place = whose(ref.name if ref.resource == "namespaces" and not ref.namespace else ref.namespace)
    if place and ref.api_group == GROUP and ref.resource == "environments" and place.environment is None:
        try:
            return Place(place.team, place.project, Identity(place.team, place.project, ref.name).environment)
        except InvalidName:  # refused for its name, or all of them at once
            return place
    return place


def _target(ref: ObjectRef) -> str:
    kind = f"{ref.resource}.{ref.api_group}" if ref.api_group else ref.resource
    return "/".join(part for part in (kind, ref.namespace, ref.name) if part) or UNKNOWN


def _principal(event: ApiEvent) -> Principal:
    acting = event.impersonated_user
    return Principal(
        kind="kubernetes",
        name=event.user.username[:256] or UNKNOWN,
        id=(event.user.uid or "")[:256] or None,
        acting_as=(acting.username[:256] or UNKNOWN) if acting else None,
    )


def _judgement(event: ApiEvent) -> Judgement:
    status = event.response_status or ApiStatus()
    if event.stage == "Panic" or status.code >= 500:
        return Judgement("failed", _said(status, "the API server failed"))
    if status.code >= 400:
        return Judgement("refused", _said(status, "refused"))
    return DONE


def _said(status: ApiStatus, otherwise: str) -> str:
    word = status.reason if status.reason and _WORD.match(status.reason) else otherwise
    return f"{word} ({status.code})" if status.code else word


def is_old(entry: Entry, now: datetime, window: float) -> bool:
    """Whether the bus may have forgotten, within its `window` in seconds, that it holds this one."""
    return (now - entry.at).total_seconds() > window / 2
