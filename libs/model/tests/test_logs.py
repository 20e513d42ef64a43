"""The end of a log: no secret, however it was printed; ordinary lines unharmed."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from catalyst.builder.core.tokens import Signer
from catalyst.builder.effects.registry import docker_config
from catalyst.events.examples import NOW
from catalyst.model.logs import MAX_CHARACTERS, MAX_LINES, REDACTED, tail

JWT = Signer(ECKey.generate_key("P-256"), "catalyst", "registry").token("x", [], NOW, "id")
CONFIG = docker_config("registry.example.org", "build", JWT)
CANARY = "cAnArY-1234567890-secret"


@pytest.mark.parametrize(
    "line",
    [
        CONFIG,
        json.dumps(json.loads(CONFIG), indent=2),
        base64.b64encode(CONFIG.encode()).decode(),
        "\n".join(base64.b64encode(CONFIG.encode()).decode()[i : i + 76] for i in range(0, 700, 76)),
        f"token is {JWT} ok",
        f"Authorization: Bearer {JWT}",
        "Authorization: Basic YnVpbGQ6c2VjcmV0c2VjcmV0",
        "https://x-access-token:ghs_0123456789abcdefABCDEF@github.com/acme/shop",
        "postgres://app:hunter2hunter2@db:5432/x",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
        "password=correct-horse-battery",
    ],
)
def test_what_looks_like_a_secret_is_gone(line: str) -> None:
    found = tail(f"STEP 1\n{line}\ndone")
    assert REDACTED in found
    for part in (JWT[40:90], "ghs_0123456789", "hunter2hunter2", "MIIEpAIBAAKCAQEA", "AKIAIOSFODNN7", "correct-horse"):
        assert part not in found
    assert found.startswith("STEP 1\n")
    assert found.endswith("done")


@pytest.mark.parametrize("prefix", ["", "a", "ab", "abc"])
def test_known_secrets_are_found_in_base64_at_every_offset(prefix: str) -> None:
    encoded = base64.b64encode(f"{prefix}{CANARY}!".encode()).decode()
    found = tail(f"raw {CANARY}\nencoded {encoded}", [CANARY])
    assert CANARY not in found
    assert base64.b64encode(CANARY.encode()).decode()[4:20] not in found
    left = found.split("encoded ")[1].replace(REDACTED, "")
    assert len(left) <= 12, "not more than what the neighbours' bits decide"


@pytest.mark.parametrize(
    "line",
    [
        "INFO[0003] RUN pip install --no-cache-dir -r requirements.txt",
        f"sha256:{'0123456789abcdef' * 4}",
        "Collecting typing-extensions>=4.12 (from pydantic->-r requirements.txt (line 3))",
        "/usr/lib/python3/dist-packages/some_module/deeper/path/module.py:12: error",
        "integrity sha512-3JdN2nZk4Iqf0xZ1bBzQvX7XgqYb8bO1m4z0c8vUqkQ4oZz3y5cT7vV9b1e6aF2d8iRzW0uY5oX==",
        'error: failed to solve: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1',
    ],
)
def test_ordinary_lines_stay(line: str) -> None:
    assert tail(line) == line


def test_it_is_short_and_printable() -> None:
    found = tail("".join(f"\x1b[31mline {n}\x1b[0m\x07 {'x' * 2000}\r\n" for n in range(500)))
    assert len(found) <= MAX_CHARACTERS
    assert len(found.split("\n")) <= MAX_LINES
    assert "\x1b" not in found
    assert "line 499" in found
    assert tail("progress 1\rprogress 2\n") == "progress 1\nprogress 2"
    assert tail("") == ""
    assert tail(" \nlast\n \n") == "last"


PIECES = [
    CONFIG,
    JWT,
    CANARY,
    "password=",
    "token: ",
    "https://user:",
    "@host",
    "\n",
    "\r",
    "\x1b[31m",
    " ",
    '"',
    "x" * 400,
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=30)), max_size=40).map("".join))
def test_what_is_scrubbed_already_stays_as_it_is(log: str) -> None:
    """env-controller scrubs a log when it reads it, and again when it tells of it: a record of the one must give the
    other.
    """
    assert tail(tail(log)) == tail(log)
