"""The way from this machine to the cluster: listens on loopback addresses and hands every connection on.

    python -m catalyst.local.demo.forward .run/demo/way.json 127.0.0.1:8443 127.0.0.1:8080 …

The file says where to, by the address that is listened on: {"127.0.0.1:8443": "10.96.1.2:443"}. It is read for each
connection, so a cluster that is made anew needs no new process. Without an entry the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PIECE: Final = 64 * 1024
PATIENCE: Final = 5.0


async def serve(way: Path, addresses: Sequence[str], stop: asyncio.Event) -> None:
    """Until `stop`. Raises OSError when an address cannot be had."""
    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            host, port = _split(address)

            async def hand_on(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str = address
            ) -> None:
                await _hand_on(way, address, reader, writer)

            try:
                server = await asyncio.start_server(hand_on, host, port)
            except OSError as error:
                raise OSError(
                    f"{address} cannot be listened on ({error.strerror}): something else has that port. End it, and "
                    "run `make demo` again."
                ) from error
            await stack.enter_async_context(server)
        await stop.wait()


async def _hand_on(way: Path, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        target = _target(way, address)
        if target is None:
            return
        async with asyncio.timeout(PATIENCE):
            there_reader, there_writer = await asyncio.open_connection(*_split(target))
        try:
            await asyncio.gather(_pour(reader, there_writer), _pour(there_reader, writer))
        finally:
            there_writer.close()
    except (OSError, TimeoutError) as error:
        print(f"{address}: {error!r}", file=sys.stderr, flush=True)
    finally:
        writer.close()


def _target(way: Path, address: str) -> str | None:
    target: str | None = json.loads(way.read_text()).get(address) if way.exists() else None
    return target


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until one side ends; the other may still talk."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def _main(way: Path, addresses: Sequence[str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(way, addresses, stop)


if __name__ == "__main__":
    try:
        asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
    except OSError as error:
        sys.exit(str(error))
