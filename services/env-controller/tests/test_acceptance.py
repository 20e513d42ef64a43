"""What is allowed, beside what is not; and that no field of a resource is ignored in silence."""

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from makers import (
    GRANTS,
    NOW,
    NOW_TEXT,
    PLATFORM,
    branch,
    environment,
    environment_manifest,
    project,
    project_manifest,
    pull_request,
    subject,
)
from pydantic import BaseModel

from catalyst.env_controller.core import backing, baseline, requests, shares
from catalyst.env_controller.core.acceptance import (
    Problem,
    environment_problem,
    is_granted,
    project_problem,
    unsupported_in_environment,
    unsupported_in_project,
)
from catalyst.env_controller.core.deploying import deploy
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import World
from catalyst.model import examples
from catalyst.model.environment import Answers, BuildAnswer, Environment, EnvironmentSpec, EnvironmentStatus
from catalyst.model.project import Build, Component, Project, ProjectSpec
from catalyst.model.snapshot import snapshot_of

# Grants


@pytest.mark.parametrize(
    ("patterns", "repository", "granted"),
    [
        (("github/acme/*",), "acme/shop", True),
        (("github/acme/*",), "Acme/SHOP", True),
        (("GitHub/ACME/*",), "acme/shop", True),
        (("github/acme/*",), "acme-evil/shop", False),
        (("github/acme*",), "acme/shop", False),
        (("github/acme*",), "acme-evil/shop", False),
        (("github/acme",), "acme/shop", False),
        (("github/*",), "acme/shop", False),
        (("*",), "acme/shop", False),
        (("**",), "acme/shop", False),
        (("github/acme/*/*",), "acme/shop", False),
        (("gitlab/acme/*",), "acme/shop", False),
        (("github/acme/shop",), "acme/shop", True),
        (("github/acme/shop",), "acme/shop2", False),
        (("github/acme/sh?p",), "acme/shop", True),
        (("github/acme/*", "github/other/x"), "other/x", True),
        ((), "acme/shop", False),
        (None, "acme/shop", False),
    ],
)
def test_grants(patterns: tuple[str, ...] | None, repository: str, granted: bool) -> None:
    assert is_granted("github", repository, patterns) is granted


def test_a_repository_that_was_not_granted_names_field_and_remedy() -> None:
    asked = project(source={"repository": "acme-evil/shop"})
    assert project_problem(asked, GRANTS, PLATFORM) == Problem(
        "RepositoryNotGranted",
        "spec.source.repository: github/acme-evil/shop is not granted to team acme (granted: github/acme/*); the "
        "platform's people grant it in the annotation catalyst.dev/repositories of namespace acme",
    )
    assert project_problem(project(), GRANTS, PLATFORM) is None
    nothing = project_problem(project(), None, PLATFORM)
    assert nothing is not None
    assert "(granted: none)" in nothing.message


# Egress

GUARDED = Platform(protected_networks=("10.96.0.0/12", "2001:db8:5::/48"))


