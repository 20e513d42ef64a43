"""Cloudflare, by its official SDK: looks, plans (core/cloudflare.py), acts, looks again.

A failure leaves everything as it was found to be last, as unclear: nobody is told that a name is there, or gone, before
Cloudflare itself said so. Nothing is retried here; the reconciler looks again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import cloudflare
import httpx
from cloudflare import AsyncCloudflare
from pydantic import SecretStr

from catalyst.dns_proxy.core.answers import Seen
from catalyst.dns_proxy.core.cloudflare import Record, Tunnel, ingress, record_plan, uid_in
from catalyst.dns_proxy.core.routes import Entry
from catalyst.dns_proxy.effects.names import NamesError
from catalyst.model.snapshot import Snapshot

PATIENCE: Final = 10.0
"""Seconds for one request."""
PAGE: Final = 100


def client(url: str, token: SecretStr, *, strict: bool = False) -> AsyncCloudflare:
    """The SDK; it retries nothing by itself. `strict`: answers must be as its models say, which tests want; the cloud
    may add to them at any time.
    """
    return AsyncCloudflare(
        api_token=token.get_secret_value(),
        base_url=url,
        timeout=PATIENCE,
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=True),
        _strict_response_validation=strict,
    )


class CloudflareNames:
    """One tunnel, one rule, and records; see core/cloudflare.py for what is ours."""

    def __init__(self, api: AsyncCloudflare, tunnel: Tunnel) -> None:
        self._api = api
        self._tunnel = tunnel
        self._present: frozenset[str] | None = None  # names of our records after the last look; None: not known
        self._taken: dict[str, str] = {}

    async def reconcile(self, table: Iterable[Entry], snapshots: Sequence[Snapshot], fence: Callable[[], int]) -> None:
        """Raises `NamesError`, `LostLock`."""
        self._present = None
        try:
            tunnel_id = await self._tunnel_id()
            await self._configure(tunnel_id, fence)
            await self._settle_records(table, snapshots, f"{tunnel_id}.cfargotunnel.com", fence)
        except cloudflare.APIStatusError as exc:
            raise NamesError(f"Cloudflare answered {exc.status_code}: {_reasons(exc)}") from exc
        except cloudflare.CloudflareError as exc:
            raise NamesError(f"Cloudflare: {exc}") from exc

    def seen(self, host: str) -> Seen | None:
        """With a wildcard the edge alone decides, as soon as the wildcard is there."""
        if self._present is None:
            return "unclear"
        if self._tunnel.wildcard:
            return None if self._tunnel.hostname in self._present else "unclear"
        return "served" if host in self._present else "absent"

    def refused(self, host: str) -> str | None:
        return self._taken.get(self._tunnel.hostname if self._tunnel.wildcard else host)

    async def _tunnel_id(self) -> str:
        name, account = self._tunnel.name, self._tunnel.account
        async for found in self._api.zero_trust.tunnels.cloudflared.list(
            account_id=account, name=name, is_deleted=False
        ):
            if found.name == name and found.id:
                return str(found.id)
        raise NamesError(
            f"tunnel {name} does not exist in account {account}; make it with `python -m catalyst.dns_proxy.tunnel` "
            "and give its token to cloudflared"
        )

    async def _configure(self, tunnel_id: str, fence: Callable[[], int]) -> None:
        configurations, account = self._api.zero_trust.tunnels.cloudflared.configurations, self._tunnel.account
        # As it is, not as the SDK's models see it: what they do not know must survive the whole-document PUT.
        answer = await configurations.with_raw_response.get(tunnel_id, account_id=account)
        document = cast("dict[str, Any]", await answer.json())
        config: dict[str, Any] = document["result"].get("config") or {}
        rules = cast("list[dict[str, Any]]", config.get("ingress") or [])
        wanted = ingress(rules, self._tunnel)
        if wanted != rules:
            fence()
            whole = cast("Any", {**config, "ingress": wanted})
            await configurations.update(tunnel_id, account_id=account, config=whole)

    async def _settle_records(
        self, table: Iterable[Entry], snapshots: Sequence[Snapshot], target: str, fence: Callable[[], int]
    ) -> None:
        tunnel, records = self._tunnel, self._api.dns.records
        found = await self._records()
        plan = record_plan(found, table, tunnel, target, snapshots)
        for record in plan.delete:
            fence()
            await records.delete(record.id, zone_id=tunnel.zone_id)
        for record in plan.update:
            fence()
            await records.edit(record.id, zone_id=tunnel.zone_id, **_fields(record))
        for record in plan.create:
            fence()
            await records.create(zone_id=tunnel.zone_id, **_fields(record))
        if plan.delete or plan.update or plan.create:
            found = await self._records()
        self._taken = dict(plan.taken)
        self._present = frozenset(
            record.name
            for record in found
            if record.content == target and uid_in(record.comment, tunnel.owner) is not None
        )

    async def _records(self) -> list[Record]:
        """All records under our zone's name, whoever made them."""
        pages = self._api.dns.records.list(
            zone_id=self._tunnel.zone_id, name=cast("Any", {"endswith": f".{self._tunnel.zone}"}), per_page=PAGE
        )
        return [_record(found) async for found in pages]


def _fields(record: Record) -> dict[str, Any]:
    return {
        "type": "CNAME",
        "name": record.name,
        "content": record.content,
        "proxied": record.proxied,
        "ttl": 1,
        "comment": record.comment,
    }


def _record(found: Any) -> Record:
    return Record(
        name=found.name,
        content=str(found.content or ""),
        comment=found.comment or "",
        type=found.type,
        proxied=bool(found.proxied),
        id=found.id,
    )


def _reasons(error: cloudflare.APIStatusError) -> str:
    """Cloudflare's own words, at most a few hundred characters; the request and its token are not repeated."""
    errors = [f"{one.code} {one.message}" for one in error.errors] if error.errors else [error.response.reason_phrase]
    return "; ".join(errors)[:500]
