"""Both overlays on a clean cluster by kubectl alone, and one with the component of the audit: accepted whole, and a
second time without a change.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalyst.env_controller.config import Settings
from catalyst.local.control_plane import ControlPlane
from catalyst.local.platform import OVERLAYS

AUDIT = OVERLAYS.parent / "audit"


@pytest.fixture
def with_audit(tmp_path: Path) -> Path:
    """As docs/audit.md says: a kustomization of one's own. kustomize takes no absolute paths."""
    folder = tmp_path / "with-audit"
    folder.mkdir()
    resource, component = (os.path.relpath(each, folder.resolve()) for each in (OVERLAYS / "production", AUDIT))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [resource], "components": [component]}))
    return folder


@pytest.mark.parametrize("name", ["local", "production", "with-audit"])
def test_an_overlay_is_accepted_by_a_clean_cluster(
    own_control_plane: ControlPlane, binaries: dict[str, Path], with_audit: Path, name: str
) -> None:
    kubectl = [str(binaries["kubectl"]), "--kubeconfig", str(own_control_plane.admin_kubeconfig)]
    folder = str(with_audit if name == "with-audit" else OVERLAYS / name)

    def run(*words: str) -> str:
        done = subprocess.run([*kubectl, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run("apply", "--server-side", "-k", folder)
    assert "deployment.apps/builder serverside-applied" in said
    assert run("diff", "--server-side", "-k", folder) == ""


def test_the_component_makes_env_controller_listen(binaries: dict[str, Path], with_audit: Path) -> None:
    """Every variable is one of its settings and a file that is mounted; Service and policy lead to that port."""

    def rendered(folder: Path) -> dict[tuple[str, str], Any]:
        command = [str(binaries["kubectl"]), "kustomize", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}

    without, found = rendered(OVERLAYS / "production"), rendered(with_audit)
    added = {("Service", "env-controller-audit"), ("NetworkPolicy", "env-controller-audit")}
    assert set(found) - set(without) == added
    assert {key for key in without if found[key] != without[key]} == {("Deployment", "env-controller")}

    before, pod = (each["Deployment", "env-controller"]["spec"]["template"]["spec"] for each in (without, found))
    (old, container) = (each["containers"][0] for each in (before, pod))
    new = [one for one in container["env"] if one not in old["env"]]
    assert {one["name"].removeprefix("CATALYST_").lower() for one in new} <= set(Settings.model_fields)
    (mount,) = (one for one in container["volumeMounts"] if one not in old["volumeMounts"])
    assert {Path(one["value"]).parent for one in new} == {Path(mount["mountPath"])}
    assert {Path(one["value"]).name for one in new} == {"token", "tls.crt", "tls.key"}
    (volume,) = (one for one in pod["volumes"] if one not in before["volumes"])
    assert (volume["name"], volume["secret"]["secretName"]) == (mount["name"], "audit-webhook")

    (port,) = (one for one in container["ports"] if one not in old["ports"])
    assert port["containerPort"] == Settings.model_fields["audit_port"].default
    service, policy = (found[kind, "env-controller-audit"]["spec"] for kind in ("Service", "NetworkPolicy"))
    labels = found["Deployment", "env-controller"]["spec"]["template"]["metadata"]["labels"]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert service["selector"].items() <= labels.items()
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"] == [{"ports": [{"port": port["containerPort"]}]}]


def test_what_the_api_server_reads_fits_the_component() -> None:
    config = yaml.safe_load((AUDIT / "webhook.yaml").read_text())
    server = config["clusters"][0]["cluster"]["server"]
    assert server.startswith("https://"), "to plain HTTP an API server sends no token"
    assert server.endswith(":9443/audit")
    policy = yaml.safe_load((AUDIT / "policy.yaml").read_text())
    assert {rule["level"] for rule in policy["rules"]} == {"None", "Metadata"}, "bodies hold Secrets' values"
