"""Which bus, as whom: a context, from options, the environment, or a file of the `nats` command line.

```
--url, --seed, --ca                                                 each of them first
CATALYST_NATS_URL, CATALYST_NATS_SEED_FILE, CATALYST_NATS_CA_FILE   then these
--context, CATALYST_CONTEXT, NATS_CONTEXT                           then the file of that name
context.txt                                                         else the one that `nats context select` chose
nats://127.0.0.1:4222                                               else this
```

Files are `$XDG_CONFIG_HOME/nats/context/<name>.json` (`~/.config`): `url`, `nkey` (a file with a seed), `ca`,
`inbox_prefix`. Another kind of credential in one is refused by name, not ignored. Answers arrive on an inbox that only
the user may hear: the context's `inbox_prefix`, else by the seed's name, `oncall.seed` → `_INBOX_oncall`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
_OTHER_CREDENTIALS: Final = (
    "creds", "user", "password", "token", "cert", "key", "nsc", "user_jwt", "user_seed", "windows_cert_store"
)  # fmt: skip


class BadContext(Exception):
    """The context cannot be used; the message names file and field, and what was expected."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was given on the command line."""

    context: str | None = None
    url: str | None = None
    seed: Path | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Where the bus is and who we are there. `name` empty: of no file."""

    name: str
    url: str
    seed: Path | None
    ca: Path | None
    inbox_prefix: str


def context(options: Options, environ: Mapping[str, str]) -> Context:
    """The context to use; reads at most one file, and not the seed. Raises `BadContext`."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config") / "nats"
    seed, ca = environ.get("CATALYST_NATS_SEED_FILE"), environ.get("CATALYST_NATS_CA_FILE")
    given = Options(
        context=options.context or environ.get("CATALYST_CONTEXT") or environ.get("NATS_CONTEXT"),
        url=options.url or environ.get("CATALYST_NATS_URL"),
        seed=options.seed or (Path(seed) if seed else None),
        ca=options.ca or (Path(ca) if ca else None),
    )
    named = given.context or (None if given.url else _selected(folder))
    found = _read(folder, named) if named else Context("", DEFAULT_URL, None, None, "")
    chosen = replace(found, url=given.url or found.url, seed=given.seed or found.seed, ca=given.ca or found.ca)
    if chosen.inbox_prefix and given.seed is None:
        return chosen
    return replace(chosen, inbox_prefix=f"_INBOX_{chosen.seed.stem}" if chosen.seed else "_INBOX")


def names(environ: Mapping[str, str]) -> list[str]:
    """The contexts there are files of, for completion."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".config") / "nats"
    return sorted(path.stem for path in (folder / "context").glob("*.json"))


def _selected(folder: Path) -> str | None:
    try:
        return (folder / "context.txt").read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise BadContext(f"{folder / 'context.txt'} cannot be read: {exc}") from exc


def _read(folder: Path, name: str) -> Context:
    path = folder / "context" / f"{name}.json"
    if "/" in name or name in (".", ".."):
        raise BadContext(f"context {name!r}: expected a name, not a path")
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as exc:
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.json"))) or "none"
        raise BadContext(f"no context {name}: {path} is not there; there are: {there}") from exc
    except (OSError, ValueError) as exc:
        raise BadContext(f"{path} cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise BadContext(f"{path}: expected a JSON object")
    for field in _OTHER_CREDENTIALS:
        if document.get(field):
            raise BadContext(f"{path}: {field} is not understood here; expected nkey, a file with the user's seed")
    url = _text(path, document, "url") or DEFAULT_URL
    seed, ca = _text(path, document, "nkey"), _text(path, document, "ca")
    return Context(
        name,
        url,
        Path(seed).expanduser() if seed else None,
        Path(ca).expanduser() if ca else None,
        _text(path, document, "inbox_prefix"),
    )


def _text(path: Path, document: Mapping[str, Any], field: str) -> str:
    value = document.get(field) or ""
    if not isinstance(value, str):
        raise BadContext(f"{path}: {field}: expected text, found {type(value).__name__}")
    return value
