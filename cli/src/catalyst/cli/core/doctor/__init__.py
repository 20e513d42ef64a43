"""An installation judged by what was found of it: each check a pure function of facts, with its remedy.

```
ok        as it should be
warning   it works, and somebody should look
failed    something does not work, or will not when it matters
unknown   it was not looked at, or may not be; `remedy` says what that needs
```

| Check | Facts |
|---|---|
| `crds` | the resource types, beside those of this release |
| `services` | every service has its pods, and all are of one version |
| `storage-class`, `claims` | one default class; every claim of Catalyst's own namespace is bound |
| `user-namespaces` | kubelet, runtime and kernel of each node; with `--probe` a pod that has one |
| `network-policy` | with `--probe`: a connection, and the same one under a policy that forbids it |
| `dns`, `tls` | a name under the zone that nobody has: its address; the certificate there |
| `app-permissions`, `app-events` | of the forge's App, beside what Catalyst asks for |
| `bus`, `bus-sync`, `streams`, `consumers`, `bus-copies` | what the server says, beside the topology |
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from catalyst.cli.core.hidden import Hidden

Status = Literal["ok", "warning", "failed", "unknown"]
NOT_PROBED: Final = Hidden("nobody asked for a probe", "run it with --probe: two pods in a namespace of its own")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `remedy`: what to do about it, or what knowing it needs; empty when it is ok."""

    check: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        return any(each.status == "failed" for each in self.findings)


def hidden(check: str, why: Hidden) -> Finding:
    return Finding(check, "unknown", why.why, why.needs)


def several(names: Iterable[str], most: int = 5) -> str:
    """`a, b and 3 more`."""
    found = list(names)
    rest = len(found) - most
    return f"{', '.join(found[:most])} and {rest} more" if rest > 0 else ", ".join(found)
