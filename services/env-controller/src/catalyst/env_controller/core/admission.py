"""May an environment that is allowed begin now? What is paused, and a team's maximum: who waits, and who is next.

    paused    a Project (spec.paused), a team, everything: by annotation of the team's namespace, or of Catalyst's own
    maximum   of a team, by annotation of its namespace: so many environments have a place, the rest stand in line

Everyone in the line has an owner. Whoever has fewer environments is served first, of two with as many the older wish:
so a person waits for one place, not behind a hundred requests of a bot. Who has a place keeps it until it is gone.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project

CONDITION: Final = "Admitted"
_NOT: Final = frozenset({"false", "no", "off"})
_LONGEST: Final = 300
"""Characters of what somebody wrote into an annotation that are repeated."""
_LARGEST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Pauses:
    """What the platform's people paused, in the words of their annotations; None: it is not."""

    everywhere: str | None = None
    team: str | None = None


NO_PAUSE: Final = Pauses()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an environment stands that has no place yet, in a team with a maximum. `position` 0: it may begin; else it
    is that one of `waiting`. `maximum` None: `given` is no number.
    """

    position: int
    waiting: int
    maximum: int | None
    given: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why it does not begin: a reason, a sentence that says what lifts it, and in how many seconds to look again even
    if nothing happens (None: something will). `remedy`: what lifts it as a command.
    """

    reason: str
    message: str
    look_again: float | None = None
    remedy: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One environment of a team: whose, since when, and whether it has a place. `number`: of its pull request, since
    many may come in one second.
    """

    uid: str
    owner: str
    created: str
    has_place: bool
    number: int = 0

    @property
    def age(self) -> tuple[str, int, str]:
        """Sorts the oldest first."""
        return self.created, self.number, self.uid


def wait(project: Project, pauses: Pauses, place: Place | None, system_namespace: str) -> Wait | None:
    """Why an environment that is not there yet has to wait, or None."""
    return pause(project, pauses, system_namespace) or _in_line(project.team, place)


def pause(project: Project, pauses: Pauses, system_namespace: str) -> Wait | None:
    """The widest pause that holds."""
    for what, namespace, text in (
        ("Catalyst is paused everywhere", system_namespace, pauses.everywhere),
        (f"Team {project.team} is paused", project.team, pauses.team),
    ):
        if text is not None:
            said = f": {' '.join(text.split())[:_LONGEST]}" if text.strip() else ""
            return Wait(
                "Paused",
                f"{what} (annotation {labels.PAUSED} of namespace {namespace}){said}. "
                "It goes on by itself when the platform's people remove the annotation.",
                remedy=f"kubectl annotate namespace {namespace} {labels.PAUSED}-",
            )
    if project.spec.paused:
        return Wait(
            "Paused",
            f"Project {project.team}/{project.metadata.name} is paused (spec.paused). It goes on by itself when "
            "somebody who may change the Project sets that to false.",
            remedy=f"kubectl patch project {project.metadata.name} --namespace {project.team} --type merge "
            """--patch '{"spec": {"paused": false}}'""",
        )
    return None


def paused(annotation: str | None) -> str | None:
    """What the annotation says, None when it says that nothing is paused."""
    return None if annotation is None or annotation.strip().lower() in _NOT else annotation


def _in_line(team: str, place: Place | None) -> Wait | None:
    if place is None or place.position == 0:
        return None
    if place.maximum is None:
        return Wait(
            "MaximumInvalid",
            f"Annotation {labels.MAXIMUM} of namespace {team}: expected a whole number such as 10, found "
            f"{place.given[:_LONGEST]!r}. Nothing new begins until the platform's people correct or remove it.",
            remedy=f"kubectl annotate namespace {team} --overwrite {labels.MAXIMUM}=10",
        )
    return Wait(
        "MaximumReached",
        f"Position {place.position} of {place.waiting}; the maximum of {team} is {place.maximum}. It begins by itself "
        f"when others are gone; the platform's people raise the maximum (annotation {labels.MAXIMUM} of namespace "
        f"{team}).",
        look_again(place.position),
        f"kubectl annotate namespace {team} --overwrite {labels.MAXIMUM}={place.maximum + place.position}",
    )


def look_again(position: int) -> float:
    """Seconds until the position is told anew, if it is another by then: who is next is woken, and who stands far
    behind learns it more rarely. However fast a line moves, that is 1.4 writes a second where a hundred wait.
    """
    return min(10.0 + 2.0 * position, 300.0)


def place(uid: str, team: Collection[Candidate], given: str) -> Place | None:
    """Where `uid` stands among all environments of its team; None when it has a place."""
    if any(one.uid == uid and one.has_place for one in team):
        return None
    order = line(team)
    if uid not in order:  # not told of yet
        order.append(uid)
    most = maximum(given)
    if most is None:
        return Place(order.index(uid) + 1, len(order), None, given)
    free = max(0, most - sum(one.has_place for one in team))
    return Place(max(0, order.index(uid) + 1 - free), max(0, len(order) - free), most)


def begin_next(team: Collection[Candidate], given: str) -> tuple[str, ...]:
    """The uids of those who wait and for whom there is a place now."""
    most = maximum(given)
    free = max(0, (most or 0) - sum(one.has_place for one in team))
    return tuple(line(team)[:free])


def line(team: Iterable[Candidate]) -> list[str]:
    """Who waits, by uid, the next one first."""
    team = sorted(team, key=lambda one: one.age)
    has = Counter(one.owner for one in team if one.has_place)
    turns = []
    for one in team:
        if not one.has_place:
            turns.append((has[one.owner], one.age))
            has[one.owner] += 1
    return [uid for _, (*_, uid) in sorted(turns)]


def maximum(given: str) -> int | None:
    """The number, None when it is none."""
    text = given.strip()
    return min(int(text), _LARGEST) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def candidates(
    environments: Iterable[Manifest], *, begun: Collection[str], paused_projects: Collection[str]
) -> list[Candidate]:
    """Those that have a place, or stand in line for one. `begun`: uids of which we know that they began, whether their
    status says so yet or not. Who is held, refused, paused or going does not stand in line.
    """
    found = []
    for manifest in environments:
        metadata, spec = manifest["metadata"], manifest["spec"]
        status = manifest.get("status") or {}
        said = {item["type"]: item["status"] for item in status.get("conditions", ())}
        is_refused = said.get("Accepted") == "False"
        has_place = bool(
            status.get("namespace") or metadata["uid"] in begun or (said.get(CONDITION) == "True" and not is_refused)
        )
        is_out = (
            is_refused
            or spec.get("hold")
            or spec.get("deletion")
            or metadata.get("deletionTimestamp")
            or spec.get("projectRef", {}).get("name") in paused_projects
        )
        if has_place or not is_out:
            found.append(
                Candidate(
                    metadata["uid"],
                    spec.get("owner") or "",
                    metadata.get("creationTimestamp") or "",
                    has_place,
                    spec.get("source", {}).get("pullRequest", {}).get("number", 0),
                )
            )
    return found
