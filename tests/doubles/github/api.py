"""The API: one function for each operation, in the table HANDLERS. Each gets an `Ask` and gives an `Answer`.

GitHub's rules that are easy to get wrong are here: what the older `permission` says for each role, that a comment has
at most 65,536 characters, that only Apps report checks, that a deployment wants `required_contexts`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from doubles.github.description import Operation
from doubles.github.problem import Problem, invalid, not_found
from doubles.github.signin import Anonymous, AsApp, AsInstallation, AsUser, SignIn, require, sees
from doubles.github.state import (
    CheckRun,
    Comment,
    Deployment,
    DeploymentStatus,
    PullRequest,
    Reaction,
    Repository,
    User,
)
from doubles.github.webhooks import Attempt

if TYPE_CHECKING:
    from doubles.github.double import GitHubDouble

LONGEST_COMMENT = 65_536
LONGEST_DESCRIPTION = 140
PER_PAGE = 30
ACTIVE = frozenset(("success", "in_progress", "queued", "pending"))


@dataclass
class Ask:
    """One request, known to be as described."""

    github: "GitHubDouble"
    operation: Operation
    signin: SignIn
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    now: datetime

    @property
    def repository(self) -> Repository:
        """The one in the path. Raises `Problem` 404."""
        found = self.github.state.repository(f"{self.path['owner']}/{self.path['repo']}")
        if found is None:
            raise not_found()
        return found

    @property
    def pull(self) -> PullRequest:
        """The one in the path. Raises `Problem` 404."""
        number = int(self.path.get("pull_number") or self.path["issue_number"])
        if number not in self.repository.pulls:
            raise not_found()
        return self.repository.pulls[number]

    @property
    def comment(self) -> Comment:
        """The one in the path. Raises `Problem` 404."""
        found = self.github.state.comment(self.repository, int(self.path["comment_id"]))
        if found is None:
            raise not_found()
        return found

    @property
    def deployment(self) -> Deployment:
        """The one in the path. Raises `Problem` 404."""
        found = self.repository.deployments.get(int(self.path["deployment_id"]))
        if found is None:
            raise not_found()
        return found

    @property
    def check(self) -> CheckRun:
        """The one in the path. Raises `Problem` 404."""
        found = self.repository.checks.get(int(self.path["check_run_id"]))
        if found is None:
            raise not_found()
        return found

    @property
    def actor(self) -> User:
        """As whom things are written. Raises `Problem` 401."""
        match self.signin:
            case AsUser(user=user):
                return user
            case AsInstallation():
                return self.github.app.bot
            case _:
                raise Problem(401, "Requires authentication")

    def next_id(self) -> int:
        return next(self.github.state.ids)


@dataclass
class Answer:
    """`body` None: no content."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Ask], Answer]


@dataclass(frozen=True)
class Rule:
    """Who may: `needs` any of these permissions in the path's repository; `who` otherwise."""

    handler: Handler
    needs: Mapping[str, str] = field(default_factory=dict)
    who: type[AsApp] | type[AsInstallation] | type[AsUser] | None = None
    apps_only: bool = False

    def check(self, ask: Ask) -> None:
        """Refuse whoever may not. Raises `Problem`."""
        if self.needs:
            require(ask.signin, ask.repository, self.needs, apps_only=self.apps_only)
        elif self.who is AsApp and not isinstance(ask.signin, AsApp):
            raise Problem(401, "A JSON web token could not be decoded")
        elif self.who is AsInstallation and not isinstance(ask.signin, AsInstallation):
            raise Problem(
                403,
                "You must authenticate with an installation access token in order to list repositories for an "
                "installation.",
            )
        elif self.who is AsUser and isinstance(ask.signin, Anonymous | AsApp):
            raise Problem(401, "Requires authentication")
        elif self.who is AsUser and isinstance(ask.signin, AsInstallation):
            raise Problem(403, "Resource not accessible by integration")


# The App and its installations


def get_app(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.app())


def list_installations(ask: Ask) -> Answer:
    shapes = ask.github.shapes
    return paged(ask, [shapes.listed_installation(each) for each in ask.github.state.installations.values()])


def get_installation(ask: Ask) -> Answer:
    found = ask.github.state.installations.get(int(ask.path["installation_id"]))
    if found is None:
        raise not_found()
    return Answer(200, ask.github.shapes.installation(found))


