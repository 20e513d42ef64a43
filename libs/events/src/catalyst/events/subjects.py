"""Subjects: where an event is found. Reversible, pure.

```
scm.<forge>.<owner>.<repo>.<kind>.<id>            scm.github.acme.shop.pull_request.42
env.<team>.<project>.<environment>.<noun>.<verb>  env.acme.shop.pr-42.build.requested
audit.<team>.<project>[.<environment>]            audit.acme.shop.pr-42
dead.<service>                                    dead.env-controller
lock.<service>                                    lock.dns-proxy (no event: locks.py)
decision.<team>.<project>[.<environment>]         decision.acme.shop.pr-42 (no event: what env-controller decided)
```

A token keeps `A-Z a-z 0-9 _ - ~`; every other byte of its UTF-8 form becomes `%XX`, so dots, spaces, slashes and
wildcards in names can neither split a subject nor widen a filter.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, unquote

from catalyst.model.names import Identity, InvalidName

ScmKind = Literal["pull_request", "branch", "comment", "command"]
SCM_KINDS: tuple[ScmKind, ...] = ("pull_request", "branch", "comment", "command")


class InvalidSubject(ValueError):
    """A text that is no subject of ours; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class ScmSubject:
    """Facts about one pull request, its comments or commands, or a branch. `id` is a number or a branch name."""

    forge: str
    repository: str
    kind: ScmKind
    id: str


@dataclass(frozen=True, slots=True)
class EnvironmentSubject:
    """One kind of news about one environment: `build`, `requested`."""

    identity: Identity
    noun: str
    verb: str


@dataclass(frozen=True, slots=True)
class AuditSubject:
    """The audit trail of one environment, or of a Project itself."""

    team: str
    project: str
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class DeadSubject:
    """What one service could not handle."""

    service: str


Subject = ScmSubject | EnvironmentSubject | AuditSubject | DeadSubject


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """One token for any non-empty text. Raises `InvalidSubject` for "" and for lone surrogates."""
    if not text:
        raise InvalidSubject("an empty text cannot be part of a subject")
    try:
        return quote(text, safe="").replace(".", "%2E")
    except UnicodeEncodeError as exc:
        raise InvalidSubject(f"{text!r} cannot be part of a subject: it is not valid Unicode") from exc


def unescape(token: str) -> str:
    """The text of a token. Raises `InvalidSubject` unless `escape` gives the same token back."""
    try:
        text = unquote(token, errors="strict")
    except UnicodeDecodeError as exc:
        raise InvalidSubject(f"{token!r} is not an escaped token") from exc
    if not text or escape(text) != token:
        raise InvalidSubject(f"{token!r} is not an escaped token")
    return text


def pull_request_subject(forge: str, repository: str, number: int) -> str:
    """Where all facts of one pull request are. `repository`: `acme/shop`, in any case."""
    return _scm(forge, repository, "pull_request", str(number))


def branch_subject(forge: str, repository: str, branch: str) -> str:
    """Where all pushes to one branch are. Branch names keep their case."""
    return _scm(forge, repository, "branch", branch)


def comment_subject(forge: str, repository: str, number: int) -> str:
    """The comments of one pull request that may be commands."""
    return _scm(forge, repository, "comment", str(number))


def command_subject(forge: str, repository: str, number: int) -> str:
    """Where all commands given in one pull request are."""
    return _scm(forge, repository, "command", str(number))


def environment_subject(identity: Identity, noun: str, verb: str) -> str:
    """Where one kind of news about one environment is."""
    return ".".join(("env", *_identity_tokens(identity), escape(noun), escape(verb)))


def audit_subject(team: str, project: str, environment: str | None = None) -> str:
    """Where the audit records of one environment are; without one, those of the Project itself."""
    parts = (team, project) if environment is None else (team, project, environment)
    return ".".join(("audit", *map(escape, parts)))


def dead_subject(service: str) -> str:
    """Where the messages are that `service` could not handle."""
    return f"dead.{escape(service)}"


def lock_subject(service: str) -> str:
    """Where the replicas of `service` agree who leads."""
    return f"lock.{escape(service)}"


def started_subject(service: str) -> str:
    """Where a replica of `service` says which version it is when it starts."""
    return f"started.{escape(service)}"


def settled_subject(service: str) -> str:
    """Where the replica of `service` that leads says up to when nothing is left to do."""
    return f"settled.{escape(service)}"


def decision_subject(team: str, project: str, environment: str | None = None) -> str:
    """Where the decisions about one environment are; without one, those about its Project."""
    parts = (team, project) if environment is None else (team, project, environment)
    return ".".join(("decision", *map(escape, parts)))


def parse_subject(subject: str) -> Subject:
    """What a subject is about. Raises `InvalidSubject`."""
    tokens = [unescape(token) for token in subject.split(".")]
    try:
        match tokens:
            case ["scm", forge, owner, repository, ("pull_request" | "branch" | "comment" | "command") as kind, id_]:
                return ScmSubject(forge, f"{owner}/{repository}", kind, id_)
            case ["env", team, project, environment, noun, verb]:
                return EnvironmentSubject(Identity(team, project, environment), noun, verb)
            case ["audit", team, project]:
                return AuditSubject(team, project)
            case ["audit", team, project, environment]:
                return AuditSubject(team, project, Identity(team, project, environment).environment)
            case ["dead", service]:
                return DeadSubject(service)
    except InvalidName as exc:
        raise InvalidSubject(f"{subject!r}: {exc}") from exc
    raise InvalidSubject(f"{subject!r} is not a subject of ours: expected scm.…, env.…, audit.… or dead.…")


def _scm(forge: str, repository: str, kind: ScmKind, id_: str) -> str:
    # The owner is everything before the last slash: GitLab nests groups. Forges do not tell Acme/Shop from acme/shop.
    owner, slash, name = repository.lower().rpartition("/")
    if not slash:
        raise InvalidSubject(f"repository {repository!r}: expected owner/name")
    return ".".join(("scm", escape(forge.lower()), escape(owner), escape(name), kind, escape(id_)))


def _identity_tokens(identity: Identity) -> tuple[str, str, str]:
    return escape(identity.team), escape(identity.project), escape(identity.environment)
