"""What the other rooms' tests rely on: everything is applied, each service is only itself, writes and leftovers are
seen.
"""

from __future__ import annotations

import httpx
import pytest
import yaml

from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import Installation
from catalyst.local.nats import Nats


def test_resources_are_served_and_services_have_accounts(installation: Installation) -> None:
    for plural in ("projects", "environments"):
        assert installation.admin.get(f"/apis/catalyst.dev/v1alpha1/{plural}").status_code == httpx.codes.OK
    for service in ("webhook-ingest", "env-controller"):
        settings = installation.settings(service)
        assert set(settings) == {"CATALYST_NATS_URL", "CATALYST_NATS_SEED_FILE", "CATALYST_KUBECONFIG"}


def test_writes_are_counted_and_leftovers_found(installation: Installation) -> None:
    before, marker = installation.everything(), installation.audit.marker()
    installation.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left", "namespace": "default"}})
    written = installation.audit.writes_since(marker, user="catalyst-local-admin")
    assert [(w.verb, w.resource, w.name, w.code) for w in written] == [("patch", "configmaps", "left", 201)]
    assert [str(found) for found in installation.everything() - before] == ["configmaps/default/left"]

    assert installation.admin.delete("/api/v1/namespaces/default/configmaps/left").is_success
    assert installation.everything() == before


def test_a_client_certificate_is_the_person_it_names(control_plane: ControlPlane) -> None:
    path = control_plane.kubeconfig_as("ann", ["catalyst:acme:shop:owner"])
    config = yaml.safe_load(path.read_text())
    assert config["users"][0]["name"] == "ann"
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_unknown_user_is_named(nats: Nats) -> None:
    with pytest.raises(LookupError, match="no user 'mallory': expected one of operator"):
        nats.seed("mallory")
