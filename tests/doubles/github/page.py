"""Pages for people: a pull request's conversation as GitHub would show it. No scripts, nothing from elsewhere."""

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Any

from doubles.github import markdown
from doubles.github.state import PullRequest, Repository, State
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

FOLDER = Path(__file__).parent / "pages"
STYLE = (FOLDER / "style.css").read_text(encoding="utf-8")
SIGNS = {
    "+1": "👍", "-1": "👎", "laugh": "😄", "confused": "😕", "heart": "❤️", "hooray": "🎉", "rocket": "🚀", "eyes": "👀",
}  # fmt: skip
HEADERS = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

_pages = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_pages.filters["markdown"] = lambda text: Markup(markdown.html(text or ""))
_pages.filters["sign"] = lambda content: SIGNS.get(content, content)
_pages.filters["when"] = lambda time: time.strftime("%Y-%m-%d %H:%M:%S")


def pull_request(pull: PullRequest) -> HTMLResponse:
    """The conversation, what was deployed, and the checks of the newest commit."""
    repository = pull.repository
    return _page(
        "pull.html",
        pull=pull,
        repository=repository,
        comments=sorted(pull.comments.values(), key=lambda comment: comment.id),
        deployments=_deployments(pull),
        checks=list({each.name: each for each in repository.checks.values() if each.sha == pull.head}.values()),
        reactions={comment.id: _counted(comment.reactions.values()) for comment in pull.comments.values()},
    )


def index(state: State) -> HTMLResponse:
    """All repositories and their pull requests."""
    return _page("index.html", repositories=list(state.repositories.values()))


def missing() -> HTMLResponse:
    """There is no such page."""
    return _page("missing.html", status=404)


def _page(name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(name).render(style=Markup(STYLE), **values), status, HEADERS)


def _deployments(pull: PullRequest) -> list[dict[str, Any]]:
    """The newest of each environment that any commit of this pull request was deployed to."""
    shas = set(_commits(pull.repository, pull))
    newest = {each.environment: each for each in pull.repository.deployments.values() if each.sha in shas}
    return [
        {
            "environment": each.environment,
            "state": each.statuses[-1].state if each.statuses else "pending",
            "url": each.statuses[-1].environment_url if each.statuses else "",
            "sha": each.sha,
            "at": (each.statuses[-1] if each.statuses else each).created_at,
        }
        for each in newest.values()
    ]


def _commits(repository: Repository, pull: PullRequest) -> list[str]:
    return [commit.sha for commit in repository.git.log(f"{pull.base}..{pull.head}", limit=100)] + [pull.head]


def _counted(reactions: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reaction in reactions:
        counts[reaction.content] = counts.get(reaction.content, 0) + 1
    return counts