def get_repository_installation(ask: Ask) -> Answer:
    found = ask.github.state.installed_at(ask.repository)
    if found is None:
        raise not_found()
    return Answer(200, ask.github.shapes.installation(found))


def create_token(ask: Ask) -> Answer:
    state = ask.github.state
    installation = state.installations.get(int(ask.path["installation_id"]))
    if installation is None:
        raise not_found()
    wanted = ask.body or {}
    repositories: list[Repository] | None = None
    if "repositories" in wanted or "repository_ids" in wanted:
        given = state.repositories_of(installation)
        names, ids = set(wanted.get("repositories", ())), set(wanted.get("repository_ids", ()))
        repositories = [each for each in given if each.name in names or each.id in ids]
        if len(repositories) < len(names | ids):
            raise Problem(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
    token = ask.github.signins.mint(installation, repositories, wanted.get("permissions"), ask.now)
    told: dict[str, Any] = {
        "token": token.token,
        "expires_at": token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": dict(token.permissions),
        "repository_selection": "all" if repositories is None else "selected",
    }
    if repositories is not None:
        told["repositories"] = [ask.github.shapes.repository(each) for each in repositories]
    return Answer(201, told)


def revoke_token(ask: Ask) -> Answer:
    assert isinstance(ask.signin, AsInstallation)
    ask.github.signins.revoke(ask.signin)
    return Answer(204)


def list_installation_repositories(ask: Ask) -> Answer:
    assert isinstance(ask.signin, AsInstallation)
    signin = ask.signin
    seen = [each for each in ask.github.state.repositories_of(signin.installation) if sees(signin, each)]
    page = paged(ask, [ask.github.shapes.repository(each) for each in seen])
    return Answer(200, {"total_count": len(seen), "repositories": page.body}, page.headers)


def list_deliveries(ask: Ask) -> Answer:
    attempts = sorted(ask.github.webhooks.attempts.values(), key=lambda attempt: -attempt.id)
    attempts = [attempt for attempt in attempts if attempt.status != "pending"]
    if wanted := ask.query.get("status"):
        attempts = [attempt for attempt in attempts if attempt.delivered == (wanted == "success")]
    if cursor := ask.query.get("cursor"):
        if not cursor.removeprefix("v1_").isdigit():
            raise Problem(400, "Invalid cursor")
        attempts = [attempt for attempt in attempts if attempt.id < int(cursor.removeprefix("v1_"))]
    size = per_page(ask)
    headers = {}
    if len(attempts) > size:
        query = urlencode({**ask.query, "cursor": f"v1_{attempts[size - 1].id}"})
        headers["link"] = f'<{ask.github.url}/app/hook/deliveries?{query}>; rel="next"'
    return Answer(200, [delivery(attempt) for attempt in attempts[:size]], headers)


def get_delivery(ask: Ask) -> Answer:
    attempt = ask.github.webhooks.attempts.get(int(ask.path["delivery_id"]))
    if attempt is None:
        raise not_found()
    whole = {
        **delivery(attempt),
        "url": ask.github.webhooks.url or "",
        "request": {"headers": attempt.headers, "payload": attempt.webhook.payload},
        "response": {"headers": attempt.answer_headers, "payload": attempt.answer},
    }
    return Answer(200, whole)


def redeliver(ask: Ask) -> Answer:
    attempt = ask.github.webhooks.attempts.get(int(ask.path["delivery_id"]))
    if attempt is None:
        raise not_found()
    ask.github.webhooks.again(attempt)
    return Answer(202, {})


def delivery(attempt: Attempt) -> dict[str, Any]:
    """An attempt as it stands in the list."""
    webhook = attempt.webhook
    return {
        "id": attempt.id,
        "guid": webhook.guid,
        "delivered_at": attempt.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "redelivery": attempt.redelivery,
        "duration": attempt.duration,
        "status": attempt.status,
        "status_code": attempt.status_code,
        "event": webhook.event,
        "action": webhook.action,
        "installation_id": webhook.installation,
        "repository_id": webhook.repository,
        "throttled_at": None,
    }


# Repositories and people


def get_repository(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.full_repository(ask.repository))


def get_permission(ask: Ask) -> Answer:
    user = ask.github.state.users.get(ask.path["username"].lower())
    if user is None:
        raise not_found()
    if isinstance(ask.signin, AsUser) and ask.repository.role(ask.signin.user) not in ("admin", "maintain", "write"):
        raise Problem(403, "Must have push access to view collaborator permission.")
    return Answer(200, ask.github.shapes.collaborator(ask.repository, user))


def get_user(ask: Ask) -> Answer:
    user = ask.actor
    whole = {
        "name": None,
        "company": None,
        "blog": "",
        "location": None,
        "email": None,
        "hireable": None,
        "bio": None,
        "twitter_username": None,
        "public_repos": 0,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": "2008-01-14T04:33:35Z",
        "updated_at": "2008-01-14T04:33:35Z",
    }
    return Answer(200, {**ask.github.shapes.user(user), **whole})


def get_rate_limit(ask: Ask) -> Answer:
    told = {
        name: value for name, value in ask.github.limits.told(ask.signin.key, ask.now).items() if name != "resource"
    }
    return Answer(200, {"resources": {"core": told, "search": told}, "rate": told})


# Pull requests


def list_pulls(ask: Ask) -> Answer:
    query = ask.query
    pulls = list(ask.repository.pulls.values())
    if (state := query.get("state", "open")) != "all":
        pulls = [pull for pull in pulls if pull.state == state]
    if head := query.get("head"):
        pulls = [pull for pull in pulls if f"{_head_owner(pull)}:{pull.head_ref}" == head]
    if base := query.get("base"):
        pulls = [pull for pull in pulls if pull.base_ref == base]
    sort = query.get("sort", "created")
    descending = query.get("direction", "desc" if sort == "created" else "asc") == "desc"
    keys: dict[str, Callable[[PullRequest], Any]] = {
        "created": lambda pull: (pull.created_at, pull.number),
        "updated": lambda pull: (pull.updated_at, pull.number),
        "popularity": lambda pull: len(pull.comments),
        "long-running": lambda pull: pull.created_at,
    }
    pulls.sort(key=keys[sort], reverse=descending)
    return paged(ask, [ask.github.shapes.pull_request(pull) for pull in pulls])


def get_pull(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.whole_pull_request(ask.pull))


def create_pull(ask: Ask) -> Answer:
    body = ask.body
    if "title" not in body:
        raise invalid("PullRequest", "title", "title is missing")
    made = ask.github.open_pull_request(
        ask.repository.full_name,
        head=body["head"],
        base=body["base"],
        title=body["title"],
        body=body.get("body"),
        draft=body.get("draft", False),
        author=ask.actor.login,
    )
    return Answer(201, ask.github.shapes.whole_pull_request(made))


def update_pull(ask: Ask) -> Answer:
    pull, body = ask.pull, ask.body or {}
    if pull.merged_at and body.get("state") == "open":
        raise invalid("PullRequest", "state", "state cannot be changed. The pull request was merged.")
    if {"title", "body"} & body.keys():
        ask.github.edit_pull_request(
            pull, title=body.get("title", pull.title), text=body.get("body", pull.body), by=ask.actor
        )
    if body.get("state", pull.state) != pull.state:
        (ask.github.close if body["state"] == "closed" else ask.github.reopen)(pull, by=ask.actor.login)
    return Answer(200, ask.github.shapes.whole_pull_request(pull))


def add_labels(ask: Ask) -> Answer:
    body = ask.body
    names = body if isinstance(body, list) else body["labels"] if isinstance(body, dict) else [body]
    for name in names:
        ask.github.label(ask.pull, name if isinstance(name, str) else name["name"], by=ask.actor.login)
    return paged(ask, [ask.github.shapes.label(ask.repository, name) for name in ask.pull.labels])


def remove_label(ask: Ask) -> Answer:
    if ask.path["name"] not in ask.pull.labels:
        raise Problem(404, "Label does not exist")
    ask.github.unlabel(ask.pull, ask.path["name"], by=ask.actor.login)
    return Answer(200, [ask.github.shapes.label(ask.repository, name) for name in ask.pull.labels])


# Comments and reactions


def list_comments(ask: Ask) -> Answer:
    comments = sorted(ask.pull.comments.values(), key=lambda comment: comment.id)
    return paged(ask, [ask.github.shapes.comment(comment) for comment in comments])


def get_comment(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.comment(ask.comment))


def create_comment(ask: Ask) -> Answer:
    _fits(ask.body["body"])
    made = ask.github.write_comment(
        ask.pull, ask.body["body"], author=ask.actor, by_app=isinstance(ask.signin, AsInstallation)
    )
    return Answer(201, ask.github.shapes.comment(made))


def update_comment(ask: Ask) -> Answer:
    comment = ask.comment
    if comment.author is not ask.actor and ask.repository.role(ask.actor) not in ("admin", "maintain", "write"):
        raise Problem(403, "Must have push access to edit a comment")
    _fits(ask.body["body"])
    ask.github.edit_comment(comment, ask.body["body"], by=ask.actor)
    return Answer(200, ask.github.shapes.comment(comment))


def delete_comment(ask: Ask) -> Answer:
    ask.github.delete_comment(ask.comment, by=ask.actor.login)
    return Answer(204)


def list_reactions(ask: Ask) -> Answer:
    wanted = ask.query.get("content")
    found = [each for each in ask.comment.reactions.values() if wanted in (None, each.content)]
    return paged(ask, [ask.github.shapes.reaction(each) for each in found])


def create_reaction(ask: Ask) -> Answer:
    comment, content, actor = ask.comment, ask.body["content"], ask.actor
    for reaction in comment.reactions.values():
        if (reaction.user, reaction.content) == (actor, content):
            return Answer(200, ask.github.shapes.reaction(reaction))
    made = Reaction(ask.next_id(), actor, content, ask.now)
    comment.reactions[made.id] = made
    return Answer(201, ask.github.shapes.reaction(made))


def delete_reaction(ask: Ask) -> Answer:
    if ask.comment.reactions.pop(int(ask.path["reaction_id"]), None) is None:
        raise not_found()
    return Answer(204)


# What lies in a commit


def get_commit(ask: Ask) -> Answer:
    sha = ask.path["commit_sha"]
    git = ask.repository.git
    tree = git.tree_of(sha)
    if tree is None:
        raise not_found()
    (told,) = git.log(sha, 1)
    return Answer(200, ask.github.shapes.git_commit(ask.repository, told, git.parents(sha)))


def get_tree(ask: Ask) -> Answer:
    if "recursive" in ask.query:
        raise Problem(501, "the double tells of one folder at a time")
    git, sha = ask.repository.git, ask.path["tree_sha"]
    held = git.tree(sha)
    if held is None:
        raise not_found()
    return Answer(200, ask.github.shapes.git_tree(ask.repository, sha, held))


# Deployments and checks


def list_deployments(ask: Ask) -> Answer:
    found = sorted(ask.repository.deployments.values(), key=lambda each: -each.id)
    for name in ("sha", "ref", "task", "environment"):
        if (wanted := ask.query.get(name, "none")) != "none":
            found = [each for each in found if getattr(each, name) == wanted]
    return paged(ask, [ask.github.shapes.deployment(ask.repository, each) for each in found])


def get_deployment(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.deployment(ask.repository, ask.deployment))


def create_deployment(ask: Ask) -> Answer:
    body, repository = ask.body, ask.repository
    sha = repository.git.resolve(body["ref"])
    if sha is None:
        raise Problem(422, f"No ref found for: {body['ref']}")
    if body.get("auto_merge", True) and sha != repository.git.branch(repository.default_branch):
        raise Problem(409, "Conflict merging: the double does not merge, set auto_merge to false")
    if body.get("required_contexts") is None and any(check.sha == sha for check in repository.checks.values()):
        raise Problem(409, f"Conflict: Commit status checks failed for {body['ref']}.")
    environment = body.get("environment") or "production"
    _short(body.get("description") or "", "Deployment")
    made = Deployment(
        id=ask.next_id(),
        sha=sha,
        ref=body["ref"],
        task=body.get("task", "deploy"),
        environment=environment,
        description=body.get("description") or "",
        payload=body.get("payload", {}),
        transient=body.get("transient_environment", False),
        production=body.get("production_environment", environment == "production"),
        creator=ask.actor,
        created_at=ask.now,
    )
    repository.deployments[made.id] = made
    return Answer(201, ask.github.shapes.deployment(repository, made))


def list_deployment_statuses(ask: Ask) -> Answer:
    shapes, repository, deployment = ask.github.shapes, ask.repository, ask.deployment
    newest_first = reversed(deployment.statuses)
    return paged(ask, [shapes.deployment_status(repository, deployment, each) for each in newest_first])


def create_deployment_status(ask: Ask) -> Answer:
    body, repository, deployment = ask.body, ask.repository, ask.deployment
    _short(body.get("description", ""), "DeploymentStatus")
    for name in ("environment_url", "log_url", "target_url"):
        if body.get(name) and not body[name].startswith(("http://", "https://")):
            raise invalid("DeploymentStatus", name, f"{name} must use http(s) scheme")

    def status(of: Deployment, state: str) -> DeploymentStatus:
        return DeploymentStatus(
            id=ask.next_id(),
            state=state,
            description=body.get("description", "") if of is deployment else "",
            environment_url=body.get("environment_url", "") if of is deployment else "",
            log_url=(body.get("log_url") or body.get("target_url", "")) if of is deployment else "",
            creator=ask.actor,
            created_at=ask.now,
        )

    made = status(deployment, body["state"])
    deployment.statuses.append(made)
    if body["state"] == "success" and body.get("auto_inactive", True):
        for other in repository.deployments.values():
            same = other.environment == deployment.environment and not (other.transient or other.production)
            if same and other.id < deployment.id and other.statuses and other.statuses[-1].state == "success":
                other.statuses.append(status(other, "inactive"))
    return Answer(201, ask.github.shapes.deployment_status(repository, deployment, made))


def create_check(ask: Ask) -> Answer:
    body, repository = ask.body, ask.repository
    if repository.git.resolve(body["head_sha"]) is None:
        raise Problem(422, f"No commit found for SHA: {body['head_sha']}")
    made = CheckRun(
        id=ask.next_id(),
        sha=body["head_sha"],
        name=body["name"],
        status="queued",
        conclusion=None,
        external_id=body.get("external_id", ""),
        details_url=body.get("details_url"),
        output={},
        started_at=ask.now,
        completed_at=None,
        app_id=ask.github.app.id,
    )
    _change_check(made, body, ask.now)
    repository.checks[made.id] = made
    return Answer(201, ask.github.shapes.check_run(repository, made))


def update_check(ask: Ask) -> Answer:
    ours = ask.github.app.id
    if ask.check.app_id != ours:
        raise Problem(
            403, f"Invalid app_id `{ours}` - check run can only be modified by the GitHub App that created it."
        )
    _change_check(ask.check, ask.body, ask.now)
    return Answer(200, ask.github.shapes.check_run(ask.repository, ask.check))


def get_check(ask: Ask) -> Answer:
    return Answer(200, ask.github.shapes.check_run(ask.repository, ask.check))


def list_checks(ask: Ask) -> Answer:
    sha = ask.repository.git.resolve(ask.path["ref"])
    if sha is None:
        raise Problem(422, f"No commit found for SHA: {ask.path['ref']}")
    found = [each for each in ask.repository.checks.values() if each.sha == sha]
    if name := ask.query.get("check_name"):
        found = [each for each in found if each.name == name]
    if status := ask.query.get("status"):
        found = [each for each in found if each.status == status]
    if app := ask.query.get("app_id"):
        found = [each for each in found if str(each.app_id) == app]
    if ask.query.get("filter", "latest") == "latest":
        found = list({each.name: each for each in found}.values())
    found.sort(key=lambda each: -each.id)
    page = paged(ask, [ask.github.shapes.check_run(ask.repository, each) for each in found])
    return Answer(200, {"total_count": len(found), "check_runs": page.body}, page.headers)


def _change_check(check: CheckRun, body: Mapping[str, Any], now: datetime) -> None:
    status = body.get("status", "completed" if "conclusion" in body else check.status)
    conclusion = body.get("conclusion")
    if status == "completed" and conclusion is None:
        raise invalid("CheckRun", "conclusion", "conclusion is required when status is completed")
    check.status = status
    check.conclusion = conclusion if status == "completed" else None
    check.completed_at = now if status == "completed" else None
    check.details_url = body.get("details_url", check.details_url)
    check.external_id = body.get("external_id", check.external_id)
    check.name = body.get("name", check.name)
    check.output = {**check.output, **body.get("output", {})}


# What several of them need


def per_page(ask: Ask) -> int:
    """How much is wanted at once; GitHub gives at most 100."""
    return min(max(int(ask.query.get("per_page", PER_PAGE)), 1), 100)


def paged(ask: Ask, items: Sequence[Any]) -> Answer:
    """One page, with the links to the others."""
    size, page = per_page(ask), max(int(ask.query.get("page", 1)), 1)
    last = max(1, -(-len(items) // size))
    path = ask.operation.path
    for name, value in ask.path.items():
        path = path.replace(f"{{{name}}}", value)

    def link(number: int, rel: str) -> str:
        return f'<{ask.github.url}{path}?{urlencode({**ask.query, "page": number})}>; rel="{rel}"'

    links = []
    if page > 1:
        links += [link(page - 1, "prev"), link(1, "first")]
    if page < last:
        links += [link(page + 1, "next"), link(last, "last")]
    headers = {"link": ", ".join(links)} if links else {}
    return Answer(200, list(items[(page - 1) * size : page * size]), headers)


def _head_owner(pull: PullRequest) -> str:
    return (pull.head_repository.owner if pull.head_repository else pull.author).login


def _fits(body: str) -> None:
    if len(body) > LONGEST_COMMENT:
        raise invalid("IssueComment", "data", f"body is too long (maximum is {LONGEST_COMMENT} characters)")
    if not body.strip():
        raise invalid("IssueComment", "data", "body cannot be blank")


def _short(description: str, resource: str) -> None:
    if len(description) > LONGEST_DESCRIPTION:
        raise invalid(resource, "description", f"description is too long (maximum is {LONGEST_DESCRIPTION} characters)")


METADATA = {"metadata": "read"}
READ_PULLS = {"pull_requests": "read"}
WRITE_PULLS = {"pull_requests": "write"}
READ_CONVERSATION = {"issues": "read", "pull_requests": "read"}
WRITE_CONVERSATION = {"issues": "write", "pull_requests": "write"}

HANDLERS: Mapping[str, Rule] = {
    "apps/create-installation-access-token": Rule(create_token, who=AsApp),
    "apps/get-authenticated": Rule(get_app, who=AsApp),
    "apps/get-installation": Rule(get_installation, who=AsApp),
    "apps/get-repo-installation": Rule(get_repository_installation, who=AsApp),
    "apps/get-webhook-delivery": Rule(get_delivery, who=AsApp),
    "apps/list-installations": Rule(list_installations, who=AsApp),
    "apps/list-repos-accessible-to-installation": Rule(list_installation_repositories, who=AsInstallation),
    "apps/list-webhook-deliveries": Rule(list_deliveries, who=AsApp),
    "apps/redeliver-webhook-delivery": Rule(redeliver, who=AsApp),
    "apps/revoke-installation-access-token": Rule(revoke_token, who=AsInstallation),
    "checks/create": Rule(create_check, {"checks": "write"}, apps_only=True),
    "checks/get": Rule(get_check, {"checks": "read"}),
    "checks/list-for-ref": Rule(list_checks, {"checks": "read"}),
    "checks/update": Rule(update_check, {"checks": "write"}, apps_only=True),
    "git/get-commit": Rule(get_commit, {"contents": "read"}),
    "git/get-tree": Rule(get_tree, {"contents": "read"}),
    "issues/add-labels": Rule(add_labels, WRITE_CONVERSATION),
    "issues/create-comment": Rule(create_comment, WRITE_CONVERSATION),
    "issues/delete-comment": Rule(delete_comment, WRITE_CONVERSATION),
    "issues/get-comment": Rule(get_comment, READ_CONVERSATION),
    "issues/list-comments": Rule(list_comments, READ_CONVERSATION),
    "issues/remove-label": Rule(remove_label, WRITE_CONVERSATION),
    "issues/update-comment": Rule(update_comment, WRITE_CONVERSATION),
    "pulls/create": Rule(create_pull, WRITE_PULLS),
    "pulls/get": Rule(get_pull, READ_PULLS),
    "pulls/list": Rule(list_pulls, READ_PULLS),
    "pulls/update": Rule(update_pull, WRITE_PULLS),
    "rate-limit/get": Rule(get_rate_limit),
    "reactions/create-for-issue-comment": Rule(create_reaction, WRITE_CONVERSATION),
    "reactions/delete-for-issue-comment": Rule(delete_reaction, WRITE_CONVERSATION),
    "reactions/list-for-issue-comment": Rule(list_reactions, READ_CONVERSATION),
    "repos/create-deployment": Rule(create_deployment, {"deployments": "write"}),
    "repos/create-deployment-status": Rule(create_deployment_status, {"deployments": "write"}),
    "repos/get": Rule(get_repository, METADATA),
    "repos/get-collaborator-permission-level": Rule(get_permission, METADATA),
    "repos/get-deployment": Rule(get_deployment, {"deployments": "read"}),
    "repos/list-deployment-statuses": Rule(list_deployment_statuses, {"deployments": "read"}),
    "repos/list-deployments": Rule(list_deployments, {"deployments": "read"}),
    "users/get-authenticated": Rule(get_user, who=AsUser),
}
"""Operation → what does it, and who may."""
