"""The whole bus in one folder, and back into an empty server, by the server's own snapshots.

```
folder/bus.json               when, by which server, and each stream with its last sequence and its archive's digest
folder/SCM/backup.json        configuration and state …
folder/SCM/stream.arc.s2      … and the server's archive: what `nats backup restore stream` reads as well
```

A snapshot holds a stream's messages with their sequences and times, and its consumers with what they have acknowledged.
Streams are taken one after another while the services work, each as it is at that moment; DEAD before the streams that
its letters are about. `bus.json` is written last, so a backup that was interrupted is none.

STATE is left out, because it is made from EVENTS, and what EVENTS no longer has, from the resources. A restored one
would be wrong: nats-server 2.15 takes a restored EVENTS for another stream, copies it from its beginning, and passes
over the newest snapshots as repeats of what STATE has, so older ones replace them [seen].

After a restore the server has to be restarted, and then the topology applied. nats-server 2.15 reads the ids that make
repeats harmless at its start, not when it restores [seen].
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, ValidationError

from catalyst.events.errors import BusError
from catalyst.events.topology import streams

MANIFEST: Final = "bus.json"
META: Final = "backup.json"
ARCHIVES: Final = ("stream.arc.s2", "stream.tar.s2")
"""What the archive is called: since nats-server 2.15, and before."""
FORMAT: Final = 1
CHUNK: Final = 256 * 1024
"""Bytes in one message, either way."""
PATIENCE: Final = 30.0
"""Seconds without an answer, or the next chunk."""
NO_STREAM: Final = 10059
"""JetStream's error code for a stream that is not there."""


class NotRestored(BusError):
    """The backup cannot be used, or not here; nothing was written."""


class Kept(BaseModel):
    """One stream of a backup. `last`: the sequence that nothing stored may get again; `digest`: SHA-256, hex."""

    model_config = ConfigDict(frozen=True)
    stream: str
    messages: int
    first: int
    last: int
    size: int
    digest: str

    def __str__(self) -> str:
        return f"{self.stream}: {self.messages} messages, {self.first} to {self.last}, {self.size} bytes"


class Manifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True)
    format: int
    made: datetime
    server: str
    streams: tuple[Kept, ...]


def names() -> tuple[str, ...]:
    """The topology's streams, but for those that are made from others."""
    return tuple(str(stream.name) for stream in streams() if not stream.sources)


async def backup(client: Client, folder: Path, now: datetime) -> Manifest:
    """Writes the streams of the topology into a folder that is new or empty. `client`: the operator's.

    Raises:
        BusError: a stream is missing on the server, or it did not answer, or the folder has something.
    """
    _new(folder)
    kept = [await _keep(client, name, folder / name) for name in reversed(names())]
    manifest = Manifest(format=FORMAT, made=now, server=str(client.connected_server_version), streams=tuple(kept))
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


async def restore(
    client: Client, folder: Path, *, only_missing: bool = False, replicas: int | None = None
) -> list[Kept]:
    """Makes the streams of a backup on a server that has none of them, and gives those it made. `client`: the
    operator's. The whole backup is looked at before the first is made.

    `only_missing`: leave what is there, as after a restore that was interrupted. `replicas`: how many servers store
    each stream, where it is not as many as before.

    Raises:
        NotRestored: the backup is damaged, foreign or incomplete, or the server has streams; nothing was written.
        BusError: the server refused one, or did not answer; those before it are there.
    """
    manifest = read(folder)
    there = set((await _ask(client, "STREAM.NAMES", {})).get("streams") or ())
    if (met := [str(stream.name) for stream in streams() if stream.name in there]) and not only_missing:
        raise NotRestored(
            f"the bus has {', '.join(met)} already: expected a server without streams. Nothing replaces what is "
            "stored; --only-missing leaves these as they are and restores the others"
        )
    by_name = {kept.stream: kept for kept in manifest.streams}
    wanted = [by_name[name] for name in names() if name not in there]
    for kept in wanted:
        await _restore(client, kept, folder / kept.stream, replicas)
    return wanted


