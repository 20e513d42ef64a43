"""Names: valid, unique, stable, over whatever people and forges come up with."""

import re
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from catalyst.model.names import (
    MAX_LABEL,
    MAX_NAME,
    Identity,
    InvalidName,
    branch_environment,
    hostname,
    is_name,
    project_namespace,
    pull_request_environment,
    workload_namespace,
)

ZONE = "preview.example.org"
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")

# Names drawn so that they nearly collide: few letters, many hyphens, sometimes very long.
tight = st.from_regex(r"[ab0](-?[ab0]){0,6}", fullmatch=True)
long = st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,45}", fullmatch=True)
names = st.one_of(tight, long, st.just("a" * MAX_NAME)).filter(is_name)
identities = st.builds(Identity, names, names, names)
hostile = st.one_of(
    st.text(min_size=1, max_size=400),
    st.text(alphabet=string.punctuation, min_size=1, max_size=80),
    st.text(alphabet="ab-/_.", min_size=1, max_size=12),
    st.from_regex(r"(?a:pr-[0-9]{1,9}|[a-f]{0,3}-[0-9a-f]{8}|PR/[0-9]{8})", fullmatch=True),
)


def is_label(text: str) -> bool:
    return len(text) <= MAX_LABEL and DNS_LABEL.match(text) is not None


@given(identities)
def test_every_identity_gives_valid_names(identity: Identity) -> None:
    assert is_label(workload_namespace(identity))
    assert is_label(project_namespace(identity.team, identity.project))
    label, _, zone = hostname(identity, ZONE).partition(".")
    assert (is_label(label), label[2:4] == "--", zone) == (True, False, ZONE)


@given(identities, names)
def test_a_component_has_a_host_of_its_own(identity: Identity, component: str) -> None:
    host = hostname(identity, ZONE, component)
    assert is_label(host.removesuffix(f".{ZONE}"))
    assert host[2:4] != "--"
    assert host != hostname(identity, ZONE)


@given(identities, identities)
@example(Identity("a-b", "c", "d"), Identity("a", "b-c", "d"))
@example(Identity("a", "b-c", "d"), Identity("a", "b", "c-d"))
def test_two_identities_share_no_name(one: Identity, other: Identity) -> None:
    assume(one != other)
    assert workload_namespace(one) != workload_namespace(other)
    assert hostname(one, ZONE) != hostname(other, ZONE)
    if (one.team, one.project) != (other.team, other.project):
        assert project_namespace(one.team, one.project) != project_namespace(other.team, other.project)


@given(identities, identities, names)
def test_the_three_levels_never_meet(one: Identity, other: Identity, team: str) -> None:
    workload, project = workload_namespace(one), project_namespace(other.team, other.project)
    assert workload != project
    assert team not in (workload, project), "a team's namespace is never a project's or a workload's"


@given(identities, names)
def test_hashed_and_plain_forms_are_told_apart(identity: Identity, component: str) -> None:
    for name in (
        workload_namespace(identity),
        project_namespace(identity.team, identity.project),
        hostname(identity, ZONE).split(".")[0],
        hostname(identity, ZONE, component).split(".")[0],
    ):
        assert "--" in name or re.search(r"-[0-9a-f]{8}\Z", name)


@given(hostile)
@example("feature/" + "x" * 300)
@example("ünïcödé/ブランチ")
@example(string.punctuation)
@example("\ud800")
@example("pr-42")
@example("PR")
def test_every_branch_gives_a_valid_environment(branch: str) -> None:
    environment = branch_environment(branch)
    assert is_name(environment)
    assert not re.fullmatch(r"pr-[0-9]+", environment), "a branch never takes a pull request's environment"
    assert is_label(workload_namespace(Identity("acme", "shop", environment)))


@given(hostile, hostile)
@example("a/b", "a-b")
@example("A", "a")
@example("a", "a-")
@example("a/b", "a_b")
def test_two_branches_share_no_environment(one: str, other: str) -> None:
    assume(one != other)
    assert branch_environment(one) != branch_environment(other)


@given(hostile)
def test_a_branch_named_like_anothers_environment_gets_another(branch: str) -> None:
    taken = branch_environment(branch)
    assume(taken != branch)
    assert branch_environment(taken) != taken


@given(identities)
def test_an_identity_reads_back(identity: Identity) -> None:
    assert Identity.parse(str(identity)) == identity


