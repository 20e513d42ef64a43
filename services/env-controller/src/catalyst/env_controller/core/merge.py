"""The JSON merge patch (RFC 7386) that turns one object into another: only what differs is written."""

from typing import Any

from catalyst.model.manifest import Manifest


def merge_patch(old: Manifest, new: Manifest) -> Manifest:
    """Empty when nothing differs. Lists are replaced whole; a key that is gone becomes null."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if inner := merge_patch(old[key], value):
                patch[key] = inner
        elif value != old[key]:
            patch[key] = value
    return patch
