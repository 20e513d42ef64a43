"""Commands that look into the cluster, with the bus beside it where they need it; their exit codes are `running`'s.

Which cluster: `--kubeconfig` and `--kube-context`, else `KUBECONFIG`, else `~/.kube/config`, else the pod's own
service account.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from catalyst.cli.context import Options, context
from catalyst.cli.operations.explain import Asked, BadEvent
from catalyst.cli.operations.explain import explain as explained
from catalyst.cli.running import AWAY, OK, REFUSED, UNWELL, USAGE, Usage, coded, failed, on_the_bus
from catalyst.cli.show import Printer
from catalyst.events.bus import Bus
from catalyst.kube.auth import BadKubeSettings
from catalyst.kube.client import Kube
from catalyst.kube.errors import KubeError, Unavailable
from catalyst.kube.settings import KubeSettings
from catalyst.model.clock import utc_now

FIELD_MANAGER: Final = "catalyst-cli"
ClusterCommand = Callable[[Kube, Bus | None, Printer], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class KubeOptions:
    """What was given on the command line."""

    kubeconfig: Path | None = None
    context: str | None = None


def run(command: ClusterCommand, options: Options, cluster: KubeOptions, output: str, *, with_bus: bool) -> int:
    """Runs a command in the cluster, printing as table, json or yaml; its exit code."""
    try:
        return coded(lambda: asyncio.run(_run(command, options, cluster, Printer(output), with_bus=with_bus)))
    except (BadKubeSettings, BadEvent) as exc:
        return failed(USAGE, str(exc))
    except Unavailable as exc:
        return failed(AWAY, f"the API server: {exc.message}")
    except KubeError as exc:
        return failed(REFUSED, f"the API server refuses: {exc.message}")


async def _run(
    command: ClusterCommand, options: Options, cluster: KubeOptions, printer: Printer, *, with_bus: bool
) -> int:
    settings = kube_settings(cluster, os.environ)
    async with await Kube.connect(settings, field_manager=FIELD_MANAGER) as kube:
        if not with_bus:
            return await command(kube, None, printer)
        return await on_the_bus(lambda bus, told: command(kube, bus, told), context(options, os.environ), printer)


def kube_settings(given: KubeOptions, environ: Mapping[str, str]) -> KubeSettings:
    """Of several files in `KUBECONFIG` the first that is there."""
    if given.kubeconfig:
        return KubeSettings(given.kubeconfig, given.context)
    named = [Path(text) for text in environ.get("KUBECONFIG", "").split(os.pathsep) if text]
    usual = [Path(environ["HOME"]) / ".kube" / "config"] if environ.get("HOME") else []
    there = [path for path in named or usual if path.is_file()]
    return KubeSettings(there[0] if there else (named[0] if named else None), given.context)


def explain(asked: Asked) -> ClusterCommand:
    async def command(kube: Kube, bus: Bus | None, printer: Printer) -> int:
        found = await explained(kube, bus, asked, utc_now())
        printer.explanation(found)
        return {"yes": OK, "unknown": REFUSED}.get(found.answer, UNWELL)

    return command


def project_named(text: str) -> tuple[str, str]:
    """`acme/shop` → team and project. Raises `Usage`."""
    team, slash, project = text.partition("/")
    if not slash or not team or not project or "/" in project:
        raise Usage(f"{text[:200]!r}: expected team/project, such as acme/shop")
    return team, project


def settings_given(texts: list[str]) -> dict[str, str]:
    """`CATALYST_ZONE=preview.example.org`. Raises `Usage`."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.startswith("CATALYST_"):
            raise Usage(f"--setting {text[:200]!r}: expected a variable of env-controller, such as CATALYST_ZONE=…")
        found[name] = value
    return found
