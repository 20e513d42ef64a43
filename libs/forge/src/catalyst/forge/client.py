"""`GitHubClient`: GitHub's API as far as Catalyst uses it, behind `ForgeClient`.

Every call signs in for its one repository with the permissions in the tables below, no more. Errors: `errors.py`.
Source: https://docs.github.com/en/rest
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self, TypeVar, cast, get_args

import orjson

from catalyst.events.catalogue import PullRequestChanged
from catalyst.forge import github
from catalyst.forge.api import Credential, GitHubApi
from catalyst.forge.errors import BadPayload, ForgeUnavailable, NotThere, Refused, Unauthorized
from catalyst.forge.github_answers import (
    App as AppAnswer,
)
from catalyst.forge.github_answers import (
    CheckRuns,
    CollaboratorPermission,
    Delivery,
    GitCommit,
    GitHubCheckRun,
    GitHubDeployment,
    GitHubDeploymentStatus,
    GitTree,
    Installation,
    InstallationRepositories,
    IssueComment,
    User,
    WholeApp,
    WholeDelivery,
    WholeInstallation,
    understood,
)
from catalyst.forge.protocol import (
    CheckRun,
    CheckStatus,
    Comment,
    Conclusion,
    Deployment,
    DeploymentState,
    FailedDelivery,
    Permission,
    Reaction,
    Token,
    TreeEntry,
)
from catalyst.forge.settings import ForgeSettings
from catalyst.forge.signin import App, BadPrivateKey, BareToken, Permissions, SignIn
from catalyst.model.clock import Clock

SWEPT: Final = "swept"
"""The `action` of a fact that no webhook told."""
LONGEST_DESCRIPTION: Final = 140

READ_PULL_REQUESTS: Final = {"metadata": "read", "pull_requests": "read"}
READ_CONTENTS: Final = {"contents": "read"}
WRITE_COMMENTS: Final = {"pull_requests": "write"}
WRITE_DEPLOYMENTS: Final = {"deployments": "write"}
WRITE_CHECKS: Final = {"checks": "write"}
READ_ISSUES: Final = {"issues": "read"}
"""Nothing is asked with it: GitHub tells an App of comments only if it has it."""
NEEDED_EVENTS: Final = frozenset(github.TRANSLATORS) - {"ping"}
"""What the App has to subscribe to; a ping comes unasked."""


def needed_permissions() -> dict[str, str]:
    """What the App needs for all that Catalyst asks: of each permission the most."""
    asked = (READ_PULL_REQUESTS, READ_CONTENTS, WRITE_COMMENTS, WRITE_DEPLOYMENTS, WRITE_CHECKS, READ_ISSUES)
    most: dict[str, str] = {}
    for name, level in (pair for each in asked for pair in each.items()):
        most[name] = max(level, most.get(name, ""))  # "read" < "write"
    return most


@dataclass(frozen=True, slots=True)
class AboutApp:
    """What an App may do and is told of. `installations`: by account, what each of them has accepted."""

    slug: str
    permissions: Mapping[str, str]
    events: tuple[str, ...]
    installations: Mapping[str, Mapping[str, str]]


_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_OBJECT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LOGIN: Final = re.compile(r"[A-Za-z0-9_-]{1,100}(\[bot\])?")

T = TypeVar("T")


class GitHubClient:
    """Made by `of`; ended by `close`, or used as an async context manager."""

    def __init__(self, api: GitHubApi, signin: SignIn) -> None:
        self._api = api
        self._signin = signin
        self._login: str | None = None

    @classmethod
    def of(cls, settings: ForgeSettings, *, clock: Clock) -> Self:
        """By the settings. Raises `ValueError` naming the variable that is missing or wrong."""
        settings.require_forge()
        api = GitHubApi(settings.github_url, clock=clock)
        if settings.github_app_id is None:
            return cls(api, BareToken(settings.github_token()))
        try:
            return cls(api, App(api, settings.github_app_id, settings.github_private_key(), clock=clock))
        except BadPrivateKey as exc:
            raise ValueError(f"CATALYST_GITHUB_PRIVATE_KEY_FILE: {exc}") from exc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    # Reading

    async def repositories(self) -> list[str]:
        if not isinstance(self._signin, App):
            return []
        found: set[str] = set()
        path = "/app/installations"
        async for page in self._api.pages(path, await self._signin.app()):
            for installation in understood(list[Installation], page, f"GET {path}"):
                credential = await self._signin.whole_installation(installation.id, {"metadata": "read"})
                async for told in self._api.pages("/installation/repositories", credential):
                    given = understood(InstallationRepositories, told, "GET /installation/repositories")
                    found.update(repository.full_name for repository in given.repositories)
        return sorted(found)

    async def open_pull_requests(self, repository: str) -> list[PullRequestChanged]:
        path = f"{_path(repository)}/pulls"
        pages = self._pages(repository, READ_PULL_REQUESTS, path, state="open")
        return [_fact(told, path) async for page in pages for told in understood(list[dict[str, Any]], page, path)]

    async def closed_pull_requests(self, repository: str, since: datetime) -> list[PullRequestChanged]:
        path = f"{_path(repository)}/pulls"
        found: list[PullRequestChanged] = []
        newest_first = {"state": "closed", "sort": "updated", "direction": "desc"}
        async for page in self._pages(repository, READ_PULL_REQUESTS, path, **newest_first):
            for told in understood(list[dict[str, Any]], page, path):
                fact = _fact(told, path)
                if fact.updated_at < since:
                    return found
                found.append(fact)
        return found

    async def pull_request(self, repository: str, number: int) -> PullRequestChanged:
        path = f"{_path(repository)}/pulls/{number}"
        return _fact(understood(dict[str, Any], await self._get(repository, READ_PULL_REQUESTS, path), path), path)

    async def permission(self, repository: str, user: str) -> Permission:
        if not _LOGIN.fullmatch(user):
            return "none"
        path = f"{_path(repository)}/collaborators/{user}/permission"

        async def ask(credential: Credential) -> Any:
            try:
                return await self._api.get(path, credential)
            except NotThere:  # whom the forge does not know; a repository that is gone is told by the sign-in
                return {"permission": "none"}

        told = await self._signed_in(repository, {"metadata": "read"}, ask)
        answer = understood(CollaboratorPermission, told, path)
        for name in (answer.role_name, answer.permission):
            if name in get_args(Permission):
                return cast("Permission", name)
        raise ForgeUnavailable(f"GET {path}", f"an unknown permission {answer.permission[:100]!r}")

    async def failed_deliveries(self, since: datetime) -> list[FailedDelivery]:
        if not isinstance(self._signin, App):
            return []
        path = "/app/hook/deliveries"
        found: dict[str, FailedDelivery] = {}
        async for page in self._api.pages(path, await self._signin.app(), status="failure"):
            deliveries = understood(list[Delivery], page, f"GET {path}")
            for each in deliveries:
                if each.delivered_at >= since and not _is_success(each.status_code):
                    found.setdefault(each.guid, FailedDelivery(each.id, each.guid, each.event, each.delivered_at))
            if deliveries and deliveries[-1].delivered_at < since:
                break
        return sorted(found.values(), key=lambda delivery: (delivery.delivered_at, delivery.id))

    async def delivery_payload(self, delivery: int) -> tuple[dict[str, str], bytes]:
        path = f"/app/hook/deliveries/{delivery}"
        told = understood(WholeDelivery, await self._api.get(path, await self._signin.app()), f"GET {path}").request
        headers = {name.lower(): value for name, value in (told.headers or {}).items()}
        return headers, orjson.dumps(told.payload or {})

    async def about_app(self) -> AboutApp | None:
        """Of the App that we are; None when we are a bare token. Raises `ForgeError`."""
        if not isinstance(self._signin, App):
            return None
        credential, path = await self._signin.app(), "/app/installations"
        told = understood(WholeApp, await self._api.get("/app", credential), "GET /app")
        accepted: dict[str, Mapping[str, str]] = {}
        async for page in self._api.pages(path, credential):
            found = understood(list[WholeInstallation], page, f"GET {path}")
            accepted |= {each.at: each.permissions for each in found}
        return AboutApp(told.slug, told.permissions, told.events, accepted)

    # Writing

    async def login(self) -> str:
        if self._login is None:
            credential = await self._signin.app()
            if isinstance(self._signin, App):
                self._login = f"{understood(AppAnswer, await self._api.get('/app', credential), 'GET /app').slug}[bot]"
            else:
                self._login = understood(User, await self._api.get("/user", credential), "GET /user").login
        return self._login

    async def list_comments(self, repository: str, number: int) -> AsyncIterator[Comment]:
        path = f"{_path(repository)}/issues/{number}/comments"
        async for page in self._pages(repository, WRITE_COMMENTS, path):
            for told in understood(list[IssueComment], page, path):
                yield _comment(told)

    async def create_comment(self, repository: str, number: int, body: str) -> Comment:
        path = f"{_path(repository)}/issues/{number}/comments"
        told = await self._write(repository, WRITE_COMMENTS, "POST", path, {"body": body})
        return _comment(understood(IssueComment, told, path))

    async def update_comment(self, repository: str, comment: int, body: str) -> Comment:
        path = f"{_path(repository)}/issues/comments/{comment}"
        told = await self._write(repository, WRITE_COMMENTS, "PATCH", path, {"body": body})
        return _comment(understood(IssueComment, told, path))

    async def delete_comment(self, repository: str, comment: int) -> None:
        path = f"{_path(repository)}/issues/comments/{comment}"
        try:
            await self._write(repository, WRITE_COMMENTS, "DELETE", path)
        except NotThere:
            return

    async def react(self, repository: str, comment: int, content: Reaction) -> None:
        path = f"{_path(repository)}/issues/comments/{comment}/reactions"
        await self._write(repository, WRITE_COMMENTS, "POST", path, {"content": content})

    async def list_deployments(
        self, repository: str, *, environment: str, sha: str | None = None
    ) -> AsyncIterator[Deployment]:
        path, query = f"{_path(repository)}/deployments", {"environment": environment, **({"sha": sha} if sha else {})}
        async for page in self._pages(repository, WRITE_DEPLOYMENTS, path, **query):
            for told in understood(list[GitHubDeployment], page, path):
                yield Deployment(told.id, told.sha, told.environment)

    async def deployment_state(self, repository: str, deployment: int) -> str | None:
        path = f"{_path(repository)}/deployments/{deployment}/statuses"
        async for page in self._pages(repository, WRITE_DEPLOYMENTS, path):
            return next((told.state for told in understood(list[GitHubDeploymentStatus], page, path)), None)
        return None

    async def create_deployment(
        self, repository: str, *, sha: str, environment: str, description: str = "", transient: bool = True
    ) -> Deployment:
        path = f"{_path(repository)}/deployments"
        wanted = {
            "ref": sha,
            "environment": environment,
            "description": description[:LONGEST_DESCRIPTION],
            "transient_environment": transient,
            "production_environment": False,
            "auto_merge": False,
            "required_contexts": [],  # our own check runs while we deploy
        }
        told = understood(
            GitHubDeployment, await self._write(repository, WRITE_DEPLOYMENTS, "POST", path, wanted), path
        )
        return Deployment(told.id, told.sha, told.environment)

    async def create_deployment_status(
        self,
        repository: str,
        deployment: int,
        state: DeploymentState,
        *,
        environment_url: str | None = None,
        log_url: str | None = None,
        description: str = "",
    ) -> None:
        path = f"{_path(repository)}/deployments/{deployment}/statuses"
        wanted = {"state": state, "environment_url": environment_url, "log_url": log_url}
        cut = description[:LONGEST_DESCRIPTION]
        await self._write(repository, WRITE_DEPLOYMENTS, "POST", path, {**_given(wanted), "description": cut})

    async def list_check_runs(self, repository: str, *, sha: str, name: str) -> AsyncIterator[CheckRun]:
        path = f"{_path(repository)}/commits/{sha}/check-runs"
        query = _given({"check_name": name, "filter": "all", "app_id": self._signin.app_id})
        async for page in self._pages(repository, WRITE_CHECKS, path, **query):
            for told in understood(CheckRuns, page, path).check_runs:
                yield _check_run(told)

    async def create_check_run(
        self,
        repository: str,
        *,
        sha: str,
        name: str,
        external_id: str,
        status: CheckStatus,
        conclusion: Conclusion | None = None,
        title: str = "",
        summary: str = "",
        details_url: str | None = None,
    ) -> CheckRun:
        path = f"{_path(repository)}/check-runs"
        wanted = {"name": name, "head_sha": sha, "external_id": external_id}
        wanted |= _check_fields(status, conclusion, title, summary, details_url)
        return _check_run(
            understood(GitHubCheckRun, await self._write(repository, WRITE_CHECKS, "POST", path, wanted), path)
        )

    async def update_check_run(
        self,
        repository: str,
        check_run: int,
        *,
        status: CheckStatus,
        conclusion: Conclusion | None = None,
        title: str = "",
        summary: str = "",
        details_url: str | None = None,
    ) -> CheckRun:
        path = f"{_path(repository)}/check-runs/{check_run}"
        wanted = _check_fields(status, conclusion, title, summary, details_url)
        return _check_run(
            understood(GitHubCheckRun, await self._write(repository, WRITE_CHECKS, "PATCH", path, wanted), path)
        )

    # Sources

    async def token(self, repository: str, permissions: Mapping[str, str]) -> Token:
        _path(repository)
        return await self._signin.token(repository, permissions)

    async def tree_of(self, repository: str, commit: str) -> str:
        path = f"{_path(repository)}/git/commits/{_object(commit)}"
        return understood(GitCommit, await self._get(repository, READ_CONTENTS, path), path).tree.sha

    async def tree(self, repository: str, tree: str) -> Mapping[str, TreeEntry]:
        path = f"{_path(repository)}/git/trees/{_object(tree)}"
        told = understood(GitTree, await self._get(repository, READ_CONTENTS, path), path)
        if told.truncated:
            raise ForgeUnavailable(f"GET {path}", "a folder with more in it than GitHub tells")
        return {each.path: TreeEntry(each.mode, each.sha) for each in told.tree}

    # What all of them do

    async def _get(self, repository: str, permissions: Permissions, path: str) -> Any:
        return await self._signed_in(repository, permissions, lambda credential: self._api.get(path, credential))

    async def _write(self, repository: str, permissions: Permissions, method: str, path: str, body: Any = None) -> Any:
        return await self._signed_in(
            repository, permissions, lambda credential: self._api.write(method, path, credential, body)
        )

    async def _pages(
        self, repository: str, permissions: Permissions, path: str, **query: str | int
    ) -> AsyncIterator[Any]:
        credential = await self._signin.repository(repository, permissions)
        try:
            async for page in self._api.pages(path, credential, **query):
                yield page
        except Unauthorized:
            self._signin.forget(repository)
            raise

    async def _signed_in(
        self, repository: str, permissions: Permissions, ask: Callable[[Credential], Awaitable[T]]
    ) -> T:
        """A token that was revoked early is replaced once."""
        try:
            return await ask(await self._signin.repository(repository, permissions))
        except Unauthorized:
            self._signin.forget(repository)
            return await ask(await self._signin.repository(repository, permissions))


def _path(repository: str) -> str:
    """`/repos/owner/name`. Raises `Refused` for anything else: a name must not lead to another place of the API."""
    owner, _, name = repository.partition("/")
    if not _REPOSITORY.fullmatch(repository) or {owner, name} & {".", ".."}:
        raise Refused(f"repository {repository[:200]!r}", "expected owner/name")
    return f"/repos/{repository}"


def _object(id_: str) -> str:
    """Raises `Refused` for what is no object of git's."""
    if not _OBJECT.fullmatch(id_):
        raise Refused(f"object {id_[:200]!r}", "expected 40 or 64 hex digits")
    return id_


