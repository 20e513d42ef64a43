"""What goes wrong with a pull request, one of each kind at the same time: its comment says why, what to do, and how the
log ended; its namespace stays; its runbook is typed command by command; the next good commit, or a Project that asks
for less, heals it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from doubles.github.git import GitRepository
from product import Files, Product, Pull, Site, example, until
from runbooks import Terminal, follow, runbook

from catalyst.local.node import layout
from catalyst.model.environment import Phase

pytestmark = pytest.mark.usefixtures("cleared")

HELLO = example("hello")
DOCKERFILE = b'FROM python:3-slim\nWORKDIR /app\nCOPY . .\nEXPOSE 8080\nUSER 1000\nCMD ["python3", "app.py"]\n'
DEAF = b"import time\nprint('nobody is at home', flush=True)\ntime.sleep(3600)\n"
SERVES: dict[str, Any] = {
    "name": "web",
    "image": "python:3-slim",
    "workingDir": "/tmp",
    "command": ["sh", "-c", "echo $CATALYST_COMMIT >index.html && exec python3 -m http.server 8000"],
    "expose": {"port": 8000},
}
MIGRATES: dict[str, Any] = {
    "name": "web",
    "build": {},
    "expose": {"port": 8080},
    "initContainers": [{"name": "migrate", "command": ["python3", "migrate.py"]}],
}
GREEDY = {"resources": {"limits": {"memory": "512Mi"}}}
MODEST = {"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}}}
SMALL = {"quota": {"limits.memory": "256Mi"}}


@dataclass(frozen=True)
class Case:
    """A pull request of the repository `site` that brings `change`: `reason` is given, and the comment `says` this.

    `heals` is the next commit, `healed` what the Project says from then on.
    """

    name: str
    site: str
    reason: str
    says: tuple[str, ...]
    change: Files
    heals: Files = field(default_factory=dict)
    healed: Mapping[str, Any] | None = None


THIRD = 3
NOTHING_NEW: Files = {"README.md": "A change that matters to nobody.\n"}
CASES = [
    Case(
        "a Dockerfile that fails",
        "hello",
        "BuildFailed",
        ("out of cheese", "The end of the log"),
        {"Dockerfile": DOCKERFILE + b"RUN echo out of cheese && exit 3\n"},
        {"Dockerfile": DOCKERFILE},
    ),
    Case(
        "no Dockerfile",
        "hello",
        "DockerfileNotFound",
        ("the repository has no file Dockerfile at this commit",),
        {"Dockerfile": None},
        {"Dockerfile": DOCKERFILE},
    ),
    Case(
        "a program that ends",
        "hello",
        "CrashLoop",
        ("ended with exit status 1", "out of cheese", "The end of the log"),
        {"app.py": b"raise SystemExit('out of cheese')\n"},
        {"app.py": HELLO["app.py"]},
    ),
    Case(
        "a port nobody listens on",
        "hello",
        "PortNotListening",
        ("nothing listens on its port 8080", "nobody is at home", "The end of the log"),
        {"app.py": DEAF},
        {"app.py": HELLO["app.py"]},
    ),
    Case(
        "an init container that fails",
        "init",
        "InitFailed",
        ("Init container migrate of web ended with exit status 1", "no such table", "The end of the log"),
        {"migrate.py": b"raise SystemExit('no such table')\n"},
        {"migrate.py": b"print('migrated')\n"},
    ),
    Case(
        "an image that cannot be pulled",
        "image",
        "ImagePull",
        ("nothing/here", "cannot be pulled"),
        NOTHING_NEW,
        healed={"components": [SERVES]},
    ),
    Case(
        "more than the quota",
        "quota",
        "Quota",
        ("web does not fit into the environment", "exceeded quota"),
        NOTHING_NEW,
        healed={"components": [{**SERVES, **MODEST}], "development": SMALL},
    ),
]
SITES: dict[str, tuple[Files, dict[str, Any]]] = {
    "hello": ({**HELLO, "Dockerfile": DOCKERFILE}, {}),
    "init": ({**HELLO, "Dockerfile": DOCKERFILE, "migrate.py": b"print('migrated')\n"}, {"components": [MIGRATES]}),
    "image": ({"README.md": "Nothing to build.\n"}, {"components": [{**SERVES, "image": "nothing/here:1"}]}),
    "quota": (
        {"README.md": "Nothing to build.\n"},
        {"components": [{**SERVES, **GREEDY}], "development": SMALL},
    ),
}
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


# What is wrong outside of the pull request: it is said, and tried again by itself; soon, or not in a hurry


@pytest.fixture(scope="module")
def outside(product: Product, on_call: Terminal) -> dict[str, tuple[Pull, str]]:
    """A registry that pods do not reach, and a repository that Catalyst may not read: the pull request and what its
    comment said. By the time this returns both are well again.
    """
    return {"RegistryUnavailable": _unstored(product, on_call), "SourceNotReadable": _unreadable(product, on_call)}


def _unstored(product: Product, on_call: Terminal) -> tuple[Pull, str]:
    """Tried again soon; followed after the third try, before a wait that is long enough to type in."""
    with _no_registry_for_pods():
        pull = product.team().site("unstored", HELLO).pull_request({"app.py": _greeting("stored")})
        pull.until(Phase.FAILED, "RegistryUnavailable")
        until(lambda: _attempts(pull) >= THIRD, "it is tried again soon")
        pull.until(Phase.FAILED, "RegistryUnavailable")
        comment = _blamed(pull, "RegistryUnavailable")
        follow("RegistryRefused", on_call, "first cause web: RegistryUnavailable, ", str(pull.identity), **pull.names)
        follow("CatalystBuildsLost", on_call, "RegistryUnavailable")
    return pull, comment


def _unreadable(product: Product, on_call: Terminal) -> tuple[Pull, str]:
    """Not tried again in a hurry: somebody has to do something first."""
    team = product.team()
    site = team.site("unreadable", HELLO)
    installation = next(i for i in product.github.state.installations.values() if i.account.login == team.name)
    contents = installation.permissions.pop("contents")
    try:
        pull = site.pull_request({"app.py": _greeting("read")})
        pull.until(Phase.FAILED, "SourceNotReadable")
        ends = time.monotonic() + 10  # until then something impatient would have asked again
        comment = _blamed(pull, "SourceNotReadable")
        follow("SourceUnavailable", on_call, "first cause web: SourceNotReadable, ", **pull.names)
        time.sleep(max(0.0, ends - time.monotonic()))
        assert _attempts(pull) == 1
    finally:
        installation.permissions["contents"] = contents
    return pull, comment


@runbook("RegistryRefused", "SourceUnavailable", "CatalystBuildsLost")
def test_what_is_missing_outside_is_said(outside: dict[str, tuple[Pull, str]]) -> None:
    assert "A registry could not be reached" in outside["RegistryUnavailable"][1]
    assert "Install the forge's App on it" in outside["SourceNotReadable"][1]


# What is wrong with the pull request itself


@pytest.fixture(scope="module")
def broken(product: Product) -> dict[str, Pull]:
    """All of them, opened at once."""
    team = product.team()
    sites = {name: team.site(name, files, spec) for name, (files, spec) in SITES.items()}
    return {
        case.name: sites[case.site].pull_request(case.change, branch=f"change-{number}")
        for number, case in enumerate(CASES)
    }


@each_case
def test_it_says_why_and_what_to_do(broken: dict[str, Pull], case: Case) -> None:
    pull = broken[case.name]
    pull.until(Phase.FAILED, case.reason)
    comment = _blamed(pull, case.reason)
    assert "**What to do:**" in comment
    assert [text for text in case.says if text not in comment] == [], comment
    assert "🔴" in comment
    assert _namespace(pull)["status"]["phase"] == "Active"


SHOWN = {
    "BuildFailed": "job.batch/",
    "DockerfileNotFound": "first cause",
    "CrashLoop": "out of cheese",
    "PortNotListening": "nobody is at home",
    "InitFailed": "no such table",
    "ImagePull": "Failed to pull image",
    "Quota": "limits.memory",
}
"""What a page's commands show beside the reason."""


