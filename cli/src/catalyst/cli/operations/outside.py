"""What the world sees of an installation: its zone's names, the certificate there, the forge's App."""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from catalyst.cli.core.doctor.outside import AppRights, Certified, Resolved
from catalyst.cli.core.hidden import Hidden
from catalyst.forge.client import GitHubClient
from catalyst.forge.errors import ForgeError
from catalyst.forge.settings import ForgeSettings
from catalyst.model.clock import utc_now

PATIENCE: Final = 5.0
"""Seconds for each question."""


def nobodys_host(zone: str) -> str:
    """A name under the zone that nobody has, so that only a wildcard answers for it."""
    return f"doctor-{secrets.token_hex(4)}.{zone}"


async def resolved(host: str) -> Resolved:
    try:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Resolved(host, error=f"no answer within {PATIENCE:g} s")
    except OSError as exc:
        return Resolved(host, error=exc.strerror or str(exc))
    except UnicodeError:
        return Resolved(host, error="it is no DNS name: expected labels of at most 63 characters between single dots")
    return Resolved(host, tuple(dict.fromkeys(str(address[0]) for *_, address in found)))


async def certified(host: str, address: tuple[str, int], authority: Path | None) -> Certified | Hidden:
    """The certificate that is shown for `host` at `address`. Nothing is asked over the connection."""
    at = f"{address[0]}:{address[1]}"
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as exc:
        return Hidden(f"--edge-ca {authority} cannot be used: {exc}", "a file with certificates in PEM")
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as exc:
        return Certified(host, at, verified=False, error=exc.verify_message)
    except TimeoutError:
        return Certified(host, at, answered=False, error=f"no answer within {PATIENCE:g} s")
    except OSError as exc:  # an ssl.SSLError, too: whoever answers speaks no TLS, or not for this host
        return Certified(host, at, answered=False, error=exc.strerror or str(exc))
    try:
        shown: dict[str, Any] = writer.get_extra_info("peercert") or {}
    finally:
        writer.close()
    ends = shown.get("notAfter")
    return Certified(host, at, ends=datetime.fromtimestamp(ssl.cert_time_to_seconds(str(ends)), UTC) if ends else None)


async def app_rights(settings: Mapping[str, Any]) -> AppRights | Hidden:
    """`settings`: fields of `ForgeSettings`; the App's private key is only ever read from a file of whoever asks."""
    if not settings.get("github_private_key_file"):
        return Hidden("the App was not asked", "its private key: --github-key keys/app.pem")
    if not settings.get("github_app_id"):
        return Hidden("the App was not asked", "its number: --github-app-id, or notifier's settings")
    try:
        async with GitHubClient.of(ForgeSettings.model_validate(settings), clock=utc_now) as github:
            async with asyncio.timeout(2 * PATIENCE):
                about = await github.about_app()
    except ValidationError as exc:
        return Hidden(
            f"the App was not asked: {exc.errors(include_url=False)[0]['msg']}", "--github-app-id, --github-url"
        )
    except ValueError as exc:
        return Hidden(f"the App was not asked: {exc}", "its private key as GitHub gave it: --github-key")
    except ForgeError as exc:
        return Hidden(f"the App was not asked: {exc.asked}: {exc.reason}", exc.remedy)
    except TimeoutError:
        return Hidden(f"the forge did not answer within {2 * PATIENCE:g} s", "a way to the forge, from here")
    if about is None:
        return Hidden("a bare token has no App's rights", "--github-app-id and --github-key")
    return AppRights(about.slug, about.permissions, frozenset(about.events), about.installations)
