"""Makes the Cloudflare tunnel once, by hand, and writes the token that cloudflared runs with.

    python -m catalyst.dns_proxy.tunnel --account <id> --name catalyst-<owner> --api-token-file <file> --out <file>

dns-proxy itself never makes a tunnel: another one would have another token, and cloudflared would stand outside.
"""

import argparse
import asyncio
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import cloudflare

from catalyst.dns_proxy.effects.cloudflare import client
from catalyst.service.settings import secrets_in

API = "https://api.cloudflare.com/client/v4"


async def made(url: str, api_token_file: Path, account: str, name: str) -> tuple[str, str]:
    """(id, token for cloudflared) of the tunnel of that name, made if there is none. Raises ValueError,
    `cloudflare.CloudflareError`.
    """
    async with client(url, secrets_in(api_token_file)[0]) as api:
        tunnels = api.zero_trust.tunnels.cloudflared
        found = [one async for one in tunnels.list(account_id=account, name=name, is_deleted=False) if one.name == name]
        if found:
            tunnel_id = str(found[0].id)
        else:
            secret = b64encode(secrets.token_bytes(32)).decode()
            created = await tunnels.create(account_id=account, name=name, config_src="cloudflare", tunnel_secret=secret)
            tunnel_id = str(created.id if created else "")
        return tunnel_id, str(await tunnels.token.get(tunnel_id, account_id=account))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes the Cloudflare tunnel and writes cloudflared's token.")
    parser.add_argument("--account", required=True, help="id of the Cloudflare account")
    parser.add_argument("--name", required=True, help="name of the tunnel, such as catalyst-production")
    parser.add_argument("--api-token-file", type=Path, required=True, help="file with an API token: Tunnel Edit")
    parser.add_argument("--out", type=Path, required=True, help="file for cloudflared's token; it must not exist yet")
    parser.add_argument("--url", default=os.environ.get("CATALYST_CLOUDFLARE_URL", API), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    try:
        tunnel_id, token = asyncio.run(made(options.url, options.api_token_file, options.account, options.name))
        with os.fdopen(os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
    except cloudflare.PermissionDeniedError as exc:
        said = ", ".join(str(error.message) for error in exc.errors) or "no reason given"
        sys.stderr.write(
            f"tunnel: {options.api_token_file}: Cloudflare refuses this token (403, {said}); expected one with "
            f"Account, Cloudflare Tunnel, Edit of account {options.account}\n"
        )
        return 1
    except (ValueError, OSError, cloudflare.CloudflareError) as exc:
        sys.stderr.write(f"tunnel: {exc}\n")
        return 1
    sys.stdout.write(f"tunnel {options.name} is {tunnel_id}; its token is in {options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
