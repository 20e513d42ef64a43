"""GitHub's cloud, as far as Catalyst meets it: the API, git over HTTP, webhooks, and the page that people look at.

    with GitHubDouble(folder) as github:
        github.repository("acme/shop", files={"Dockerfile": "FROM scratch\\n"})
        github.install("acme")
        github.hook(url, secret)
        github.commit("acme/shop", "feature", {"index.html": "hello"})
        pull = github.open_pull_request("acme/shop", head="feature")

It serves from a thread of its own, so tests may call it, and run git against it, synchronously. What can be done at
GitHub by a person can be done by a method, by the API, or by git; all three tell the App's webhook.

A defect of the double itself (an answer or a webhook that GitHub's description does not allow) is raised when it ends.
"""

import asyncio
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import uvicorn
from doubles.github import server
from doubles.github.description import Description
from doubles.github.git import ZERO, GitRepository
from doubles.github.githttp import Refs
from doubles.github.limits import Limits
from doubles.github.payloads import Payloads
from doubles.github.problem import invalid
from doubles.github.shapes import App, Shapes
from doubles.github.signin import SignIns
from doubles.github.state import (
    PERMISSIONS,
    Comment,
    Installation,
    PullRequest,
    Repository,
    Role,
    State,
    User,
)
from doubles.github.webhooks import Attempt, Webhooks
from joserfc.jwk import RSAKey

API: Final = "/api/v3"
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
PATIENCE: Final = 10.0


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)


@dataclass
class Fault:
    """What goes wrong with requests whose `METHOD /path` matches, `times` often. `status` None: no answer at all; 0:
    the right one, late.
    """

    pattern: re.Pattern[str]
    times: int
    status: int | None
    body: Any
    headers: Mapping[str, str]
    delay: float = 0.0


@cache
def description() -> Description:
    """Read once: it takes a while."""
    return Description()