@pytest.mark.parametrize(
    ("cidr", "reaches"),
    [
        ("203.0.113.0/24", None),
        ("10.0.0.0/16", None),
        ("10.96.0.0/12", "10.96.0.0/12"),
        ("10.96.0.10/32", "10.96.0.0/12"),
        ("10.0.0.0/8", "10.96.0.0/12"),
        ("10.112.0.0/12", None),
        ("169.254.169.254/32", "169.254.0.0/16"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("169.0.0.0/8", "169.254.0.0/16"),
        ("127.0.0.1/32", "127.0.0.0/8"),
        ("100.100.100.200/32", "100.100.100.200/32"),
        ("100.64.0.0/16", None),
        ("0.0.0.0/0", "169.254.0.0/16"),
        ("0.0.0.0/1", "127.0.0.0/8"),
        ("::/0", "::1/128"),
        ("::1/128", "::1/128"),
        ("fe80::/64", "fe80::/10"),
        ("fd00:ec2::254/128", "fd00:ec2::254/128"),
        ("fd20:ce::/32", "fd20:ce::254/128"),
        ("fc00::/7", "fd00:ec2::254/128"),
        ("::ffff:169.254.169.254/128", "::ffff:0:0/96"),
        ("2001:db8:5:1::/64", "2001:db8:5::/48"),
        ("2001:db8:6::/48", None),
    ],
)
def test_egress(cidr: str, reaches: str | None) -> None:
    asked = project(development={"egress": [{"cidr": "198.51.100.0/24"}, {"cidr": cidr}]})
    expected = reaches and Problem(
        "UnsafeEgress",
        f"spec.development.egress[1].cidr: {cidr} reaches {reaches}, which the platform keeps closed: name a smaller "
        "network",
    )
    assert project_problem(asked, GRANTS, GUARDED) == expected


# Quota, names, namespaces


@pytest.mark.parametrize("key", ["services.nodeports", "services.loadbalancers", "count/ingresses.networking.k8s.io"])
@pytest.mark.parametrize(("amount", "safe"), [(0, True), ("0", True), (1, False), ("1", False), ("1k", False)])
def test_fixed_quota(key: str, amount: int | str, safe: bool) -> None:
    problem = project_problem(project(development={"quota": {key: amount}}), GRANTS, PLATFORM)
    message = f"spec.development.quota[{key}]: must stay 0, the edge is the only door: remove it"
    assert problem == (None if safe else Problem("UnsafeQuota", message))


def test_other_quota_may_be_raised() -> None:
    assert project_problem(project(development={"quota": {"pods": 500, "limits.cpu": "64"}}), GRANTS, PLATFORM) is None


@pytest.mark.parametrize(
    ("team", "name", "field"),
    [
        ("acme", "shop", None),
        ("a-b", "c-d", None),
        ("acme", "a--b", "metadata.name"),
        ("acme", "Shop", "metadata.name"),
        ("acme", "a.b", "metadata.name"),
        ("acme", "x" * 61, "metadata.name"),
        ("acme", "x" * 60, None),
        ("kube--system", "shop", "metadata.namespace"),
    ],
)
def test_names(team: str, name: str, field: str | None) -> None:
    problem = project_problem(project(name, team), GRANTS, PLATFORM)
    assert (problem and (problem.reason, problem.message.split(":")[0])) == (field and ("InvalidName", field))


@pytest.mark.parametrize(
    ("namespace", "name", "reason"),
    [
        ("acme--shop", "pr-42", None),
        ("acme--other", "pr-42", "NamespaceMismatch"),
        ("kube-system", "pr-42", "NamespaceMismatch"),
        ("acme", "pr-42", "NamespaceMismatch"),
        ("acme--shop", "a--b", "InvalidName"),
        ("acme--shop", "a.b", "InvalidName"),
    ],
)
def test_environment_names(namespace: str, name: str, reason: str | None) -> None:
    asked = environment(name, metadata={"namespace": namespace})
    problem = environment_problem(asked, project(), GRANTS, PLATFORM)
    assert (problem and problem.reason) == reason


def test_an_environment_needs_its_project_and_inherits_its_problems() -> None:
    assert environment_problem(environment(), None, GRANTS, PLATFORM) == Problem(
        "ProjectNotFound", "spec.projectRef: there is no Project shop in namespace acme: create it"
    )
    problem = environment_problem(environment(), project(), None, PLATFORM)
    assert problem is not None
    assert problem.reason == "RepositoryNotGranted"


# Nothing is ignored in silence: every field of the models either changes what is done, or is named as unsupported.
# A new field that is neither fails here.


def _begun(asked: Project) -> object:
    return decide(environment(), World(PLATFORM, asked, GRANTS), NOW)


SOURCE: dict[str, Any] = {"branch": "basket", "commit": "a" * 40, "pullRequest": {"number": 42}}


def _asked(asked: Project) -> object:
    """What a pull request and a branch ask of this Project."""
    folded, drafted, fork = pull_request(), pull_request(draft=True), pull_request(fork=True)
    existing = environment(source={**SOURCE, "commit": "b" * 40})
    return [
        requests.for_pull_request(asked, None, folded, None, None, NOW),
        requests.for_pull_request(asked, None, drafted, None, None, NOW),
        requests.for_pull_request(asked, None, fork, None, None, NOW),
        requests.for_pull_request(asked, None, folded, existing, None, NOW),
        requests.for_branch(asked, None, branch(branch="main"), None, None, NOW),
    ]


def _made(asked: Project) -> object:
    return baseline.children(subject(project_=asked))


def _backed(asked: Project) -> object:
    """Beside what one postgres `x` that says nothing more comes to."""
    bare = project(services=[{"name": "x", "engine": "postgres"}])
    found = backing.backings(asked) or backing.backings(bare)
    return [backing.manifests(subject(project_=asked), service) for service in found]


def _shared(asked: Project) -> object:
    """Which Secrets go to whom, beside those of a Project that shares one with all but forks."""
    bare = project(secrets=[{"name": "x"}])
    fork = environment(source={"pullRequest": {"number": 42, "fork": True}})
    given_to = (environment(), fork, environment(type="Deployment"))
    return [shares.shares(asked if asked.spec.secrets else bare, each) for each in given_to]


def _judged(asked: Project) -> object:
    return project_problem(asked, GRANTS, PLATFORM)


EFFECTS_OF_A_PROJECT: Mapping[str, tuple[Any, Callable[[Project], object]]] = {
    "source.repository": ("evil/shop", _judged),
    "triggers.pullRequests.enabled": (False, _asked),
    "triggers.pullRequests.drafts": (True, _asked),
    "triggers.pullRequests.forks": ("Never", _asked),
    "triggers.pullRequests.labels.require": (["x"], _asked),
    "triggers.pullRequests.labels.exclude": (["shop"], _asked),
    "triggers.pullRequests.baseBranches": (["release/*"], _asked),
    "triggers.branches[].pattern": ([{"pattern": "main"}], _asked),
    "development.quota": ({"pods": 1}, _made),
    "development.limits.default": ({"cpu": "1"}, _made),
    "development.limits.defaultRequest": ({"cpu": "1"}, _made),
    "development.limits.max": ({"cpu": "1"}, _made),
    "development.limits.maxPersistentVolumeClaim": ("1Gi", _made),
    "development.egress[].cidr": ([{"cidr": "203.0.113.0/24"}], _made),
    "development.egress[].ports[].port": ([{"cidr": "203.0.113.0/24", "ports": [{"port": 1}]}], _made),
    "development.egress[].ports[].protocol": (
        [{"cidr": "203.0.113.0/24", "ports": [{"port": 1, "protocol": "UDP"}]}],
        _made,
    ),
    "development.ttl": ("1h", _asked),
    "services[].name": ([{"name": "db", "engine": "postgres"}], _backed),
    "services[].engine": ([{"name": "db", "engine": "redis"}], _backed),
    "services[].version": ([{"name": "x", "engine": "postgres", "version": "16"}], _backed),
    "services[].storage.size": ([{"name": "x", "engine": "postgres", "storage": {"size": "2Gi"}}], _backed),
    "services[].storage.storageClassName": (
        [{"name": "x", "engine": "postgres", "storage": {"size": "1Gi", "storageClassName": "fast"}}],
        _backed,
    ),
    "secrets[].name": ([{"name": "y"}], _shared),
    "secrets[].types": ([{"name": "x", "types": ["Development"]}], _shared),
    "secrets[].forks": ([{"name": "x", "forks": True}], _shared),
    "paused": (True, _begun),
}
"""Path → a value, and where it shows. What a component says shows in what is built, run and routed: `_run`."""


def _run(component: Component, overrides: dict[str, Any] | None = None) -> object:
    """What is asked of builder, and, once that is answered, made of a Project with this component and another."""
    component = component.model_copy(update={"name": component.name.replace("x", "n")})
    asked = project().model_copy(
        update={"spec": project().spec.model_copy(update={"components": (component, Component(name="x0", image="x"))})}
    )
    more: dict[str, Any] = {"overrides": overrides} if overrides else {}
    about = environment(source=SOURCE, **more)
    world = World(Platform(registry="registry.test"), asked, GRANTS)
    questions = deploy(subject(about, asked, world.platform), world, EnvironmentStatus(), NOW)
    assert isinstance(questions.status, EnvironmentStatus)
    answered = {
        name: BuildAnswer(key=question.key, outcome="succeeded", at=NOW, digest="sha256:" + "a" * 64)
        for name, question in questions.status.builds.items()
    }
    status = questions.status.model_copy(update={"answers": Answers(builds=answered)})
    about = about.model_copy(update={"status": status})
    return [questions.asks, deploy(subject(about, asked, world.platform), world, status, NOW).apply]


def _of(model: type[BaseModel], path: str, variant: int) -> BaseModel:
    """An instance in which the field at `path` has the given one of two values, and the required ones have some."""
    head, _, rest = path.partition(".")
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if (field.alias or name) == head.removesuffix("[]"):
            values[name] = _sample(field.annotation, rest, variant)
        elif field.is_required():
            values[name] = _sample(field.annotation, "", 0)
    return model.model_construct(**values)


def _sample(annotation: Any, path: str, variant: int) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _sample(arguments[0], path, variant)
    if origin in (Union, types.UnionType):
        return _sample(arguments[0], path, variant)
    if origin is Literal:
        return arguments[variant]
    if origin is tuple:
        return (_sample(arguments[0], path, variant),)
    if origin is dict:
        return {"x": _sample(arguments[1], path, variant)}
    if issubclass(annotation, BaseModel):
        return _of(annotation, path, variant)
    return {str: f"x{variant}", int: 7 + variant, bool: bool(variant)}[annotation]


ONLY_ONE_VALUE = {"source.forge"}
"""Nothing can be chosen yet."""


def _said(asked: Environment) -> object:
    """What is done about the Environment and said of it, its status apart from reasons of acceptance."""
    decision = decide(asked, World(PLATFORM, project(), GRANTS), NOW)
    stored = asked.model_copy(update={"status": decision.status})
    return decision, snapshot_of(stored, project())


EFFECTS_OF_AN_ENVIRONMENT: Mapping[str, Any] = {
    "projectRef.team": "other",
    "projectRef.name": "other",
    "type": "Deployment",
    "source.branch": "other",
    "source.commit": "b" * 40,
    "source.pullRequest.number": 43,
    "source.pullRequest.headRepository": "stranger/shop",
    "source.pullRequest.fork": True,
    "source.pullRequest.draft": True,
    "source.pullRequest.openedAt": NOW_TEXT,
    "source.pullRequest.author": "ann",
    "source.pullRequest.title": "Another",
    "source.pullRequest.url": "https://example.org/",
    "owner": "ann",
    "hold.reason": {"reason": "Draft"},
    "hold.message": {"reason": "Draft", "message": "why"},
    "expiresAt": "2026-11-24T20:00:00Z",
    "deletion.reason": {"reason": "Closed", "at": NOW_TEXT, "evidence": "e"},
    "deletion.at": {"reason": "Closed", "at": NOW_TEXT, "evidence": "e"},
    "deletion.evidence": {"reason": "Closed", "at": NOW_TEXT, "evidence": "e"},
}


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The paths of all leaves, in their JSON spelling; `[]` for the items of a list."""
    for name, field in model.model_fields.items():
        here = f"{path}{field.alias or name}"
        inner, mark = _inner(field.annotation)
        if inner is None:
            yield here
        else:
            yield from fields(inner, f"{here}{mark}.")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model a field holds, once or in a list; maps are leaves."""
    if get_origin(annotation) is Annotated:
        return _inner(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _inner(part))[0]), (None, ""))
    if get_origin(annotation) is tuple:
        return _inner(get_args(annotation)[0])[0], "[]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    return None, ""


