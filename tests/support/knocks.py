"""Knocking at doors, from inside pods that have python3."""

from __future__ import annotations

import json
from typing import Final

from kubectl import Kubectl

# One line of JSON: each address → open, or the error's name. Twice if need be, since a neighbour lets a new pod in
# only when it has heard of it. One open door counts, also the first time.
KNOCK: Final = """
import json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
def once(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError as error:
        return type(error).__name__
    return "open"
def knock(target):
    host, port = target.rsplit(":", 1)
    first = once(host, int(port))
    if first == "open":
        return first
    time.sleep(1.5)
    return once(host, int(port))
with ThreadPoolExecutor(32) as hands:
    print(json.dumps(dict(zip(sys.argv[1:], hands.map(knock, sys.argv[1:])))))
"""


def opened(there: Kubectl, pod: str, *targets: str) -> set[str]:
    """Those of the targets (`host:port`) that a running pod gets in at."""
    return opened_in(there.execute(pod, "python3", "-c", KNOCK, *targets))


def opened_in(said: str) -> set[str]:
    """The same, of what a pod said whose command is KNOCK."""
    return {target for target, how in json.loads(said).items() if how == "open"}
