"""A double of Cloudflare's API: see `double.py`."""

from doubles.cloudflare.double import CloudflareDouble
from doubles.cloudflare.state import State

__all__ = ["CloudflareDouble", "State"]
