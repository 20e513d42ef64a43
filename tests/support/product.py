"""The whole product on the node, for tests end to end: Catalyst as deploy/k8s has it, GitHub's double in this process.

    team = product.team("acme")                               # namespace, grant, the App installed
    site = team.site("hello", EXAMPLES / "hello")             # a repository with these files, and its Project
    pull = site.pull_request({"app.py": "..."})               # a branch with a change, and a pull request for it
    pull.until(Phase.READY)
    assert "hello" in pull.visitor().get().text

People act by git and the forge's API, as the double offers them; the cluster is only looked at.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from doubles.github import GitHubDouble
from doubles.github.state import CheckRun, Comment, Deployment, PullRequest
from kubectl import Kubectl

from catalyst.local import cluster, components, platform
from catalyst.local.demo.forge import MARK
from catalyst.local.demo.sight import Sight
from catalyst.local.demo.visitor import Visitor
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.node import layout
from catalyst.local.supervisor import ROOT
from catalyst.model import labels
from catalyst.model.environment import Environment, Phase
from catalyst.model.names import Identity, workload_namespace

PORT: Final = 8900
"""The one that the policies of deploy/k8s's overlay `local` let the services and builds reach the forge at."""
FORGE: Final = f"http://github.catalyst.test:{PORT}"
EXAMPLES: Final = ROOT / "examples"
PATIENCE: Final = 180.0
"""Seconds for anything that needs a build."""

Files = Mapping[str, str | bytes | None]
T = TypeVar("T")


def until(
    look: Callable[[], T],
    what: str,
    within: float = PATIENCE,
    why: Callable[[], Any] = lambda: "",
    *,
    every: float = 0.2,
) -> T:
    """The first answer that is true. Raises AssertionError with `what` and what `why` says then."""
    ends = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < ends, f"{what}: not within {within:g} s\n{why()}"
        time.sleep(every)
    return found


def example(name: str) -> Files:
    """The files of an example as its repository has them."""
    folder = EXAMPLES / name
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("project.yaml", "README.md") and "__pycache__" not in path.parts
    }


def another_hello(text: str) -> Files:
    """A change of examples/hello that no cache knows: its one layer is built."""
    return {"app.py": f"{(EXAMPLES / 'hello' / 'app.py').read_text()}\n# {text}\n"}


def example_spec(name: str) -> dict[str, Any]:
    """What its Project says, but for the source."""
    spec: dict[str, Any] = yaml.safe_load((EXAMPLES / name / "project.yaml").read_text())["spec"]
    return {key: value for key, value in spec.items() if key != "source"}


@dataclass(frozen=True)
class Product:
    """An installation that is available."""

    state: cluster.ClusterState
    github: GitHubDouble
    done: platform.Platform
    kubectl: Kubectl
    sight: Sight
    teams: list[str] = field(default_factory=list)
    """Those made here: nobody else's are taken away in the end."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def system(self) -> Kubectl:
        return self.kubectl.within(SYSTEM_NAMESPACE)

    def pod_of(self, service: str) -> str:
        """The name of a pod of one of our services that is not on its way out."""
        found = self.system.get("pods", f"--selector=app.kubernetes.io/name={service}")["items"]
        name: str = next(p["metadata"]["name"] for p in found if "deletionTimestamp" not in p["metadata"])
        return name

    def available(self, service: str, within: float = 90) -> None:
        """Returns when one of our services runs as its Deployment says, and nothing of it is on its way out."""

        there = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{service}"
        selector, pods = f"app.kubernetes.io/name={service}", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods"

        def runs() -> bool:
            found = self.sight.get(there)
            assert found is not None, there
            listed = (self.sight.get(pods, labelSelector=selector) or {"items": []})["items"]
            one_each = [is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in listed] == [True]
            status = found.get("status", {})
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            return one_each and seen and (status.get("updatedReplicas"), status.get("availableReplicas")) == (1, 1)

        until(runs, f"one {service}, which is ready", within, lambda: self.sight.log_end(service))

    @contextmanager
    def changed(self, service: str, pod: Mapping[str, Any] | None = None, **env: str) -> Iterator[None]:
        """While the block runs, a service's pods have other variables, and whatever else `pod` (a spec, to be merged)
        says.
        """
        name = f"deployment/{service}"
        variables = [{"name": key, "value": value} for key, value in env.items()]
        container: dict[str, Any] = {"name": service, "env": variables}
        spec = dict(pod or {})
        for more in spec.pop("containers", ()):
            container |= more
        change = {"spec": {"template": {"spec": {**spec, "containers": [container]}}}}
        self.system.run("patch", name, "--type=strategic", f"--patch={json.dumps(change)}")
        try:
            self.available(service)
            yield
        finally:
            self.system.run("rollout", "undo", name)
            self.available(service)

    def clear(self) -> None:
        """Every pull request is closed and gone; then the teams go, and with them their Projects."""
        for repository in list(self.github.state.repositories.values()):
            for pull in repository.pulls.values():
                self.github.close(pull)
        for wait in ("--wait=false", "--timeout=120s"):  # all are going before the first is waited for
            for team in self.teams:
                self.kubectl.within(team).run("delete", "projects.catalyst.dev", "--all", wait, within=130)
        for team in self.teams:
            self.kubectl.run("delete", "namespace", team, "--wait=false")
        self.teams.clear()

    def team(self, name: str | None = None) -> Team:
        """A team of its own, and an account of that name at the forge with the App installed."""
        name = name or f"team{next(self._numbers)}-{time.monotonic_ns() % 10**6}"
        notes = {labels.REPOSITORIES: f"github/{name}/*"}
        metadata = {"name": name, "labels": {labels.TEAM: name}, "annotations": notes}
        self.teams.append(name)
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.github.install(name)
        return Team(self, name)


@dataclass(frozen=True)
class Team:
    """A team's namespace, and its account at the forge."""

    product: Product
    name: str

    def site(self, name: str, files: Files, spec: Mapping[str, Any] | None = None, *, private: bool = True) -> Site:
        """A repository `<team>/<name>` with these files on main, and a Project of that name."""
        repository = f"{self.name}/{name}"
        self.product.github.repository(repository, private=private, files={k: v for k, v in files.items() if v})
        made = Site(self.product, self.name, name, repository)
        made.configure(spec or {})
        return made


