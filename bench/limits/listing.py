"""Everything that env-controller mirrors, listed once over one warm connection, page by page, and thrown away.

Arguments: kubeconfig, lists (`[target, accept]` each; `limit` is added), page (objects).
Answers: seconds, megabytes (10^6), objects.
"""

import json
import time
from pathlib import Path
from urllib.parse import quote

import uvloop

from bench.limits.arguments import answer, given
from bench.limits.kubernetes import Connection, Server


async def main() -> None:
    arguments = given()
    connection = await Connection.open(Server(Path(arguments["kubeconfig"])))
    await connection.request("GET", "/readyz")
    began, size, objects = time.perf_counter(), 0, 0
    for target, accept in arguments["lists"]:
        more = ""
        while True:
            page = f"{target}{'&' if '?' in target else '?'}limit={arguments['page']}{more}"
            status, body = await connection.request("GET", page, accept=accept)
            if status != 200:
                raise RuntimeError(f"{target}: {status} {body[:500]!r}")
            size += len(body)
            found = json.loads(body)
            objects += len(found["items"] or ())
            if not found["metadata"].get("continue"):
                break
            more = f"&continue={quote(found['metadata']['continue'])}"
    answer(seconds=time.perf_counter() - began, megabytes=size / 1e6, objects=objects)


if __name__ == "__main__":
    uvloop.run(main())
