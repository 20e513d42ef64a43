"""What is missing or wrong stops the boot, and says so in one sentence without a secret in it."""

from pathlib import Path

import pytest

from catalyst.service import BadSettings, load
from catalyst.service.settings import table
from catalyst.webhook_ingest.config import Settings

URL = "nats://127.0.0.1:4222"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATALYST_NATS_URL", URL)


def test_secrets_from_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CATALYST_WEBHOOK_SECRETS", "old\n new \n\n")
    assert load(Settings).secrets() == (b"old", b"new")
    assert "old" not in repr(load(Settings))
    monkeypatch.delenv("CATALYST_WEBHOOK_SECRETS")
    file = tmp_path / "secrets"
    file.write_text("from a file\n")
    monkeypatch.setenv("CATALYST_WEBHOOK_SECRETS_FILE", str(file))
    assert load(Settings).secrets() == (b"from a file",)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "CATALYST_WEBHOOK_SECRETS_FILE .or CATALYST_WEBHOOK_SECRETS. is missing; expected the webhook's secrets"),
        ({"CATALYST_WEBHOOK_SECRETS": ""}, "^CATALYST_WEBHOOK_SECRETS is empty; expected"),
        ({"CATALYST_WEBHOOK_SECRETS": " \n "}, "^CATALYST_WEBHOOK_SECRETS is empty; expected"),
        (
            {"CATALYST_WEBHOOK_SECRETS_FILE": "/nowhere"},
            "CATALYST_WEBHOOK_SECRETS_FILE: the file /nowhere cannot",
        ),
        ({"CATALYST_WEBHOOK_SECRETS_FILE": "/dev/null"}, "CATALYST_WEBHOOK_SECRETS_FILE: the file /dev/null holds no"),
        (
            {"CATALYST_WEBHOOK_SECRETS": "s3cr3t", "CATALYST_WEBHOOK_SECRETS_FILE": "/dev/null"},
            "are both set; expected one",
        ),
        ({"CATALYST_WEBHOOK_SECRETS": "s3cr3t", "CATALYST_HTTP_PORT": "99999"}, "^CATALYST_HTTP_PORT is wrong"),
        ({"CATALYST_WEBHOOK_SECRETS": "s3cr3t", "CATALYST_NATS_URL": ""}, "^CATALYST_NATS_URL is wrong"),
    ],
)
def test_refusals(variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=sentence) as refused:
        load(Settings)
    assert "s3cr3t" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_readme_says_the_same() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for name, default, meaning in table(Settings):
        assert f"| `{name}` | {default} | {meaning} |" in readme
