"""Only a body signed by one of our secrets is looked at."""

import hashlib
import hmac
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalyst.forge import BadSignature, GitHub
from catalyst.forge.github import SHA1_SIGNATURE, SIGNATURE

BODY = b'{"zen": "Keep it logically awesome."}'
OLD, NEW = b"the old secret", b"the new secret"


def signature(secret: bytes, body: bytes = BODY, algorithm: str = "sha256") -> str:
    return f"{algorithm}={hmac.new(secret, body, algorithm).hexdigest()}"


@pytest.mark.parametrize("secret", [OLD, NEW], ids=["rotated out next", "rotated in"])
def test_each_secret_is_good_while_one_is_rotated(secret: bytes) -> None:
    GitHub().verify({SIGNATURE: signature(secret)}, BODY, [OLD, NEW])


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "is missing: give the webhook a secret"),
        ({SHA1_SIGNATURE: signature(OLD, algorithm="sha1")}, "SHA-1 .* is not accepted"),
        ({SIGNATURE: signature(OLD, algorithm="sha1")}, "expected sha256=<64 hexadecimal digits>"),
        ({SIGNATURE: hashlib.sha256(BODY).hexdigest()}, "expected sha256="),
        ({SIGNATURE: signature(b"")}, "none of ours"),
        ({SIGNATURE: signature(b"another")}, "none of ours"),
        ({SIGNATURE: signature(OLD, BODY + b" ")}, "none of ours"),
        ({SIGNATURE: "sha256=" + "é" * 64}, "none of ours"),
        ({SIGNATURE: signature(OLD)[:-1]}, "none of ours"),
    ],
)
def test_anything_else_is_refused_with_its_reason(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(BadSignature, match=reason) as refused:
        GitHub().verify(headers, BODY, [OLD, NEW])
    assert OLD.decode() not in str(refused.value)


def test_a_secret_that_was_rotated_out_is_refused() -> None:
    with pytest.raises(BadSignature):
        GitHub().verify({SIGNATURE: signature(OLD)}, BODY, [NEW])


def test_no_secret_accepts_nothing() -> None:
    with pytest.raises(BadSignature):
        GitHub().verify({SIGNATURE: signature(b"")}, BODY, [])


def test_the_comparison_takes_constant_time() -> None:
    """No timing is measured: what is measured on a busy machine proves nothing. The right function is called."""
    with mock.patch("hmac.compare_digest", wraps=hmac.compare_digest) as compared:
        GitHub().verify({SIGNATURE: signature(OLD)}, BODY, [OLD])
    compared.assert_called_once()


@given(secret=st.binary(min_size=1), body=st.binary(), flip=st.integers(min_value=0))
def test_one_changed_bit_is_refused(secret: bytes, body: bytes, flip: int) -> None:
    GitHub().verify({SIGNATURE: signature(secret, body)}, body, [secret])
    if body:
        changed = bytearray(body)
        changed[flip % len(body)] ^= 1
        with pytest.raises(BadSignature):
            GitHub().verify({SIGNATURE: signature(secret, body)}, bytes(changed), [secret])
