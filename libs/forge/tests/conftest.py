"""A GitHub of its own for each test, with a repository that the App is installed on."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from doubles.github import GitHubDouble

from catalyst.forge.client import GitHubClient
from catalyst.forge.settings import ForgeSettings
from catalyst.model.clock import utc_now

SHOP = "acme/shop"


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    with GitHubDouble(tmp_path / "github") as double:
        double.repository(SHOP, private=True)
        double.repository("acme/secret", private=True)
        double.repository("other/thing", private=True)
        double.install("acme")
        yield double


@pytest.fixture
def app_settings(github: GitHubDouble, tmp_path: Path) -> ForgeSettings:
    key = tmp_path / "app.pem"
    key.write_text(github.private_key)
    return ForgeSettings(github_url=github.url, github_app_id=github.app.id, github_private_key_file=key)


@pytest.fixture
async def client(app_settings: ForgeSettings) -> AsyncIterator[GitHubClient]:
    async with GitHubClient.of(app_settings, clock=utc_now) as made:
        yield made
