"""A process knows the commit of its code: from its image, from git, or by a digest of its sources."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from catalyst.service import version as module
from catalyst.service.version import code_version

GIT = "git -c user.name=a -c user.email=a@b.c -c commit.gpgsign=false -C"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own with the sources of one service."""
    home = tmp_path / "services" / "app"
    home.mkdir(parents=True)
    (tmp_path / "libs").mkdir()
    for name in ("libs/lib.py", "services/app/config.py", "README.md"):
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(module, "_home", lambda _: home)
    git(tmp_path, "init --quiet")
    git(tmp_path, "add .")
    git(tmp_path, "commit --quiet --message one")
    return tmp_path


def git(folder: Path, words: str) -> str:
    command = [*GIT.split(), str(folder), *words.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_what_an_image_was_told_counts(checkout: Path) -> None:
    assert code_version("builder", "fedcba9876543210") == "fedcba9876543210"
    assert code_version("builder", "") == git(checkout, "rev-parse HEAD")  # an image that was told nothing


def test_a_checkout_says_its_commit_and_whether_sources_are_others_now(checkout: Path) -> None:
    head = git(checkout, "rev-parse HEAD")
    (checkout / "README.md").write_text("2")
    assert code_version("builder") == head
    (checkout / "libs" / "lib.py").write_text("2")
    assert code_version("builder") == f"{head}-dirty"
    git(checkout, "commit --quiet --all --message two")
    assert code_version("builder") == git(checkout, "rev-parse HEAD") != head
    (checkout / "libs" / "new.py").write_text("1")
    assert code_version("builder").endswith("-dirty")


def test_code_that_merely_lies_in_anothers_checkout_is_not_of_its_commit(checkout: Path) -> None:
    git(checkout, "rm --quiet --cached services/app/config.py")
    release, _, digest = code_version("builder").partition("+")
    assert (release, len(digest)) == (version("catalyst-builder"), 12)


def test_without_git_it_is_the_release_and_a_digest_of_the_sources(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    first = code_version("builder")
    assert first == code_version("builder") == f"{version('catalyst-builder')}+{first.partition('+')[2]}"
    (checkout / "services" / "app" / "config.py").write_text("2")
    assert code_version("builder") != first


def test_a_service_is_found_by_its_name() -> None:
    assert module._home("env-controller").name == "env_controller"
    with pytest.raises(LookupError, match="no package of the service nothing"):
        module._home("nothing")
