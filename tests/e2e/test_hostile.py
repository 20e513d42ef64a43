"""A hostile repository in the whole product: as a trusted pull request, then the same as a fork's that somebody with
write access approved. Its Dockerfile prints everything it can read and tries everything with it (support/hostile.py).

Every Secret of the cluster, every token that is minted meanwhile, the neighbours' repositories and caches sing when
they are found where they do not belong: in image layers, logs, events, comments, records.

The build alone, and what its network reaches, is in test_builder.py.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import nats
import pytest
from canaries import Canaries, tokens
from doubles.github.markdown import html, mentions
from hostile import OUTSIDE, Loot, files
from knocks import opened
from kubectl import Kubectl
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from neighbours import Neighbours, pod_of
from product import Product, Pull, Site, Team, until
from registry import Login, Owner, Storage, claims, pull, push

from catalyst.env_controller.core.shares import BINDING, PREFIX
from catalyst.env_controller.effects.decisions import HEADERS, compressed
from catalyst.events.subjects import command_subject, decision_subject
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local import platform
from catalyst.local.node import layout
from catalyst.local.node.layout import Layout
from catalyst.model import labels
from catalyst.model.environment import Phase
from catalyst.model.names import build_namespace

NOBODY: Final = "mallory"
SHARED: Final = "stripe"
"""The Secret that the hostile Project shares with its environments."""
WRITER: Final = "lisa"
CREATED, REFUSED = 201, 401
LONGEST: Final = 300
"""Seconds that what the realm gives may be good for."""
BRANCH: Final = "x/@acme/admins/<img-src=evil>"
TITLE: Final = "@acme/admins ![x](http://evil.example/p.png) <script>alert(1)</script>"
NOISE: Final = "@acme/admins <img src=http://evil.example/p.png> ![x](http://evil.example/p.png) </details> ``` #1"
RUNTIME: Final = """
import json, os, pathlib
def read(path):
    try:
        return open(path, "rb").read(100_000).decode("latin-1")
    except OSError:
        return ""
mounts = [line.split()[1] for line in open("/proc/self/mounts")]
skipped = ("/proc", "/sys", "/dev")
places = ["/var/run", "/run", "/root", "/kaniko", *(m for m in mounts if m != "/" and not m.startswith(skipped))]
found = {str(p): read(p) for p in pathlib.Path("/proc").glob("[0-9]*/environ")}
for place in places:
    for folder, _, names in os.walk(place):
        found |= {os.path.join(folder, name): read(os.path.join(folder, name)) for name in names}
    if os.path.isfile(place):
        found[place] = read(place)
print(json.dumps(found))
"""


@dataclass
class Attack:
    """What happened. `before`, `between`, `after`: every tag there is, around the trusted build and the fork's."""

    product: Product
    neighbours: Neighbours
    team: Team
    site: Site
    owner: Owner
    canaries: Canaries = field(default_factory=Canaries)
    before: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    between: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    trusted: Pull = field(init=False)
    fork: Pull = field(init=False)
    loot: Loot = field(init=False)
    forks_loot: Loot = field(init=False)
    login: Login = field(init=False)
    """What the trusted build found."""
    used: dict[str, int] = field(default_factory=dict)
    """`action repository` → status, by the test with that login while the build went on."""
    token: str = ""
    """A token of the registry that the login was exchanged for in time."""

    @property
    def own(self) -> str:
        """The repository of images that the trusted build is for; below it in names: everything of its Project."""
        return f"{self.team.name}/{self.site.name}/web"

    @cached_property
    def builds(self) -> tuple[Kubectl, Kubectl]:
        """The namespaces of the Project's builds: trusted, forks."""
        found = (build_namespace(self.team.name, self.site.name, trusted=trusted) for trusted in (True, False))
        trusted, forks = (self.product.kubectl.within(each) for each in found)
        return trusted, forks

    def collect(self) -> None:
        """Every Secret that is there now and every token that the forge gave, as a canary."""
        found = self.product.sight.get("/api/v1/secrets")
        assert found
        for each in found["items"]:
            self.canaries.add_secret(each)
        for minted in self.product.github.signins.minted:
            self.canaries.add("token of the forge", minted.token)

    def log_of(self, builds: Kubectl, component: str = "web") -> str:
        """Of Kaniko in the newest build; empty while there is none."""
        selector = f"--selector=catalyst.dev/component={component}"
        pods = builds.get("pods", selector, "--sort-by=.metadata.creationTimestamp")["items"]
        statuses = pods[-1].get("status", {}) if pods else {}
        listed = [*statuses.get("initContainerStatuses", ()), *statuses.get("containerStatuses", ())]
        if not any(each["name"] == "kaniko" and "waiting" not in each["state"] for each in listed):
            return ""
        return builds.run("logs", pods[-1]["metadata"]["name"], "--container=kaniko")


