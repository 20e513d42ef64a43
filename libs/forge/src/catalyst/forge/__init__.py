"""Forges behind one protocol: is this webhook theirs, and what does it say in our words? What may be asked of them?

Webhooks are bytes and headers in, values out. A forge's API is asked through `ForgeClient`; nothing here publishes.
`GitHubClient` is not imported here: who only verifies webhooks needs no HTTP client.
"""

from catalyst.forge.errors import (
    BadPayload,
    BadSignature,
    ForgeError,
    ForgeUnavailable,
    NotPermitted,
    NotThere,
    RateLimited,
    Refused,
    Unauthorized,
)
from catalyst.forge.github import GitHub
from catalyst.forge.protocol import (
    Delivery,
    Forge,
    ForgeClient,
    ForgeReader,
    ForgeSources,
    ForgeWriter,
    Ignored,
    Ping,
    Token,
    Translation,
    TreeEntry,
)
from catalyst.forge.settings import ForgeSettings

__all__ = [
    "BadPayload",
    "BadSignature",
    "Delivery",
    "Forge",
    "ForgeClient",
    "ForgeError",
    "ForgeReader",
    "ForgeSettings",
    "ForgeSources",
    "ForgeUnavailable",
    "ForgeWriter",
    "GitHub",
    "Ignored",
    "NotPermitted",
    "NotThere",
    "Ping",
    "RateLimited",
    "Refused",
    "Token",
    "Translation",
    "TreeEntry",
    "Unauthorized",
]