def _set(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`spec` with one field set. For an item of a list (or a part of a whole), `value` is the whole."""
    head, _, rest = path.partition(".")
    whole = head.endswith("[]") or head in ("hold", "deletion")
    inner = value if whole or not rest else _set(spec.get(head, {}), rest, value)
    return {**spec, head.removesuffix("[]"): inner}


def _is_named(path: str, named: list[str]) -> bool:
    """`spec.components` names everything below it; `spec.type: Deployment` names a value of `spec.type`."""
    spelled = "spec." + path.replace("[]", "")
    names = (name.split(":")[0].replace("[]", "") for name in named)
    return any(spelled == name or spelled.startswith(f"{name}.") for name in names)


NAMED_IN_A_PROJECT = unsupported_in_project(Project.parse(examples.PROJECT))
NAMED_IN_AN_ENVIRONMENT = unsupported_in_environment(
    Environment.parse(
        examples.changed(
            examples.changed(examples.ENVIRONMENT, "spec/desiredState", "Sleeping"), "spec/type", "Deployment"
        )
    )
)


@pytest.mark.parametrize("path", list(fields(ProjectSpec)))
def test_every_field_of_a_project_has_an_effect_or_is_named(path: str) -> None:
    if path in ONLY_ONE_VALUE:
        return
    if path not in EFFECTS_OF_A_PROJECT and not _is_named(path, NAMED_IN_A_PROJECT):
        inner = path.removeprefix("components[].")
        one, other = (_of(Component, inner, variant) for variant in (0, 1))
        assert isinstance(one, Component)
        assert isinstance(other, Component)
        assert inner != path
        assert _run(one) != _run(other), f"spec.{path} changes nothing, and nothing says so"
        return
    if path not in EFFECTS_OF_A_PROJECT:
        assert _is_named(path, NAMED_IN_A_PROJECT), f"spec.{path}: nothing implements it and nothing says so"
        return
    value, shown = EFFECTS_OF_A_PROJECT[path]
    bare = project_manifest()["spec"]
    assert shown(project()) != shown(project(**_set(bare, path, value))), f"spec.{path} changes nothing"


@pytest.mark.parametrize("path", list(fields(EnvironmentSpec)))
def test_every_field_of_an_environment_has_an_effect_or_is_named(path: str) -> None:
    if path not in EFFECTS_OF_AN_ENVIRONMENT and path != "overrides.components":
        assert _is_named(path, NAMED_IN_AN_ENVIRONMENT), f"spec.{path}: nothing implements it and nothing says so"
        return
    if path == "overrides.components":
        web = Component(name="web", build=Build())
        for override in (
            {"replicas": 3},
            {"image": "y"},
            {"env": [{"name": "A"}]},
            {"resources": {"limits": {"cpu": 1}}},
        ):
            assert _run(web) != _run(web, {"components": {"web": override}}), override
        return
    bare = environment_manifest(source=SOURCE)["spec"]
    changed = _set(bare, path, EFFECTS_OF_AN_ENVIRONMENT[path])
    assert _said(environment(**bare)) != _said(environment(**changed)), f"spec.{path} changes nothing"


def test_nothing_is_named_that_nobody_asked_for() -> None:
    assert unsupported_in_project(project()) == []
    assert unsupported_in_environment(environment()) == []


def test_what_is_named() -> None:
    assert NAMED_IN_A_PROJECT == [
        "spec.components[].development",
        "spec.components[].expose.private",
        "spec.services[].container",
        "spec.services[].credentialsRef",
        "spec.services[].backup",
        "spec.definition",
        "spec.deployments",
        "spec.development.sleep",
        "spec.source.defaultBranch",
        "spec.source.credentialsRef",
        "spec.triggers.manual",
        "spec.triggers.agents",
    ]
    stored = project(services=[{"name": "files", "engine": "s3"}, {"name": "db", "engine": "postgres"}])
    assert unsupported_in_project(stored) == ["spec.services[].engine: s3"]
    assert NAMED_IN_AN_ENVIRONMENT == [
        "spec.type: Deployment",
        "spec.desiredState: Sleeping",
        "spec.approval",
    ]


def test_the_platform_keeps_what_it_is_told() -> None:
    assert Platform().pod_security("Development") == "baseline"
    assert Platform().pod_security("Deployment") == "restricted"
    assert Platform(user_namespaces=False).pod_security("Development") == "restricted"