@pytest.fixture(scope="module")
def attack(product: Product, neighbours: Neighbours) -> Attack:
    found = _prepared(product, neighbours)
    _plant(found)
    found.before = found.owner.tags()
    _as_trusted(found)
    found.between = found.owner.tags()
    _as_fork(found)
    found.after = found.owner.tags()
    found.collect()
    return found


def _prepared(product: Product, neighbours: Neighbours) -> Attack:
    """A Project of a neighbour's team, with a component of each kind. It shares a Secret with its environments; the
    component that is watched asks for it by name besides, as a fork's could.
    """
    team = Team(product, neighbours.mine.site.team)
    secret = {"valueFrom": {"secretKeyRef": {"name": "app", "key": "canary", "optional": True}}}
    shared = {"valueFrom": {"secretKeyRef": {"name": SHARED, "key": "canary", "optional": True}}}
    spec = {
        "secrets": [{"name": SHARED}],
        "components": [
            {
                "name": "web",
                "build": {"context": "web", "dockerfile": "web/Dockerfile"},
                "expose": {"port": 8080},
                "env": [{"name": "APP_SECRET", **secret}, {"name": "STRIPE", **shared}],
            },
            {"name": "api", "build": {"context": "api", "dockerfile": "api/Dockerfile"}},
        ],
    }
    harmless = {f"{folder}/Dockerfile": 'FROM python:3-slim\nCMD ["sleep", "infinity"]\n' for folder in ("web", "api")}
    site = team.site("shop", harmless, spec)
    product.github.collaborator(site.repository, WRITER, "write")
    product.github.collaborator(site.repository, NOBODY, "read")
    return Attack(product, neighbours, team, site, Owner(Path(product.state.kubeconfig).parent / "realm"))


def _plant(at: Attack) -> None:
    """A canary of its own in every Secret, and in the repositories and caches beside."""
    namespaces = at.product.kubectl.get("namespaces")["items"]
    for where in (each["metadata"]["name"] for each in namespaces if each["status"]["phase"] == "Active"):
        there = at.product.kubectl.within(where)
        if found := there.get("secrets")["items"]:
            there.apply(*(_sings(at, where, each["metadata"]["name"], each["type"]) for each in found))
    for where in (at.team.name, f"{at.team.name}--{at.site.name}", at.neighbours.theirs.site.team):
        _made(at, where)
        at.product.kubectl.within(where).apply(_sings(at, where, "shared"))
    home = f"{at.team.name}--{at.site.name}"
    at.product.kubectl.within(home).apply(_sings(at, home, SHARED))
    theirs = at.neighbours.theirs.site
    for repository in (
        f"{at.team.name}/{at.site.name}/api",
        f"{at.team.name}/{at.site.name}/cache/deployment",
        f"{at.team.name}/site/cache/development",
        f"{theirs.team}/site/cache/development",
        f"{theirs.team}/site/web",
        f"{theirs.team}/site/forks/web",
    ):
        at.owner.push(repository, "canary", at.canaries.new(f"repository {repository}"))
    at.product.github.commit(theirs.repository, "main", {"canary.txt": at.canaries.new(f"git {theirs.repository}")})
    at.collect()


def _made(at: Attack, namespace: str) -> None:
    until(lambda: at.product.sight.get(f"/api/v1/namespaces/{namespace}"), f"namespace {namespace}", 60)


def _sings(at: Attack, where: str, name: str, kind: str = "Opaque") -> dict[str, Any]:
    """One more key in a Secret, which is made when it is not there."""
    value = at.canaries.new(f"Secret {where}/{name}: canary")
    metadata = {"name": name, "namespace": where}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": {"canary": value}}


