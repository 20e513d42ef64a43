"""What nats-server is started with. Pure: a value in, the configuration's text out (its format takes JSON)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from catalyst.events.readers import Reader
from catalyst.events.topology import SERVICES, Budget
from catalyst.events.users import User, inbox_prefix, users

MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes; NATS' default. A forge's payload rides along up to half of it, the rest is room for the state beside it."""
ACCOUNT: Final = "CATALYST"


@dataclass(frozen=True, slots=True)
class Peers:
    """The servers of a cluster. Each must be started with a name of its own (`--name`).

    `hosts`: every server's, the one's own may be among them. `password`: they know each other by it.
    """

    hosts: tuple[str, ...]
    password: str = field(repr=False)
    port: int = 6222


def nats_server_config(
    *,
    store_dir: Path | str,
    port: int,
    public_keys: Mapping[str, str] | None,
    sync_always: bool = True,
    host: str = "127.0.0.1",
    http_port: int | None = None,
    budget: Budget | None = None,
    services: Iterable[str] = SERVICES,
    peers: Peers | None = None,
) -> str:
    """The text of a nats-server configuration.

    Args:
        store_dir: where streams live: a volume of its own.
        port: for clients.
        public_keys: user → its public nkey (`U…`); users without a key cannot connect. None: anyone may do anything,
            which only a throw-away server may say.
        sync_always: fsync before every acknowledgement. Without it acknowledged writes of two minutes can be lost.
        host: which interface to listen on.
        http_port: of the monitoring pages; None: none.
        budget: what the streams may take; the server refuses to promise more.
        services: who has a user beside the operator.
        peers: the cluster this server is one of; the text then holds their password. None: it stands alone.

    Raises:
        ValueError: `public_keys` names a user that is neither one of ours nor a team's reader.
    """
    config: dict[str, Any] = {
        "host": host,
        "port": port,
        "max_payload": MAX_PAYLOAD,
        "jetstream": {
            "store_dir": str(store_dir),
            "max_file_store": (budget or Budget()).total,
            "sync_interval": "always" if sync_always else "2m",
        },
    }
    if http_port is not None:
        config["http"] = f"{host}:{http_port}"
    if peers is not None:
        config["cluster"] = {
            "name": ACCOUNT.lower(),
            "listen": f"{host}:{peers.port}",
            "authorization": {"user": "peer", "password": peers.password},
            "routes": [f"nats-route://peer:{peers.password}@{peer}:{peers.port}" for peer in peers.hosts],
        }
    if public_keys is not None:
        config["accounts"] = _accounts(public_keys, services)
    return json.dumps(config, indent=2) + "\n"


def _accounts(public_keys: Mapping[str, str], services: Iterable[str]) -> dict[str, Any]:
    """Ours, with the services and people; and one a reader, into which nothing but its team's subjects leads."""
    readers = [reader for name in public_keys if (reader := Reader.of(name)) is not None]
    ours = {name: key for name, key in public_keys.items() if Reader.of(name) is None}
    account: dict[str, Any] = {"jetstream": "enabled", "users": _users(ours, services)}
    if readers:
        account["exports"] = _exports(readers)
    return {ACCOUNT: account, **{reader.user: _reader(reader, public_keys[reader.user]) for reader in readers}}


def _users(public_keys: Mapping[str, str], services: Iterable[str]) -> list[dict[str, Any]]:
    known = {user.name: user for user in users(services)}
    unknown = sorted(set(public_keys) - set(known))
    if unknown:
        raise ValueError(
            f"user {unknown[0]!r} does not exist: expected one of {', '.join(known)}, or reader--<team>--<name>"
        )
    return [_user(known[name], key) for name, key in public_keys.items()]


def _user(user: User, public_key: str) -> dict[str, Any]:
    publish: dict[str, Any] = {"allow": list(user.publish)}
    if user.publish_deny:
        publish["deny"] = list(user.publish_deny)
    return {"nkey": public_key, "permissions": {"publish": publish, "subscribe": {"allow": list(user.subscribe)}}}


def _exports(readers: Iterable[Reader]) -> list[dict[str, Any]]:
    """What leads out of our account, each subject only to the readers it is for."""
    heard: dict[str, list[str]] = {}
    asked: dict[str, list[str]] = {}
    for reader in readers:
        for subject in reader.heard:
            heard.setdefault(subject, []).append(reader.user)
        for subject in reader.asked.values():
            asked.setdefault(subject, []).append(reader.user)
    streams = [{"stream": subject, "accounts": accounts} for subject, accounts in heard.items()]
    # A request for many messages is answered many times.
    services = [
        {"service": subject, "response_type": "stream", "accounts": accounts} for subject, accounts in asked.items()
    ]
    return streams + services


def _reader(reader: Reader, public_key: str) -> dict[str, Any]:
    imports: list[dict[str, Any]] = [{"stream": {"account": ACCOUNT, "subject": subject}} for subject in reader.heard]
    imports += [
        {"service": {"account": ACCOUNT, "subject": ours}, "to": subject} for subject, ours in reader.asked.items()
    ]
    user = User(reader.user, tuple(reader.asked), (f"{inbox_prefix(reader.user)}.>", *reader.heard))
    return {"users": [_user(user, public_key)], "imports": imports}
