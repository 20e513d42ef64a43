"""The monitoring page of a nats-server: what nobody on the bus is told."""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from catalyst.cli.core.hidden import Hidden

PATIENCE: Final = 5.0
"""Seconds for each question."""
HOW: Final = "kubectl port-forward --namespace catalyst-system pod/nats-0 8222, and --monitoring http://127.0.0.1:8222"


async def monitored(url: str | None) -> Mapping[str, Any] | Hidden:
    """The page `varz`: the server's settings."""
    if url is None:
        return Hidden("the server's settings are told by its monitoring page alone", HOW)
    return await _page(url, "varz")


async def healthz(url: str) -> Mapping[str, Any] | Hidden:
    """The page `healthz`: `status`, and `error` when the server is not well. It alone tells of a full disk."""
    return await _page(url, "healthz", unwell=True)


async def _page(url: str, name: str, *, unwell: bool = False) -> Mapping[str, Any] | Hidden:
    at = f"{url.rstrip('/')}/{name}"
    try:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(at) as answer:
            if not (unwell and answer.status == 503):
                answer.raise_for_status()
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
        return Hidden(f"{url} does not answer: {exc or type(exc).__name__}", HOW)
    return found if isinstance(found, dict) else Hidden(f"{at} is no page of a nats-server", HOW)
