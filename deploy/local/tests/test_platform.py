"""The installer on a control plane without nodes: what it makes, what it refuses. tests/e2e runs it whole."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalyst.events.keys import read_public_keys
from catalyst.local import platform
from catalyst.local.__main__ import main
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import SYSTEM_NAMESPACE, InstallFailed

SYSTEM = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"


@pytest.fixture
def tried(own_control_plane: ControlPlane, tmp_path: Path, binaries: dict[str, Path]) -> Any:
    """Installs, and gives the error: no pod ever comes up here."""
    key = tmp_path / "app.pem"
    key.write_text("a key\n")

    def install(folder: str = "keys", overlay: str = "local", **secrets: Path) -> str:
        given = {name.replace("_", "-"): {"app.pem": file} for name, file in secrets.items()}
        with pytest.raises(InstallFailed) as raised:
            platform.install_into(
                own_control_plane.admin_kubeconfig,
                tmp_path / folder,
                platform.OVERLAYS / overlay,
                settings={"CATALYST_GITHUB_APP_ID": "7"},
                secrets=given,
                kubectl=binaries["kubectl"],
                within=3,
            )
        return str(raised.value)

    return install


def test_keys_are_made_once_and_a_part_that_does_not_come_up_is_named(
    tried: Any, own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    key = tmp_path / "app.pem"
    assert "not available within 3 s:\npod catalyst-system/nats-0" in tried(forge=key)

    def data(name: str) -> dict[str, bytes]:
        found = own_control_plane.admin.get(f"{SYSTEM}/secrets/{name}").json()["data"]
        return {name: base64.b64decode(value) for name, value in found.items()}

    seeds = {service: data(f"nats-{service}")["seed"] for service in ("builder", "notifier")}
    config = json.loads(data("nats-config")["nats.conf"])
    public = read_public_keys(tmp_path / "keys" / "nkeys" / "users.json")
    assert {user["nkey"] for user in config["accounts"]["CATALYST"]["users"]} == set(public.values())
    assert config["jetstream"]["sync_interval"] == "always"
    assert "cluster" not in config
    assert data("forge") == {"app.pem": key.read_bytes()}
    assert set(data("edge-admin")) == {"root.crt", "tls.crt", "tls.key"}
    # The seeds of people and the authority's own key stay with the operator.
    names = {each["metadata"]["name"] for each in own_control_plane.admin.get(f"{SYSTEM}/secrets").json()["items"]}
    assert not {"nats-operator", "nats-oncall"} & names
    for file in ("webhook-secret", "nkeys/operator.seed", "nkeys/oncall.seed", "edge/root.key", "nats.conf"):
        assert stat.S_IMODE((tmp_path / "keys" / file).stat().st_mode) == 0o600

    tried(forge=key)
    assert {service: data(f"nats-{service}")["seed"] for service in seeds} == seeds


def test_what_nobody_gave_is_named_before_anything_runs(tried: Any, own_control_plane: ControlPlane) -> None:
    assert tried() == "no Secret catalyst-system/forge: give its files with --secret NAME/KEY=FILE"
    said = tried(overlay="production")
    assert "catalyst-edge/cloudflared, catalyst-system/cloudflare, catalyst-system/forge" in said
    apps = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/statefulsets"
    assert own_control_plane.admin.get(apps).json()["items"] == []


def test_another_folders_installation_is_left_alone(
    tried: Any, own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    tried(forge=tmp_path / "app.pem")
    before = own_control_plane.admin.get(f"{SYSTEM}/secrets/nats-config").json()["metadata"]["resourceVersion"]
    assert "has an installation already, and its keys are not in" in tried("elsewhere", forge=tmp_path / "app.pem")
    now = own_control_plane.admin.get(f"{SYSTEM}/secrets/nats-config")
    assert now.status_code == httpx.codes.OK
    assert now.json()["metadata"]["resourceVersion"] == before


def test_three_servers_know_each_other(tried: Any, own_control_plane: ControlPlane, tmp_path: Path) -> None:
    key = tmp_path / "app.pem"
    assert "not available within 3 s:\npod catalyst-system/nats-0" in tried(
        overlay="production", forge=key, cloudflare=key, cloudflared=key
    )
    found = own_control_plane.admin.get(f"{SYSTEM}/secrets/nats-config").json()["data"]["nats.conf"]
    cluster = json.loads(base64.b64decode(found))["cluster"]
    password = (tmp_path / "keys" / "peers").read_text().strip()
    assert cluster["authorization"]["password"] == password
    assert cluster["routes"] == [
        f"nats-route://peer:{password}@nats-{n}.nats-peers.catalyst-system.svc:6222" for n in range(3)
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "ZONE=a"], "expected CATALYST_NAME=value"),
        (["--secret", "forge=app.pem"], "expected NAME/KEY=FILE"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["install", *words])
    assert said in capsys.readouterr().err


def test_a_cluster_of_ones_own_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert "--folder is missing" in capsys.readouterr().err
