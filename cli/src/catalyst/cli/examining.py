"""`catalyst doctor`: cluster and bus as far as they can be reached, the report, and its exit code."""

import asyncio
import logging
import os

from catalyst.cli.cluster import FIELD_MANAGER, KubeOptions, kube_settings
from catalyst.cli.context import BadContext, Options, context
from catalyst.cli.core.doctor import Report
from catalyst.cli.core.doctor.bus import Server
from catalyst.cli.core.hidden import Hidden
from catalyst.cli.operations import Refused
from catalyst.cli.operations.doctor import Wanted, server
from catalyst.cli.operations.doctor import examine as examined
from catalyst.cli.running import INTERRUPTED, OK, UNWELL, Usage, on_the_bus
from catalyst.cli.show import Printer
from catalyst.events.bus import Bus
from catalyst.events.errors import BusError
from catalyst.kube.auth import BadKubeSettings
from catalyst.kube.client import Kube
from catalyst.model.clock import utc_now


def examine(wanted: Wanted, options: Options, cluster: KubeOptions, output: str) -> int:
    """Looks at the whole installation; its exit code. Neither a cluster nor a bus that is away ends it."""
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        report = asyncio.run(_examined(wanted, options, cluster))
    except KeyboardInterrupt:
        return INTERRUPTED
    Printer(output).report(report)
    return UNWELL if report.failed else OK


async def _examined(wanted: Wanted, options: Options, cluster: KubeOptions) -> Report:
    bus = await _bus(options)
    try:
        kube = await Kube.connect(kube_settings(cluster, os.environ), field_manager=FIELD_MANAGER)
    except BadKubeSettings as exc:
        return await examined(Hidden(f"no cluster: {exc}", "--kubeconfig, --kube-context"), bus, wanted, utc_now())
    async with kube:
        return await examined(kube, bus, wanted, utc_now())


async def _bus(options: Options) -> Server | Hidden:
    found: list[Server] = []

    async def ask(bus: Bus, _: Printer) -> int:
        found.append(await server(bus))
        return OK

    how = "kubectl port-forward --namespace catalyst-system service/nats 4222, and --url, --seed, or a context"
    try:
        await on_the_bus(ask, context(options, os.environ), Printer("table"))
    except BadContext as exc:
        return Hidden(f"the bus was not asked: {exc}", how)
    except Refused as exc:
        return Hidden(f"the bus was not asked: {exc}", "the seed of the user oncall or operator (--seed)")
    except BusError as exc:
        return Hidden(f"the bus was not asked: {exc.reason}", how)
    return found[0]


def address(text: str) -> tuple[str, int]:
    """`edge.example.org:8443`, the port 443 if none is said. Raises `Usage`."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "443"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Usage(f"--edge {text[:200]!r}: expected HOST or HOST:PORT")
    return host, int(port)