def read(folder: Path) -> Manifest:
    """The backup's manifest, after a look at every file it names. Raises `NotRestored`."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as exc:
        raise NotRestored(
            f"{folder / MANIFEST} cannot be read ({exc.strerror}): expected a folder that a backup finished"
        ) from exc
    except ValidationError as exc:
        wrong = exc.errors()[0]
        field = ".".join(str(part) for part in wrong["loc"]) or "the whole"
        raise NotRestored(f"{folder / MANIFEST}: {field}: {wrong['msg']}: expected what a backup wrote") from exc
    if manifest.format != FORMAT:
        raise NotRestored(f"{folder / MANIFEST}: format {manifest.format}: expected {FORMAT}; use the release it is of")
    held = [kept.stream for kept in manifest.streams]
    if missing := [name for name in names() if name not in held]:
        raise NotRestored(
            f"{folder}: no stream {', '.join(missing)}: expected {', '.join(names())}. A backup of another release is "
            "restored by that release, and then upgraded"
        )
    if foreign := [name for name in held if name not in names()]:
        raise NotRestored(f"{folder}: stream {', '.join(foreign)} is none of ours: expected {', '.join(names())}")
    for kept in manifest.streams:
        _look(kept, folder / kept.stream)
    return manifest


def _look(kept: Kept, folder: Path) -> None:
    archive = _archive(folder)
    if archive is None or not (folder / META).exists():
        raise NotRestored(f"stream {kept.stream}: expected {META} and {ARCHIVES[0]} in {folder}")
    if (size := archive.stat().st_size) != kept.size:
        raise NotRestored(f"stream {kept.stream}: {archive} has {size} bytes: expected {kept.size}; it is damaged")
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != kept.digest:
            raise NotRestored(f"stream {kept.stream}: {archive} is damaged: expected the SHA-256 {kept.digest}")
    try:
        named = json.loads((folder / META).read_bytes())["config"]["name"]
    except (ValueError, LookupError, TypeError) as exc:
        raise NotRestored(f"stream {kept.stream}: {folder / META} is damaged: expected config.name") from exc
    if named != kept.stream:
        raise NotRestored(f"stream {kept.stream}: {folder / META} is of {named}: expected {kept.stream}")


def _archive(folder: Path) -> Path | None:
    return next((folder / name for name in ARCHIVES if (folder / name).exists()), None)


async def _keep(client: Client, name: str, folder: Path) -> Kept:
    _private(folder)
    inbox = client.new_inbox()
    chunks = await client.subscribe(inbox)
    try:
        meta = await _ask(client, f"STREAM.SNAPSHOT.{name}", {"deliver_subject": inbox, "chunk_size": CHUNK})
        (folder / META).write_text(json.dumps({"config": meta["config"], "state": meta["state"]}, indent=2) + "\n")
        digest, size = hashlib.sha256(), 0
        with (folder / ARCHIVES[_is_old(client)]).open("wb") as file:
            async with aclosing(_chunks(client, name, chunks)) as arriving:
                async for chunk in arriving:
                    await asyncio.to_thread(file.write, chunk)
                    digest.update(chunk)
                    size += len(chunk)
    finally:
        await chunks.unsubscribe()
    state = meta["state"]
    return Kept(
        stream=name,
        messages=state["messages"],
        first=state["first_seq"],
        last=state["last_seq"],
        size=size,
        digest=digest.hexdigest(),
    )


async def _chunks(client: Client, name: str, chunks: Any) -> AsyncGenerator[bytes, None]:
    """The archive as it comes; each chunk is acknowledged when it is stored. The end is an empty message, which says
    204, or what went wrong.
    """
    while True:
        try:
            message = await chunks.next_msg(timeout=PATIENCE)
        except nats.errors.TimeoutError as exc:
            raise BusError(f"stream {name}: its snapshot did not go on for {PATIENCE:g} s") from exc
        if not message.data:
            status = (message.headers or {}).get("Status", "204")
            if status != "204":
                said = (message.headers or {}).get("Description", "")
                raise BusError(f"stream {name}: the server ended its snapshot: {status} {said}".strip())
            return
        yield message.data
        if message.reply:
            await client.publish(message.reply)


async def _restore(client: Client, kept: Kept, folder: Path, replicas: int | None) -> None:
    meta = json.loads((folder / META).read_bytes())
    if replicas is not None:
        meta["config"]["num_replicas"] = replicas
    archive = _archive(folder)
    if archive is None:
        raise NotRestored(f"stream {kept.stream}: its archive went away")
    target = (await _ask(client, f"STREAM.RESTORE.{kept.stream}", meta))["deliver_subject"]
    with archive.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            await _answered(client, target, chunk)
    made = await _answered(client, target, b"")
    last = made["state"]["last_seq"]
    if last < kept.last:
        raise BusError(f"stream {kept.stream}: restored up to {last}, expected {kept.last}")
    await _step_back(client, kept)


async def _step_back(client: Client, kept: Kept) -> None:
    """A consumer that was handed a message while its stream was being read is ahead of the backup: it would pass over
    whatever gets that number next.
    """
    found = await _ask(client, f"CONSUMER.LIST.{kept.stream}", {})
    for consumer in found.get("consumers") or ():
        if consumer["delivered"]["stream_seq"] > kept.last:
            start = min(consumer["ack_floor"]["stream_seq"], kept.last) + 1
            await _ask(client, f"CONSUMER.RESET.{kept.stream}.{consumer['name']}", {"seq": start})


async def _ask(client: Client, api: str, body: dict[str, Any]) -> dict[str, Any]:
    return await _answered(client, f"$JS.API.{api}", json.dumps(body).encode())


async def _answered(client: Client, subject: str, body: bytes) -> dict[str, Any]:
    """The answer as a document, {} when it is empty. Raises `BusError` with what the server said."""
    try:
        message = await client.request(subject, body, timeout=PATIENCE)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError) as exc:
        raise BusError(f"no answer to {subject}") from exc
    document: dict[str, Any] = json.loads(message.data) if message.data else {}
    if error := document.get("error"):
        hint = ": python -m catalyst.events apply makes it" if error.get("err_code") == NO_STREAM else ""
        raise BusError(f"{subject}: {error.get('description', error)}{hint}")
    return document


def _is_old(client: Client) -> bool:
    version = client.connected_server_version
    return (version.major, version.minor) < (2, 15)


def _new(folder: Path) -> None:
    _private(folder)
    if any(folder.iterdir()):
        raise BusError(f"{folder} is not empty: expected a new folder for each backup")


def _private(folder: Path) -> None:
    """Facts are the forge's: nobody else reads them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
