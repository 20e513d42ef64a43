"""Forges behind one protocol: is this webhook theirs, and what does it say in our words?

It publishes nothing and asks nobody: bytes and headers in, values out.
"""

from catalyst.forge.errors import BadPayload, BadSignature
from catalyst.forge.github import GitHub
from catalyst.forge.protocol import Delivery, Forge, Ignored, Ping, Translation

__all__ = ["BadPayload", "BadSignature", "Delivery", "Forge", "GitHub", "Ignored", "Ping", "Translation"]
