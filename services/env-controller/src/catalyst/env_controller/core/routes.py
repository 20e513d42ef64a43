"""The hosts of an environment: one for each exposed component, the first exposed one has the environment's own name.

Handed out when the Service behind it is there; live when dns-proxy says so.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.workload import Image, port
from catalyst.model.environment import EnvironmentStatus, Route
from catalyst.model.names import MAX_HOSTNAME, InvalidName, hostname

_TAKEN = re.compile(r"\b(?:claimed|held) by\b")
_INVALID = re.compile(r"expected one label")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a host is not live though it should be."""

    component: str | None
    reason: str
    sentence: str


def host(subject: Subject, parts: tuple[Part, ...], part: Part) -> str:
    """Raises InvalidName."""
    first = next(each for each in parts if each.is_exposed)
    name = hostname(subject.identity, subject.platform.zone, None if part.name == first.name else part.name)
    if len(name) > MAX_HOSTNAME:
        raise InvalidName(f"host {name}: has {len(name)} characters, expected at most {MAX_HOSTNAME}")
    return name


def url(subject: Subject, parts: tuple[Part, ...]) -> str | None:
    """Where people click; None when nothing is exposed. Raises InvalidName."""
    first = next((part for part in parts if part.is_exposed), None)
    if first is None:
        return None
    path = first.component.expose.path if first.component.expose else "/"
    number = subject.platform.public_port
    return f"https://{host(subject, parts, first)}{'' if number == 443 else f':{number}'}{path}"


def routes(
    subject: Subject,
    parts: tuple[Part, ...],
    images: Mapping[str, Image],
    there: Collection[str],
    before: tuple[Route, ...],
) -> tuple[Route, ...]:
    """`there`: the components whose Service exists. One whose next image is not known yet keeps its route."""
    known = {route.component: route for route in before}
    found = []
    for part in parts:
        if not part.is_exposed or part.is_private:
            continue
        image = images.get(part.name)
        number = port(part, image) if image else None
        if number is not None and part.name in there:
            expose = part.component.expose
            found.append(
                Route(
                    host=host(subject, parts, part),
                    namespace=subject.namespace,
                    service=part.name,
                    port=number,
                    component=part.name,
                    path=expose.path if expose else "/",
                )
            )
        elif image is None and part.name in known:
            found.append(known[part.name])
    return tuple(found)


def fault(status: EnvironmentStatus) -> Fault | None:
    """The first host that dns-proxy says cannot be served."""
    for route in status.routes:
        answer = status.answers.routes.get(route.host) if status.answers else None
        if answer and not answer.live:
            sentence = answer.reason or f"{route.host} could not be published."
            return Fault(route.component, reason(sentence), sentence)
    return None


def reason(sentence: str) -> str:
    """dns-proxy tells a sentence; this is its one word."""
    if _TAKEN.search(sentence):
        return "HostTaken"
    return "InvalidHost" if _INVALID.search(sentence) else "RouteFailed"


def unanswered(status: EnvironmentStatus) -> list[str]:
    """Hosts of which nobody has said whether they are live."""
    answers = status.answers.routes if status.answers else {}
    return [route.host for route in status.routes if route.host not in answers]
