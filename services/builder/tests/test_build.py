"""Hostile requests are refused before anything exists; beside each the allowed twin."""

import pytest
from asked import PLATFORM, built, request

from catalyst.builder.core.build import Build, Refusal, build_of, job_name
from catalyst.builder.core.platform import Images, Platform
from catalyst.model.names import build_namespace


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/Acme/Shop.git",
        "https://github.com/acme/shop",
        "https://github.com/Acme/Shop/",
        "https://github.com:443/Acme/Shop.git",
    ],
)
def test_the_forges_own_address_in_any_spelling(url: str) -> None:
    assert built(clone_url=url).source.url == "https://github.com/Acme/Shop.git"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ext::sh -c 'curl evil'",
        "http://github.com/Acme/Shop.git",
        "ssh://git@github.com/Acme/Shop.git",
        "git@github.com:Acme/Shop.git",
        "--upload-pack=touch /tmp/x",
        "-u https://github.com/Acme/Shop.git",
        "https://169.254.169.254/Acme/Shop.git",
        "https://[fd00:ec2::254]/Acme/Shop.git",
        "https://evil.example/Acme/Shop.git",
        "https://github.com.evil.example/Acme/Shop.git",
        "https://github.com@evil.example/Acme/Shop.git",
        "https://user:secret@github.com/Acme/Shop.git",
        "https://github.com:8443/Acme/Shop.git",
        "https://github.com/Acme/Other.git",
        "https://github.com/Acme/../Evil/Shop.git",
        "https://github.com/Acme/Shop.git?x=1",
        "https://github.com/Acme/Shop.git#x",
        "https://github.com/Acme/Shop.git\nhttps://evil.example",
        "https://github.com\\@evil.example/Acme/Shop.git",
        "https://gіthub.com/Acme/Shop.git",  # a Cyrillic letter
        "https://github.com:port/Acme/Shop.git",
        "https:///Acme/Shop.git",
        "",
    ],
)
def test_any_other_address_is_refused_and_git_never_sees_it(url: str) -> None:
    refusal = build_of(request(clone_url=url), PLATFORM)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "SourceRefused"
    assert "https://github.com/Acme/Shop.git" in refusal.message
    assert "\n" not in refusal.message


@pytest.mark.parametrize("name", ["-x/shop", "acme/../x", "acme/shop/x", "acme", "a b/c", "acme/shop\n", "/x"])
def test_repository_names(name: str) -> None:
    refusal = build_of(request(full_name=name, clone_url=f"https://github.com/{name}.git"), PLATFORM)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "SourceRefused"


@pytest.mark.parametrize(
    "commit", ["main", "--upload-pack=x", "a" * 39, "A" * 40, "a" * 41, "HEAD", "refs/heads/x", ""]
)
def test_a_ref_is_no_commit(commit: str) -> None:
    refusal = build_of(request(commit=commit), PLATFORM)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "SourceRefused"
    assert built(commit="a" * 64).source.commit == "a" * 64


@pytest.mark.parametrize(
    ("inputs", "bad"),
    [
        ({"dockerfile": "docker/Dockerfile.prod"}, {"dockerfile": "../Dockerfile"}),
        ({"dockerfile": "a..b/Dockerfile"}, {"dockerfile": "a/../../Dockerfile"}),
        ({"dockerfile": "Dockerfile"}, {"dockerfile": "/etc/passwd"}),
        ({"dockerfile": "Dockerfile"}, {"dockerfile": "--flag"}),
        ({"dockerfile": "Dockerfile"}, {"dockerfile": ""}),
        ({"dockerfile": "Dockerfile"}, {"dockerfile": "a\nb"}),
        ({"context": "apps/web"}, {"context": "apps/../../web"}),
        ({"context": "."}, {"context": "/"}),
        ({"context": "apps/web"}, {"context": "-C"}),
        ({"target": "prod"}, {"target": "--help"}),
        ({"target": "prod.1"}, {"target": "a b"}),
        ({"arg.VERSION": "1 2 $(x)"}, {"arg.A=B": "1"}),
        ({"arg.VERSION": "x" * 4096}, {"arg.VERSION": "x" * 4097}),
        ({"arg.VERSION": ""}, {"arg.VERSION": "a\0b"}),
        ({f"arg.A{n}": "" for n in range(64)}, {f"arg.A{n}": "" for n in range(65)}),
        ({}, {"destination": "evil.example/x"}),
    ],
)
def test_inputs(inputs: dict[str, str], bad: dict[str, str]) -> None:
    built(inputs=inputs)
    refusal = build_of(request(inputs=bad), PLATFORM)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "InvalidInput"
    assert refusal.message.isascii()


def test_names_never_meet() -> None:
    jobs = {
        job_name(*parts)
        for parts in (
            ("u", "web", "k", 1),
            ("u", "we", "bk", 1),
            ("u", "web", "k", 11),
            ("u", "webk", "", 1),
            ("uw", "eb", "k", 1),
        )
    }
    assert len(jobs) == 5
    assert all(len(name) <= 63 for name in jobs)
    same_seven = {job_name("u", "web", f"abcdef0{rest}", 1) for rest in ("1", "2")}
    assert len(same_seven) == 2
    pairs = [("a-b", "c"), ("a", "b-c"), ("catalyst", "builds")]
    places = {build_namespace(*pair, trusted=trusted) for pair in pairs for trusted in (True, False)}
    assert len(places) == 6
    assert all(len(place) == 63 and "--" not in place for place in places)


def test_forks_have_their_own_place_and_no_cache() -> None:
    trusted, fork = built(), built(trusted=False)
    assert (trusted.repository, trusted.cache) == ("acme/shop/web", "acme/shop/cache/development")
    assert (fork.repository, fork.cache) == ("acme/shop/forks/web", None)
    assert trusted.namespace != fork.namespace
    production = build_of(request(), PLATFORM, deployment=True)
    assert isinstance(production, Build)
    assert production.cache == "acme/shop/cache/deployment"


def test_http_only_where_the_platform_says_so() -> None:
    local = Platform("r", Images("g", "k", "c"), git_url="http://github.catalyst.test:8080")
    found = build_of(request(clone_url="http://github.catalyst.test:8080/Acme/Shop.git"), local)
    assert isinstance(found, Build)
    assert isinstance(build_of(request(), local), Refusal)
