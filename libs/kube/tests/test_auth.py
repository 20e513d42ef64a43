"""Credentials: a pod's rotated token, an exec plugin's, what bad settings say, and what it costs to read them."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catalyst.kube.auth import BadKubeSettings, load_configuration, ssl_context
from catalyst.kube.client import Kube
from catalyst.kube.errors import Unauthorized
from catalyst.kube.settings import KubeSettings
from catalyst.local.control_plane import ControlPlane
from catalyst.model.manifest import Ref

DEFAULT = Ref("v1", "ServiceAccount", "default", "default")


def token_of(config: Path) -> str:
    token: str = yaml.safe_load(config.read_text())["users"][0]["user"]["token"]
    return token


async def rights(kube: Kube) -> None:
    """The account `default` may read itself."""
    rules = [{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]}]
    api = "rbac.authorization.k8s.io"
    metadata = {"namespace": "default", "name": "self"}
    await kube.apply({"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]
    role = {"kind": "Role", "name": "self", "apiGroup": api}
    binding = {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role}
    await kube.apply(binding | {"subjects": subjects})


async def test_a_pod_reads_its_token_and_reads_it_again_when_it_was_rotated(
    plane: ControlPlane, kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rights(kube)
    good = token_of(plane.kubeconfig_for("default", "default"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.ports.apiserver))
    token = tmp_path / "token"
    token.write_text("expired")
    settings = KubeSettings(token_file=token, ca_file=plane.ca)
    async with await Kube.connect(settings, field_manager="pod") as pod:
        with pytest.raises(Unauthorized):
            await pod.get(DEFAULT)
        token.write_text(good)
        hook = pod._transport._configuration.refresh_api_key_hook
        loader = hook.__closure__[0].cell_contents
        loader.token_expires_at = loader.token_expires_at.replace(year=2000)  # a minute has passed
        assert (await pod.get(DEFAULT))["metadata"]["name"] == "default"


async def test_an_exec_plugin_is_asked_again_when_its_token_has_run_out(
    plane: ControlPlane, kube: Kube, tmp_path: Path
) -> None:
    await rights(kube)
    path = plane.kubeconfig_for("default", "default")
    config, asked = yaml.safe_load(path.read_text()), tmp_path / "asked"
    answer = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status":'
        f' {{"token": "{token_of(path)}", "expirationTimestamp": "2020-01-01T00:00:00Z"}}}}'
    )
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho asked >> {asked}\ncat <<'END'\n{answer}\nEND\n")
    plugin.chmod(0o755)
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }
    own = tmp_path / "config"
    own.write_text(yaml.safe_dump(config))
    async with await Kube.connect(KubeSettings(own), field_manager="x") as client:
        await client.get(DEFAULT)
        await client.get(DEFAULT)
    assert len(asked.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected a readable file"),
        ("current-context: x\ncontexts: []\nclusters: []\nusers: []\n", "expected a usable kubeconfig"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadKubeSettings, match=message) as caught:
        await load_configuration(KubeSettings(path))
    assert str(path) in str(caught.value)


async def test_outside_a_pod_the_missing_service_account_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadKubeSettings, match="service account of the pod: Service host/port is not set"):
        await load_configuration(KubeSettings(token_file=tmp_path / "token"))


async def test_the_servers_certificate_is_verified(plane: ControlPlane, settings: KubeSettings) -> None:
    context = ssl_context(await load_configuration(settings))
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_reading_credentials_loads_no_typed_models_and_leaves_the_library_whole() -> None:
    """800 modules and 73 MB less in every service; who imports the library itself still gets all of it."""
    code = """
import sys, asyncio, pathlib
from catalyst.kube.auth import load_configuration, BadKubeSettings
from catalyst.kube.settings import KubeSettings
try:
    asyncio.run(load_configuration(KubeSettings(pathlib.Path('/none'))))
except BadKubeSettings:
    pass
assert not any(name.startswith('kubernetes_asyncio.client.models') for name in sys.modules)
import kubernetes_asyncio.client
assert kubernetes_asyncio.client.V1Pod
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
