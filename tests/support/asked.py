"""Build requests as values, valid or not."""

from typing import Any

from catalyst.builder.core.build import Build, build_of
from catalyst.builder.core.platform import Images, Platform
from catalyst.events.catalogue import BuildRequested
from catalyst.events.examples import ENVIRONMENT, REPOSITORY

PLATFORM = Platform("registry.example.org", Images("git", "kaniko", "crane"))


def request(clone_url: str = "https://github.com/Acme/Shop.git", full_name: str = "Acme/Shop", **fields: Any) -> Any:
    data: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "component": "web",
        "key": "k",
        "attempt": 1,
        "commit": "a" * 40,
        "repository": REPOSITORY.model_copy(update={"clone_url": clone_url, "full_name": full_name}),
        "trusted": True,
        "inputs": {},
    }
    return BuildRequested.model_construct(**(data | fields))


def built(**fields: Any) -> Build:
    found = build_of(request(**fields), PLATFORM)
    assert isinstance(found, Build), found
    return found
