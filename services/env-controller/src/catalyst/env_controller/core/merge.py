"""JSON merge patches (RFC 7386): what turns one object into another, only what differs; and what comes of one."""

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


def merged(old: Manifest, patch: Manifest) -> Manifest:
    """What the API server makes of `old` by this patch."""
    found = dict(old)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            before = found.get(key)
            found[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            found[key] = value
    return found
