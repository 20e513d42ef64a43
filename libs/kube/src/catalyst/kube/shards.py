"""Which shard a key belongs to, so that work can be spread over several leases (one Elector a shard)."""

from __future__ import annotations

from hashlib import sha256


def shard_of(key: str, shards: int) -> int:
    """0 … shards-1, the same in every process, version and Python: the first 8 bytes of SHA-256, modulo `shards`.

    Changing `shards` moves keys between owners, so all replicas must stop before they start with another number. Raises
    ValueError when `shards` is below 1.
    """
    if shards < 1:
        raise ValueError(f"shards {shards}: expected at least 1")
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") % shards


def lease_name(base: str, shard: int, shards: int) -> str:
    """The Lease of a shard: `env-controller` alone, `env-controller-2-of-4` among four. The count is part of the name.

    So two replicas configured with different counts hold different leases and are seen, instead of silently
    overlapping.
    """
    return base if shards == 1 else f"{base}-{shard}-of-{shards}"
