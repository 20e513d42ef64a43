"""What a component is built from, told by the forge, is the same word as the one that `fetch.sh` finds in a clone."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from doubles.github import GitHubDouble

from catalyst.builder.core.build import Build, Source
from catalyst.builder.effects.sources import Fingerprints
from catalyst.forge.client import GitHubClient
from catalyst.forge.settings import ForgeSettings
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity

SHOP = "acme/shop"
FILES = {
    "Dockerfile": "FROM a\n",
    "web/Dockerfile": "FROM b\n",
    "web/Dockerfile.dockerignore": "wheels\n",
    "web/app/main.py": "1\n",
    "api/Dockerfile": "FROM c\n",
}
SCRIPT = Path(__file__).parents[1] / "src" / "catalyst" / "builder" / "core" / "fetch.sh"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as made:
        made.repository(SHOP, files=FILES)
        made.install("acme")
        yield made


@pytest.fixture
async def client(github: GitHubDouble, tmp_path: Path) -> AsyncIterator[GitHubClient]:
    key = tmp_path / "app.pem"
    key.write_text(github.private_key)
    settings = ForgeSettings(github_url=github.url, github_app_id=github.app.id, github_private_key_file=key)
    async with GitHubClient.of(settings, clock=utc_now) as made:
        yield made


def build(github: GitHubDouble, commit: str, context: str = ".", dockerfile: str = "Dockerfile") -> Build:
    source = Source(github.clone_url(SHOP), SHOP, commit, private=False)
    return Build(
        identity=Identity("acme", "shop", "pr-1"),
        uid="u",
        component="web",
        key="k",
        attempt=1,
        source=source,
        trust="trusted",
        deployment=False,
        dockerfile=dockerfile,
        context=context,
    )


def head(github: GitHubDouble) -> str:
    found = github.state.repositories[SHOP].git.branch("main")
    assert found is not None
    return found


def fetched(of: Build, folder: Path) -> str:
    """What the script says of the same commit."""
    result = folder / "result"
    given = {
        "SOURCE_URL": of.source.url,
        "SOURCE_COMMIT": of.source.commit,
        "DOCKERFILE": of.dockerfile,
        "CONTEXT": of.context,
        "INPUTS": of.inputs,
        "KNOWN": "",
        "TOKEN_FILE": "/dev/null",
        "WORKSPACE": str(folder),
        "RESULT": str(result),
    }
    subprocess.run(["/bin/sh", "-c", SCRIPT.read_text()], env={**os.environ, **given}, check=False, capture_output=True)
    return result.read_text()


@pytest.mark.parametrize(
    ("context", "dockerfile"),
    [
        (".", "Dockerfile"),
        ("./", "./Dockerfile"),
        ("web", "web/Dockerfile"),
        ("./web/", "./web/Dockerfile"),
        ("web/app", "Dockerfile"),
        (".", "web/Dockerfile"),
    ],
)
async def test_it_is_what_a_build_finds(
    client: GitHubClient, github: GitHubDouble, tmp_path: Path, context: str, dockerfile: str
) -> None:
    asked = build(github, head(github), context, dockerfile)
    assert f"source {await Fingerprints(client).of(asked)}" == fetched(asked, tmp_path)


async def test_it_changes_with_what_is_built_and_with_nothing_else(client: GitHubClient, github: GitHubDouble) -> None:
    told = Fingerprints(client)
    first = await told.of(build(github, head(github), "web", "web/Dockerfile"))
    github.commit(SHOP, "main", {"README.md": "new", "api/Dockerfile": "FROM d\n"})
    assert await told.of(build(github, head(github), "web", "web/Dockerfile")) == first
    for change in ({"web/app/main.py": "2\n"}, {"web/Dockerfile": "FROM e\n"}, {"web/Dockerfile.dockerignore": None}):
        before = await told.of(build(github, head(github), "web", "web/Dockerfile"))
        github.commit(SHOP, "main", change)
        assert await told.of(build(github, head(github), "web", "web/Dockerfile")) not in (before, None)


@pytest.mark.parametrize(
    ("context", "dockerfile"),
    [("gone", "Dockerfile"), ("Dockerfile", "Dockerfile"), (".", "web"), (".", "web/gone"), (".", "Dockerfile/x")],
)
async def test_what_is_amiss_is_left_to_a_job(
    client: GitHubClient, github: GitHubDouble, tmp_path: Path, context: str, dockerfile: str
) -> None:
    asked = build(github, head(github), context, dockerfile)
    assert await Fingerprints(client).of(asked) is None
    assert fetched(asked, tmp_path).startswith(("DockerfileNotFound: ", "ContextNotFound: "))


async def test_a_forge_that_does_not_tell_is_no_failure(client: GitHubClient, github: GitHubDouble) -> None:
    told, asked = Fingerprints(client), build(github, head(github))
    github.fail(r"GET /repos/acme/shop/git/")
    assert await told.of(asked) is None
    assert await told.of(build(github, "f" * 40)) is None
    assert await Fingerprints(None).of(asked) is None
    assert await told.of(asked) is not None
