"""A replica for test_lease.py, as its own process: leads when it may and then applies one ConfigMap over and over.

    candidate.py KUBECONFIG NAMESPACE IDENTITY

The apply carries no precondition, so only the fence stands between a late leader and its successor's world. On SIGUSR1
the process freezes itself (SIGSTOP) at the worst place: after everything that waits, right before the fence is asked.
Tells on standard output, a line each: leading, fenced, ended.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from catalyst.kube.client import Kube
from catalyst.kube.errors import FencedOut
from catalyst.kube.lease import Elector
from catalyst.kube.settings import KubeSettings

TIMES: dict[str, Any] = {"duration": 4.0, "renew_deadline": 2.4, "retry": 0.4}
REQUEST_TIMEOUT = 1.0


def world(namespace: str, owner: str) -> dict[str, object]:
    metadata = {"namespace": namespace, "name": "world"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"owner": owner}}


async def main(config: str, namespace: str, identity: str) -> None:
    freeze_next = False

    def freeze_at_next_write() -> None:
        nonlocal freeze_next
        freeze_next = True

    async def points(name: str) -> None:
        nonlocal freeze_next
        if freeze_next and name == "kube.before:apply:ConfigMap":
            freeze_next = False
            os.kill(os.getpid(), signal.SIGSTOP)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, freeze_at_next_write)
    async with await Kube.connect(
        KubeSettings(Path(config)), field_manager="lead", points=points, request_timeout=REQUEST_TIMEOUT
    ) as kube:
        elector = Elector(kube, namespace, "lease", identity, **TIMES)
        fenced = kube.fenced(elector.fence)

        async def lead() -> None:
            tell("leading")
            while True:
                try:
                    await fenced.apply(world(namespace, identity))
                except FencedOut:
                    tell("fenced")
                    await asyncio.Event().wait()
                await asyncio.sleep(0.01)

        running = asyncio.create_task(elector.run(lead))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.wait({running})
    tell("ended")


def tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4]))