@dataclass(frozen=True)
class Site:
    """A repository and its Project."""

    product: Product
    team: str
    name: str
    repository: str

    def configure(self, spec: Mapping[str, Any]) -> None:
        """What its Project says from now on, but for the source."""
        manifest = {
            "apiVersion": labels.API_VERSION,
            "kind": "Project",
            "metadata": {"namespace": self.team, "name": self.name},
            "spec": {**spec, "source": {"forge": "github", "repository": self.repository}},
        }
        self.product.kubectl.within(self.team).apply(manifest)

    def pull_request(self, change: Files, *, branch: str = "change", **how: Any) -> Pull:
        """The change on a branch of its own, and a pull request for it. `how`: as the double's `open_pull_request`."""
        self.product.github.commit(self.repository, branch, change)
        return self.pull_request_of(branch, **how)

    def pull_request_of(self, head: str, **how: Any) -> Pull:
        """Of a branch that is there, or `owner:branch` of a fork."""
        return Pull(self, self.product.github.open_pull_request(self.repository, head=head, **how))


@dataclass(frozen=True)
class Pull:
    """A pull request, what became of it, and who looks at it."""

    site: Site
    at_forge: PullRequest

    @property
    def number(self) -> int:
        return self.at_forge.number

    @property
    def head(self) -> str:
        return self.at_forge.head

    @property
    def identity(self) -> Identity:
        return Identity(self.site.team, self.site.name, f"pr-{self.number}")

    @property
    def names(self) -> dict[str, str]:
        """What the words of docs/runbooks stand for."""
        of = self.identity
        return {"TEAM": of.team, "PROJECT": of.project, "ENVIRONMENT": of.environment, "COMPONENT": "web"}

    @property
    def namespace(self) -> str:
        """Which holds what runs."""
        return workload_namespace(self.identity)

    @property
    def kubectl(self) -> Kubectl:
        return self.site.product.kubectl.within(self.namespace)

    def push(self, change: Files) -> str:
        """Another commit on its branch; gives it."""
        return self.site.product.github.commit(self.site.repository, self.at_forge.head_ref, change)

    def close(self) -> None:
        self.site.product.github.close(self.at_forge)

    def reopen(self) -> None:
        self.site.product.github.reopen(self.at_forge)

    def says(self, text: str, *, author: str | None = None) -> Comment:
        """A comment of a person."""
        return self.site.product.github.write_comment(self.at_forge, text, author=author)

    def comments(self) -> list[Comment]:
        """Catalyst's: there should be one."""
        return [each for each in self.at_forge.comments.values() if each.body.startswith(MARK)]

    def comment(self) -> str:
        """Catalyst's text; empty while there is none. Raises AssertionError when there are two."""
        found = self.comments()
        assert len(found) < 2, [each.body for each in found]
        return found[0].body if found else ""

    def environment(self) -> Environment | None:
        """None when there is none, or none any more."""
        path = f"/apis/catalyst.dev/v1alpha1/namespaces/{self.site.team}--{self.site.name}/environments"
        found = self.site.product.sight.get(f"{path}/{self.identity.environment}")
        return None if found is None else Environment.model_validate(found)

    def until(self, phase: Phase, reason: str | None = None, within: float = PATIENCE) -> Environment:
        """The Environment when its head is in this phase, with this reason of Ready."""

        def there() -> Environment | None:
            found = self.environment()
            status = found.status if found else None
            if found is None or status is None or found.spec.source.commit != self.head:
                return None
            ready = status.condition("Ready")
            said = ready.reason if ready else None
            is_it = status.commit == self.head and status.phase == phase and reason in (None, said)
            return found if is_it else None

        found = until(there, f"{self.site.repository}#{self.number} {phase} {reason or ''}", within, self._how_it_is)
        assert found is not None
        return found

    def until_served(self, within: float = PATIENCE) -> Visitor:
        """Until its head is Ready, the URL answers with that commit, and the one comment says so. The program is to
        show `CATALYST_COMMIT`, as examples/hello does.
        """
        self.until(Phase.READY, within=within)
        visitor = self.visitor()
        until(lambda: self.head[:7] in visitor.looks()[1], f"{visitor.url} shows {self.head}", 30, self._how_it_is)
        until(lambda: self._is_told_ready(), "the comment says so", 60, self._how_it_is)
        return visitor

    def until_over(self, visitor: Visitor | None = None, within: float = PATIENCE) -> None:
        """Until nothing of it is left: in the cluster, at its URL, in its comment, among the forge's deployments."""
        until(lambda: not self.left(), "nothing is left", within, lambda: f"{self.left()}\n{self._how_it_is()}")
        until(lambda: "Nothing of it is left" in self.comment(), "the comment says so", 60, self._how_it_is)
        until(lambda: not self._unended_reports(), "the forge's reports end", 30, self._unended_reports)
        if visitor is not None:
            until(lambda: visitor.looks()[0] in (404, 410), f"{visitor.url} leads nowhere", 30, visitor.looks)

    def is_gone(self) -> bool:
        """Nothing is left of it in the cluster but its Project's namespaces."""
        product = self.site.product
        return self.environment() is None and product.sight.get(f"/api/v1/namespaces/{self.namespace}") is None

    def until_gone(self, within: float = PATIENCE) -> None:
        until(self.is_gone, f"nothing of {self.identity} is left", within, self._how_it_is)

    def left(self) -> list[str]:
        """Whatever there still is of it, build objects too, in words."""
        return list(self.site.product.sight.left_of_environment(self.identity))

    def visitor(self) -> Visitor:
        """Of the URL; the certificate must be from the edge's authority."""
        found = self.environment()
        url = found.status.url if found and found.status else None
        assert url is not None, self._how_it_is()
        done = self.site.product.done
        return Visitor(url, done.edge_authority, f"{done.edge_address}:443")

    def _is_told_ready(self) -> bool:
        """Catalyst shortens commits to twelve digits."""
        comment = self.comment()
        return "🟢 Environment ready" in comment and self.head[:12] in comment

    def reports(self) -> dict[str, list[str]]:
        """What the newest deployment and check of its head say at the forge; empty lists when there is none."""
        deployments = [each for each in self._deployments() if each.sha == self.head]
        checks = [each for each in self._checks() if each.sha == self.head]
        return {
            "deployments": [_state(each) for each in deployments[-1:]],
            "checks": [f"{each.status} {each.conclusion}" for each in checks[-1:]],
        }

    def _unended_reports(self) -> list[str]:
        """Deployments that are not inactive and checks that run, of any commit it had."""
        return [
            *(
                f"deployment of {each.sha}: {_state(each)}"
                for each in self._deployments()
                if _state(each) != "inactive"
            ),
            *(f"check of {each.sha}: {each.status}" for each in self._checks() if each.status != "completed"),
        ]

    def _deployments(self) -> list[Deployment]:
        """Of all its commits, the oldest first."""
        found = list(self.at_forge.repository.deployments.values())
        return [each for each in found if each.environment == str(self.identity)]

    def _checks(self) -> list[CheckRun]:
        """Of all its commits, the oldest first."""
        found = list(self.at_forge.repository.checks.values())
        return [each for each in found if each.name.endswith(f" {self.identity}")]

    def _how_it_is(self) -> str:
        found = self.environment()
        status = found.status.model_dump(mode="json", exclude_none=True) if found and found.status else None
        ends = "\n".join(self.site.product.sight.log_end(s, 10) for s in ("env-controller", "builder", "dns-proxy"))
        return f"{status}\n{self.comment()}\n{ends}"


@contextmanager
def product(
    node: cluster.ClusterState, folder: Path, *, overlay: Path = platform.OVERLAYS / "local", **settings: str
) -> Iterator[Product]:
    """Installed, or what differs of it; what is made in it goes afterwards. `settings`: beside the overlay's."""
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    kubectl = Kubectl(binary, Path(node.kubeconfig))
    with GitHubDouble(folder / "github", host=layout.ADDRESS, port=PORT, public_url=FORGE) as github:
        key = folder / "app.pem"
        key.touch(mode=0o600)
        key.write_text(github.private_key)
        forge = platform.Forge(github.app.id, key, github.url, github.git_url)
        done = platform.install(node, forge, settings=settings, out=sys.stderr, overlay=overlay, within=180)
        github.hook(done.webhook_url, done.webhook_secret.read_text().strip())
        made = Product(node, github, done, kubectl, Sight(Path(node.kubeconfig)))
        try:
            yield made
        finally:
            made.clear()
            made.sight.close()


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether all of it is, by its own condition."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _state(deployment: Deployment) -> str:
    """What was said of it last."""
    return deployment.statuses[-1].state if deployment.statuses else "nothing"
