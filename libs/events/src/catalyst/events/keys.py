"""Users' nkeys: a private seed in a file of its own, the public key for the server. Touches only the folder given.

A team's reader exists by its seed file alone: whoever writes the folder's keys again keeps it, deleting it ends it.
"""

import base64
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import nkeys

from catalyst.events.readers import API, PREFIX, Reader

PUBLIC: Final = "users.json"
"""User → public key: what the server's configuration needs, and all it may hold."""


def write_keys(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Writes `<user>.seed` (mode 0600) for every user that has none, and `users.json`. Returns user → public key, with
    the readers whose seeds are there.

    A seed that is there stays: writing again changes nothing.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a seed file holds no seed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    readers = sorted(path.stem for path in folder.glob(f"{PREFIX}*.seed") if Reader.of(path.stem) is not None)
    public = {name: public_key(_seed(folder / f"{name}.seed")) for name in dict.fromkeys((*names, *readers))}
    (folder / PUBLIC).write_text(json.dumps(public, indent=2, sort_keys=True) + "\n")
    return public


def write_reader(folder: Path, reader: Reader, url: str, names: Iterable[str]) -> Path:
    """Makes a reader's seed, unless it is there, writes `users.json` with it and the users `names`, and returns the
    context file that holds all its owner needs: address, seed, inbox. Both files have mode 0600.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a seed file holds no seed.
    """
    write_keys(folder, (*names, reader.user))
    seed = (folder / f"{reader.user}.seed").read_bytes().strip()
    context = {
        "description": f"reads what is {reader.team}'s",
        "url": url,
        "nkey": f"data:;base64,{base64.b64encode(seed).decode()}",
        "inbox_prefix": f"_INBOX_{reader.user}",
        "jetstream_api_prefix": API,
    }
    path = folder / f"{reader.user}.json"
    path.unlink(missing_ok=True)  # one that was there may be open to others
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps(context, indent=2) + "\n")
    return path


def read_public_keys(path: Path) -> dict[str, str]:
    """User → public key from a `users.json`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object of texts.
    """
    document = json.loads(path.read_text())
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document.values()):
        raise ValueError(f"{path}: expected a JSON object of user → public key")
    return document


def _seed(path: Path) -> Path:
    if not path.exists():
        seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(seed + b"\n")
    return path


def public_key(path: Path) -> str:
    """The public key of a seed file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no seed.
    """
    try:
        pair = nkeys.from_seed(bytearray(path.read_bytes().strip()))
    except nkeys.NkeysError as exc:
        raise ValueError(f"{path} holds no nkey seed") from exc
    public = bytes(pair.public_key).decode()
    pair.wipe()
    return public