def _targets(at: Attack) -> dict[str, Any]:
    """What the probe tries: (repository, tag) of others, each beside its own."""
    team, theirs = at.team.name, at.neighbours.theirs.site
    shop, site = f"{team}/{at.site.name}", f"{team}/site"
    foreign = [
        (f"{shop}/api", "canary"),
        (f"{shop}/cache/deployment", "canary"),
        (f"{site}/web", next(iter(at.before[f"{site}/web"]))),
        (f"{site}/cache/development", "canary"),
        (f"{theirs.team}/site/web", "canary"),
        (f"{theirs.team}/site/web", next(tag for tag in at.before[f"{theirs.team}/site/web"] if tag != "canary")),
        (f"{theirs.team}/site/cache/development", "canary"),
        (f"{theirs.team}/site/forks/web", "canary"),
    ]
    repositories = [f"{at.product.github.git_url}/{each.repository}.git" for each in (theirs, at.site)]
    api = f"{at.product.github.url}/repos/{theirs.repository}"
    return {
        "registry": layout.REGISTRY,
        "realm": layout.REALM_URL,
        "kinds": "application/vnd.oci.image.manifest.v1+json",
        "outside": OUTSIDE,
        "own": f"{shop}/web",
        "pull": foreign,
        "mount": [(name, at.before[name][tag]) for name, tag in foreign],
        "push": [
            *foreign,
            (f"{shop}/web", "hostile"),
            (f"{shop}/cache/development", "hostile"),
            (f"{shop}/forks/web", "hostile"),
            ("library/python", "3-slim"),
        ],
        "knock": [f"{layout.METADATA}:80", f"{layout.ADDRESS}:{layout.API_PORT}", "internet.test:80"],
        "get": [
            *(f"{each}/info/refs?service=git-upload-pack" for each in repositories),
            api,
            f"http://{layout.METADATA}/",
        ],
    }


def _as_trusted(at: Attack) -> None:
    """What the build finds is used by the test as long as the build waits for that."""
    change = files("web", _targets(at))
    at.trusted = at.site.pull_request(change, branch=BRANCH, title=TITLE)
    trusted, _ = at.builds
    _made(at, at.trusted.namespace)
    at.trusted.kubectl.apply(_sings(at, at.trusted.namespace, "app"))
    at.loot = _whole(at, trusted)
    at.login = Login.of(at.loot["file"]["/kaniko/.docker/config.json"])
    _use(at)
    at.trusted.until(Phase.READY)
    at.loot = Loot.of(at.log_of(trusted))


def _whole(at: Attack, builds: Kubectl) -> Loot:
    """Of the build under way. Its Secrets are there for that long only, so they are looked at meanwhile."""

    def whole() -> Loot | None:
        at.collect()
        found = Loot.of(at.log_of(builds))
        return found if found.is_whole else None

    found = until(whole, f"the probe in {builds.namespace}", why=lambda: at.log_of(builds)[-3000:])
    assert found
    return found


def _use(at: Attack) -> None:
    """From outside of the build: that it is the build's own pod is nobody's excuse."""
    at.token = at.login.token(at.own, "pull,push")
    for name, tag in _targets(at)["push"]:
        if name != at.own:
            at.used[f"push {name}:{tag}"] = push(name, tag, "by the test", at.login.token(name, "pull,push"))
    for name, tag in _targets(at)["pull"]:
        at.used[f"pull {name}:{tag}"] = pull(name, tag, at.login.token(name))
    assert push(at.own, OUTSIDE, "by the test", at.token) == CREATED


def _as_fork(at: Attack) -> None:
    """Somebody's, who may not write; approved by somebody who may. The App is not installed at the fork, and need not
    be: what is built is in the repository that the pull request is for.
    """
    github = at.product.github
    github.fork(at.site.repository, NOBODY)
    github.commit(f"{NOBODY}/{at.site.name}", "change", files("web", _targets(at)), author=NOBODY)
    at.fork = at.site.pull_request_of(f"{NOBODY}:change", author=NOBODY)
    at.fork.until(Phase.WAITING, within=60)
    at.fork.says(f"/catalyst approve {at.fork.head[:12]}", author=NOBODY)
    github.drained()
    time.sleep(3)
    assert at.fork.until(Phase.WAITING, within=1)
    assert at.product.sight.get(f"/api/v1/namespaces/{at.fork.namespace}") is None
    at.fork.says(f"/catalyst approve {at.fork.head[:12]}", author=WRITER)
    at.forks_loot = _whole(at, at.builds[1])
    at.fork.until(Phase.READY)


# While it was built


def test_a_trusted_build_sees_its_own_push_token_and_no_other_secret(attack: Attack) -> None:
    assert (attack.login.user, _job(attack).partition("/")[0]) == ("build", attack.builds[0].namespace)
    assert attack.canaries.heard(attack.loot.text) == {_push_secret(attack)}


