"""The client against the double, over real HTTP: what it reads, what it writes, and with which rights."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.github import GitHubDouble
from joserfc.jwk import RSAKey

from catalyst.forge import (
    ForgeError,
    ForgeSettings,
    ForgeUnavailable,
    NotPermitted,
    NotThere,
    RateLimited,
    Refused,
    Unauthorized,
)
from catalyst.forge.client import SWEPT, GitHubClient
from catalyst.forge.protocol import MAY_WRITE, ForgeClient
from catalyst.model.clock import utc_now

SHOP = "acme/shop"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def opened(github: GitHubDouble, branch: str = "feature", **given: Any) -> Any:
    github.commit(SHOP, branch, {f"{branch}.txt": "x"}, author="mona")
    return github.open_pull_request(SHOP, head=branch, author="mona", **given)


def test_it_is_a_forge_client(client: GitHubClient) -> None:
    whole: ForgeClient = client
    assert whole is client


async def test_a_pull_request_is_told_as_its_webhook_would_tell_it(client: GitHubClient, github: GitHubDouble) -> None:
    pull = opened(github, draft=True)
    github.label(pull, "preview")
    (fact,) = await client.open_pull_requests(SHOP)
    assert (fact.number, fact.action, fact.state, fact.merged, fact.draft) == (1, SWEPT, "open", False, True)
    assert (fact.head.ref, fact.head.sha, fact.head.repository) == ("feature", pull.head, SHOP)
    assert (fact.fork, fact.labels, fact.author, fact.updated_at) == (False, ("preview",), "mona", pull.updated_at)
    assert fact.repository.full_name == SHOP
    assert fact.repository.private
    alone = await client.pull_request(SHOP, 1)
    assert alone.model_copy(update={"payload": fact.payload}) == fact


async def test_a_forks_pull_request(client: GitHubClient, github: GitHubDouble) -> None:
    github.fork(SHOP, "eve")
    github.commit("eve/shop", "evil", {"x": "y"})
    github.open_pull_request(SHOP, head="eve:evil")
    (fact,) = await client.open_pull_requests(SHOP)
    assert (fact.fork, fact.head.repository, fact.author) == (True, "eve/shop", "eve")


async def test_closed_ones_since_then(client: GitHubClient, github: GitHubDouble) -> None:
    pull, other, merged = opened(github), opened(github, "other"), opened(github, "merged")
    github.close(pull)
    github.merge(merged)
    assert [fact.number for fact in await client.open_pull_requests(SHOP)] == [other.number]
    closed = {fact.number: fact for fact in await client.closed_pull_requests(SHOP, LONG_AGO)}
    assert {number: fact.merged for number, fact in closed.items()} == {pull.number: False, merged.number: True}
    assert await client.closed_pull_requests(SHOP, utc_now() + timedelta(hours=1)) == []


async def test_all_pages_are_read(client: GitHubClient, github: GitHubDouble) -> None:
    pull = opened(github)
    for number in range(205):
        github.write_comment(pull, f"comment {number}", author="mona")
    github.limits.writes = 1000
    comments = [comment async for comment in client.list_comments(SHOP, 1)]
    assert [comment.body for comment in comments] == [f"comment {number}" for number in range(205)]
    assert sum("/comments" in path for _, path, _ in github.requests) == 3


@pytest.mark.parametrize(
    ("role", "may"),
    [("admin", True), ("maintain", True), ("write", True), ("triage", False), ("read", False)],
)
async def test_the_permission_is_the_role(client: GitHubClient, github: GitHubDouble, role: Any, may: bool) -> None:
    github.collaborator(SHOP, "mona", role)
    assert await client.permission(SHOP, "mona") == role
    assert (role in MAY_WRITE) is may


@pytest.mark.parametrize("login", ["stranger", "nobody-of-this-name", "../../../app", "a b", ""])
async def test_a_stranger_may_nothing(client: GitHubClient, github: GitHubDouble, login: str) -> None:
    github.user("stranger")
    assert await client.permission(SHOP, login) == "none"


async def test_a_repository_that_is_gone_is_no_stranger(client: GitHubClient) -> None:
    with pytest.raises(NotThere):
        await client.permission("other/thing", "mona")


async def test_the_conversation(client: GitHubClient, github: GitHubDouble) -> None:
    pull = opened(github)
    assert await client.login() == "catalyst[bot]"
    comment = await client.create_comment(SHOP, 1, "building")
    assert comment.author == "catalyst[bot]"
    assert (await client.update_comment(SHOP, comment.id, "ready")).body == "ready"
    await client.react(SHOP, comment.id, "rocket")
    await client.react(SHOP, comment.id, "rocket")
    (told,) = pull.comments.values()
    assert (told.body, [reaction.content for reaction in told.reactions.values()]) == ("ready", ["rocket"])
    await client.delete_comment(SHOP, comment.id)
    await client.delete_comment(SHOP, comment.id)
    assert not pull.comments
    with pytest.raises(NotThere):
        await client.update_comment(SHOP, comment.id, "again")


async def test_deployments_and_checks_are_found_again(client: GitHubClient, github: GitHubDouble) -> None:
    pull = opened(github)
    deployment = await client.create_deployment(SHOP, sha=pull.head, environment="shop/pr-1", description="d" * 300)
    await client.create_deployment_status(
        SHOP, deployment.id, "success", environment_url="https://pr-1.example.org", description="é" * 300
    )
    check = await client.create_check_run(SHOP, sha=pull.head, name="catalyst", external_id="u-1", status="in_progress")
    await client.update_check_run(
        SHOP, check.id, status="completed", conclusion="failure", title="Failed", summary="why"
    )
    assert [each async for each in client.list_deployments(SHOP, sha=pull.head, environment="shop/pr-1")] == [
        deployment
    ]
    assert [each async for each in client.list_deployments(SHOP, sha=pull.head, environment="other")] == []
    another = await client.create_deployment(SHOP, sha=pull.base, environment="shop/pr-1")
    assert [each async for each in client.list_deployments(SHOP, environment="shop/pr-1")] == [another, deployment]
    assert await client.deployment_state(SHOP, another.id) is None
    await client.create_deployment_status(SHOP, deployment.id, "inactive")
    assert await client.deployment_state(SHOP, deployment.id) == "inactive"
    (found,) = [each async for each in client.list_check_runs(SHOP, sha=pull.head, name="catalyst")]
    assert (found.id, found.external_id, found.status) == (check.id, "u-1", "completed")
    stored = github.state.repositories[SHOP]
    stored.checks[check.id].app_id += 1
    assert [each async for each in client.list_check_runs(SHOP, sha=pull.head, name="catalyst")] == []
    with pytest.raises(NotPermitted):
        await client.update_check_run(SHOP, check.id, status="in_progress")
    assert stored.deployments[deployment.id].statuses[0].environment_url == "https://pr-1.example.org"
    assert stored.checks[check.id].conclusion == "failure"


async def test_what_the_app_may_and_is_told_of(
    client: GitHubClient, github: GitHubDouble, app_settings: ForgeSettings, tmp_path: Path
) -> None:
    github.app.permissions, github.app.events = {"metadata": "read", "checks": "write"}, ["push"]
    github.install("globex", permissions={"metadata": "read"})
    about = await client.about_app()
    assert about is not None
    assert (about.slug, about.permissions, about.events) == ("catalyst", github.app.permissions, ("push",))
    assert about.installations["globex"] == {"metadata": "read"}
    token = tmp_path / "token"
    token.write_text("a bare one")
    bare = ForgeSettings(github_url=app_settings.github_url, github_token_file=token)
    async with GitHubClient.of(bare, clock=utc_now) as other:
        assert await other.about_app() is None


async def test_each_token_is_for_one_repository_and_few_permissions(client: GitHubClient, github: GitHubDouble) -> None:
    opened(github)
    await client.create_comment(SHOP, 1, "hello")
    await client.open_pull_requests(SHOP)
    token = await client.token(SHOP, {"contents": "read"})
    shop = github.state.repositories[SHOP].id
    minted = [(set(each.repositories or ()), dict(each.permissions)) for each in github.signins.minted]
    assert minted == [
        ({shop}, {"pull_requests": "write", "metadata": "read"}),
        ({shop}, {"pull_requests": "read", "metadata": "read"}),
        ({shop}, {"contents": "read", "metadata": "read"}),
    ]
    assert token.expires_at is not None
    assert token.expires_at - utc_now() > timedelta(minutes=50)
    assert token.value.get_secret_value() not in repr(token)
    assert await client.token(SHOP, {"contents": "read"}) == token, "one is enough while it is good"


async def test_what_lies_in_a_commit(client: GitHubClient, github: GitHubDouble) -> None:
    commit = github.commit(SHOP, "feature", {"web/Dockerfile": "FROM a", "web/app.py": "1", "top.txt": "2"})
    root = await client.tree_of(SHOP, commit)
    held = await client.tree(SHOP, root)
    assert {"web", "top.txt"} <= held.keys()
    assert (held["web"].mode, held["top.txt"].mode) == ("040000", "100644")
    web = await client.tree(SHOP, held["web"].id)
    assert web.keys() == {"Dockerfile", "app.py"}, "one folder, and not what is below"
    other = github.commit(SHOP, "feature", {"top.txt": "3"})
    again = await client.tree(SHOP, await client.tree_of(SHOP, other))
    assert (again["web"], again["top.txt"] == held["top.txt"]) == (held["web"], False)
    assert {tuple(sorted(each.permissions)) for each in github.signins.minted} == {("contents", "metadata")}
    for ask in (client.tree_of(SHOP, "a" * 40), client.tree(SHOP, "b" * 40)):
        with pytest.raises(NotThere):
            await ask


@pytest.mark.parametrize("name", ["main", "../pulls", "a" * 39, "A" * 40, f"{'a' * 40}?recursive=1", ""])
async def test_an_object_is_named_by_its_id_alone(client: GitHubClient, github: GitHubDouble, name: str) -> None:
    for ask in (client.tree_of(SHOP, name), client.tree(SHOP, name)):
        with pytest.raises(Refused, match="hex digits"):
            await ask
    assert github.requests == []


async def test_a_hundred_at_once_mint_one_token(client: GitHubClient, github: GitHubDouble) -> None:
    tokens = await asyncio.gather(*(client.token(SHOP, {"contents": "read"}) for _ in range(100)))
    assert len({token.value.get_secret_value() for token in tokens}) == 1
    assert len(github.signins.minted) == 1


async def test_a_token_about_to_end_is_minted_anew(github: GitHubDouble, app_settings: ForgeSettings) -> None:
    github.signins.token_life = timedelta(minutes=5)
    async with GitHubClient.of(app_settings, clock=utc_now) as client:
        first, second = [await client.token(SHOP, {"contents": "read"}) for _ in range(2)]
    assert first != second


async def test_a_revoked_token_is_replaced_once(client: GitHubClient, github: GitHubDouble) -> None:
    opened(github)
    await client.pull_request(SHOP, 1)
    github.signins.revoke(github.signins.minted[0])
    assert (await client.pull_request(SHOP, 1)).number == 1


async def test_a_repository_without_the_app_is_not_there(client: GitHubClient) -> None:
    for ask in (client.open_pull_requests("other/thing"), client.token("acme/nothing", {"contents": "read"})):
        with pytest.raises(NotThere, match="App is installed"):
            await ask


@pytest.mark.parametrize("name", ["shop", "acme/../app", "acme/shop/pulls", "acme/shop?x", "../..", "a b/c", ""])
async def test_a_name_cannot_lead_elsewhere(client: GitHubClient, github: GitHubDouble, name: str) -> None:
    for ask in (client.open_pull_requests(name), client.token(name, {"contents": "read"})):
        with pytest.raises(Refused, match="owner/name"):
            await ask
    assert github.requests == []


async def test_what_the_installation_may_not_is_said_with_its_remedy(
    client: GitHubClient, github: GitHubDouble
) -> None:
    opened(github)
    (installation,) = github.state.installations.values()
    installation.permissions["checks"] = "read"
    with pytest.raises(Refused, match="permissions requested are not granted"):
        await client.create_check_run(SHOP, sha="a" * 40, name="c", external_id="", status="queued")


async def test_another_apps_key_is_not_accepted(
    github: GitHubDouble, app_settings: ForgeSettings, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(RSAKey.generate_key(2048).as_pem(private=True))
    settings = app_settings.model_copy(update={"github_private_key_file": wrong})
    async with GitHubClient.of(settings, clock=utc_now) as client:
        with pytest.raises(Unauthorized, match="private key") as refused:
            await client.open_pull_requests(SHOP)
    assert refused.value.status == 401


async def test_a_clock_that_is_wrong_is_told(app_settings: ForgeSettings) -> None:
    async with GitHubClient.of(app_settings, clock=lambda: utc_now() - timedelta(hours=2)) as client:
        with pytest.raises(Unauthorized, match="clock"):
            await client.open_pull_requests(SHOP)


async def test_an_unchanged_answer_costs_nothing(client: GitHubClient, github: GitHubDouble) -> None:
    pull = opened(github)
    first = await client.open_pull_requests(SHOP)
    (key,) = (key for key in github.limits._windows if key.startswith("installation"))
    used = github.limits.window(key, utc_now()).used
    assert await client.open_pull_requests(SHOP) == first
    assert github.limits.window(key, utc_now()).used == used
    assert github.requests[-1][2] == 304
    github.label(pull, "preview")
    assert (await client.open_pull_requests(SHOP))[0].labels == ("preview",)


async def test_the_primary_limit_is_kept_without_asking_again(client: GitHubClient, github: GitHubDouble) -> None:
    opened(github)
    await client.pull_request(SHOP, 1)
    github.limits.primary = 0
    with pytest.raises(RateLimited) as limited:
        await client.open_pull_requests(SHOP)
    assert 3500 < limited.value.retry_after <= 3601
    asked = len(github.requests)
    with pytest.raises(RateLimited, match="not asked"):
        await client.open_pull_requests(SHOP)
    assert len(github.requests) == asked


@pytest.mark.parametrize("says_when", [True, False])
async def test_the_secondary_limit(client: GitHubClient, github: GitHubDouble, says_when: bool) -> None:
    opened(github)
    await client.create_comment(SHOP, 1, "one")
    github.limits.writes, github.limits.says_when = 1, says_when
    with pytest.raises(RateLimited) as limited:
        await client.create_comment(SHOP, 1, "two")
    assert 0 < limited.value.retry_after <= 60
    assert len(github.pull(SHOP, 1).comments) == 1


async def test_after_the_limit_it_goes_on(github: GitHubDouble, app_settings: ForgeSettings) -> None:
    opened(github)
    now = [utc_now()]
    async with GitHubClient.of(app_settings, clock=lambda: now[0]) as client:
        github.fail("GET /repos/acme/shop/pulls", status=429, headers={"retry-after": "30"})
        with pytest.raises(RateLimited):
            await client.open_pull_requests(SHOP)
        now[0] += timedelta(seconds=31)
        assert len(await client.open_pull_requests(SHOP)) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500}, ForgeUnavailable),
        ({"status": 503, "body": "<html>", "headers": {"content-type": "text/html"}}, ForgeUnavailable),
        ({"status": None}, ForgeUnavailable),
        ({"status": 200, "body": {"not": "a list"}}, ForgeUnavailable),
        ({"status": 200, "body": [{"number": 1}]}, ForgeUnavailable),
        ({"status": 403, "body": {"message": "Resource not accessible by integration"}}, NotPermitted),
        ({"status": 410, "body": {"message": "Gone"}}, NotThere),
        ({"status": 422, "body": {"message": "Validation Failed", "errors": [{"field": "x", "code": "y"}]}}, Refused),
        ({"status": 301, "headers": {"location": "http://203.0.113.1/steal"}}, ForgeUnavailable),
        ({"status": 200, "body": [], "headers": {"link": '<http://203.0.113.1/>; rel="next"'}}, ForgeUnavailable),
    ],
)
async def test_whatever_it_answers_becomes_one_of_our_errors(
    client: GitHubClient, github: GitHubDouble, fault: dict[str, Any], error: type[ForgeError]
) -> None:
    github.fail("GET /repos/acme/shop/pulls", **fault)
    with pytest.raises(error) as raised:
        await client.open_pull_requests(SHOP)
    assert raised.value.asked
    assert raised.value.remedy in str(raised.value)
    assert await client.open_pull_requests(SHOP) == [], "the next time is a new one"


async def test_a_forge_that_is_away(client: GitHubClient, github: GitHubDouble) -> None:
    opened(github)
    github.stop()
    with pytest.raises(ForgeUnavailable, match="no answer"):
        await client.open_pull_requests(SHOP)
    github.start()
    assert len(await client.open_pull_requests(SHOP)) == 1


async def test_failed_deliveries_and_what_they_said(client: GitHubClient, github: GitHubDouble) -> None:
    github.hook("http://127.0.0.1:9/", "secret")
    github.drained()
    begun = utc_now() - timedelta(seconds=2)
    github.lose_webhooks(2)
    opened(github)
    found = await client.failed_deliveries(begun)
    assert [delivery.event for delivery in found] == ["ping", "push", "pull_request"]
    headers, body = await client.delivery_payload(found[-1].id)
    assert headers["x-github-delivery"] == found[-1].guid
    assert b'"action":"opened"' in body
    assert await client.failed_deliveries(utc_now() + timedelta(hours=1)) == []


async def test_all_repositories_of_all_installations(client: GitHubClient, github: GitHubDouble) -> None:
    github.repository("beta/one")
    github.repository("beta/two")
    github.install("beta", repositories=["beta/one"])
    assert await client.repositories() == ["acme/secret", "acme/shop", "beta/one"]


async def test_a_bare_token_is_what_it_is(github: GitHubDouble, tmp_path: Path) -> None:
    opened(github)
    mona = github.collaborator(SHOP, "mona", "write")
    file = tmp_path / "token"
    file.write_text(f"{mona.token}\n")
    settings = ForgeSettings(github_url=github.url, github_token_file=file)
    async with GitHubClient.of(settings, clock=utc_now) as client:
        assert await client.login() == "mona"
        assert (await client.create_comment(SHOP, 1, "hello")).author == "mona"
        assert await client.permission(SHOP, "mona") == "write"
        token = await client.token(SHOP, {"contents": "read"})
        assert (token.value.get_secret_value(), token.expires_at) == (mona.token, None)
        assert await client.repositories() == []
        assert await client.failed_deliveries(LONG_AGO) == []
        with pytest.raises(NotPermitted):
            await client.create_check_run(SHOP, sha="a" * 40, name="c", external_id="", status="queued")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "CATALYST_GITHUB_APP_ID is missing"),
        ({"github_app_id": 1}, "CATALYST_GITHUB_PRIVATE_KEY_FILE is missing"),
        ({"github_private_key_file": "x"}, "CATALYST_GITHUB_APP_ID is missing"),
        ({"github_app_id": 1, "github_private_key_file": "/nowhere"}, "CATALYST_GITHUB_PRIVATE_KEY_FILE: the file"),
        (
            {"github_app_id": 1, "github_private_key_file": __file__},
            "CATALYST_GITHUB_PRIVATE_KEY_FILE: expected an RSA",
        ),
        ({"github_token_file": "/nowhere"}, "CATALYST_GITHUB_TOKEN_FILE: the file"),
        ({"github_app_id": 1, "github_private_key_file": "x", "github_token_file": "y"}, "both an App and"),
        ({"github_url": "ftp://x"}, "github_url"),
    ],
)
def test_wrong_settings_name_themselves(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        GitHubClient.of(ForgeSettings(**given), clock=utc_now)
