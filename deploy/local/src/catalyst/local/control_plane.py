"""etcd, kube-apiserver and kube-controller-manager on 127.0.0.1: a real Kubernetes without nodes, and without root.

    folder/
      pki/          authority, certificates, signing keys (0600)
      etcd/         the data; a restart of any part keeps it
      kubeconfigs/  admin and those handed out
      audit.log     one JSON line per request, see AUDIT_POLICY
      <part>.log

What a stopped or failed part leaves is its log. Never for production: etcd runs without fsync.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import yaml

from catalyst.local import certs
from catalyst.local.process import Part, PartFailed, free_ports

ETCD: Final = "etcd"
APISERVER: Final = "kube-apiserver"
CONTROLLER_MANAGER: Final = "kube-controller-manager"

# Every write is one line when its response is complete. Leases are left out: they are renewed for ever, changed or not.
AUDIT_POLICY: Final[dict[str, Any]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, slots=True)
class Ports:
    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int

    @classmethod
    def free(cls) -> Ports:
        return cls(*free_ports(4))


class ControlPlane:
    """One installation of the three parts. A context manager: started on entry, stopped on exit.

    `extra_flags`: part name → flags added to its command line, where the last of a name counts. `address`: where the
    API server listens and what its certificate names; a node needs one that its pods reach. Raises PartFailed from
    `start` when a part does not come up.
    """

    def __init__(
        self,
        folder: Path,
        binaries: Mapping[str, Path],
        *,
        ports: Ports | None = None,
        extra_flags: Mapping[str, Sequence[str]] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.folder = folder.absolute()
        self.binaries = binaries
        self.ports = ports or Ports.free()
        self.address = address
        self._extra = extra_flags or {}
        self._authority = _authority(self.folder / "pki")
        self.ca = certs.write(self.folder / "pki" / "ca.crt", self._authority.certificate)
        self._write_pki()
        self.audit_log = self.folder / "audit.log"
        self.admin_kubeconfig = self._kubeconfig_by_certificate("admin", "catalyst-local-admin", ["system:masters"])
        self.etcd = self._etcd()
        self.apiserver = self._apiserver()
        self.controller_manager = self._controller_manager()

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.ports.apiserver}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of their start."""
        return (self.etcd, self.apiserver, self.controller_manager)

    @cached_property
    def admin(self) -> httpx.Client:
        """A synchronous client as cluster admin, for arranging and inspecting; what is under test never gets it."""
        return httpx.Client(base_url=self.url, verify=self._admin_tls, timeout=30, trust_env=False)

    @property
    def kubectl(self) -> Path:
        return self.binaries["kubectl"]

    def start(self) -> None:
        """Returns when quotas, namespaces, service accounts and the built-in roles work. 3 to 6 s on 2 cores."""
        try:
            self.etcd.start()
            self.etcd.wait_until(self._etcd_ready, within=20)
            self.apiserver.start()
            self.apiserver.wait_until(self.apiserver_ready, within=60)
            self.controller_manager.start()
            self.controller_manager.wait_until(self._controllers_ready, within=60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Everything down, in reverse order; harmless when nothing runs."""
        if "admin" in self.__dict__:
            self.admin.close()
            del self.__dict__["admin"]
        for part in reversed(self.parts):
            part.stop()

    def restart_apiserver(self) -> None:
        """Orderly stop unless it is already dead; then on the same port with the same data. Returns when it is
        ready.
        """
        self.apiserver.stop()
        self.apiserver.start()
        self.wait_for_apiserver()

    def wait_for_apiserver(self, within: float = 60) -> None:
        self.apiserver.wait_until(self.apiserver_ready, within=within)

    def failed(self) -> PartFailed | None:
        """The first part that was started and has ended without being asked to; None when all is well."""
        for part in self.parts:
            if part.exit_code is not None:
                return PartFailed(part.name, f"ended with exit code {part.exit_code}", part.log)
        return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Credentials

    def kubeconfig_as(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Of a person: a client certificate. User and each group have at most 64 characters, as X.509 wants it."""
        name = _file_name(user, *groups)
        return self._kubeconfig_by_certificate(name, user, groups)

    def certificate(self, name: str, *, dns: Sequence[str] = (), ips: Sequence[str] = ()) -> tuple[Path, Path]:
        """(certificate, key) in the pki folder, signed by the cluster's authority: with names a server's, else the
        client `name`'s.
        """
        pair = self._authority.server(name, dns=dns, ips=ips) if dns or ips else self._authority.client(name)
        return pair.write(self.folder / "pki", _file_name(name))

    def kubeconfig_for(self, namespace: str, service_account: str, *, seconds: int = 24 * 3600) -> Path:
        """Of a ServiceAccount that exists: a token by TokenRequest. Raises httpx.HTTPStatusError (404: no such
        account).
        """
        answer = self.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            json={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
        )
        answer.raise_for_status()
        name = _file_name(namespace, service_account)
        return self._write_kubeconfig(
            name, f"{namespace}:{service_account}", {"token": answer.json()["status"]["token"]}
        )

    def _kubeconfig_by_certificate(self, name: str, user: str, groups: Sequence[str]) -> Path:
        pair = self._authority.client(user, groups)
        credentials = {
            "client-certificate-data": base64.b64encode(pair.certificate).decode(),
            "client-key-data": base64.b64encode(pair.key).decode(),
        }
        return self._write_kubeconfig(name, user, credentials)

    def _write_kubeconfig(self, name: str, user: str, credentials: Mapping[str, str]) -> Path:
        config = kubeconfig(self.url, self.ca.read_bytes(), user, credentials)
        return certs.write(self.folder / "kubeconfigs" / f"{name}.yaml", yaml.safe_dump(config).encode())

    @cached_property
    def _admin_tls(self) -> ssl.SSLContext:
        return self._client_tls("admin-client", "catalyst-local-admin", ["system:masters"])

    def _client_tls(self, name: str, user: str, groups: Sequence[str]) -> ssl.SSLContext:
        certificate, key = self._authority.client(user, groups).write(self.folder / "pki", name)
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(certificate, key)
        return context

    # Readiness

    def _etcd_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            url = f"https://127.0.0.1:{self.ports.etcd}/health"
            return httpx.get(url, verify=self._admin_tls, trust_env=False).status_code == httpx.codes.OK
        return False

    def apiserver_ready(self) -> bool:
        """True once /readyz answers 200."""
        with contextlib.suppress(httpx.TransportError):
            return self.admin.get("/readyz", timeout=2).status_code == httpx.codes.OK
        return False

    def _controllers_ready(self) -> bool:
        """The account of `default` exists, and `view` has rules: until then pods are refused and the built-in roles
        are empty.
        """
        account = self.admin.get("/api/v1/namespaces/default/serviceaccounts/default")
        role = self.admin.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view")
        return account.status_code == role.status_code == httpx.codes.OK and bool(role.json().get("rules"))

    # Commands

    def _write_pki(self) -> None:
        pki = self.folder / "pki"
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        self._authority.server("catalyst-local", dns=names, ips=["127.0.0.1", "10.96.0.1", self.address]).write(
            pki, "server"
        )
        self._authority.client(APISERVER).write(pki, "etcd-client")
        if not (pki / "sa.key").exists():  # tokens that were handed out stay valid over a restart
            private, public = certs.signing_keys()
            certs.write(pki / "sa.key", private)
            certs.write(pki / "sa.pub", public)

    def _etcd(self) -> Part:
        pki = self.folder / "pki"
        client, peer = f"https://127.0.0.1:{self.ports.etcd}", f"http://127.0.0.1:{self.ports.etcd_peer}"
        flags = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "cert-file": pki / "server.crt",
            "key-file": pki / "server.key",
            "trusted-ca-file": self.ca,
            "client-cert-auth": True,
            "unsafe-no-fsync": True,
            "log-level": "warn",
            "quota-backend-bytes": 4 << 30,
        }
        return self._part(ETCD, flags)

    def _apiserver(self) -> Part:
        pki = self.folder / "pki"
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        flags = {
            "bind-address": self.address,
            "advertise-address": self.address,
            "endpoint-reconciler-type": "none",  # there is nobody inside who would dial the loopback address
            "secure-port": self.ports.apiserver,
            "tls-cert-file": pki / "server.crt",
            "tls-private-key-file": pki / "server.key",
            "client-ca-file": self.ca,
            "anonymous-auth": False,
            "authorization-mode": "Node,RBAC",
            # Else this flag, not Pod Security, would refuse privileged pods, and the tests would prove nothing.
            "allow-privileged": True,
            "etcd-servers": f"https://127.0.0.1:{self.ports.etcd}",
            "etcd-cafile": self.ca,
            "etcd-certfile": pki / "etcd-client.crt",
            "etcd-keyfile": pki / "etcd-client.key",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": pki / "sa.pub",
            "service-account-signing-key-file": pki / "sa.key",
            "service-cluster-ip-range": "10.96.0.0/16",
            "audit-policy-file": policy,
            "audit-log-path": self.audit_log,
            "audit-log-format": "json",
            "audit-log-maxsize": 4096,  # MB: never rotated in the middle of a test
            "profiling": False,
        }
        return self._part(APISERVER, flags, stop_within=4)  # it waits for open watches; a few seconds are enough

    def _controller_manager(self) -> Part:
        pki = self.folder / "pki"
        user = "system:kube-controller-manager"
        config = self._kubeconfig_by_certificate(CONTROLLER_MANAGER, user, [])
        flags = {
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "bind-address": "127.0.0.1",
            "secure-port": self.ports.controller_manager,
            "service-account-private-key-file": pki / "sa.key",
            "root-ca-file": self.ca,
            "use-service-account-credentials": True,
            "leader-elect": False,
            "kube-api-qps": 300,  # hundreds of namespaces at once are what the tests and benchmarks ask for
            "kube-api-burst": 600,
            "concurrent-namespace-syncs": 50,
            "profiling": False,
        }
        return self._part(CONTROLLER_MANAGER, flags)

    def _part(self, name: str, flags: Mapping[str, object], *, stop_within: float = 5) -> Part:
        words = [f"--{flag}={_flag(value)}" for flag, value in flags.items()]
        command: list[str | Path] = [self.binaries[name], *words, *self._extra.get(name, ())]
        return Part(name, command, self.folder / f"{name}.log", cwd=self.folder, stop_within=stop_within)


