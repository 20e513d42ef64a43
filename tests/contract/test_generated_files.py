"""What is made from the models and the catalogue is in git as it would be made now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def generate(*arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "generate.py"), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    done = generate("--root", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_the_repository_is_current() -> None:
    done = generate("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_same_sources_give_the_same_bytes(fresh: Path, tmp_path: Path) -> None:
    assert generate("--root", str(tmp_path), seed="1").returncode == 0
    assert tree(tmp_path) == tree(fresh)
    assert "deploy/k8s/crds/environments.yaml" in tree(fresh)


@pytest.mark.parametrize(
    "path",
    ["deploy/k8s/crds/projects.yaml", "deploy/k8s/access/clusterroles.yaml", "docs/reference/events.md"],
)
def test_each_file_that_is_out_of_date_is_named(fresh: Path, path: str) -> None:
    current = (fresh / path).read_text()
    (fresh / path).write_text(current + "# by hand\n")
    done = generate("--check", "--root", str(fresh))
    assert done.returncode == 1
    assert done.stderr == f"{path} is out of date: run `make generate` and commit the result\n"
    assert generate("--root", str(fresh)).stdout == f"wrote {path}\n"
    assert (fresh / path).read_text() == current


def test_what_is_no_longer_made_is_named_and_removed(fresh: Path) -> None:
    left = fresh / "deploy" / "k8s" / "crds" / "gadgets.yaml"
    left.write_text("kind: Gadget\n")
    done = generate("--check", "--root", str(fresh))
    assert (done.returncode, "deploy/k8s/crds/gadgets.yaml is out of date" in done.stderr) == (1, True)
    assert generate("--root", str(fresh)).stdout == "removed deploy/k8s/crds/gadgets.yaml\n"
    assert not left.exists()
