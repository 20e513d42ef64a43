"""Whether a message may be handled once more without a second effect. Pure.

```
facts of forges       always: they are folded whole, and one that is there twice counts once
environment.changed   only the newest: STATE keeps the last message, and an older one would replace it
route.changed         only the newest of its host: the last answer counts
build.*               only the newest of its component: consumers judge by key and attempt, and so do we before asking
```
"""

from catalyst.events.catalogue import (
    Build,
    BuildCleaned,
    Data,
    EnvironmentChanged,
    EnvironmentData,
    RouteChanged,
    ScmData,
)


def is_order_free(data: Data) -> bool:
    """Whether it may come again after whatever else."""
    return isinstance(data, ScmData)


def is_superseded(old: Data, new: Data) -> bool:
    """Whether `new`, which stands later on the same subject, makes `old` obsolete."""
    match old, new:
        case EnvironmentChanged(), EnvironmentChanged():
            return True
        case RouteChanged(), RouteChanged():
            return old.host == new.host
        case Build(), Build():
            return old.component == new.component
        case BuildCleaned(), BuildCleaned():
            return True
    return not isinstance(old, ScmData | EnvironmentData)