def kubeconfig(url: str, ca: bytes, user: str, credentials: Mapping[str, str]) -> dict[str, Any]:
    """The smallest kubeconfig: one cluster, one user, one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [
            {"name": "local", "cluster": {"server": url, "certificate-authority-data": base64.b64encode(ca).decode()}}
        ],
        "users": [{"name": user, "user": dict(credentials)}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
    }


@dataclass(frozen=True, slots=True)
class Write:
    """A line of the audit log: who changed what, and how it ended. `code` is the HTTP status of the answer."""

    verb: str
    user: str
    user_agent: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Write:
        ref = event.get("objectRef") or {}
        return cls(
            verb=event["verb"],
            user=event["user"].get("username", ""),
            user_agent=event.get("userAgent", ""),
            group=ref.get("apiGroup", ""),
            resource=ref.get("resource", ""),
            subresource=ref.get("subresource", ""),
            namespace=ref.get("namespace", ""),
            name=ref.get("name", ""),
            code=(event.get("responseStatus") or {}).get("code", 0),
        )


class AuditLog:
    """Counts writes. A marker is a position in the log: take one, act, and ask what was written since."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def marker(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def writes_since(self, marker: int, *, user: str | None = None, refused: bool = False) -> list[Write]:
        """Requests that tried to change something, leases and token or access reviews apart, in the order they were
        answered.

        `user`: only this user's, by its full name (`system:serviceaccount:<namespace>:<name>`). `refused`: also those
        that were answered with 400 or more and so wrote nothing.
        """
        with self._path.open("rb") as log:
            log.seek(marker)
            lines = log.read().split(b"\n")[:-1]  # what follows the last newline is still being written
        writes = [Write.of(json.loads(line)) for line in lines]
        return [
            write
            for write in writes
            if write.verb in _WRITING
            and write.group not in ("authentication.k8s.io", "authorization.k8s.io")
            and write.subresource != "token"
            and (refused or write.code < httpx.codes.BAD_REQUEST)
            and (user is None or write.user == user)
        ]


_WRITING: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def _authority(pki: Path) -> certs.Authority:
    certificate, key = pki / "ca.crt", pki / "ca.key"
    if certificate.exists() and key.exists():
        return certs.Authority.load(certs.Pair(certificate.read_bytes(), key.read_bytes()))
    authority = certs.Authority.new()
    certs.write(key, authority.pair.key)
    return authority


def _file_name(*words: str) -> str:
    return "-".join("".join(c if c.isalnum() else "-" for c in word) for word in words)


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