class GitHubDouble:
    """`url` is the API's address, `git_url` that of the repositories and pages; `public_url` what others call it by."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        app_id: int = 4711,
        app_slug: str = "catalyst",
        app_key: RSAKey | None = None,
        token_life: timedelta = timedelta(hours=1),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`folder`: where repositories lie; None: a temporary one. `certificate`: its and its key's file, for https."""
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="github-double-"))
        self._host, self._port, self._certificate = host, port, certificate
        self._public_url = public_url
        self.clock = clock
        self.lock = threading.RLock()
        self.state = State()
        self.description = description()
        self.limits = Limits()
        self.faults: list[Fault] = []
        self.defects: list[str] = []
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and status of every API request so far."""
        self.app_key = app_key or RSAKey.generate_key(2048)
        owner, bot = self._new_user(app_slug, "Organization"), self._new_user(f"{app_slug}[bot]", "Bot")
        self.app = App(app_id, app_slug, owner, bot, PERMISSIONS, self.now())
        self.signins = SignIns(self.state, app_id, self.app_key, token_life)
        self.webhooks = Webhooks(ids=self.state.ids, clock=self.now, app_id=app_id)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._address()

    # What it is

    @property
    def private_key(self) -> str:
        """The App's private key, PEM."""
        return self.app_key.as_pem(private=True).decode()

    def now(self) -> datetime:
        """GitHub's clock has whole seconds."""
        return self.clock().replace(microsecond=0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.defects and error is None:
            raise AssertionError("the double broke GitHub's description: " + "; ".join(self.defects[:5]))

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def start(self) -> None:
        """Begin to answer. After `stop` the port is the same: GitHub was away for a while."""
        started, failures = threading.Event(), []

        def live() -> None:
            try:
                asyncio.run(self._serve(started))
            except (Exception, SystemExit) as exc:  # noqa: BLE001 - told to whoever waits below
                failures.append(exc)
            finally:
                started.set()

        self._thread = threading.Thread(target=live, name="github double")
        self._thread.start()
        if not started.wait(PATIENCE) or failures:
            raise RuntimeError(f"the double did not start on {self._host}:{self._port}: {failures}")

    def stop(self) -> None:
        """Answer no more; what there is stays."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(PATIENCE)
            self._server = None

    async def _serve(self, started: threading.Event) -> None:
        certificate, key = self._certificate or (None, None)
        config = uvicorn.Config(
            server.app(self),
            host=self._host,
            port=self._port,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        if not serving.done():
            self._port = self._server.servers[0].sockets[0].getsockname()[1]
            self._address()
            started.set()
        hooks = asyncio.create_task(self.webhooks.run())
        try:
            await serving
        finally:
            hooks.cancel()
            await asyncio.gather(hooks, return_exceptions=True)

    def _address(self) -> None:
        scheme = "https" if self._certificate else "http"
        self.git_url = (self._public_url or f"{scheme}://{self._host}:{self._port}").rstrip("/")
        self.url = self.git_url + API
        self.shapes = Shapes(self.url, self.git_url, self.app)
        self.payloads = Payloads(self.shapes)

    # People, repositories, the App

    def user(self, login: str) -> User:
        """Somebody; made when new."""
        with self.lock:
            return self.state.users.get(login.lower()) or self._new_user(login, "User")

    def organization(self, login: str) -> User:
        """An organisation; made when new."""
        with self.lock:
            return self.state.users.get(login.lower()) or self._new_user(login, "Organization")

    def repository(
        self,
        full_name: str,
        *,
        private: bool = False,
        default_branch: str = "main",
        files: Mapping[str, str | bytes] | None = None,
    ) -> Repository:
        """A repository; made when new, with a first commit unless `files` is empty."""
        with self.lock:
            found = self.state.repository(full_name)
            if found:
                return found
            owner, _, name = full_name.partition("/")
            if not NAME.fullmatch(owner) or not NAME.fullmatch(name):
                raise ValueError(f"{full_name!r}: expected owner/name")
            made = self._new_repository(self.organization(owner), name, private, default_branch, None)
            first = {"README.md": f"# {name}\n"} if files is None else files
            if first:
                made.git.commit(default_branch, first, message="Begin", author=owner, time=self.now())
            return made

    def fork(self, full_name: str, owner: str) -> Repository:
        """A copy at somebody else's account."""
        with self.lock:
            parent = self._repository(full_name)
            made = self._new_repository(self.user(owner), parent.name, parent.private, parent.default_branch, parent)
            for ref, sha in parent.git.refs().items():
                made.git.fetch(parent.git, sha, ref)
            return made

    def collaborator(self, full_name: str, login: str, role: Role) -> User:
        """Let somebody do something."""
        with self.lock:
            user = self.user(login)
            self._repository(full_name).collaborators[login.lower()] = role
            return user

    def install(
        self,
        account: str,
        *,
        repositories: Iterable[str] | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> Installation:
        """Install the App at an account, for all its repositories or for those named (`owner/name`)."""
        with self.lock:
            ids = None if repositories is None else {self._repository(name).id for name in repositories}
            id_ = next(self.state.ids)
            given = dict(PERMISSIONS if permissions is None else permissions)
            made = Installation(id_, self.organization(account), given, ids, self.now())
            self.state.installations[id_] = made
            return made

    def hook(self, url: str, secret: str | bytes) -> None:
        """Where the App's webhooks go from now on, and what they are signed with. A ping tells of it."""
        with self.lock:
            self.webhooks.url = url
            self.webhooks.secret = secret.encode() if isinstance(secret, str) else secret
            self._tell("ping", self.payloads.ping(self.app.id, url, self.now()), None)

    def clone_url(self, full_name: str, login: str | None = None) -> str:
        """Where git finds a repository; with `login`, signed in as that person."""
        scheme, _, rest = self.git_url.partition("://")
        who = f"x-access-token:{self.user(login).token}@" if login else ""
        return f"{scheme}://{who}{rest}/{self._repository(full_name).full_name}.git"

    # What people do

    def commit(
        self,
        full_name: str,
        branch: str,
        files: Mapping[str, str | bytes | None],
        *,
        message: str = "A change",
        author: str | None = None,
    ) -> str:
        """Commit onto a branch and push it; a new branch begins at the default branch. Gives the commit."""
        with self.lock:
            repository = self._repository(full_name)
            git, who = repository.git, self.user(author or repository.owner.login)
            before = git.refs()
            tip = git.branch(repository.default_branch)
            if git.branch(branch) is None and tip:
                git.point(f"refs/heads/{branch}", tip)
            sha = git.commit(branch, files, message=message, author=who.login, time=self.now())
            self.pushed(repository, who, before, git.refs())
            return sha

    def reset(self, full_name: str, branch: str, sha: str, *, by: str | None = None) -> None:
        """Force a branch onto a commit that is there; None of its other commits stay on it."""
        with self.lock:
            repository = self._repository(full_name)
            before = repository.git.refs()
            repository.git.point(f"refs/heads/{branch}", sha)
            self.pushed(repository, self.user(by or repository.owner.login), before, repository.git.refs())

    def delete_branch(self, full_name: str, branch: str, *, by: str | None = None) -> None:
        """Delete a branch, which closes its pull requests."""
        with self.lock:
            repository = self._repository(full_name)
            before = repository.git.refs()
            repository.git.delete(f"refs/heads/{branch}")
            self.pushed(repository, self.user(by or repository.owner.login), before, repository.git.refs())

    def open_pull_request(
        self,
        full_name: str,
        *,
        head: str,
        base: str | None = None,
        title: str | None = None,
        body: str | None = None,
        draft: bool = False,
        author: str | None = None,
    ) -> PullRequest:
        """`head` is a branch, or `owner:branch` of a fork. Raises `Problem` where GitHub would not take it."""
        with self.lock:
            repository = self._repository(full_name)
            base_ref = base or repository.default_branch
            owner, _, branch = head.rpartition(":")
            source = self._source(repository, owner or repository.owner.login)
            base_sha, head_sha = repository.git.branch(base_ref), source.git.branch(branch)
            if base_sha is None:
                raise invalid("PullRequest", "base", f"no branch {base_ref}")
            if head_sha is None:
                raise invalid("PullRequest", "head", f"no branch {branch}")
            for other in repository.pulls.values():
                same = (other.head_repository, other.head_ref, other.base_ref) == (source, branch, base_ref)
                if same and other.state == "open":
                    raise invalid("PullRequest", "head", f"A pull request already exists for {head}.")
            number, now = len(repository.pulls) + 1, self.now()
            pull = PullRequest(
                id=next(self.state.ids),
                number=number,
                repository=repository,
                author=self.user(author or owner or repository.owner.login),
                title=title or branch,
                body=body,
                head_repository=source,
                head_ref=branch,
                head=head_sha,
                base_ref=base_ref,
                base=base_sha,
                created_at=now,
                updated_at=now,
                draft=draft,
            )
            self._follow(pull)
            if pull.changes[3] == 0:
                raise invalid("PullRequest", "head", f"No commits between {base_ref} and {head}")
            repository.pulls[number] = pull
            self._tell_of(pull, "opened", pull.author)
            return pull

    def pull(self, full_name: str, number: int) -> PullRequest:
        """A pull request."""
        return self._repository(full_name).pulls[number]

    def close(self, pull: PullRequest, *, by: str | None = None) -> None:
        """Close without merging."""
        with self.lock:
            if pull.state == "open":
                pull.state, pull.closed_at = "closed", self._touch(pull)
                self._tell_of(pull, "closed", self._who(pull, by))

    def reopen(self, pull: PullRequest, *, by: str | None = None) -> None:
        """Open again; it follows its branch from now on."""
        with self.lock:
            source = pull.head_repository
            head = source.git.branch(pull.head_ref) if source else None
            if pull.merged_at or head is None:
                raise invalid("PullRequest", "state", "state cannot be changed. The branch has been deleted or merged.")
            pull.state, pull.closed_at, pull.head = "open", None, head
            self._touch(pull)
            self._follow(pull)
            self._tell_of(pull, "reopened", self._who(pull, by))

    def merge(self, pull: PullRequest, *, by: str | None = None) -> str:
        """Merge it; gives the merge commit."""
        with self.lock:
            repository, who, now = pull.repository, self._who(pull, by), self.now()
            base = repository.git.branch(pull.base_ref)
            if pull.state != "open" or base is None:
                raise invalid("PullRequest", "base", "Pull Request is not mergeable")
            before = repository.git.refs()
            made = repository.git.merge(base, pull.head, message=f"Merge #{pull.number}", author=who.login, time=now)
            repository.git.point(f"refs/heads/{pull.base_ref}", made)
            pull.state, pull.closed_at, pull.merged_at = "closed", now, now
            pull.merged_by, pull.merge_commit = who, made
            self._touch(pull)
            self._tell_of(pull, "closed", who)
            self.pushed(repository, who, before, repository.git.refs())
            return made

    def edit_pull_request(self, pull: PullRequest, *, title: str, text: str | None, by: User) -> None:
        """Change its title and text."""
        with self.lock:
            changes: dict[str, Any] = {}
            if title != pull.title:
                changes["title"] = {"from": pull.title}
            if text != pull.body:
                changes["body"] = {"from": pull.body or ""}
            if changes:
                pull.title, pull.body = title, text
                self._touch(pull)
                self._tell_of(pull, "edited", by, changes=changes)

    def set_draft(self, pull: PullRequest, draft: bool, *, by: str | None = None) -> None:
        """Make it a draft, or ready for review."""
        with self.lock:
            if draft != pull.draft:
                pull.draft = draft
                self._touch(pull)
                self._tell_of(pull, "converted_to_draft" if draft else "ready_for_review", self._who(pull, by))

    def label(self, pull: PullRequest, name: str, *, by: str | None = None) -> None:
        """Put a label on it."""
        with self.lock:
            if name not in pull.labels:
                pull.labels.append(name)
                self._touch(pull)
                told = self.shapes.label(pull.repository, name)
                self._tell_of(pull, "labeled", self._who(pull, by), label=told)

    def unlabel(self, pull: PullRequest, name: str, *, by: str | None = None) -> None:
        """Take a label off it."""
        with self.lock:
            if name in pull.labels:
                pull.labels.remove(name)
                self._touch(pull)
                told = self.shapes.label(pull.repository, name)
                self._tell_of(pull, "unlabeled", self._who(pull, by), label=told)

    def write_comment(
        self, pull: PullRequest, body: str, *, author: str | User | None = None, by_app: bool = False
    ) -> Comment:
        """Write into the conversation."""
        with self.lock:
            who = author if isinstance(author, User) else self._who(pull, author)
            now = self._touch(pull)
            comment = Comment(next(self.state.ids), pull, who, body, now, now, by_app)
            pull.comments[comment.id] = comment
            self._tell_of_comment(comment, "created", who)
            return comment

    def edit_comment(self, comment: Comment, body: str, *, by: User) -> None:
        """Replace a comment's text."""
        with self.lock:
            was, comment.body = comment.body, body
            comment.updated_at = self._touch(comment.pull)
            comment.edits.append(self.clock())
            self._tell_of_comment(comment, "edited", by, changes={"body": {"from": was}})

    def delete_comment(self, comment: Comment, *, by: str | None = None) -> None:
        """Remove a comment."""
        with self.lock:
            del comment.pull.comments[comment.id]
            self._touch(comment.pull)
            self._tell_of_comment(comment, "deleted", self._who(comment.pull, by))

    # What goes wrong

    def fail(
        self,
        pattern: str,
        *,
        times: int = 1,
        status: int | None = 500,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> Fault:
        """The next `times` API requests whose `METHOD /path` matches get this instead. `status` None: the connection
        breaks. Gives the fault, whose `times` counts down.
        """
        told = {"message": "Server Error"} if body is None else body
        fault = Fault(re.compile(pattern), times, status, told, dict(headers or {}), delay)
        self.faults.append(fault)
        return fault

    def slow(self, pattern: str, seconds: float, *, times: int = 1) -> Fault:
        """The next `times` matching requests take that much longer, and are answered as they would have been."""
        fault = Fault(re.compile(pattern), times, 0, None, {}, seconds)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """No request fails any more."""
        self.faults.clear()

    def fault_for(self, method: str, path: str) -> Fault | None:
        """The one that strikes now."""
        for fault in self.faults:
            if fault.times > 0 and fault.pattern.search(f"{method} {path}"):
                fault.times -= 1
                return fault
        return None

    def lose_webhooks(self, count: int = 1, *, recorded: bool = True) -> None:
        """The next ones do not arrive. `recorded`: GitHub lists them as failed; else it never knew of them."""
        self.webhooks.lose(count, recorded=recorded)

    def hold_webhooks(self) -> None:
        """Send none until `release_webhooks`."""
        self.webhooks.hold()

    def release_webhooks(self, order: Literal["shuffled", "reversed", "as told"] = "shuffled") -> None:
        """Send what was held back."""
        orders: dict[str, Any] = {"shuffled": None, "reversed": lambda held: held[::-1], "as told": list}
        self.webhooks.release(orders[order])

    def redeliver(self, attempt: Attempt) -> None:
        """Send a webhook again, under its own GUID."""
        self.webhooks.again(attempt)

    def drained(self, within: float = PATIENCE) -> None:
        """Return when no webhook is on its way. Raises `TimeoutError`."""
        ends = datetime.now(UTC) + timedelta(seconds=within)
        pause = threading.Event()
        while not self.webhooks.idle:
            if datetime.now(UTC) > ends:
                raise TimeoutError(f"webhooks are still on their way after {within:g} s")
            pause.wait(0.01)

    # What follows

    def pushed(self, repository: Repository, who: User, before: Refs, after: Refs) -> None:
        """Somebody moved these refs: pull requests follow, and the App is told."""
        with self.lock:
            repository.pushed_at = self.now()
            for ref in sorted(before.keys() | after.keys()):
                old, new = before.get(ref, ZERO), after.get(ref, ZERO)
                if old != new:
                    self._tell(
                        "push",
                        self.payloads.push(repository, who, ref, old, new, self._installed(repository)),
                        repository,
                    )
                    if ref.startswith("refs/heads/"):
                        self._moved(repository, ref.removeprefix("refs/heads/"), old, new, who)

    def _moved(self, repository: Repository, branch: str, old: str, new: str, who: User) -> None:
        for target in self.state.repositories.values():
            for pull in target.pulls.values():
                if (pull.state, pull.head_ref) != ("open", branch) or pull.head_repository is not repository:
                    continue
                if new == ZERO:
                    self.close(pull, by=who.login)
                    continue
                pull.head = new
                self._touch(pull)
                self._follow(pull)
                self._tell_of(pull, "synchronize", who, before=old, after=new)

    def _follow(self, pull: PullRequest) -> None:
        if pull.head_repository is not None:
            git = pull.repository.git
            git.fetch(pull.head_repository.git, pull.head, f"refs/pull/{pull.number}/head")
            pull.changes = git.changes(pull.base, pull.head)

    def _touch(self, pull: PullRequest) -> datetime:
        pull.updated_at = max(self.now(), pull.updated_at)
        return pull.updated_at

    def _tell_of(self, pull: PullRequest, action: str, who: User, **more: Any) -> None:
        payload = self.payloads.pull_request(pull, action, who, self._installed(pull.repository), **more)
        self._tell("pull_request", payload, pull.repository)

    def _tell_of_comment(self, comment: Comment, action: str, who: User, **more: Any) -> None:
        payload = self.payloads.comment(comment, action, who, self._installed(comment.pull.repository), **more)
        self._tell("issue_comment", payload, comment.pull.repository)

    def _tell(self, event: str, payload: Mapping[str, Any], repository: Repository | None) -> None:
        installation = self._installed(repository) if repository else None
        if repository is not None and (installation is None or event not in self.app.events):
            return
        name = "-".join(part for part in (event, payload.get("action")) if part).replace("_", "-")
        if wrong := self.description.wrong_webhook(name, payload):
            self.defects.append(f"webhook {name}: {wrong.field}: {wrong.message}")
        self.webhooks.tell(
            event, payload, installation=installation.id if installation else None, repository=repository
        )

    def _installed(self, repository: Repository) -> Installation | None:
        return self.state.installed_at(repository)

    def _who(self, pull: PullRequest, login: str | None) -> User:
        return self.user(login) if login else pull.author

    def _repository(self, full_name: str) -> Repository:
        found = self.state.repository(full_name)
        if found is None:
            raise LookupError(f"there is no repository {full_name}")
        return found

    def _source(self, repository: Repository, owner: str) -> Repository:
        for each in self.state.repositories.values():
            if each.owner.login.lower() == owner.lower() and repository in (each, each.parent):
                return each
        raise invalid("PullRequest", "head", f"{owner} has no fork of {repository.full_name}")

    def _new_user(self, login: str, kind: Literal["User", "Organization", "Bot"]) -> User:
        made = User(next(self.state.ids), login, kind, f"ghp_{secrets.token_hex(18)}")
        self.state.users[login.lower()] = made
        return made

    def _new_repository(
        self, owner: User, name: str, private: bool, default_branch: str, parent: Repository | None
    ) -> Repository:
        git = GitRepository(self.folder / owner.login / f"{name}.git")
        git.create(default_branch)
        now = self.now()
        made = Repository(next(self.state.ids), owner, name, git, private, default_branch, now, now, parent)
        self.state.repositories[made.full_name.lower()] = made
        return made
