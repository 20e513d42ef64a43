"""Images of our services, as far as no build is needed: what goes in, when one is built again, what locks hold."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from catalyst.local.node import images, services
from catalyst.local.supervisor import ROOT

LOCKS = ROOT / "deploy" / "images"


def _dependencies(project: Path) -> set[str]:
    listed = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in listed}


def _pinned(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+==[^ ;]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", services.SERVICES)
def test_an_image_holds_the_libraries_that_its_service_names_and_no_others(name: str) -> None:
    image = next(each for each in services.wanted() if each.tags == (f"catalyst/{name}:dev",))
    libraries = {f"libs/{each.removeprefix('catalyst-')}" for each in _dependencies(ROOT / "services" / name) if
                 each.startswith("catalyst-")}  # fmt: skip
    for library in sorted(libraries):  # and those that they name in turn
        assert {f"libs/{e.removeprefix('catalyst-')}" for e in _dependencies(ROOT / library) if "catalyst-" in e} <= (
            libraries
        )
    assert set(image.sources) == {image.file, "deploy/images", f"services/{name}", *libraries}


def test_what_images_install_is_what_everybody_else_uses() -> None:
    wanted = {
        each
        for project in [*ROOT.glob("libs/*"), *ROOT.glob("services/*")]
        for each in _dependencies(project)
        if not each.startswith("catalyst-")
    }
    listed = {line for line in (LOCKS / "requirements.in").read_text().splitlines() if not line.startswith("#")}
    assert listed == wanted
    assert _pinned(LOCKS / "requirements.lock") <= _pinned(ROOT / "requirements.lock")
    assert "://" not in (LOCKS / "requirements.lock").read_text() + (LOCKS / "build.lock").read_text()


def _checkout(folder: Path) -> Path:
    for name, text in {
        "deploy/images/requirements.lock": "a==1\n",
        "services/app/Dockerfile": "COPY deploy/images /images\nCOPY services/app /app\nCOPY --from=build /a /b\n",
        "services/app/src/app.py": "1",
        "services/app/tests/test_app.py": "1",
        "services/other/src/other.py": "1",
        "deploy/images/wheels/a.whl": "1",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_an_image_is_built_again_when_what_it_copies_changed(tmp_path: Path) -> None:
    root = _checkout(tmp_path)

    def key(parent: str = "p") -> str:
        return services.ServiceImage(("app:dev",), "services/app/Dockerfile", (), parent, root).key()

    first = key()
    for untouched in ("services/app/tests/test_app.py", "services/other/src/other.py", "deploy/images/wheels/a.whl"):
        (root / untouched).write_text("2")
        assert key() == first, untouched
    keys = {first, key(parent="q")}
    for copied in ("services/app/src/app.py", "deploy/images/requirements.lock", "services/app/Dockerfile"):
        (root / copied).write_text((root / copied).read_text() + "# 2\n")
        keys.add(key())
    assert len(keys) == 5


def test_an_image_that_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="the mirror has no image catalyst/nothing:dev"):
        images.digest("catalyst/nothing:dev", {"CATALYST_CACHE": str(tmp_path)})


def test_an_image_names_the_commit_of_its_sources_and_is_not_built_again_for_another(tmp_path: Path) -> None:
    root = _checkout(tmp_path)
    image = services.ServiceImage(("app:dev",), "services/app/Dockerfile", (), "p", root)
    assert image.arguments == {"COMMIT": ""}

    def committed(message: str) -> str:
        git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        for words in (["add", "."], ["commit", "--quiet", "--message", message]):
            subprocess.run([*git, *words], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    first, key = committed("one"), image.key()
    assert image.arguments == {"COMMIT": first}
    (root / "services/other/src/other.py").write_text("2")
    assert image.arguments == {"COMMIT": first}
    second = committed("two")
    assert (image.arguments, image.key()) == ({"COMMIT": second}, key)
    (root / "services/app/src/app.py").write_text("2")
    assert image.arguments == {"COMMIT": f"{second}-dirty"}


@pytest.mark.parametrize("name", services.SERVICES)
def test_the_commit_is_told_in_the_last_layer(name: str) -> None:
    lines = (ROOT / "services" / name / "Dockerfile").read_text().splitlines()
    assert lines[-4:-1] == [
        "ARG COMMIT=",
        "LABEL org.opencontainers.image.revision=${COMMIT}",
        "ENV CATALYST_BUILT_FROM=${COMMIT}",
    ]
    assert lines[-1].startswith("ENTRYPOINT ")