def _job(at: Attack) -> str:
    """`namespace/name` of the trusted build's Job."""
    return str(claims(at.login.password)["sub"]).removeprefix("build:")


def _push_secret(at: Attack) -> str:
    """What its canary is called."""
    return f"Secret {_job(at)}-push: config.json"


def test_with_it_a_build_writes_its_own_image_and_cache_and_nothing_else(attack: Attack) -> None:
    """The shared layers of its own Project's pull requests are among them; those of its deployments are not."""
    shop = f"{attack.team.name}/{attack.site.name}"
    mine = {f"login 0 {shop}/web:hostile", f"login 0 {shop}/cache/development:hostile"}
    assert {name for name, status in attack.loot["push"].items() if status == CREATED} == mine
    assert {status for name, status in attack.loot["push"].items() if name not in mine} == {REFUSED}
    for kind in ("pull", "mount", "catalog"):
        assert attack.loot[kind]
        assert set(attack.loot[kind].values()) == {REFUSED}
    written = {name for name, status in attack.used.items() if status == CREATED}
    assert written == {f"push {shop}/cache/development:hostile"}
    assert {status for name, status in attack.used.items() if name not in written} == {REFUSED}


def test_its_network_ends_at_registry_forge_and_public_web(attack: Attack) -> None:
    for loot in (attack.loot, attack.forks_loot):
        assert {target for target, how in loot["knock"].items() if how == "open"} == {"internet.test:80"}
        asked = list(loot["get"].values())
        assert asked[:3] == [401, 401, 404], "a private repository wants a sign-in, its own, too, or is not even there"
        assert isinstance(asked[3], str), "the metadata service does not answer"
        assert loot["end"]["logins"] == (1 if loot is attack.loot else 0)
    assert attack.loot["end"]["told from outside"] is True


def test_its_token_is_worth_nothing_when_the_build_has_ended(attack: Attack) -> None:
    scope = f"repository:{attack.own}:pull,push"
    assert attack.login.asks(scope).status_code == REFUSED
    # What it was exchanged for in time ends within minutes, and an ended one is refused where a fresh one is not.
    said = claims(attack.token)
    assert said["exp"] - said["iat"] <= LONGEST
    for seconds, status in ((-120, REFUSED), (60, 200)):
        token = attack.owner.token(("repository", attack.own, "pull"), seconds=seconds)
        assert pull(attack.own, OUTSIDE, token) == status
    assert _secrets_of(attack.builds[0]) == [], "Secrets of builds are gone with them"


def _secrets_of(builds: Kubectl) -> list[str]:
    return [each["metadata"]["name"] for each in builds.get("secrets")["items"]]


def test_a_fork_sees_no_token_at_all(attack: Attack) -> None:
    assert tokens(attack.forks_loot.text) == set()
    assert attack.canaries.heard(attack.forks_loot.text) == set()
    for place in ("/kaniko/.docker", "/credentials", "/var/run/secrets", "/run/secrets"):
        assert not [path for path in attack.forks_loot["file"] if path.startswith(place)]
    for kind in ("push", "pull", "mount", "catalog"):
        assert attack.forks_loot[kind].keys()
        assert set(attack.forks_loot[kind].values()) == {REFUSED}, attack.forks_loot[kind]


# What it left


def test_a_trusted_build_changed_its_own_place_only(attack: Attack) -> None:
    shop = f"{attack.team.name}/{attack.site.name}"
    own = {f"{shop}/web", f"{shop}/cache/development"}
    assert _written(attack.before, attack.between) - {f"{shop}/api"} == own
    # The component beside it was built by its own build: what was there is as it was.
    assert attack.between[f"{shop}/api"]["canary"] == attack.before[f"{shop}/api"]["canary"]
    assert len(attack.between[f"{shop}/api"]) == 2


def test_a_fork_wrote_nothing_outside_forks(attack: Attack) -> None:
    shop = f"{attack.team.name}/{attack.site.name}"
    assert _written(attack.between, attack.after) == {f"{shop}/forks/web", f"{shop}/forks/api"}
    assert attack.after[attack.own] == attack.between[attack.own]


