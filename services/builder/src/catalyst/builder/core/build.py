"""A request, checked: what is to be built, from where, under which names. Whatever is unsafe or impossible is refused
here, before a namespace, a Job or git exists, with a reason for the person whose repository it is.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from catalyst.builder.core.platform import Platform
from catalyst.events.catalogue import BuildRequested
from catalyst.model.fields import Commit, RepositoryPath
from catalyst.model.names import Identity, build_namespace, is_name

Trust = Literal["trusted", "fork"]

MAX_ARGUMENTS: Final = 64
MAX_ARGUMENT: Final = 4096
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}\Z")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/\.?[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_PATH: Final = TypeAdapter[str](RepositoryPath)
_COMMIT: Final = TypeAdapter[str](Commit)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it is not built: one CamelCase word, and a sentence that says what was found, expected, and what to do."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """One commit of one repository. `url` is safe to hand to git; `repository` is `owner/name` at the forge."""

    url: str
    repository: str
    commit: str
    private: bool


@dataclass(frozen=True, slots=True)
class Build:
    """What one Job builds. Paths are inside the repository, relative to its root."""

    identity: Identity
    uid: str
    component: str
    key: str
    attempt: int
    source: Source
    trust: Trust
    deployment: bool
    dockerfile: str = "Dockerfile"
    context: str = "."
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Where it runs: per project and trust."""
        return build_namespace(self.identity.team, self.identity.project, trusted=self.trust == "trusted")

    @property
    def job(self) -> str:
        """The Job's name: two questions never share one."""
        return job_name(self.uid, self.component, self.key, self.attempt)

    @property
    def repository(self) -> str:
        """Where the image goes, without the registry."""
        return image_repository(self.identity.team, self.identity.project, self.component, self.trust)

    @property
    def cache(self) -> str | None:
        """Where its layers are cached; None for a fork, which shares no cache with anybody.

        What runs in production never reads layers that a pull request's Dockerfile could have written.
        """
        if self.trust == "fork":
            return None
        return (
            f"{self.identity.team}/{self.identity.project}/cache/{'deployment' if self.deployment else 'development'}"
        )

    @property
    def inputs(self) -> str:
        """A hash of everything but the source that decides what comes out."""
        arguments = [part for name in sorted(self.arguments) for part in (name, self.arguments[name])]
        return _hash(self.dockerfile, self.context, self.target or "", str(self.deployment), *arguments)[:32]


def job_name(uid: str, component: str, key: str, attempt: int) -> str:
    """`build-` and 40 hex digits over the length-prefixed parts."""
    return f"build-{_hash(uid, component, key, str(attempt))[:40]}"


def image_repository(team: str, project: str, component: str, trust: Trust) -> str:
    """`acme/shop/web`; for a fork `acme/shop/forks/web`."""
    return f"{team}/{project}/forks/{component}" if trust == "fork" else f"{team}/{project}/{component}"


def build_of(request: BuildRequested, platform: Platform, *, deployment: bool = False) -> Build | Refusal:
    """The build that is asked for, or why it cannot be. `deployment`: the environment is a long-lived one."""
    source = _source(request, platform)
    if isinstance(source, Refusal):
        return source
    inputs = _inputs(request.inputs)
    if isinstance(inputs, Refusal):
        return inputs
    if not is_name(request.component):
        return Refusal(
            "InvalidInput",
            f"component {_shown(request.component)}: expected a-z, 0-9 and single '-' between them. Rename it.",
        )
    return Build(
        identity=request.environment.identity,
        uid=request.environment.uid,
        component=request.component,
        key=request.key,
        attempt=request.attempt,
        source=source,
        trust="trusted" if request.trusted else "fork",
        deployment=deployment,
        dockerfile=inputs.get("dockerfile", "Dockerfile"),
        context=inputs.get("context", "."),
        target=inputs.get("target"),
        arguments={name.removeprefix("arg."): value for name, value in inputs.items() if name.startswith("arg.")},
    )


def _source(request: BuildRequested, platform: Platform) -> Source | Refusal:
    """The repository as we write it ourselves, below the forge's address: what an event names must be the same one.

    So git never sees another scheme, host, port, user or option than the platform's own.
    """
    repository, given = request.repository.full_name, request.repository.clone_url
    if not _REPOSITORY.match(repository) or ".." in repository:
        return Refusal("SourceRefused", f"repository {_shown(repository)}: expected owner/name as the forge writes it.")
    url = f"{platform.git_url}/{repository}.git"
    if _place(given) != _place(url):
        return Refusal(
            "SourceRefused",
            f"clone address {_shown(given)}: expected {url}. Only the forge's own repositories are fetched, "
            "so that no other host is ever asked or sees a credential.",
        )
    try:
        _COMMIT.validate_python(request.commit)
    except ValidationError:
        return Refusal("SourceRefused", f"commit {_shown(request.commit)}: expected a full commit id, not a name.")
    return Source(url, repository, request.commit, request.repository.private)


def _place(url: str) -> tuple[str, str, int | None, str] | None:
    """Scheme, host, port and path, such that two spellings of one place are equal; None when it is no plain address."""
    if url != url.strip() or not url.isascii() or any(character in url for character in " \\@?#%\t\r\n\x00"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return None
    usual = 443 if parts.scheme == "https" else 80
    path = parts.path.lower().removesuffix("/").removesuffix(".git")
    return parts.scheme, parts.hostname, port or usual, path


def _inputs(inputs: Mapping[str, str]) -> Mapping[str, str] | Refusal:
    for name, value in inputs.items():
        refusal = _refused(name, value)
        if refusal is not None:
            return refusal
    if sum(name.startswith("arg.") for name in inputs) > MAX_ARGUMENTS:
        return Refusal("InvalidInput", f"build.args: expected at most {MAX_ARGUMENTS} arguments. Remove some.")
    return inputs


def _refused(name: str, value: str) -> Refusal | None:
    if name in ("dockerfile", "context"):
        try:
            _PATH.validate_python(value)
        except ValidationError:
            return Refusal(
                "InvalidInput",
                f"build.{name} {_shown(value)}: expected a path inside the repository such as apps/web, relative, "
                "without '..' and not beginning with '-'. Correct it in the Project.",
            )
        return None
    if name == "target":
        return (
            None
            if _TARGET.match(value)
            else Refusal(
                "InvalidInput",
                f"build.target {_shown(value)}: expected a stage's name of letters, digits, '.', '_' and '-'.",
            )
        )
    if name.startswith("arg."):
        if _ARGUMENT.match(name.removeprefix("arg.")) and len(value) <= MAX_ARGUMENT and "\0" not in value:
            return None
        return Refusal(
            "InvalidInput",
            f"build.args {_shown(name.removeprefix('arg.'))}: expected a name of letters, digits and '_', and a value "
            f"of at most {MAX_ARGUMENT} characters. Correct it.",
        )
    return Refusal("InvalidInput", f"build input {_shown(name)}: expected dockerfile, context, target or arg.<NAME>.")


def _shown(text: str) -> str:
    """Foreign text in a sentence of ours: quoted, escaped and short."""
    return ascii(text[:120])


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return digest.hexdigest()
