"""Both overlays on a clean cluster by kubectl alone: accepted whole, and a second time without a change."""

import subprocess
from pathlib import Path

import pytest

from catalyst.local.control_plane import ControlPlane
from catalyst.local.platform import OVERLAYS


@pytest.mark.parametrize("name", ["local", "production"])
def test_an_overlay_is_accepted_by_a_clean_cluster(
    own_control_plane: ControlPlane, binaries: dict[str, Path], name: str
) -> None:
    kubectl = [str(binaries["kubectl"]), "--kubeconfig", str(own_control_plane.admin_kubeconfig)]

    def run(*words: str) -> str:
        done = subprocess.run([*kubectl, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run("apply", "--server-side", "-k", str(OVERLAYS / name))
    assert "deployment.apps/builder serverside-applied" in said
    assert run("diff", "--server-side", "-k", str(OVERLAYS / name)) == ""
