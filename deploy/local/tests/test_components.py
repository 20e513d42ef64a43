"""Binaries are found, built once, and a failure says what to do. Built here is a tiny module: it takes a second."""

import io
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from catalyst.local import components
from catalyst.local.components import COMPONENTS, Component, ComponentError, binaries

MAIN = 'package main\n\nfunc main() { println("hello") }\n'


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    module = tmp_path / "modules" / "tiny"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module example.test/tiny\n\ngo 1.24\n")
    (module / "go.sum").write_text("")
    (module / "main.go").write_text(MAIN)
    monkeypatch.setattr(components, "MODULES", tmp_path / "modules")
    return Component("tiny", {"hello": "."})


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "KUBEBUILDER_ASSETS"}
    return {**kept, "CATALYST_CACHE": str(tmp_path / "cache")}


def test_it_is_built_once(tiny: Component, env: dict[str, str]) -> None:
    out = io.StringIO()
    first = binaries(env, progress=out, components=(tiny,))["hello"]
    assert os.access(first, os.X_OK)
    assert "building tiny: hello" in out.getvalue()
    assert "built tiny in 0:0" in out.getvalue()
    again = io.StringIO()
    assert binaries(env, progress=again, components=(tiny,))["hello"] == first
    assert again.getvalue() == ""


def test_the_key_changes_with_what_decides_the_outcome(tiny: Component) -> None:
    key = tiny.key()
    assert Component("tiny", {"hello": "."}).key() == key
    assert Component("tiny", {"hello": "."}, ldflags=("-s",)).key() != key
    (tiny.module / "go.sum").write_text("x")
    assert tiny.key() != key


def test_two_builders_build_once(tiny: Component, env: dict[str, str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    outputs = [tmp_path / f"{index}.txt" for index in range(2)]
    builders = [context.Process(target=_build, args=(env, tiny, output)) for output in outputs]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert [builder.exitcode for builder in builders] == [0, 0]
    said = [output.read_text() for output in outputs]
    assert sum("built tiny" in text for text in said) == 1
    assert list((tmp_path / "cache/bin/tiny").glob(".*")) == []


def _build(env: dict[str, str], component: Component, output: Path) -> None:
    with output.open("w") as out:
        binaries(env, progress=out, components=(component,))


def test_a_failure_shows_the_compiler_and_leaves_nothing(tiny: Component, env: dict[str, str], tmp_path: Path) -> None:
    (tiny.module / "main.go").write_text(MAIN.replace("println", "nothing"))
    with pytest.raises(ComponentError) as failure:
        binaries(env, progress=io.StringIO(), components=(tiny,))
    assert "undefined: nothing" in str(failure.value)
    assert "KUBEBUILDER_ASSETS" in str(failure.value)
    assert [path.suffix for path in (tmp_path / "cache/bin/tiny").iterdir()] == [".lock"]


def test_missing_go_names_the_alternatives(tiny: Component, env: dict[str, str]) -> None:
    with pytest.raises(ComponentError, match=r"no `go` in PATH.*KUBEBUILDER_ASSETS.*CATALYST_KUBECONFIG"):
        binaries({**env, "PATH": ""}, components=(tiny,))


def test_assets_are_used_as_they_are(tiny: Component, env: dict[str, str], tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    env = {**env, "KUBEBUILDER_ASSETS": str(assets), "PATH": ""}
    with pytest.raises(ComponentError, match=r"KUBEBUILDER_ASSETS=.* lacks hello: expected executable files"):
        binaries(env, components=(tiny,))
    shutil.copy("/bin/sh", assets / "hello")
    assert binaries(env, components=(tiny,)) == {"hello": assets / "hello"}


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"CATALYST_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/catalyst"),
        ({}, str(Path.home() / ".cache/catalyst")),
    ],
)
def test_the_cache_follows_the_machine(env: dict[str, str], folder: str) -> None:
    assert components.cache_folder(env) == Path(folder)


def test_the_recipes_are_those_of_the_documented_versions() -> None:
    commands = {word for component in COMPONENTS for command in component.commands(Path("out")) for word in command}
    assert any("gitVersion=v1.36.3" in word for word in commands)
    for component in COMPONENTS:
        pinned = (component.module / "go.mod").read_text()
        assert all(package.split("/cmd/")[0] in pinned for package in component.binaries.values())
