"""`build.requested` to `build.finished` and `build.cleaned`: real API server, Job controller, NATS and registry."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from building import Project, until
from doubles.github import GitHubDouble

from catalyst.model.environment import Phase


async def test_a_request_becomes_an_image(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    job = await project.job()
    assert job["spec"]["template"]["spec"]["hostUsers"] is False
    digest = await project.succeeds(job)
    answer = await project.answer()
    assert (answer["outcome"], answer["digest"], answer["key"], answer["attempt"]) == ("succeeded", digest, "k1", 1)
    assert answer["image"] == f"{project.registry.host}/{project.team}/shop/web"
    assert (answer["ports"], answer["user"]) == ([8080], "app")
    name = job["metadata"]["name"]

    async def without_secrets() -> bool:
        return project.secret(f"{name}-push") is None and project.secret(f"{name}-read") is None

    await until(without_secrets, "the credentials are taken away")

    # Asked again, also under another attempt: nothing is built, and the answer is one that is heard.
    await project.ask(project.request(), again=1)
    assert (await project.answer(2))["digest"] == digest
    await project.tell(project.snapshot({"web": ("k1", 2)}))
    await project.ask(project.request(attempt=2))
    assert (await project.answer(3))["attempt"] == 2
    assert len(project.jobs()) == 1

    # The environment goes: so do Job, record and image, whose manifest answers 404 from now on.
    place = f"{project.team}/shop/web"
    assert project.registry.status(place, digest) == 200
    await project.tell(project.snapshot({"web": ("k1", 2)}, phase=Phase.TERMINATING))
    assert (await project.answer(verb="cleaned"))["environment"]["uid"] == f"uid-{project.team}-pr-1"
    assert project.jobs() == []
    where = f"/api/v1/namespaces/{project.namespace()}"
    records = project.get(f"{where}/configmaps?labelSelector=catalyst.dev/build-record")["items"]
    assert not records
    assert project.registry.status(place, digest) == 404


async def test_a_fork_pushes_nothing_itself(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}, fork=True))
    await project.ask(project.request(trusted=False))
    job = await project.job(trusted=False)
    assert project.admin.get(f"/api/v1/namespaces/{project.namespace()}").status_code == 404, "no trusted namespace"
    digest = await project.succeeds(job, trusted=False)
    answer = await project.answer()
    assert (answer["outcome"], answer["digest"]) == ("succeeded", digest)
    assert answer["image"] == f"{project.registry.host}/{project.team}/shop/forks/web"

    # What a fork's build recorded answers no trusted question of the same key: that one is built.
    await project.tell(project.snapshot({"web": ("k1", 1)}, environment="pr-2"))
    await project.ask(project.request(environment="pr-2"))
    assert (await project.job())["metadata"]["namespace"] == project.namespace()


async def test_a_builds_credential_is_for_its_own_place_and_time(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    job = await project.job()
    secret = project.secret(f"{job['metadata']['name']}-push")
    assert secret is not None
    config, place = secret["config.json"], f"{project.team}/shop"
    for repository in (f"{place}/web", f"{place}/cache/development"):
        await asyncio.to_thread(project.registry.push, config, repository)
    for repository in (
        f"{place}/api",
        f"{place}/forks/web",
        f"{place}/cache/deployment",
        "other/shop/web",
        "library/x",
    ):
        with pytest.raises(PermissionError, match=r"401 Unauthorized|UNAUTHORIZED|DENIED"):
            await asyncio.to_thread(project.registry.push, config, repository)
    await project.succeeds(job)
    await project.answer()
    with pytest.raises(PermissionError):
        await asyncio.to_thread(project.registry.push, config, f"{place}/web")


async def test_a_failure_says_why_without_secrets(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1), "api": ("k1", 1)}))
    await project.ask(project.request())
    await project.ask(project.request("api"))
    web, api = await project.job(), await project.job("api")
    await project.ends(web, "Failed", {"fetch": (0, "source f"), "kaniko": (1, "")})
    answer = await project.answer()
    assert (answer["outcome"], answer["reason"]) == ("failed", "BuildFailed")
    assert "log" in answer["message"]
    refused = "DockerfileNotFound: the repository has no file Dockerfile at this commit. Add it."
    await project.ends(api, "Failed", {"fetch": (1, refused)})
    answer = await project.answer(2)
    assert (answer["component"], answer["reason"]) == ("api", "DockerfileNotFound")
    assert answer["message"] == "the repository has no file Dockerfile at this commit. Add it."

    # Asked again under the same attempt: the same answer, and nothing is built in a circle.
    await project.ask(project.request("api"), again=1)
    assert (await project.answer(3))["reason"] == "DockerfileNotFound"
    assert len(project.jobs()) == 2
    # Another attempt is another build, which may succeed.
    await project.tell(project.snapshot({"api": ("k1", 2), "web": ("k1", 1)}))
    await project.ask(project.request("api", attempt=2))

    async def third() -> bool:
        return len([each for each in project.jobs() if not each["spec"].get("suspend")]) == 3

    await until(third, "the second attempt is started")


async def test_an_image_that_is_not_there_is_not_believed(serve: Any, project: Project) -> None:
    """A Dockerfile can write what it likes where Kaniko writes the digest."""
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1), "api": ("k1", 1)}))
    await project.ask(project.request())
    await project.ask(project.request("api"))
    web, api = await project.job(), await project.job("api")
    await project.ends(web, "Succeeded", {"fetch": (0, "source f"), "kaniko": (0, f"sha256:{'0' * 64}")})
    assert (await project.answer())["reason"] == "ImageMissing"
    await project.ends(api, "Succeeded", {"fetch": (0, "source f"), "kaniko": (0, "library/debian@latest")})
    assert (await project.answer(2))["reason"] == "BuildFailed"


async def test_a_newer_commit_supersedes(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("old", 1), "api": ("k", 1)}))
    await project.ask(project.request(key="old"))
    await project.ask(project.request("api", key="k"))
    await project.job(key="old")
    api = await project.job("api", key="k")
    await project.tell(project.snapshot({"web": ("new", 1), "api": ("k", 1)}))
    await project.ask(project.request(key="new"))
    await project.job(key="new")
    answer = await project.answer()
    assert (answer["key"], answer["outcome"]) == ("old", "superseded")

    async def only_the_newer() -> bool:
        keys = {each["metadata"]["name"] for each in project.jobs()}
        return len(keys) == 2 and api["metadata"]["name"] in keys

    await until(only_the_newer, "the older Job is gone, the other component's stays")
    # An old request that comes late ends nothing.
    await project.ask(project.request(key="old"), again=1, earlier=60)
    await asyncio.sleep(1)
    assert len(project.jobs()) == 2


async def test_nothing_is_built_for_what_is_over_or_not_asked_for(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}, phase=Phase.TERMINATING))
    await project.ask(project.request(), earlier=30)
    await project.answer(verb="cleaned")
    await project.ask(project.request(key="never"))
    await asyncio.sleep(1.5)
    assert project.admin.get(f"/api/v1/namespaces/{project.namespace()}").status_code == 404
    assert await project.answers() == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"inputs": {"dockerfile": "../Dockerfile"}}, "InvalidInput"),
        ({"inputs": {"context": "-x"}}, "InvalidInput"),
        ({"repository": {"clone_url": "ext::sh -c true"}}, "SourceRefused"),
        ({"repository": {"clone_url": "https://169.254.169.254/acme/shop.git"}}, "SourceRefused"),
    ],
)
async def test_a_refused_request_writes_nothing(serve: Any, project: Project, fields: Any, reason: str) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    request = project.request()
    if "repository" in fields:
        fields = {"repository": request.repository.model_copy(update=fields["repository"])}
    await project.ask(request.model_copy(update=fields))
    answer = await project.answer()
    assert (answer["outcome"], answer["reason"]) == ("failed", reason)
    assert project.admin.get(f"/api/v1/namespaces/{project.namespace()}").status_code == 404


async def test_a_private_repository_needs_a_sign_in(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    request = project.request()
    private = request.repository.model_copy(update={"private": True})
    await project.ask(request.model_copy(update={"repository": private}))
    answer = await project.answer()
    assert answer["reason"] == "SourceCredentialMissing"
    assert "GitHub App" in answer["message"]


async def test_projects_take_turns(serve: Any, project: Project, buses: Any) -> None:
    """One project asks for four, another for one: it is not behind the four."""
    await serve(builds_at_once="2", builds_per_project="2")
    names = ("a", "b", "c", "d")
    await project.tell(project.snapshot(dict.fromkeys(names, ("k", 1))))
    for name in names:
        await project.ask(project.request(name, key="k"))

    async def queued() -> bool:
        return len(project.jobs()) == 4 and sum(not j["spec"].get("suspend") for j in project.jobs()) == 2

    await until(queued, "two of the four are started")
    controller, operator = buses
    other = Project(controller, operator, project.admin, project.registry, f"{project.team}-other")
    await other.tell(other.snapshot({"web": ("k", 1)}))
    await other.ask(other.request(key="k"))
    await other.job(key="k", started=False)
    first = next(j for j in project.jobs() if not j["spec"].get("suspend"))
    await project.ends(first, "Failed", {"fetch": (1, "CommitNotFound: gone.")})
    await other.job(key="k")
    assert sum(not j["spec"].get("suspend") for j in project.jobs()) == 2, "the ended one and the other that runs"


async def test_what_is_unchanged_is_reused(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    digest = await project.succeeds(await project.job(), fingerprint="tree.blob.none.inputs")
    await project.answer()
    await project.tell(project.snapshot({"web": ("k2", 1)}, digests={"web": digest}))
    await project.ask(project.request(key="k2", commit="b" * 40))
    job = await project.job(key="k2")
    fetch = job["spec"]["template"]["spec"]["initContainers"][0]
    assert {"name": "KNOWN", "value": "tree.blob.none.inputs"} in fetch["env"]
    await project.ends(job, "Failed", {"fetch": (10, "unchanged tree.blob.none.inputs")})
    answer = await project.answer(2)
    assert (answer["outcome"], answer["key"], answer["digest"]) == ("succeeded", "k2", digest)


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as made:
        made.repository("acme/shop")
        made.install("acme")
        (tmp_path / "app.pem").write_text(made.private_key)
        yield made


async def test_a_commit_that_changes_nothing_of_a_component_needs_no_job(
    serve: Any, project: Project, github: GitHubDouble, tmp_path: Path
) -> None:
    await serve(
        github_url=github.url,
        github_app_id=str(github.app.id),
        github_private_key_file=str(tmp_path / "app.pem"),
        git_url=github.git_url,
        git_insecure="true",
    )
    git = github.state.repositories["acme/shop"].git
    plain = project.request().repository
    asked: dict[str, Any] = {
        "repository": plain.model_copy(update={"clone_url": f"{github.git_url}/acme/shop.git"}),
        "inputs": {"dockerfile": "web/Dockerfile", "context": "web"},
    }

    async def ask(key: str, files: dict[str, str], **digests: str) -> None:
        commit = github.commit("acme/shop", "feature", files)
        await project.tell(project.snapshot({"web": (key, 1)}, digests=digests))
        await project.ask(project.request(key=key, commit=commit, **asked))

    await ask("k1", {"web/Dockerfile": "FROM a", "web/app.py": "1"})
    job = await project.job()
    (inputs,) = [
        each["value"]
        for each in job["spec"]["template"]["spec"]["initContainers"][0]["env"]
        if each["name"] == "INPUTS"
    ]
    (web,) = (id_ for _, _, id_, name in git.tree(git.branch("feature") or "") or () if name == "web")
    ids = {name: id_ for _, _, id_, name in git.tree(web) or ()}
    digest = await project.succeeds(job, fingerprint=f"{web}.{ids['Dockerfile']}.none.{inputs}")
    await project.answer()

    await ask("k2", {"README.md": "new"}, web=digest)
    answer = await project.answer(2)
    assert (answer["outcome"], answer["key"], answer["digest"]) == ("succeeded", "k2", digest)
    assert (answer["ports"], answer["user"]) == ([8080], "app")
    assert [each["metadata"]["name"] for each in project.jobs()] == [job["metadata"]["name"]]
    where = f"/api/v1/namespaces/{project.namespace()}/configmaps?labelSelector=catalyst.dev/build-record"
    recorded = [json.loads(each["data"]["record.json"]) for each in project.get(where)["items"]]
    assert sorted((each["key"], each["digest"]) for each in recorded) == [("k1", digest), ("k2", digest)]

    await ask("k3", {"web/app.py": "2"}, web=digest)
    await project.job(key="k3")


async def test_a_result_is_published_by_the_next_one_after_a_crash(
    serve: Any, project: Project, settings_of: Any
) -> None:
    life = await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    job = await project.job()
    # It is away while the build ends, and the message was acknowledged long ago.
    life.stop()
    await asyncio.sleep(1)
    secret = project.secret(f"{job['metadata']['name']}-push")
    assert secret is not None
    await project.ends(job, "Failed", {"fetch": (0, "source f"), "kaniko": (1, "")})
    await asyncio.sleep(1)
    assert await project.answers() == []
    await serve()
    assert (await project.answer())["reason"] == "BuildFailed"


async def test_images_stay_while_another_environment_runs_them(serve: Any, project: Project) -> None:
    await serve()
    await project.tell(project.snapshot({"web": ("k1", 1)}))
    await project.ask(project.request())
    digest = await project.succeeds(await project.job())
    await project.answer()
    await project.tell(project.snapshot({}, environment="pr-2", phase=Phase.READY, digests={"web": digest}))
    await project.tell(project.snapshot({"web": ("k1", 1)}, phase=Phase.TERMINATING))
    await project.answer(verb="cleaned")
    records = f"/api/v1/namespaces/{project.namespace()}/configmaps?labelSelector=catalyst.dev/build-record"
    assert len(project.get(records)["items"]) == 1
    assert project.registry.status(f"{project.team}/shop/web", digest) == 200
    await project.tell(project.snapshot({}, environment="pr-2", phase=Phase.TERMINATING, digests={"web": digest}))
    await project.answer(environment="pr-2", verb="cleaned")
    assert not project.get(records)["items"]
    assert project.registry.status(f"{project.team}/shop/web", digest) == 404


async def test_pulls_by_an_environments_password(serve: Any, project: Project) -> None:
    await serve()
    password = "p" * 40
    sha256 = hashlib.sha256(password.encode()).hexdigest()
    await project.tell(project.snapshot({"web": ("k1", 1)}, password_sha256=sha256))
    await project.ask(project.request())
    digest = await project.succeeds(await project.job())
    await project.answer()
    image = f"{project.registry.host}/{project.team}/shop/web@{digest}"
    user = f"env:uid-{project.team}-pr-1"

    async def pulls(username: str, password: str, image: str) -> bool:
        home = project.registry.folder / f"pull-{time.monotonic_ns()}"
        home.mkdir()
        auth = base64.b64encode(f"{username}:{password}".encode()).decode()
        (home / "config.json").write_text(json.dumps({"auths": {project.registry.host: {"auth": auth}}}))
        try:
            await asyncio.to_thread(project.registry.run, home, "manifest", image)
        except PermissionError:
            return False
        return True

    assert await pulls(user, password, image)
    assert not await pulls(user, password[:-1], image)
    assert not await pulls("env:another-uid", password, image)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config = json.dumps({"auths": {project.registry.host: {"auth": auth}}})
    with pytest.raises(PermissionError):
        await asyncio.to_thread(project.registry.push, config, f"{project.team}/shop/web")
    # Revoked with the first word of its end.
    await project.tell(project.snapshot({}, phase=Phase.TERMINATING, password_sha256=sha256))
    await project.answer(verb="cleaned")
    assert not await pulls(user, password, image)
