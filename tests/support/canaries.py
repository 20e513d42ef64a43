"""Secrets that sing: values that may stand in one place only, looked for in all the others, raw and as base64.

    canaries = Canaries()
    canaries.add("Secret acme/app: password", "s3cret…")
    assert canaries.heard(text) == set()

One search finds all: the spellings go to `grep -F`, so that a registry's layers are read once.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

GZIP: Final = b"\x1f\x8b"
SHORTEST: Final = 12
"""Characters of a value that cannot be met by accident."""
PUBLIC: Final = ("root.crt", "tls.crt", "nats.conf")
"""Keys of Secrets that hold certificates and public keys."""


class Canaries:
    """What each is called by how it is spelt."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}

    @property
    def names(self) -> set[str]:
        return set(self._names.values())

    def new(self, name: str) -> str:
        """A random value of this name."""
        value = f"canary-{secrets.token_hex(16)}"
        self.add(name, value)
        return value

    def add(self, name: str, value: str) -> None:
        """A secret that is there already. Of a key in lines, its middle line. A value of another name keeps that."""
        for spelling in spellings(_line(value)):
            self._names.setdefault(spelling, name)

    def add_secret(self, found: Mapping[str, Any]) -> None:
        """Every value of a Kubernetes Secret; certificates and the like are public."""
        metadata = found["metadata"]
        for key, encoded in (found.get("data") or {}).items():
            value = "" if key in PUBLIC else _secret_in(base64.b64decode(encoded).decode())
            if len(value) >= SHORTEST:
                self.add(f"Secret {metadata['namespace']}/{metadata['name']}: {key}", value)

    def heard(self, text: str | bytes) -> set[str]:
        """The names of those in it."""
        with tempfile.TemporaryFile() as file:
            file.write(text.encode() if isinstance(text, str) else text)
            file.seek(0)
            return self.heard_in(file)

    def heard_in_file(self, path: Path) -> set[str]:
        """The same, of a file that may be compressed."""
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            return self.heard_in(cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file)

    def heard_in(self, stream: BinaryIO) -> set[str]:
        with tempfile.NamedTemporaryFile() as patterns, tempfile.TemporaryFile() as said:
            patterns.write(b"\n".join(self._names))
            patterns.flush()
            command = ["grep", "-a", "-o", "-F", "-f", patterns.name]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said) as grep:
                assert grep.stdin
                shutil.copyfileobj(stream, grep.stdin, 1 << 20)
            assert grep.returncode in (0, 1), grep.returncode
            said.seek(0)
            return {self._names[spelling] for spelling in set(said.read().splitlines())}


def spellings(value: str) -> set[bytes]:
    """Raw, and its base64 in each of the three alignments, in both alphabets, without what the neighbours decide."""
    raw = value.encode()
    assert len(raw) >= SHORTEST, f"{len(raw)} characters are no canary"
    found = {raw}
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + raw).rstrip(b"=")
        bits = 8 * offset
        inner = whole[-(-bits // 6) : (bits + 8 * len(raw)) // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def _line(value: str) -> str:
    """What of a value is looked for: of a PEM its middle, of anything else its longest line."""
    lines = [line for line in value.strip().splitlines() if not line.startswith("-----")]
    return lines[len(lines) // 2] if "-----BEGIN" in value else max(lines, key=len)


def _secret_in(text: str) -> str:
    """A docker `config.json` is the password in it; of a signed one the signature: the rest says whose it is."""
    if not text.lstrip().startswith("{"):
        return text
    (login,) = json.loads(text)["auths"].values()
    whole = login["password"] if "password" in login else base64.b64decode(login["auth"]).decode()
    return str(whole.rpartition(":")[2].rpartition(".")[2])


def tokens(text: str) -> set[str]:
    """Everything that looks like a signed token, or one of the forge's."""
    return set(re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+|gh[a-z]_\w{16,}", text))
