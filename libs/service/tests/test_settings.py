"""Settings are read once, frozen, and refused in one sentence that names the variable and repeats no value."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from catalyst.service import BadSettings, ServiceSettings, load, secrets_in
from catalyst.service.settings import table


class Settings(ServiceSettings):
    """Of some service."""

    nats_url: str = Field(description="address of NATS")
    token: SecretStr | None = Field(default=None, min_length=8, description="at least 8 characters")
    shards: list[int] = Field(default=[], description="numbers")


def test_the_environment_is_read_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALYST_NATS_URL", "nats://x")
    monkeypatch.setenv("CATALYST_OPS_PORT", "1234")
    monkeypatch.setenv("CATALYST_INJECTED_SERVICE_HOST", "10.0.0.1")
    settings = load(Settings)
    assert (settings.nats_url, settings.ops_port) == ("nats://x", 1234)
    with pytest.raises(ValidationError, match="frozen"):
        settings.ops_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "CATALYST_NATS_URL is missing; expected: address of NATS"),
        ({"NATS_URL": "x", "TOKEN": "hunter2"}, "CATALYST_TOKEN is wrong .*8 .*; expected: at least 8 characters"),
        ({"NATS_URL": "x", "OPS_PORT": "hunter2"}, "CATALYST_OPS_PORT is wrong .*integer.*; expected: port of"),
        ({"NATS_URL": "x", "LOG_LEVEL": "hunter2"}, "CATALYST_LOG_LEVEL is wrong .*'debug'"),
        ({"NATS_URL": "x", "SHARDS": "hunter2"}, "CATALYST_SHARDS is not the JSON it should be; expected: numbers"),
    ],
)
def test_refusals(variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CATALYST_{name}", value)
    with pytest.raises(BadSettings, match=sentence) as refused:
        load(Settings)
    assert "hunter2" not in str(refused.value)


def test_secrets_come_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("one\n\n  two \n")
    assert [secret.get_secret_value() for secret in secrets_in(file)] == ["one", "two"]
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no secret; write one a line"):
        secrets_in(file)
    with pytest.raises(ValueError, match="cannot be read: FileNotFoundError"):
        secrets_in(tmp_path / "absent")


def test_the_table_names_every_setting_the_services_own_first() -> None:
    rows = list(table(Settings))
    assert rows[:2] == [
        ("CATALYST_NATS_URL", "required", "address of NATS"),
        ("CATALYST_TOKEN", "none", "at least 8 characters"),
    ]
    assert [name for name, _, _ in rows][-5:] == [
        "CATALYST_OPS_HOST",
        "CATALYST_OPS_PORT",
        "CATALYST_BUILT_FROM",
        "CATALYST_LOG_LEVEL",
        "CATALYST_DRAIN_SECONDS",
    ]
