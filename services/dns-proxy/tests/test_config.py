"""Settings: what is missing or wrong stops the boot and names itself."""

from pathlib import Path

import pytest
from edges import NOW, ZONE

from catalyst.dns_proxy import edge_config
from catalyst.dns_proxy.authority import write_keys
from catalyst.dns_proxy.config import Settings
from catalyst.service.settings import BadSettings, load

NEEDED = {
    "NATS_URL": "nats://nats:4222",
    "NATS_SEED_FILE": "/seed",
    "EDGE_HOSTS": "edge-admin.catalyst-edge.svc, 192.0.2.1",
    "EDGE_AUTHORITY_FILE": "/root.crt",
    "EDGE_CERTIFICATE_FILE": "/tls.crt",
    "EDGE_KEY_FILE": "/tls.key",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(f"CATALYST_{name}", value)
    return monkeypatch


def test_lists_are_split(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CATALYST_ALIAS_ZONES", "catalyst.test")
    settings = load(Settings)
    assert settings.edge_hosts == ("edge-admin.catalyst-edge.svc", "192.0.2.1")
    assert settings.layout.alias_zones == ("catalyst.test",)
    assert settings.edges.https_port == 8443


@pytest.mark.parametrize("name", list(NEEDED))
def test_what_is_missing_names_itself(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(f"CATALYST_{name}")
    with pytest.raises(BadSettings, match=f"CATALYST_{name} is missing"):
        load(Settings)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ZONE", "Preview.Example.Org", "expected a lower-case DNS name"),
        ("ALIAS_ZONES", "a b", "expected a lower-case DNS name"),
        ("EDGE_HOSTS", " , ", "CATALYST_EDGE_HOSTS is wrong"),
        ("SERVICE_ADDRESS", "{pod}.svc", "expected only {service} and {namespace}"),
        ("OWNER", "Not a name", "CATALYST_OWNER is wrong"),
        ("CLOUDFLARE_TOKEN_FILE", "/missing", "CATALYST_CLOUDFLARE_ACCOUNT is missing"),
    ],
)
def test_what_is_wrong_names_itself(environment: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    environment.setenv(f"CATALYST_{name}", value)
    with pytest.raises(BadSettings, match=words):
        load(Settings)


def test_cloudflare(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    for name, value in {"TOKEN_FILE": str(token), "ACCOUNT": "a", "ZONE": "z", "RECORDS": "hosts"}.items():
        environment.setenv(f"CATALYST_CLOUDFLARE_{name}", value)
    settings = load(Settings)
    assert settings.tunnel.name == "catalyst-catalyst"
    assert not settings.tunnel.wildcard
    assert "secret" not in repr(settings)
    token.write_text("")
    with pytest.raises(BadSettings, match=r"CATALYST_CLOUDFLARE_TOKEN_FILE: .* holds no secret"):
        load(Settings)


def test_the_edges_own_configuration(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge_config.main() == 2
    assert "CATALYST_EDGE_CLIENT_CERTIFICATE_FILE is missing" in capsys.readouterr().err
    write_keys(tmp_path, [ZONE], now=NOW)
    environment.setenv("CATALYST_EDGE_CLIENT_CERTIFICATE_FILE", str(tmp_path / "dns-proxy" / "tls.crt"))
    environment.setenv("CATALYST_EDGE_AUTHORITY", str(tmp_path / "edge"))
    assert edge_config.main() == 0
    written = capsys.readouterr().out
    assert '"public_keys"' in written
    assert "PRIVATE KEY" not in written
