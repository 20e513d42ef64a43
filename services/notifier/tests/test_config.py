"""A missing or wrong setting stops the start and names itself."""

from pathlib import Path

import pytest

from catalyst.notifier.config import Settings
from catalyst.service.settings import BadSettings, load


@pytest.fixture(autouse=True)
def _given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ghp_1\n")
    monkeypatch.setenv("CATALYST_NATS_URL", "nats://127.0.0.1:4222")
    monkeypatch.setenv("CATALYST_GITHUB_TOKEN_FILE", str(tmp_path / "token"))


def test_what_is_needed_suffices() -> None:
    settings = load(Settings)
    assert settings.github_token().get_secret_value() == "ghp_1"
    assert settings.runbooks_url is None


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("CATALYST_NATS_URL", None, "CATALYST_NATS_URL is missing; expected: address of NATS"),
        ("CATALYST_GITHUB_TOKEN_FILE", None, "CATALYST_GITHUB_APP_ID is missing; expected"),
        ("CATALYST_GITHUB_APP_ID", "7", "CATALYST_GITHUB_PRIVATE_KEY_FILE is missing"),
        ("CATALYST_LOCK_SECONDS", "1", "CATALYST_LOCK_SECONDS is wrong"),
        ("CATALYST_RUNBOOKS_URL", "https://x/)[a](https://evil.example", "CATALYST_RUNBOOKS_URL is wrong"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    variable: str, value: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings) as error:
        load(Settings)
    assert says in str(error.value)
