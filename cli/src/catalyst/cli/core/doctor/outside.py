"""Names, certificates and the forge's App, judged. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from catalyst.cli.core.doctor import Finding, hidden, several
from catalyst.cli.core.hidden import Hidden

SOON: Final = 14
"""Days before its end at which a certificate should have been renewed."""
_LEVELS: Final = ("", "read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name under the zone that nobody has. `error` empty: it has `addresses`."""

    host: str
    addresses: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Certified:
    """The certificate that was shown for `host`. `verified` False: why, in `error`; `answered` False: nobody did."""

    host: str
    at: str
    answered: bool = True
    verified: bool = True
    ends: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class AppRights:
    """What the App may do and is told of; `accepted`: by account, what each installation has accepted."""

    slug: str
    permissions: Mapping[str, str]
    events: frozenset[str]
    accepted: Mapping[str, Mapping[str, str]]


def dns(found: Resolved | Hidden) -> Finding:
    if isinstance(found, Hidden):
        return hidden("dns", found)
    zone = found.host.partition(".")[2]
    if found.addresses:
        return Finding("dns", "ok", f"*.{zone} is at {several(found.addresses, 3)}")
    if zone.endswith("localhost"):
        return Finding("dns", "ok", f"*.{zone} is this machine's own, as browsers have it")
    how = f"a wildcard record *.{zone} that leads to the edge, or to the tunnel: dns-proxy writes it at Cloudflare"
    return Finding("dns", "failed", f"{found.host} has no address: {found.error}", how)


def tls(found: Certified | Hidden, now: datetime) -> Finding:
    if isinstance(found, Hidden):
        return hidden("tls", found)
    zone = found.host.partition(".")[2]
    if not found.answered:
        how = "look at the edge's pods and its Service (or at cloudflared); --edge HOST:PORT asks it at another address"
        return Finding("tls", "failed", f"nobody answers for {found.host} at {found.at}: {found.error}", how)
    if not found.verified:
        how = (
            f"a certificate for *.{zone} (Cloudflare's free one covers one level only); --edge-ca FILE trusts your own"
        )
        return Finding("tls", "failed", f"{found.host} at {found.at}: {found.error}", how)
    days = (found.ends - now).days if found.ends else None
    if days is not None and days < SOON:
        return Finding("tls", "warning", f"the certificate of *.{zone} ends in {days} days", "have it renewed")
    until = f", until {found.ends:%Y-%m-%d}" if found.ends else ""
    return Finding("tls", "ok", f"*.{zone} at {found.at} is verified{until}")


def app(found: AppRights | Hidden, permissions: Mapping[str, str], events: frozenset[str]) -> list[Finding]:
    """`permissions`, `events`: what Catalyst asks for."""
    if isinstance(found, Hidden):
        return [hidden("app-permissions", found), hidden("app-events", found)]
    return [_permissions(found, permissions), _events(found, events)]


def _permissions(found: AppRights, wanted: Mapping[str, str]) -> Finding:
    check, where = (
        "app-permissions",
        "in the App's settings (Permissions & events), then accept it where it is installed",
    )
    if lacks := _lacking(found.permissions, wanted):
        return Finding(check, "failed", f"App {found.slug} lacks {several(lacks)}", f"give it that {where}")
    late = {account: lacks for account, given in found.accepted.items() if (lacks := _lacking(given, wanted))}
    if late:
        told = several(f"{account}: {', '.join(lacks)}" for account, lacks in late.items())
        return Finding(
            check, "failed", f"not accepted yet: {told}", "an owner of the account accepts the request there"
        )
    if not found.accepted:
        return Finding(check, "warning", f"App {found.slug} is installed nowhere", "install it: App → Install App")
    if more := _lacking(wanted, found.permissions):
        return Finding(
            check, "warning", f"App {found.slug} may more than is needed: {several(more)}", f"take it back {where}"
        )
    return Finding(check, "ok", f"App {found.slug} has exactly what is needed, at {several(found.accepted)}")


def _lacking(has: Mapping[str, str], needs: Mapping[str, str]) -> list[str]:
    return sorted(f"{name}: {level}" for name, level in needs.items() if _rank(has.get(name, "")) < _rank(level))


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else 0


def _events(found: AppRights, wanted: frozenset[str]) -> Finding:
    check, where = "app-events", "in the App's settings (Permissions & events)"
    if lacks := sorted(wanted - found.events):
        return Finding(
            check, "failed", f"App {found.slug} is not told of {several(lacks)}", f"subscribe to them {where}"
        )
    if more := sorted(found.events - wanted):
        how = f"they are ignored; unsubscribe {where}"
        return Finding(check, "warning", f"App {found.slug} is told of more than is read: {several(more)}", how)
    return Finding(check, "ok", f"App {found.slug} is told of {several(sorted(wanted))}")
