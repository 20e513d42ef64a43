"""The double as a process: `python -m doubles.cloudflare --port 8443 --zone-name example.org --tunnel catalyst-demo`.

When it answers it prints one line of JSON: `url`, `account`, `zone`, `tokenFile` (readable by the owner only).
"""

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from doubles.cloudflare.double import CloudflareDouble
from doubles.cloudflare.state import State


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state = State(zone_name=options.zone_name)
    if options.tunnel:
        state.create_tunnel({"name": options.tunnel, "config_src": "cloudflare"})
    async with CloudflareDouble(state, host=options.host, port=options.port) as double:
        with os.fdopen(os.open(options.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(double.token)
        told = {
            "url": double.url,
            "account": state.account,
            "zone": state.zone,
            "tokenFile": str(options.token_file),
        }
        print(json.dumps(told), flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A double of Cloudflare's API: tunnels and DNS.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--zone-name", default="example.org")
    parser.add_argument("--tunnel", default="", help="name of a tunnel that is there from the start")
    parser.add_argument("--token-file", type=Path, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
