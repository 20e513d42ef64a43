"""A resource that this version cannot read: left as it is, and said so in its status."""

from datetime import datetime

from pydantic import ValidationError

from catalyst.env_controller.core.conditions import with_condition
from catalyst.model.manifest import Manifest
from catalyst.model.resource import Condition


def status(manifest: Manifest, error: ValueError, now: datetime) -> Manifest:
    """The status with `Accepted=False` and each field that is wrong."""
    old = tuple(Condition.model_validate(item) for item in manifest.get("status", {}).get("conditions", ()))
    generation = manifest["metadata"].get("generation", 0)
    conditions = with_condition(old, "Accepted", False, "InvalidSpec", _sentence(error), generation=generation, now=now)
    dumped = [condition.model_dump(mode="json", by_alias=True, exclude_none=True) for condition in conditions]
    return {**manifest.get("status", {}), "conditions": dumped}


def _sentence(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"{error}"[:1024]
    fields = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))
    return f"This version cannot read: {'; '.join(fields)}. Correct these fields."[:1024]