# Golden: these must never change, whatever is refactored. People have bookmarked them and clusters contain them.
GOLDEN_IDENTITIES = [
    (("acme", "shop", "pr-42"), "acme--shop--pr-42", "pr-42--shop--acme"),
    (("a-b", "c", "main"), "a-b--c--main", "main--c--a-b"),
    (("a", "b-c", "main"), "a--b-c--main", "main--b-c--a"),
    (("acme", "shop", "qa"), "acme--shop--qa", "qa-shop-acme-53accd3e"),
    (
        ("t" * 30, "p" * 30, "pr-1"),
        "tttttttttttttttttttttttttttttt-ppppppppppppppppppppppp-63d1d2b0",
        "pr-1-pppppppppppppppppppppppppppppp-tttttttttttttttttt-aad101d6",
    ),
]


@pytest.mark.parametrize(("parts", "namespace", "host"), GOLDEN_IDENTITIES)
def test_names_of_identities_are_stable(parts: tuple[str, str, str], namespace: str, host: str) -> None:
    identity = Identity(*parts)
    assert workload_namespace(identity) == namespace
    assert hostname(identity, ZONE) == f"{host}.{ZONE}"


GOLDEN_BRANCHES = {
    "main": "main",
    "release-1-2": "release-1-2",
    "feature/foo": "feature-foo-82e97739",
    "feature-foo": "feature-foo",
    "Feature/Foo": "feature-foo-d70de4a8",
    "a/b": "a-b-826377d3",
    "a-b": "a-b",
    "a--b": "a-b-97a9665f",
    "pr-42": "pr-42-b0368168",
    "pr": "pr",
    "PR": "branch-caf54783",
    "!!!": "branch-34d53272",
    "日本語": "branch-965b1e1c",
    "x-1a2b3c4d": "x-1a2b3c4d-66a4de0f",
    "y" * 300: "y" * 51 + "-6ac939f8",
}


@pytest.mark.parametrize(("branch", "environment"), GOLDEN_BRANCHES.items())
def test_names_of_branches_are_stable(branch: str, environment: str) -> None:
    assert branch_environment(branch) == environment


def test_a_pull_request_has_a_readable_name() -> None:
    assert pull_request_environment(42) == "pr-42"
    assert is_name(pull_request_environment(10**18 - 1))


@pytest.mark.parametrize("number", [0, -1, 10**18])
def test_no_pull_request_has_such_a_number(number: int) -> None:
    with pytest.raises(InvalidName, match="expected a positive number"):
        pull_request_environment(number)


REFUSED = ["", "-a", "a-", "a--b", "A", "a_b", "a.b", "a/b", "ä", "a\n", "x" * (MAX_NAME + 1), "x" * 300, "٣"]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_name(text: str) -> None:
    assert not is_name(text)
    for field, build in (
        ("team", lambda: Identity(text, "shop", "main")),
        ("project", lambda: project_namespace("acme", text)),
        ("environment", lambda: Identity("acme", "shop", text)),
        ("component", lambda: hostname(Identity("acme", "shop", "main"), ZONE, text)),
    ):
        with pytest.raises(InvalidName, match=rf"{field} .*: expected at most {MAX_NAME} of a-z"):
            build()


@pytest.mark.parametrize("text", ["a", "0", "a-b", "a1-2b-c", "x" * MAX_NAME])
def test_what_is_a_name(text: str) -> None:
    assert is_name(text)
    assert Identity(text, text, text).team == text


@pytest.mark.parametrize("text", ["", "acme/shop", "acme/shop/pr/42", "acme/shop/", "acme/shop/A"])
def test_an_identity_has_three_names(text: str) -> None:
    with pytest.raises(InvalidName, match="expected"):
        Identity.parse(text)


@pytest.mark.parametrize(
    "zone", ["", "Example.org", "example..org", ".org", "-a.org", "z" * 64, "a." * 120 + "a", "a\n"]
)
def test_a_zone_is_a_dns_name(zone: str) -> None:
    with pytest.raises(InvalidName, match="expected a lower-case DNS name"):
        hostname(Identity("acme", "shop", "main"), zone)


def test_an_empty_branch_is_refused() -> None:
    with pytest.raises(InvalidName, match="expected a branch's name"):
        branch_environment("")