def _fact(told: dict[str, Any], asked: str) -> PullRequestChanged:
    """A pull request of the API as the webhook would have told it."""
    base = told.get("base")
    repository = base.get("repo") if isinstance(base, dict) else None
    document = {"action": SWEPT, "pull_request": told, "repository": repository, "sender": None}
    try:
        fact = github.pull_request(orjson.dumps(document))
    except BadPayload as exc:
        raise ForgeUnavailable(f"GET {asked}", f"the answer cannot be understood: {exc}") from exc
    return cast("PullRequestChanged", fact)


def _comment(told: IssueComment) -> Comment:
    author = told.user.login if told.user else github.GHOST
    return Comment(told.id, author, told.body or "", told.html_url, told.created_at, told.updated_at)


def _check_run(told: GitHubCheckRun) -> CheckRun:
    return CheckRun(told.id, told.name, told.head_sha, told.external_id or "", told.status)


def _check_fields(
    status: CheckStatus, conclusion: Conclusion | None, title: str, summary: str, details_url: str | None
) -> dict[str, Any]:
    if (status == "completed") != (conclusion is not None):
        raise ValueError("conclusion: expected one exactly when status is completed")
    output = {"title": title, "summary": summary} if title or summary else None
    return _given({"status": status, "conclusion": conclusion, "output": output, "details_url": details_url})


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _is_success(status: int) -> bool:
    return 200 <= status < 300
