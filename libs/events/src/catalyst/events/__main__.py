"""`python -m catalyst.events`: the operator's tool for keys, the server's configuration, the topology and backups."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import nats
import nats.errors
from nats.aio.client import Client

from catalyst.events.applying import Change, apply
from catalyst.events.backup import Kept, backup, restore
from catalyst.events.errors import BusError, NotAllowed, Unreachable
from catalyst.events.keys import read_public_keys, write_keys, write_reader
from catalyst.events.readers import Reader
from catalyst.events.server import nats_server_config
from catalyst.events.topology import Budget
from catalyst.events.users import OPERATOR, inbox_prefix, users

Result = TypeVar("Result")
RESTART: Final = (
    "now restart the NATS servers, or they store a repeat of what they have again; then `apply`, which makes STATE anew"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. 0: done; 1: `check` found a difference; 2: it could not be done, and why."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "keys":
                public = write_keys(options.folder, [user.name for user in users()])
                print(f"{len(public)} seeds and users.json in {options.folder}")
            case "reader":
                made = Reader(options.team, options.name)
                context = write_reader(options.folder, made, options.url, [user.name for user in users()])
                print(f"{made.user}: {context} is what its owner gets, and a secret.")
                print("It may sign in once the server has the new users.json and `apply --keys` has been run.")
            case "server-config":
                public_keys = read_public_keys(options.keys) if options.keys else None
                text = nats_server_config(
                    store_dir=options.store,
                    port=options.port,
                    host=options.host,
                    http_port=options.http_port,
                    public_keys=public_keys,
                )
                print(text, end="")
            case "backup":
                print(*asyncio.run(_backup(options.url, options.seed, options.folder)), sep="\n")
            case "restore":
                print(*asyncio.run(_restore(options)), sep="\n")
            case command:
                budget = Budget(replicas=options.replicas)
                keys = read_public_keys(options.keys) if options.keys else {}
                readers = [reader for name in keys if (reader := Reader.of(name)) is not None]
                changes = asyncio.run(_topology(options.url, options.seed, budget, readers, dry=command == "check"))
                print(*changes, sep="\n")
                return int(command == "check" and any(change.action != "keep" for change in changes))
    except (BusError, OSError, ValueError, nats.errors.Error) as exc:
        print(f"catalyst.events {options.command}: {exc or type(exc).__name__}", file=sys.stderr)
        return 2
    return 0


async def _topology(
    url: str, seed: Path | None, budget: Budget, readers: Sequence[Reader], *, dry: bool
) -> list[Change]:
    def work(client: Client) -> Awaitable[list[Change]]:
        return apply(client.jetstream(), budget=budget, readers=readers, dry=dry)

    return await _as_operator(url, seed, work)


async def _backup(url: str, seed: Path | None, folder: Path) -> list[str]:
    manifest = await _as_operator(url, seed, lambda client: backup(client, folder, datetime.now(UTC)))
    return [*(str(kept) for kept in manifest.streams), f"{len(manifest.streams)} streams in {folder}"]


async def _restore(options: argparse.Namespace) -> list[str]:
    def work(client: Client) -> Awaitable[list[Kept]]:
        return restore(client, options.folder, only_missing=options.only_missing, replicas=options.replicas)

    made = await _as_operator(options.url, options.seed, work)
    return [*map(str, made), f"{len(made)} streams restored", RESTART]


async def _as_operator(url: str, seed: Path | None, work: Callable[[Client], Awaitable[Result]]) -> Result:
    """Does the work until it ends, or the server refuses something: that it says beside the request, which itself would
    only run into its timeout.
    """
    reasons: list[str] = []
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def told(error: Exception) -> None:
        reasons.append(str(error) or type(error).__name__)
        if "permissions violation" in reasons[-1].lower() and not refused.done():
            refused.set_result(reasons[-1])

    try:
        client = await nats.connect(
            url,
            name=OPERATOR,
            nkeys_seed=str(seed) if seed else None,
            inbox_prefix=inbox_prefix(OPERATOR),
            max_reconnect_attempts=2,
            reconnect_time_wait=0.2,
            error_cb=told,
        )
    except nats.errors.NoServersError as exc:
        raise Unreachable(f"no connection to {url}: {reasons[-1] if reasons else exc}") from exc
    doing = asyncio.ensure_future(work(client))
    watched: list[asyncio.Future[Any]] = [doing, refused]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise NotAllowed(f"{refused.result()}: only the operator's seed may do this")
        return doing.result()
    finally:
        doing.cancel()
        await client.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catalyst.events", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("apply", "make streams and consumers match"),
        ("check", "say what differs; exit 1 if anything"),
    ):
        command = commands.add_parser(name, help=text)
        _connection(command)
        command.add_argument("--keys", type=Path, help="users.json: its readers get their consumers; none: no readers")
        command.add_argument("--replicas", type=int, default=1, help="servers that store each stream: 3 in a cluster")
    saved = commands.add_parser("backup", help="write all streams into a new folder")
    restored = commands.add_parser("restore", help="make the streams of a backup on a server that has none")
    for command in (saved, restored):
        command.add_argument("folder", type=Path)
        _connection(command)
    restored.add_argument("--replicas", type=int, help="servers that store each stream; default: as it was")
    restored.add_argument(
        "--only-missing", action="store_true", help="leave the streams that are there, restore the others"
    )
    keys = commands.add_parser("keys", help="write a seed file for every user that has none, and users.json")
    keys.add_argument("folder", type=Path)
    reader = commands.add_parser("reader", help="write what a team's reader signs in with: a context for `nats`")
    reader.add_argument("folder", type=Path, help="where the keys are")
    reader.add_argument("team")
    reader.add_argument("name", help="of the reader within its team; each has a place of its own in the news")
    reader.add_argument("--url", required=True, help="where the team reaches the server: nats://HOST:PORT or tls://…")
    config = commands.add_parser("server-config", help="print nats-server's configuration")
    config.add_argument("--store", type=Path, required=True, help="folder for the streams")
    config.add_argument("--keys", type=Path, help="users.json; without it anyone may do anything")
    config.add_argument("--port", type=int, default=4222)
    config.add_argument("--http-port", type=int, help="of the monitoring pages; default: none")
    config.add_argument("--host", default="127.0.0.1")
    return parser


def _connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", default="nats://127.0.0.1:4222")
    command.add_argument("--seed", type=Path, help="the operator's seed file")


if __name__ == "__main__":
    sys.exit(main())
