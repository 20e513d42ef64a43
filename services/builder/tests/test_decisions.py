"""Is it still asked for, whose turn is it, who may do what at the registry: the small pure decisions."""

from datetime import timedelta
from typing import Any

import pytest
from asked import built
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from catalyst.builder.core.access import ANYBODY, Access, Principal, granted, of_environment, rights_of, scopes
from catalyst.builder.core.judgement import Verdict, judge
from catalyst.builder.core.platform import Limits
from catalyst.builder.core.queue import Waiting, admitted
from catalyst.builder.core.records import Record, is_referenced, record_name
from catalyst.builder.core.signing_in import BadLogin, BuildLogin, EnvironmentLogin, basic, login
from catalyst.builder.core.tokens import BadCredential, BadKey, Credential, Signer, key_set, private_key
from catalyst.events.catalogue import Build as Question
from catalyst.events.examples import ENVIRONMENT, NOW, snapshot
from catalyst.model.environment import BuildQuestion, ComponentStatus, Phase
from catalyst.model.snapshot import SnapshotPullRequest, SnapshotSource

ASKED = Question(environment=ENVIRONMENT, component="web", key="k", attempt=1)
LATER, BEFORE = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)


def said(phase: Phase = Phase.BUILDING, uid: str = "u-1", **builds: BuildQuestion) -> Any:
    return snapshot(phase=phase, uid=uid).model_copy(update={"builds": builds})


WANTED = BuildQuestion(key="k", attempt=1)


@pytest.mark.parametrize(
    ("told", "at", "verdict"),
    [
        (None, None, Verdict.WAIT),
        (said(web=WANTED), BEFORE, Verdict.BUILD),
        (said(web=WANTED), LATER, Verdict.BUILD),
        (said(), BEFORE, Verdict.WAIT),
        (said(), NOW, Verdict.WAIT),
        (said(), LATER, Verdict.SUPERSEDED),
        (said(web=BuildQuestion(key="k", attempt=2)), LATER, Verdict.SUPERSEDED),
        (said(web=BuildQuestion(key="other", attempt=1)), BEFORE, Verdict.WAIT),
        (said(api=WANTED), LATER, Verdict.SUPERSEDED),
        (said(Phase.TERMINATING, web=WANTED), BEFORE, Verdict.OVER),
        (said(Phase.GONE), LATER, Verdict.OVER),
        (said(uid="another-life", web=WANTED), BEFORE, Verdict.WAIT),
        (said(uid="another-life", web=WANTED), LATER, Verdict.OVER),
    ],
)
def test_judgement(told: Any, at: Any, verdict: Verdict) -> None:
    assert judge(ASKED, NOW, told, at) is verdict


def waiting(project: str, *since: int) -> list[Waiting]:
    return [Waiting(f"{n:03}", "ns", f"{project}-{n}", project) for n in since]


def test_turns() -> None:
    many, one = waiting("a", *range(10)), waiting("b", 50)
    names = [entry.job for entry in admitted([*many, *one], [], Limits(at_once=4, per_project=2))]
    assert names == ["a-0", "b-50", "a-1"]
    assert admitted(many, ["a", "a"], Limits(at_once=4, per_project=2)) == []
    assert [e.job for e in admitted([*many, *one], ["a"], Limits(at_once=2, per_project=2))] == ["b-50"]
    assert admitted(many, ["x"] * 9, Limits(at_once=4, per_project=2)) == []


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from("abcd")), max_size=30, unique=True),
    st.lists(st.sampled_from("abcd"), max_size=6),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_turns_keep_the_limits_and_leave_no_room_unused(
    entries: list[tuple[int, str]], running: list[str], at_once: int, per_project: int
) -> None:
    queue = [Waiting(f"{since:03}", "ns", f"{project}{since}", project) for since, project in entries]
    chosen = admitted(queue, running, Limits(at_once=at_once, per_project=per_project))
    busy = [*running, *(entry.project for entry in chosen)]
    assert len(busy) <= max(at_once, len(running))
    assert all(busy.count(entry.project) <= per_project for entry in chosen)
    left = [entry for entry in queue if entry not in chosen]
    assert len(busy) >= at_once or all(busy.count(entry.project) >= per_project for entry in left)


# The registry


def test_scopes() -> None:
    assert scopes(["repository:acme/shop/web:pull,push repository:library/debian:pull"]) == [
        Access("acme/shop/web", ("pull", "push")),
        Access("library/debian", ("pull",)),
    ]
    for bad in (
        "registry:catalog:*",
        "repository:../x:pull",
        "repository:A/b:pull",
        "repository:x",
        "repository:a//b:pull",
        ":",
        "",
    ):
        assert scopes([bad]) == []
    assert len(scopes([" ".join(f"repository:a/b{n}:pull" for n in range(99))])) == 32


