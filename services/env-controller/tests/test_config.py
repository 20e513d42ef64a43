"""Settings: what is missing or wrong names its variable and what was expected."""

from pathlib import Path

import pytest

from catalyst.env_controller.config import Settings, platform_told
from catalyst.env_controller.core.platform import Platform
from catalyst.service.settings import BadSettings, load

GIVEN = {"CATALYST_NATS_URL": "nats://nats:4222", "CATALYST_NATS_SEED_FILE": "/run/seed"}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Exactly what is required."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CATALYST_{name.upper()}", raising=False)
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_what_is_required_is_enough(environ: pytest.MonkeyPatch) -> None:
    found = load(Settings)
    assert (found.nats_url, found.nats_seed_file) == ("nats://nats:4222", Path("/run/seed"))
    assert found.platform == Platform()
    assert found.kubeconfig is None


def test_what_another_process_is_told_is_read_from_that_alone(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CATALYST_ZONE", "mine.example.org")
    told = {"CATALYST_PUBLIC_PORT": "8443", "CATALYST_PROTECTED_NETWORKS": "10.0.0.0/8,10.1.0.0/16", "PATH": "/bin"}
    assert platform_told(told) == Platform(public_port=8443, protected_networks=("10.0.0.0/8", "10.1.0.0/16"))
    with pytest.raises(ValueError, match="CATALYST_ZONE"):
        platform_told({"CATALYST_ZONE": "preview..org"})


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_missing_is_named(environ: pytest.MonkeyPatch, name: str) -> None:
    environ.delenv(name)
    with pytest.raises(BadSettings, match=rf"^{name} is missing; expected: "):
        load(Settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CATALYST_LEASE_SECONDS", "0"),
        ("CATALYST_LEASE_SECONDS", "soon"),
        ("CATALYST_WORKERS", "0"),
        ("CATALYST_WORKERS", "65"),
        ("CATALYST_IN_FLIGHT", "-1"),
        ("CATALYST_RESYNC_SECONDS", "0"),
        ("CATALYST_USER_NAMESPACES", "perhaps"),
        ("CATALYST_OPS_PORT", "70000"),
        ("CATALYST_LOG_LEVEL", "loud"),
    ],
)
def test_what_is_wrong_is_named(environ: pytest.MonkeyPatch, name: str, value: str) -> None:
    environ.setenv(name, value)
    with pytest.raises(BadSettings, match=rf"^{name} is wrong \(.+\); expected: "):
        load(Settings)


@pytest.mark.parametrize("value", ["Preview.example.org", "a_b.example.org", "preview..org", f"{'a.' * 94}bc"])
def test_a_zone_that_could_hold_no_host_stops_the_boot(environ: pytest.MonkeyPatch, value: str) -> None:
    environ.setenv("CATALYST_ZONE", value)
    with pytest.raises(BadSettings, match=r"CATALYST_ZONE: zone .+: expected a lower-case DNS name"):
        load(Settings)
    environ.setenv("CATALYST_ZONE", f"{'a.' * 94}b")
    assert len(load(Settings).zone) == 189


@pytest.mark.parametrize("value", ["10.0.0.0", "10.0.0.1/8", "::ffff", "10.0.0.0/8,nonsense", "10.0.0.0/8;10.1.0.0/16"])
def test_protected_networks_must_be_networks(environ: pytest.MonkeyPatch, value: str) -> None:
    environ.setenv("CATALYST_PROTECTED_NETWORKS", value)
    sentence = r"^CATALYST_PROTECTED_NETWORKS is wrong \(expected a network such as .+\); expected: CIDRs"
    with pytest.raises(BadSettings, match=sentence):
        load(Settings)


@pytest.mark.parametrize("value", ["0.0.0.0/0", "10.0.0.0/8,::/0"])
def test_protecting_everything_is_a_mistake(environ: pytest.MonkeyPatch, value: str) -> None:
    environ.setenv("CATALYST_PROTECTED_NETWORKS", value)
    with pytest.raises(BadSettings, match=r"^CATALYST_PROTECTED_NETWORKS: a /0 would close the public web"):
        load(Settings)


def test_protected_networks_are_split_at_commas(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CATALYST_PROTECTED_NETWORKS", "10.96.0.0/12, 2001:db8::/32,")
    assert load(Settings).platform.protected_networks == ("10.96.0.0/12", "2001:db8::/32")


def test_what_is_given_reaches_the_platform(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("CATALYST_ZONE", "preview.example.org")
    environ.setenv("CATALYST_SYSTEM_NAMESPACE", "platform")
    environ.setenv("CATALYST_USER_NAMESPACES", "false")
    environ.setenv("CATALYST_POD_SECURITY_VERSION", "v1.37")
    assert load(Settings).platform == Platform(
        zone="preview.example.org",
        system_namespace="platform",
        user_namespaces=False,
        pod_security_version="v1.37",
    )