def test_the_neighbours_tags_are_what_they_were(attack: Attack) -> None:
    shop, teams = f"{attack.team.name}/{attack.site.name}/", {each.site.team for each in attack.neighbours.all}
    theirs = [n for n in attack.before if n.partition("/")[0] in teams and not n.startswith(shop)]
    assert {name.partition("/")[0] for name in theirs} == teams
    assert {name: attack.after.get(name) for name in theirs} == {name: attack.before[name] for name in theirs}


def _written(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Repositories with a tag that is new or leads elsewhere. (What others had, builder may remove meanwhile.)"""
    return {name for name, tags in new.items() if tags.items() - old.get(name, {}).items()}


# While it runs


def test_a_forks_pod_sees_no_secret(attack: Attack) -> None:
    """What is the environment's own, and what its Project shares, reach a trusted one's pod, by names that both ask
    for.
    """
    trusted, fork = (
        each.kubectl.execute(pod_of(each), "python3", "-c", RUNTIME) for each in (attack.trusted, attack.fork)
    )
    shared = f"Secret {attack.team.name}--{attack.site.name}/{SHARED}: canary"
    assert attack.canaries.heard(trusted) == {f"Secret {attack.trusted.namespace}/app: canary", shared}
    assert attack.canaries.heard(fork) == set()
    for text in (trusted, fork):
        assert tokens(text) == set()
        assert not [path for path in json.loads(text) if "/secrets/" in path]


def test_a_forks_environment_has_no_copy_of_what_the_project_shares(attack: Attack) -> None:
    """Nor has env-controller a right to keep one there."""
    shared = f"Secret {attack.team.name}--{attack.site.name}/{SHARED}: canary"
    for one, has_it in ((attack.trusted, True), (attack.fork, False)):
        assert (f"{PREFIX}{SHARED}" in _names(one, "secrets")) is has_it
        assert (BINDING in _names(one, "rolebindings")) is has_it
        kept = one.kubectl.run("get", "secrets", "--output=json")
        assert (shared in attack.canaries.heard(kept)) is has_it


def _names(one: Pull, kind: str) -> set[str]:
    """Of what there is in its namespace."""
    return {each["metadata"]["name"] for each in one.kubectl.get(kind)["items"]}


def test_a_forks_environment_pulls_what_forks_built_and_nothing_else(attack: Attack) -> None:
    login = Login.of(_decoded(attack.fork.kubectl.get("secret", "catalyst-pull")["data"][".dockerconfigjson"]))
    forks = f"{attack.team.name}/{attack.site.name}/forks/web"
    for repository, status in ((forks, 200), (attack.own, REFUSED)):
        (tag, *_) = attack.after[repository]
        assert pull(repository, tag, login.token(repository)) == status


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def test_a_forks_pod_stands_behind_the_same_walls(attack: Attack) -> None:
    beside = attack.trusted.kubectl.get("pod", pod_of(attack.trusted))["status"]["podIP"]
    targets = ("web:8080", "internet.test:80", f"{beside}:8080", layout.REGISTRY, "kubernetes.default.svc:443")
    assert opened(attack.fork.kubectl, pod_of(attack.fork), *targets) == {"web:8080", "internet.test:80"}


# What is said of it


def test_text_of_a_hostile_author_is_told_as_text(attack: Attack) -> None:
    """A branch, a title and 70 KB of log that call people, load images and close folds; with the token in between."""
    noise = "\n".join([NOISE] * (70_000 // len(NOISE)))
    steal = "cat /kaniko/.docker/config.json; base64 -w0 /kaniko/.docker/config.json"
    broken = f"FROM python:3-slim\nCOPY noise /noise\nRUN cat /noise; {steal}; echo; tail -c 2000 /noise; false\n"
    attack.trusted.push({"web/Dockerfile": broken, "web/noise": noise})
    attack.trusted.until(Phase.DEGRADED)
    attack.collect()
    comment = until(lambda: c if "BuildFailed" in (c := attack.trusted.comment()) else "", "the reason is told", 30)
    assert len(comment) <= 65_536
    assert "@acme/admins" in comment.replace("\u200b", "")
    assert mentions(comment) == []
    page = html(comment)
    assert "evil.example" not in "".join(part for part in page.split("<") if part.startswith(("a ", "img ")))
    assert tokens(comment) == set()
    assert "[redacted]" in comment


def test_an_approval_is_void_after_the_next_push(attack: Attack) -> None:
    repository = f"{NOBODY}/{attack.site.name}"
    before = len(attack.builds[1].get("jobs")["items"])
    attack.product.github.commit(repository, "change", {"web/more": "something else"}, author=NOBODY)

    def held() -> bool:
        found = attack.fork.environment()
        approved = found.status.condition("Approved") if found and found.status else None
        is_it = found is not None and found.spec.source.commit == attack.fork.head
        return is_it and approved is not None and (approved.status, approved.reason) == ("False", "Fork")

    until(held, "the new commit waits", 30)
    time.sleep(3)
    assert len(attack.builds[1].get("jobs")["items"]) == before, "and nothing is built"
    assert attack.fork.visitor().get().status_code == 200, "what was approved goes on serving"


def test_another_teams_repository_cannot_be_named(attack: Attack) -> None:
    """Whoever may write an Environment says where its fork lies. Read is the Project's repository, and no other."""
    theirs = attack.neighbours.theirs
    fork = {"number": 99, "fork": True, "headRepository": theirs.site.repository}
    home = attack.product.kubectl.within(f"{attack.team.name}--{attack.site.name}")
    before = _tokens_for(attack.product, theirs.site.repository)
    project = {"team": attack.team.name, "name": attack.site.name}
    environment = {
        "apiVersion": labels.API_VERSION,
        "kind": "Environment",
        "metadata": {"name": "stolen", "namespace": home.namespace},
        "spec": {"projectRef": project, "source": {"commit": theirs.head, "pullRequest": fork}},
    }
    home.apply(environment)
    try:

        def reasons() -> set[str]:
            conditions = home.get("environments.catalyst.dev", "stolen").get("status", {}).get("conditions", [])
            return {each["reason"] for each in conditions} & {"CommitNotFound"}

        until(reasons, "its commit is not in the Project's repository", 60)
        assert _tokens_for(attack.product, theirs.site.repository) == before
    finally:
        home.run("delete", "environments.catalyst.dev", "stolen", "--wait=false")


def _tokens_for(product: Product, repository: str) -> int:
    """How many the forge minted for it alone."""
    found = product.github.state.repository(repository)
    assert found
    return sum(each.repositories == frozenset({found.id}) for each in product.github.signins.minted)


# The search. Last, so that it sees what the tests above have done.


def test_no_secret_is_in_an_image(attack: Attack) -> None:
    """Every blob of the registry: layers, configurations and manifests, also of what no tag leads to any more."""
    storage = Storage(Layout(Path(attack.product.state.kubeconfig).parent).data / "registry")
    heard = {digest: found for digest, path in storage.blobs() if (found := attack.canaries.heard_in_file(path))}
    holders = storage.holders()
    where = {(name, holder) for digest, found in heard.items() for name in found for holder in holders[digest]}
    planted = {(name, name.removeprefix("repository ")) for name in attack.canaries.names if name.startswith("repo")}
    shop = f"{attack.team.name}/{attack.site.name}"
    dumped = {(_push_secret(attack), f"{shop}/web"), (_push_secret(attack), f"{shop}/cache/development")}
    assert where == planted | dumped, "the neighbours' in their own, and the hostile build's own in its own"


def test_no_secret_is_in_a_log(attack: Attack) -> None:
    pods = [each["metadata"] for each in attack.product.kubectl.get("pods", "--all-namespaces")["items"]]
    logs = {(each["namespace"], each["name"]): _log(attack.product, each) for each in pods}
    assert {platform.EDGE_NAMESPACE, attack.product.system.namespace} < {namespace for namespace, _ in logs}
    heard = {of: found for of, text in logs.items() if (found := attack.canaries.heard(text))}
    # What a Dockerfile prints stands in its own pod's log, for whoever may read it there.
    by_builds = {of: found for of, found in heard.items() if of[0] == attack.builds[0].namespace}
    assert heard == by_builds
    assert by_builds
    assert all(len(found) == 1 and "-push: config.json" in next(iter(found)) for found in by_builds.values())


def _log(product: Product, pod: Mapping[str, str]) -> str:
    """Empty when the pod is gone meanwhile, as those of a former version are."""
    there = product.kubectl.within(pod["namespace"])
    try:
        return there.run("logs", pod["name"], "--all-containers", "--ignore-errors")
    except AssertionError:
        assert f"pod/{pod['name']}" not in there.run("get", "pods", "--output=name").split()
        return ""


def test_no_secret_is_in_the_logs_of_the_node(attack: Attack) -> None:
    logs = Layout(Path(attack.product.state.kubeconfig).parent).logs
    heard = {path.name: found for path in logs.glob("*.log") if (found := attack.canaries.heard_in_file(path))}
    assert heard == {}


@dataclass(frozen=True)
class Message:
    """As a stream of the bus keeps it."""

    subject: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> bytes:
        """All of it, as it would be searched for secrets: records of decisions are compressed."""
        encoding = self.headers.get("Content-Encoding")
        assert encoding in (None, "deflate"), f"{self.subject}: {encoding} cannot be searched"
        said = zlib.decompress(self.body) if encoding else self.body
        return json.dumps([self.subject, *self.headers.items()]).encode() + said


async def test_no_secret_is_in_an_event(attack: Attack) -> None:
    messages = await _messages(attack.product)
    assert {each.subject.partition(".")[0] for each in messages} >= {"scm", "env", "decision"}
    assert attack.canaries.heard(b"\n".join(each.text for each in messages)) == set()
    # Who may not write said the same, and nothing came of it.
    subject = command_subject("github", attack.site.repository, attack.fork.number)
    commands = [json.loads(each.body)["data"] for each in messages if each.subject == subject]
    assert [(each["command"], each["author"]) for each in commands] == [("approve", WRITER)]


async def _messages(product: Product) -> list[Message]:
    """Every one on every stream, read as the operator."""
    found = []
    async with _nats(product, OPERATOR) as client:
        bus = client.jetstream()
        for stream in await bus.streams_info():
            for sequence in range(max(1, stream.state.first_seq), stream.state.last_seq + 1):
                try:
                    message = await bus.get_msg(str(stream.config.name), sequence)
                except NotFoundError:  # another of its subject took its place
                    continue
                found.append(Message(message.subject or "", message.headers or {}, message.data or b""))
    return found


@asynccontextmanager
async def _nats(product: Product, user: str) -> AsyncIterator[Client]:
    """The bus, as one of its users."""
    seed = Path(product.state.kubeconfig).parent / "platform" / "nkeys" / f"{user}.seed"
    address = product.system.get("service", "nats")["spec"]["clusterIP"]
    client = await nats.connect(f"nats://{address}:4222", nkeys_seed=str(seed), inbox_prefix=inbox_prefix(user))
    try:
        yield client
    finally:
        await client.close()


def test_no_secret_is_at_the_forge(attack: Attack) -> None:
    said = []
    for repository in attack.product.github.state.repositories.values():
        said += [comment.body for each in repository.pulls.values() for comment in each.comments.values()]
        for each in repository.deployments.values():
            said += [repr((each.payload, each.description, [(s.description, s.log_url) for s in each.statuses]))]
        said += [repr(check.output) for check in repository.checks.values()]
    assert len(said) > 5
    assert attack.canaries.heard("\n".join(said)) == set()
    assert not [found for text in said for found in tokens(text)]


def test_no_secret_is_in_a_record_of_the_cluster(attack: Attack) -> None:
    """Everything that can be listed but the Secrets: Environments, Projects, records of builds, Kubernetes' events."""
    kubectl = attack.product.kubectl
    kinds = kubectl.run("api-resources", "--verbs=list", "--output=name").split()
    assert {"environments.catalyst.dev", "projects.catalyst.dev", "configmaps", "secrets"} <= set(kinds)
    listed = ",".join(kind for kind in kinds if kind != "secrets")
    text = kubectl.run("get", listed, "--all-namespaces", "--output=json", "--ignore-not-found")
    assert attack.trusted.identity.environment in text
    assert attack.canaries.heard(text) == set()
    secrets = kubectl.run("get", "secrets", "--all-namespaces", "--output=json")
    assert len(attack.canaries.heard(secrets)) > 20, "the search finds what is there"


async def test_the_search_looks_into_the_records_of_decisions(attack: Attack) -> None:
    """One that env-controller would have written about the fork, with a canary in it. Nobody may take it away
    again, so it is last.
    """
    subject = decision_subject(attack.team.name, attack.site.name, "planted")
    canary = Canaries()
    record = json.dumps({"inputs": {"world": {"found": canary.new("in a decision")}}}).encode() + b" " * 200
    assert canary.heard(compressed(record)) == set(), "it cannot be seen from outside"
    async with _nats(attack.product, "env-controller") as client:
        await client.jetstream().publish(subject, compressed(record), headers=HEADERS)
    heard = {each.subject for each in await _messages(attack.product) if canary.heard(each.text)}
    assert heard == {subject}