@runbook("BuildFailed", "DockerfileNotFound", "CrashLoop", "PortNotListening", "InitFailed", "ImagePull", "Quota")
def test_each_runbook_is_followed(broken: dict[str, Pull], on_call: Terminal) -> None:
    """What heals is not typed but pushed: the next tests."""

    def followed(case: Case) -> None:
        pull = broken[case.name]
        pull.until(Phase.FAILED, case.reason)
        _blamed(pull, case.reason)
        seen = (f"first cause web: {case.reason}, ", SHOWN[case.reason])
        follow(case.reason, on_call, *seen, INIT="migrate", **pull.names)

    with ThreadPoolExecutor(4) as many:
        list(many.map(followed, CASES))


@pytest.fixture(scope="module")
def healed(broken: dict[str, Pull]) -> dict[str, str]:
    """All of them at once, when all have failed; the uid of each namespace before."""
    for case in CASES:
        broken[case.name].until(Phase.FAILED, case.reason)
    before = {case.name: _namespace(broken[case.name])["metadata"]["uid"] for case in CASES}
    for case in CASES:
        pull = broken[case.name]
        if case.healed is not None:
            pull.site.configure(case.healed)
        else:
            pull.push(case.heals)
    return before


@each_case
def test_the_next_good_one_heals_it(broken: dict[str, Pull], healed: dict[str, str], case: Case) -> None:
    pull = broken[case.name]
    pull.until(Phase.READY)
    _shows(pull)
    until(lambda: "🟢" in pull.comment() and case.reason not in pull.comment(), "the comment is good again", 10)
    assert _namespace(pull)["metadata"]["uid"] == healed[case.name]


