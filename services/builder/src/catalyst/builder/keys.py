"""The realm's key, made once by whoever installs Catalyst: a private key for builder, its public half for the registry.

    python -m catalyst.builder.keys PRIVATE.pem JWKS.json

An existing private key is kept: only what the registry needs is written anew.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from joserfc.jwk import ECKey

from catalyst.builder.core.tokens import BadKey, key_set, private_key


def write_keys(private: Path, jwks: Path) -> None:
    """Raises BadKey when `private` holds something else; OSError."""
    if not private.exists():
        pem = ECKey.generate_key("P-256").as_pem(private=True)
        private.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    key = private_key(private.read_text(encoding="utf-8"))
    jwks.parent.mkdir(parents=True, exist_ok=True)
    jwks.write_text(json.dumps(key_set(key), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="catalyst.builder.keys", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("private", type=Path, help="PEM file of the private key; made when it is missing")
    parser.add_argument("jwks", type=Path, help="JSON file that the registry reads (auth.token.jwks)")
    arguments = parser.parse_args()
    try:
        write_keys(arguments.private, arguments.jwks)
    except (BadKey, OSError) as error:
        sys.exit(f"{arguments.private}: {error}")


if __name__ == "__main__":
    main()
