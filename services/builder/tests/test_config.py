"""Settings: what is missing, wrong or contradictory names its variable and what was expected."""

import json
from pathlib import Path

import pytest

from catalyst.builder.config import Settings
from catalyst.builder.keys import write_keys
from catalyst.service.settings import BadSettings, load


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Exactly what is required."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CATALYST_{name.upper()}", raising=False)
    write_keys(tmp_path / "key.pem", tmp_path / "jwks.json")
    given = {
        "NATS_URL": "nats://nats:4222",
        "NATS_SEED_FILE": "/run/seed",
        "REGISTRY": "registry.example.org",
        "REALM_KEY_FILE": str(tmp_path / "key.pem"),
        "FETCH_IMAGE": "git",
        "KANIKO_IMAGE": "kaniko",
        "CRANE_IMAGE": "crane",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"CATALYST_{name}", value)
    return monkeypatch


def test_what_is_required_is_enough(environ: pytest.MonkeyPatch) -> None:
    found = load(Settings)
    assert (found.platform.push, found.registry_url) == ("realm", "https://registry.example.org")
    assert found.signer().service == "registry.example.org"
    assert not found.has_forge


@pytest.mark.parametrize(
    "name", ["NATS_URL", "NATS_SEED_FILE", "REGISTRY", "FETCH_IMAGE", "KANIKO_IMAGE", "CRANE_IMAGE"]
)
def test_what_is_missing_is_named(environ: pytest.MonkeyPatch, name: str) -> None:
    environ.delenv(f"CATALYST_{name}")
    with pytest.raises(BadSettings, match=rf"^CATALYST_{name} is missing; expected: "):
        load(Settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY", "https://registry.example.org"),
        ("REGISTRY", "Registry.example.org/x"),
        ("GIT_URL", "ssh://github.com"),
        ("GIT_URL", "https://user@github.com"),
        ("GIT_URL", "https://github.com/"),
        ("GIT_URL", "http://github.example.org"),
        ("BUILD_EGRESS", "172.30.0.1:5000"),
        ("BUILD_EGRESS", "0.0.0.0/0:443"),
        ("BUILD_EGRESS", "169.254.169.254/32:80"),
        ("BUILD_EGRESS", "172.30.0.1/32:0"),
        ("BUILD_EGRESS", "172.30.0.1/32"),
        ("PROTECTED_NETWORKS", "0.0.0.0/0"),
        ("PROTECTED_NETWORKS", "10.0.0.1/8"),
        ("BUILDS_AT_ONCE", "0"),
        ("BUILD_SECONDS", "5"),
        ("BUILD_MEMORY", "much"),
        ("REALM_KEY_FILE", "/no/such/file"),
        ("REGISTRY_CREDENTIALS_FILE", "/no/such/file"),
        ("GITHUB_APP_ID", "12"),
    ],
)
def test_what_is_wrong_is_named(environ: pytest.MonkeyPatch, name: str, value: str) -> None:
    environ.setenv(f"CATALYST_{name}", value)
    with pytest.raises(BadSettings, match=name):
        load(Settings)


def test_http_only_on_purpose(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CATALYST_GIT_URL", "http://github.catalyst.test:8080")
    environ.setenv("CATALYST_GIT_INSECURE", "true")
    assert load(Settings).platform.git_url == "http://github.catalyst.test:8080"


def test_an_external_registrys_login(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    environ.delenv("CATALYST_REALM_KEY_FILE")
    environ.setenv("CATALYST_REGISTRY_CREDENTIALS_FILE", str(file))
    for bad in ("", "[]", "{}", json.dumps({"auths": {"registry.example.org": {"auth": "!"}}})):
        file.write_text(bad)
        with pytest.raises(BadSettings, match="CATALYST_REGISTRY_CREDENTIALS_FILE") as told:
            load(Settings)
        assert "secret" not in str(told.value)
    file.write_text(json.dumps({"auths": {"registry.example.org": {"auth": "cm9ib3Q6c2VjcmV0"}}}))
    found = load(Settings)
    assert (found.given_credential(), found.platform.push) == (("robot", "secret"), "given")


def test_openings(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CATALYST_BUILD_EGRESS", "172.30.0.1/32:5000, fd00::1/128:443")
    assert [(o.cidr, o.ports) for o in load(Settings).platform.openings] == [
        ("172.30.0.1/32", (5000,)),
        ("fd00::1/128", (443,)),
    ]