def grants(principal: Principal, *asked: str) -> dict[str, tuple[str, ...]]:
    return {access.name: access.actions for access in granted(principal, scopes(asked), ("library/*",))}


def test_who_may_do_what() -> None:
    everything = [
        f"repository:{name}:pull,push,delete"
        for name in (
            "library/debian",
            "library/a/b",
            "acme/shop/web",
            "acme/shop/api",
            "acme/shop/forks/web",
            "acme/shop/cache/development",
            "acme/shop/cache/deployment",
            "acme/other/web",
            "other/shop/web",
        )
    ]
    public = {"library/debian": ("pull",)}
    assert grants(ANYBODY, *everything) == public
    assert grants(Principal("b", rights_of(built())), *everything) == public | {
        "acme/shop/web": ("pull", "push"),
        "acme/shop/cache/development": ("pull", "push"),
    }
    assert grants(Principal("b", rights_of(built(trusted=False))), *everything) == public | {
        "acme/shop/forks/web": ("pull", "push")
    }
    assert grants(of_environment(snapshot()), *everything) == public | {
        "acme/shop/web": ("pull",),
        "acme/shop/api": ("pull",),
        "acme/shop/forks/web": ("pull",),
    }
    source = SnapshotSource(pull_request=SnapshotPullRequest(number=1, fork=True))
    fork = snapshot().model_copy(update={"source": source})
    assert grants(of_environment(fork), *everything) == public | {"acme/shop/forks/web": ("pull",)}
    assert grants(of_environment(snapshot()), "repository:acme/shop/web:*") == {"acme/shop/web": ("pull",)}


KEY = ECKey.generate_key("P-256")
SIGNER = Signer(KEY, "catalyst", "registry")
CREDENTIAL = Credential("ns", "job", "uid", {"acme/shop/web": ("pull", "push")}, NOW + timedelta(minutes=30))


def test_a_credential_comes_back() -> None:
    text = SIGNER.credential(CREDENTIAL, NOW)
    assert SIGNER.read_credential(text, NOW + timedelta(minutes=29)) == CREDENTIAL


@pytest.mark.parametrize(
    "text",
    [
        SIGNER.credential(CREDENTIAL, NOW)[:-4] + "AAAA",
        SIGNER.token("build:ns/job", [Access("x", ("push",))], NOW, "id"),  # a registry token is no credential
        Signer(ECKey.generate_key("P-256"), "catalyst", "registry").credential(CREDENTIAL, NOW),
        Signer(KEY, "another", "registry").credential(CREDENTIAL, NOW),
        "eyJhbGciOiJub25lIn0.e30.",
        "",
        "x" * 10_000,
    ],
)
def test_what_is_no_credential(text: str) -> None:
    with pytest.raises(BadCredential):
        SIGNER.read_credential(text, NOW)


def test_a_credential_ends() -> None:
    with pytest.raises(BadCredential):
        SIGNER.read_credential(SIGNER.credential(CREDENTIAL, NOW), NOW + timedelta(minutes=31))


def test_keys() -> None:
    pem = KEY.as_pem(private=True).decode()
    assert private_key(pem).thumbprint() == KEY.thumbprint()
    published: Any = key_set(KEY)
    assert [set(key) for key in published["keys"]] == [{"kty", "crv", "x", "y", "kid", "alg", "use"}]
    for bad in (
        "",
        "no key",
        KEY.as_pem(private=False).decode(),
        ECKey.generate_key("P-384").as_pem(private=True).decode(),
    ):
        with pytest.raises(BadKey):
            private_key(bad)


def test_logins() -> None:
    assert login("build:abc.def.ghi") == BuildLogin("abc.def.ghi")
    assert login("env:uid-1:pass:word") == EnvironmentLogin("uid-1", "pass:word")
    for bad in ("", "env", "env:uid", "env:uid:", "env::x", "root:x", "build:", "build:a\nb", "env:u:" + "x" * 9000):
        with pytest.raises(BadLogin):
            login(bad)
    for header in ("", "Bearer x", "Basic", "Basic !!!", "Basic /w=="):
        with pytest.raises(BadLogin):
            basic(header)


def test_records() -> None:
    record = Record(component="web", key="k", repository="acme/shop/web", digest=f"sha256:{'1' * 64}")
    assert is_referenced(record, [said(web=WANTED)])
    assert is_referenced(
        record, [snapshot().model_copy(update={"components": (ComponentStatus(name="x", digest=record.digest),)})]
    )
    assert not is_referenced(record, [said(web=BuildQuestion(key="other", attempt=1)), said(api=WANTED)])
    assert not is_referenced(record, [])
    names = {record_name(*pair, deployment=False) for pair in (("web", "k"), ("we", "bk"), ("w", "ebk"))}
    assert len(names | {record_name("web", "k", deployment=True)}) == 4
