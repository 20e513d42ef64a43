"""Shared Secrets: who gets which, what a copy is made of, what pods are told, and what is said where one is missing."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import GRANTS, NOW, PLATFORM, at, environment, project, stored, subject

from catalyst.env_controller.core import baseline, shares
from catalyst.env_controller.core.components import parts
from catalyst.env_controller.core.deploying import deploy, look_for
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.sharing import CONDITION, LACKING_LOOK, LOOK
from catalyst.env_controller.core.workload import Given, Image, deployment
from catalyst.env_controller.core.world import (
    Copied,
    Decision,
    Observed,
    SecretCopy,
    SeenSecrets,
    World,
    from_json,
    object_key,
    to_json,
)
from catalyst.model.environment import Environment, EnvironmentStatus
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.project import Project

TEAM, PROJECT, OWN = "acme", "acme--shop", "acme--shop--pr-42"
PLAIN = environment(source={"commit": "a" * 40})
FORK = environment(source={"commit": "a" * 40, "pullRequest": {"number": 42, "fork": True}})
NAMESPACE = stored(baseline.namespace(subject()), "uid-n", "7")
READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "wanted": 1}
UNREADY = {**READY, "availableReplicas": 0}
COPY = Ref("v1", "Secret", OWN, "catalyst-shared.stripe", "uid-c", "50")


def asked(*secrets: dict[str, Any], **web: Any) -> Project:
    return project(
        components=[{"name": "web", "image": "nginx", **web}], secrets=list(secrets or ({"name": "stripe"},))
    )


def source(where: str, version: str = "1", name: str = "stripe") -> Ref:
    return Ref("v1", "Secret", where, name, f"uid-{where}", version)


def copied(made_of: str) -> dict[str, Copied]:
    return {"stripe": Copied(COPY, made_of)}


def decided(
    seen: SeenSecrets | None,
    *there: Observed,
    of: Project | None = None,
    about: Environment = PLAIN,
    status: EnvironmentStatus | None = None,
    **world: Any,
) -> Decision:
    of = of or asked()
    around = World(PLATFORM, of, GRANTS, NAMESPACE, {one.key: one for one in there}, secrets=seen, **world)
    assert from_json(World, to_json(around)) == around
    decision = deploy(subject(about, of), around, status or EnvironmentStatus(), NOW)
    assert from_json(Decision, to_json(decision)) == decision
    return decision


def template(decision: Decision) -> Manifest:
    (found,) = [manifest for manifest in decision.apply if manifest["kind"] == "Deployment"]
    made: Manifest = found["spec"]["template"]
    return made


def envs(decision: Decision) -> list[str]:
    return [each["secretRef"]["name"] for each in template(decision)["spec"]["containers"][0].get("envFrom", [])]


def condition(decision: Decision, kind: str = CONDITION) -> tuple[str, str, str] | None:
    assert isinstance(decision.status, EnvironmentStatus)
    found = decision.status.condition(kind)
    return (found.status, found.reason, found.message) if found else None


def runs(of: Project, secrets: dict[str, str]) -> Observed:
    """A Deployment that stands, ready, as it was made with these copies."""
    seen = SeenSecrets(sources=tuple(source(PROJECT, name=name) for name in secrets))
    (made,) = [manifest for manifest in decided(seen, of=of).apply if manifest["kind"] == "Deployment"]
    return replace(stored(made, "uid-1"), generation=1, status=READY)


# Who gets which


@pytest.mark.parametrize(
    ("secret", "about", "gets"),
    [
        ({}, PLAIN, True),
        ({}, FORK, False),
        ({"forks": True}, FORK, True),
        ({"types": ["Development"]}, PLAIN, True),
        ({"types": ["Deployment"]}, PLAIN, False),
        ({"types": ["Deployment"], "forks": True}, FORK, False),
        ({"types": ["Deployment"]}, environment(type="Deployment"), True),
        ({"types": ["Development"]}, environment(type="Deployment"), False),
    ],
)
def test_who_gets_it(secret: dict[str, Any], about: Environment, gets: bool) -> None:
    of = asked({"name": "stripe", **secret})
    assert (shares.shares(of, about), shares.withheld(of, about)) == ((("stripe",), ()) if gets else ((), ("stripe",)))
    bound = [m for m in baseline.children(subject(about, of)) if m["metadata"]["name"] == shares.BINDING]
    assert bool(bound) is gets, "we may not even look where nothing is given"


def test_we_bind_ourselves_where_copies_are() -> None:
    (found,) = [m for m in baseline.children(subject(PLAIN, asked())) if m["metadata"]["name"] == shares.BINDING]
    assert found["roleRef"]["name"] == "catalyst-shared-secret-copies"
    assert found["subjects"] == [{"kind": "ServiceAccount", "name": "env-controller", "namespace": "catalyst-system"}]


# What a copy is made of


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("of_project", [False, True])
@pytest.mark.parametrize("of_team", [False, True])
def test_the_copy_is_made_of_what_is_there_the_strongest_last(of_team: bool, of_project: bool, own: bool) -> None:
    there = [where for where, is_there in ((TEAM, of_team), (PROJECT, of_project), (OWN, own)) if is_there]
    decision = decided(SeenSecrets(sources=tuple(source(where) for where in reversed(there))))
    if not there:
        assert decision.copies == ()
        return
    (copy,) = decision.copies
    assert copy == SecretCopy(
        namespace=OWN,
        name="catalyst-shared.stripe",
        shared="stripe",
        labels=subject().labels,
        sources=tuple(source(where) for where in there),
        made_of=" ".join(f"{where}/uid-{where}@1" for where in there),
    )
    assert condition(decision) == ("True", "Shared", "Given: stripe.")


def test_a_current_copy_is_left_and_another_version_or_life_makes_it_anew() -> None:
    made_of = f"{PROJECT}/uid-{PROJECT}@1"
    still = decided(SeenSecrets(sources=(source(PROJECT),), copies=copied(made_of)))
    assert (still.copies, envs(still)) == ((), ["catalyst-shared.stripe"])
    for changed in (source(PROJECT, "2"), replace(source(PROJECT), uid="another")):
        rotated = decided(SeenSecrets(sources=(changed,), copies=copied(made_of)))
        assert [(copy.sources, copy.replaces) for copy in rotated.copies] == [((changed,), COPY)]
        notes = [template(each)["metadata"]["annotations"]["catalyst.dev/secrets"] for each in (still, rotated)]
        assert notes[0] != notes[1], "pods are made anew"


def test_a_secret_that_is_gone_or_shared_no_more_goes() -> None:
    of, made_of = asked(), f"{PROJECT}/uid-{PROJECT}@1"
    for project_, secrets in ((of, SeenSecrets(copies=copied(made_of))), (project(components=[]), None)):
        secrets = secrets or SeenSecrets(sources=(source(PROJECT),), copies=copied(made_of))
        decision = decided(secrets, runs(of, {"stripe": ""}), of=project_)
        assert COPY in decision.delete
    without = decided(SeenSecrets(copies=copied(made_of)), runs(of, {"stripe": ""}))
    assert envs(without) == []
    assert "annotations" not in template(without)["metadata"]


def test_our_right_goes_after_the_last_copy() -> None:
    about = environment(source={"commit": "a" * 40})
    children = {
        object_key(m["kind"], OWN, m["metadata"]["name"]): stored(m, f"uid-{n}")
        for n, m in enumerate(baseline.children(subject(about, asked())))
    }
    right = children[object_key("RoleBinding", OWN, shares.BINDING)].ref
    world = World(PLATFORM, project(), GRANTS, NAMESPACE, children)
    assert look_for(about, world).secrets
    for seen in (None, SeenSecrets(copies=copied("x")), SeenSecrets(closed=(OWN,))):
        assert right not in decide(about, replace(world, secrets=seen), NOW).delete
    assert COPY in decide(about, replace(world, secrets=SeenSecrets(copies=copied("x"))), NOW).delete
    assert decide(about, replace(world, secrets=SeenSecrets()), NOW).delete == (right,)


NAMES = ("stripe", "mail", "old")


@st.composite
def seen_secrets(draw: st.DrawFn) -> SeenSecrets:
    places = [(where, name) for where in (TEAM, PROJECT, OWN) for name in NAMES]
    there = draw(st.lists(st.sampled_from(places), unique=True))
    hidden = draw(st.lists(st.sampled_from([place for place in places if place[0] != OWN]), unique=True))
    sources = tuple(
        source(where, str(draw(st.integers(1, 2))), name) for where, name in there if (where, name) not in hidden
    )
    copies = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        of = draw(st.lists(st.sampled_from((TEAM, PROJECT, OWN)), unique=True))
        copies[name] = Copied(
            replace(COPY, name=shares.copy_name(name)), " ".join(f"{each}/uid-{each}@1" for each in of)
        )
    return SeenSecrets(sources, copies, hidden=tuple(source(where, name=name) for where, name in hidden))


@settings(deadline=None)
@given(seen_secrets())
def test_acting_once_brings_it_to_rest_and_pods_name_what_is_there(seen: SeenSecrets) -> None:
    of = asked({"name": "stripe"}, {"name": "mail"})
    decision = decided(seen, of=of)
    copies = {name: copy for name, copy in seen.copies.items() if copy.ref not in decision.delete}
    for copy in decision.copies:
        assert copy.replaces == (seen.copies[copy.shared].ref if copy.shared in seen.copies else None)
        copies[copy.shared] = Copied(replace(COPY, name=copy.name), copy.made_of)
    again = decided(replace(seen, copies=copies), of=of)
    assert (again.copies, again.delete) == ((), ())
    assert "old" not in copies
    if decision.apply:
        assert envs(again) == envs(decision)
        assert set(envs(again)) == {shares.copy_name(name) for name in copies}


# What is missing


def test_what_is_nowhere_holds_back_what_never_ran_and_says_what_to_do() -> None:
    decision = decided(SeenSecrets())
    assert decision.apply == ()
    sentence = (
        "The Project shares Secret stripe, but neither namespace acme nor acme--shop nor acme--shop--pr-42 has it. "
        "Create it (kubectl create secret generic stripe --namespace acme--shop --from-env-file FILE), or take it out "
        "of the Project's spec.secrets."
    )
    for kind in (CONDITION, "Ready"):
        assert condition(decision, kind) == ("False", "SecretNotFound", sentence)
    assert isinstance(decision.status, EnvironmentStatus)
    assert [(c.name, c.reason, c.message) for c in decision.status.components] == [("web", "SecretNotFound", sentence)]
    assert decision.status.phase == "Failed"
    assert decision.requeue_after == LACKING_LOOK

    healed = decided(SeenSecrets(sources=(source(PROJECT),)), status=decision.status)
    assert envs(healed) == ["catalyst-shared.stripe"]
    assert condition(healed) == ("True", "Shared", "Given: stripe.")
    assert isinstance(healed.status, EnvironmentStatus)
    assert [c.reason for c in healed.status.components] == [None]


def test_what_runs_and_loses_one_is_run_without_it_and_degraded() -> None:
    of = asked()
    decision = decided(SeenSecrets(), runs(of, {"stripe": ""}))
    assert envs(decision) == []
    assert isinstance(decision.status, EnvironmentStatus)
    assert decision.status.phase == "Degraded"
    assert (condition(decision, "Ready") or ())[1:2] == ("SecretNotFound",)


def test_a_team_that_does_not_let_us_in_shares_nothing() -> None:
    hidden = (source(TEAM),)
    decision = decided(SeenSecrets(sources=(source(PROJECT),), hidden=hidden))
    assert [copy.sources for copy in decision.copies] == [(source(PROJECT),)]
    nowhere = decided(SeenSecrets(hidden=hidden))
    status, reason, sentence = condition(nowhere) or ("", "", "")
    assert (status, reason) == ("False", "SecretNotReadable")
    assert "kubectl create secret generic stripe --namespace acme--shop" in sentence
    assert (
        "kubectl create rolebinding catalyst-shared-secrets --namespace acme --clusterrole catalyst-shared-secrets "
        "--serviceaccount catalyst-system:env-controller" in sentence
    )


@pytest.mark.parametrize("closed", [TEAM, PROJECT])
def test_a_namespace_that_closes_later_changes_nothing_that_runs(closed: str) -> None:
    of, made_of = asked(), f"{TEAM}/uid-{TEAM}@1 {PROJECT}/uid-{PROJECT}@1"
    others = tuple(source(where) for where in (TEAM, PROJECT) if where != closed)
    open_ = decided(SeenSecrets(sources=(source(TEAM), source(PROJECT)), copies=copied(made_of)), of=of)
    decision = decided(SeenSecrets(sources=others, copies=copied(made_of), hidden=(source(closed),)), of=of)
    assert (decision.copies, decision.delete) == ((), ())
    status, reason, sentence = condition(decision) or ("", "", "")
    assert (status, reason) == ("False", "SecretNotReadable")
    assert f"namespace {closed}" in sentence if closed == PROJECT else f"of team {closed}, whose namespace" in sentence
    running = replace(stored(open_.apply[0], "uid-1"), generation=1, status=READY)
    still = decided(SeenSecrets(sources=others, copies=copied(made_of), hidden=(source(closed),)), running, of=of)
    assert not still.changes_objects
    assert isinstance(still.status, EnvironmentStatus)
    assert still.status.phase == "Degraded"


@pytest.mark.parametrize("seen", [None, SeenSecrets(closed=(OWN,))])
def test_unseen_nothing_is_touched(seen: SeenSecrets | None) -> None:
    running = runs(asked(), {"stripe": ""})
    decision = decided(seen, replace(running, applied="outdated"))
    assert not decision.changes_objects
    assert (condition(decision) or ())[:2] == ("False", "SecretNotReadable")
    assert OWN in (condition(decision) or ("", "", ""))[2]
    assert decision.requeue_after == LACKING_LOOK


def test_it_is_looked_at_again_and_again_only_where_something_is_shared() -> None:
    running = runs(asked(), {"stripe": ""})
    made_of = f"{PROJECT}/uid-{PROJECT}@1"
    assert decided(SeenSecrets(sources=(source(PROJECT),), copies=copied(made_of)), running).requeue_after == LOOK
    bare = project(components=[{"name": "web", "image": "nginx"}])
    alone = replace(stored(decided(None, of=bare).apply[0], "u"), generation=1, status=READY)
    decision = decided(None, alone, of=bare)
    assert (decision.requeue_after, condition(decision)) == (None, None)
    assert not look_for(PLAIN, World(PLATFORM, bare, GRANTS, NAMESPACE, {alone.key: alone})).secrets


def test_where_nothing_is_shared_any_more_a_closed_namespace_stops_nobody() -> None:
    bare = project(components=[{"name": "web", "image": "nginx"}])
    decision = decided(SeenSecrets(closed=(OWN,)), of=bare)
    assert (envs(decision), condition(decision)) == ([], None)


def test_all_that_is_missing_is_named() -> None:
    of = asked({"name": "stripe"}, {"name": "mail"}, {"name": "there"}, {"name": "maps"})
    decision = decided(SeenSecrets(sources=(source(PROJECT, name="there"),)), of=of)
    _, reason, sentence = condition(decision) or ("", "", "")
    assert (reason, sentence.startswith("The Project shares Secret stripe, but")) == ("SecretNotFound", True)
    assert sentence.endswith(" Not given either: mail, maps.")
    assert [copy.shared for copy in decision.copies] == ["there"]


def test_somebody_elses_secret_of_a_copys_name_is_left_and_said() -> None:
    """As it may be there from before the name was reserved."""
    decision = decided(SeenSecrets(sources=(source(PROJECT),), taken=("stripe",)))
    assert (decision.copies, decision.apply, decision.requeue_after) == ((), (), LACKING_LOOK)
    status, reason, sentence = condition(decision) or ("", "", "")
    assert (status, reason) == ("False", "RefusedByCluster")
    assert sentence == (
        "Secret catalyst-shared.stripe exists in namespace acme--shop--pr-42 and was not made for this environment: "
        "remove it."
    )


# What forks are told


def test_a_fork_gets_nothing_of_it() -> None:
    decision = decided(None, about=FORK)
    assert (decision.copies, envs(decision)) == ((), [])
    assert condition(decision) == ("True", "Shared", "Not given to environments of forks: stripe.")
    assert "catalyst-shared" not in str(decision.apply)


def test_a_component_of_a_fork_that_names_it_is_told_why_it_waits() -> None:
    of = asked(envFrom=[{"secretRef": {"name": "stripe"}}])
    first = decided(None, of=of, about=FORK)
    assert envs(first) == ["stripe"], "its owners may make one of their own"
    stands = replace(stored(first.apply[0], "u"), generation=1, status=UNREADY)
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "stripe" not found'}
    pod = {
        "metadata": {"name": "web-1", "labels": {"catalyst.dev/component": "web"}},
        "status": {"containerStatuses": [{"name": "web", "image": "nginx", "state": {"waiting": waiting}}]},
    }
    decision = decided(None, stands, of=of, about=FORK, pods=[pod])
    assert isinstance(decision.status, EnvironmentStatus)
    (component,) = decision.status.components
    assert component.reason == "SecretNotFound"
    assert "does not give stripe to environments of forks (forks: false)" in (component.message or "")
    plain = decided(None, stands, of=project(components=[{"name": "web", "image": "nginx"}]), pods=[pod])
    assert "forks" not in str(plain.status)


def test_one_that_mounts_it_waits_without_a_word_from_the_kubelet() -> None:
    volume = {"volumes": [{"name": "v", "secret": {"name": "stripe"}}]}
    mounts = asked(**volume, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    stands = replace(stored(decided(None, of=mounts, about=FORK).apply[0], "u"), generation=1, status=UNREADY)
    for since, status, reason in ((-11, "False", "SecretNotFound"), (-9, "False", None), (-11, "True", None)):
        begun = {"type": "PodReadyToStartContainers", "status": status, "lastTransitionTime": at(since).isoformat()}
        pod = {
            "metadata": {"name": "web-1", "labels": {"catalyst.dev/component": "web"}},
            "status": {"conditions": [begun], "containerStatuses": []},
        }
        decision = decided(None, stands, of=mounts, about=FORK, pods=[pod])
        assert isinstance(decision.status, EnvironmentStatus)
        (component,) = decision.status.components
        assert component.reason == reason, (since, status)
        assert reason is None or "does not give stripe to environments of forks" in (component.message or "")


# What pods are told


def test_every_container_gets_it_before_what_the_component_says_itself() -> None:
    of = asked(
        {"name": "stripe"},
        {"name": "mail"},
        env=[
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "stripe", "key": "key"}}},
            {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "key"}}},
            {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "stripe", "key": "key"}}},
        ],
        envFrom=[{"secretRef": {"name": "mail"}, "prefix": "M_"}, {"secretRef": {"name": "mine"}}],
        volumes=[{"name": "files", "secret": {"name": "stripe"}}, {"name": "more", "secret": {"name": "mine"}}],
        volumeMounts=[{"name": "files", "mountPath": "/files"}, {"name": "more", "mountPath": "/more"}],
        initContainers=[{"name": "migrate"}],
    )
    made = template(decided(SeenSecrets(sources=(source(PROJECT), source(TEAM, name="mail"))), of=of))["spec"]
    both = [{"secretRef": {"name": f"catalyst-shared.{name}"}} for name in ("stripe", "mail")]
    assert made["initContainers"][0]["envFrom"] == both
    (container,) = made["containers"]
    assert container["envFrom"] == [
        *both,
        {"secretRef": {"name": "catalyst-shared.mail"}, "prefix": "M_"},
        {"secretRef": {"name": "mine"}},
    ]
    declared = {each["name"]: each["valueFrom"] for each in container["env"] if "valueFrom" in each}
    assert declared == {
        "KEY": {"secretKeyRef": {"name": "catalyst-shared.stripe", "key": "key"}},
        "OTHER": {"secretKeyRef": {"name": "mine", "key": "key"}},
        "MAP": {"configMapKeyRef": {"name": "stripe", "key": "key"}},
    }
    assert [volume["secret"]["secretName"] for volume in made["volumes"]] == ["catalyst-shared.stripe", "mine"]


def test_without_shared_secrets_a_deployment_is_as_it_always_was() -> None:
    of = project(components=[{"name": "web", "image": "nginx"}])
    (part,) = parts(of, PLAIN)
    made = deployment(subject(PLAIN, of), part, Image("nginx"), Given())
    assert "annotations" not in made["spec"]["template"]["metadata"]
    assert "envFrom" not in made["spec"]["template"]["spec"]["containers"][0]


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True), unique=True, min_size=1))
def test_no_copy_has_the_name_of_anything_else(names: list[str]) -> None:
    copies = {shares.copy_name(name) for name in names}
    assert len(copies) == len(names)
    assert not copies.intersection(names) or all(name.startswith(shares.PREFIX) for name in copies.intersection(names))
    assert "catalyst-pull" not in copies
    assert all("." in copy for copy in copies), "no service has a dot in its name, so none is <service>-credentials"