@runbook("CommitNotFound")
def test_a_commit_that_vanished_is_said_and_the_next_push_heals_it(product: Product, on_call: Terminal) -> None:
    """Forced away before its webhook arrived; that of the force never arrives, and no sweep finds it meanwhile."""
    site = product.team().site("forced", HELLO)
    unswept = product.github.fail(f"GET /repos/{site.repository}/pulls", times=10**6, status=503)
    product.github.hold_webhooks()
    vanished = site.pull_request({"app.py": _greeting("gone")})
    opened = vanished.head
    product.github.commit(site.repository, "elsewhere", {"app.py": _greeting("elsewhere")})
    _force(site, vanished.at_forge.head_ref, "elsewhere")
    product.github.webhooks.release(lambda held: [each for each in held if each.payload.get("action") == "opened"])

    def seen() -> str | None:
        found = vanished.environment()
        ready = found.status.condition("Ready") if found and found.status else None
        return ready.reason if ready and found and found.spec.source.commit == opened else None

    until(lambda: seen() == "CommitNotFound", "the vanished commit is missed", why=vanished.comment)
    comment = _blamed(vanished, "CommitNotFound")
    assert "Push again" in comment
    ends = time.monotonic() + 5
    follow("CommitNotFound", on_call, "first cause web: CommitNotFound, ", site.repository, **vanished.names)
    time.sleep(max(0.0, ends - time.monotonic()))
    assert _attempts(vanished) == 1, "what is gone for good is not asked for again"
    unswept.times = 0
    vanished.push({"app.py": _greeting("back")})
    vanished.until(Phase.READY)
    _shows(vanished)


def test_what_was_missing_outside_is_tried_again_by_itself(outside: dict[str, tuple[Pull, str]]) -> None:
    for pull, _ in outside.values():
        pull.until(Phase.READY)
        _shows(pull)
    assert _attempts(outside["SourceNotReadable"][0]) == 2, "a minute after it failed, and once is enough"


def _greeting(text: str) -> bytes:
    source = HELLO["app.py"]
    assert isinstance(source, bytes)
    return source.replace(b'GREETING = "Hello"', f'GREETING = "{text}"'.encode())


def _blamed(pull: Pull, reason: str) -> str:
    """The comment, when it gives this reason for the present head."""

    def there() -> str:
        text = pull.comment()
        return text if f"`{reason}`" in text and "**What to do:**" in text else ""

    return until(there, f"the comment says {reason}", 10, pull.comment)


def _shows(pull: Pull) -> None:
    answer = pull.visitor().get()
    assert (answer.status_code, pull.head[:7] in answer.text) == (200, True), answer.text


def _namespace(pull: Pull) -> dict[str, Any]:
    found = pull.site.product.sight.get(f"/api/v1/namespaces/{pull.namespace}")
    assert found is not None
    return found


def _attempts(pull: Pull) -> int:
    """How often a build of `web` was asked for."""
    found = pull.environment()
    assert found is not None
    assert found.status is not None
    return found.status.builds["web"].attempt


def _force(site: Site, branch: str, to: str) -> None:
    """The branch becomes that other one, and the commits that were on it are nowhere any more."""
    repository = site.product.github.state.repository(site.repository)
    assert repository is not None
    before = repository.git.branch(branch)
    there = repository.git.branch(to)
    assert before is not None
    assert there is not None
    site.product.github.reset(site.repository, branch, there)
    _pruned(repository.git)
    gone = subprocess.run(["git", "cat-file", "-e", before], cwd=repository.git.path, capture_output=True, check=False)
    assert gone.returncode != 0, "the commit is still there"


def _pruned(git: GitRepository) -> None:
    for words in (["reflog", "expire", "--expire=now", "--all"], ["gc", "--quiet", "--prune=now"]):
        subprocess.run(["git", *words], cwd=git.path, check=True, capture_output=True)


@contextmanager
def _no_registry_for_pods() -> Iterator[None]:
    """Every connection of a pod to the registry is reset."""
    rule = ["INPUT", "--source", layout.PODS, "--destination", layout.ADDRESS, "--protocol", "tcp"]
    rule += ["--dport", str(layout.REGISTRY_PORT), "--jump", "REJECT", "--reject-with", "tcp-reset"]
    _iptables("--insert", *rule)
    try:
        yield
    finally:
        _iptables("--delete", *rule)


def _iptables(*words: str) -> None:
    subprocess.run(["/usr/sbin/iptables", "--wait", *words], check=True, capture_output=True)
