"""The public names: how the world finds the edge."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from catalyst.dns_proxy.core.answers import Seen
from catalyst.dns_proxy.core.routes import Entry
from catalyst.model.snapshot import Snapshot


class NamesError(Exception):
    """The public names could not be looked at or changed; the text says what and why."""


class PublicNames(Protocol):
    """How the world finds the edge: Cloudflare, or nothing to do (`NoNames`)."""

    async def reconcile(self, table: Iterable[Entry], snapshots: Sequence[Snapshot], fence: Callable[[], int]) -> None:
        """Makes names for the table, and removes ours that nobody wants. Raises `NamesError`, `LostLock`."""

    def seen(self, host: str) -> Seen | None:
        """What the last look said about a host; None: the edge alone decides."""

    def refused(self, host: str) -> str | None:
        """Why a host can have no name, if so."""


class NoNames:
    """Names resolve by themselves: the local zones, or a wildcard record that people made."""

    async def reconcile(self, table: Iterable[Entry], snapshots: Sequence[Snapshot], fence: Callable[[], int]) -> None:
        """Nothing to do."""

    def seen(self, host: str) -> Seen | None:
        """The edge alone decides."""
        return None

    def refused(self, host: str) -> str | None:
        """Never."""
        return None
