"""Each server of the node: its configuration file and its command line. Nothing here starts anything.

In the order of their start; the supervisor stops them in reverse:

    internet · registry · mirror · etcd · kube-apiserver · kube-controller-manager · kube-scheduler · containerd ·
    kube-proxy · kube-router · kubelet · local-path-provisioner
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml
from joserfc.jwk import ECKey, KeySet

from catalyst.local import certs
from catalyst.local.control_plane import APISERVER, CONTROLLER_MANAGER, ControlPlane, Ports
from catalyst.local.node import layout
from catalyst.local.node.layout import Layout
from catalyst.local.node.network import resolvers
from catalyst.local.process import Part, free_ports

CNI_PLUGINS: Final = Path("/usr/lib/cni")
KUBELET_CLIENT: Final = "kube-apiserver-kubelet-client"
FRONT_PROXY: Final = "front-proxy-client"


def control_plane(at: Layout, binaries: Mapping[str, Path], folder: Path) -> ControlPlane:
    """The control plane of this package, listening where pods and the kubelet reach it, and dialling the kubelet."""
    pki = folder / "pki"
    client = pki / KUBELET_CLIENT
    flags = {
        APISERVER: (
            "--endpoint-reconciler-type=lease",
            f"--kubelet-client-certificate={client}.crt",
            f"--kubelet-client-key={client}.key",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            "--enable-admission-plugins=NodeRestriction",
            *front_proxy(pki),
        ),
        CONTROLLER_MANAGER: (
            "--allocate-node-cidrs=true",
            f"--cluster-cidr={layout.PODS}",
            f"--service-cluster-ip-range={layout.SERVICES}",
        ),
    }
    ports = replace(Ports.free(), apiserver=layout.API_PORT)
    plane = ControlPlane(folder, binaries, ports=ports, extra_flags=flags, address=layout.ADDRESS)
    for part in plane.parts:
        part.log = at.logs / f"{part.name}.log"
    plane.certificate(KUBELET_CLIENT)
    return plane


def front_proxy(pki: Path) -> tuple[str, ...]:
    """The API server hands requests on to APIs that pods serve (metrics), and says who asks. They believe whoever has a
    certificate of this authority: it is none of the cluster's own, and its key is not kept.
    """
    authority = certs.Authority.new(FRONT_PROXY)
    certificate, key = authority.client(FRONT_PROXY).write(pki, FRONT_PROXY)
    return (
        f"--requestheader-client-ca-file={certs.write(pki / 'front-proxy-ca.crt', authority.certificate)}",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificate}",
        f"--proxy-client-key-file={key}",
    )


class Parts:
    """The commands of everything beside the control plane. Making it writes the configuration files."""

    def __init__(self, at: Layout, binaries: Mapping[str, Path], plane: ControlPlane, images: Path) -> None:
        self._at = at
        self._binaries = binaries
        self._plane = plane
        (self.kubelet_health, self.proxy_health, proxy_metrics, scheduler) = free_ports(4)
        self.scheduler_port = scheduler
        self.internet = self._internet()
        self.registry = self._registry("registry", layout.REGISTRY_PORT, at.data / "registry", authenticated=True)
        self.mirror = self._registry("mirror", layout.MIRROR_PORT, images, authenticated=False)
        self.scheduler = self._scheduler(scheduler)
        self.containerd = self._containerd()
        self.proxy = self._proxy(proxy_metrics)
        self.router = self._router()
        self.kubelet = self._kubelet()
        self.storage = self._storage()

    def _internet(self) -> Part:
        inside = ["ip", "netns", "exec", layout.INTERNET_NAMESPACE]
        return self._part("internet", ["/usr/bin/env", *inside, sys.executable, "-m", "catalyst.local.node.internet"])

    # Images

    def _registry(self, name: str, port: int, folder: Path, *, authenticated: bool) -> Part:
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(folder)},
                "delete": {"enabled": authenticated},
                "maintenance": {"readonly": {"enabled": not authenticated}},
            },
            "http": {"addr": f"{layout.ADDRESS}:{port}"},
        }
        if authenticated:
            jwks = self._realm_keys()
            config["auth"] = {
                "token": {
                    "realm": layout.REALM_URL,
                    "service": layout.REGISTRY,
                    "issuer": layout.REALM_ISSUER,
                    "jwks": str(jwks),
                }
            }
        return self._part(name, [self._binaries["registry"], "serve", self._yaml(f"{name}.yaml", config)])

    def _realm_keys(self) -> Path:
        """The key with which builder signs tokens, and what the registry checks them with; made once."""
        private, public = self._at.realm / "key.pem", self._at.realm / "jwks.json"
        if not (private.exists() and public.exists()):
            key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
            certs.write(private, key.as_pem(private=True))
            public.write_text(json.dumps(KeySet([key]).as_dict(private=False)))
        return public

    # Kubernetes

    def _scheduler(self, port: int) -> Part:
        config = self._plane.kubeconfig_as("system:kube-scheduler")
        return self._flags(
            "kube-scheduler",
            {
                "kubeconfig": config,
                "authentication-kubeconfig": config,
                "authorization-kubeconfig": config,
                "bind-address": "127.0.0.1",
                "secure-port": port,
                "leader-elect": False,
                "profiling": False,
            },
        )

    def _proxy(self, metrics: int) -> Part:
        return self._flags(
            "kube-proxy",
            {
                "kubeconfig": self._plane.kubeconfig_as("system:kube-proxy"),
                "hostname-override": layout.NODE,
                "proxy-mode": "iptables",
                "cluster-cidr": layout.PODS,
                "conntrack-max-per-core": 0,  # many kernels in containers and small machines refuse to change it
                "iptables-localhost-nodeports": False,  # else loopback addresses become routable
                "healthz-bind-address": f"127.0.0.1:{self.proxy_health}",
                "metrics-bind-address": f"127.0.0.1:{metrics}",
            },
        )

    def _router(self) -> Part:
        return self._flags(
            "kube-router",
            {
                "kubeconfig": self._plane.kubeconfig_as("catalyst-local:kube-router"),
                "hostname-override": layout.NODE,
                "run-firewall": True,
                "run-router": False,
                "run-service-proxy": False,
                "run-loadbalancer": False,
                "service-cluster-ip-range": layout.SERVICES,
                "health-port": 0,
            },
        )

    def _kubelet(self) -> Part:
        certificate, key = self._plane.certificate("kubelet-server", dns=[layout.NODE], ips=[layout.ADDRESS])
        resolv = self._at.configuration / "resolv.conf"
        # Without any resolver of the machine's, names outside fail at once instead of after a timeout.
        resolv.write_text("".join(f"nameserver {server}\n" for server in resolvers() or [layout.ADDRESS]))
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": layout.ADDRESS,
            "port": layout.KUBELET_PORT,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": self.kubelet_health,
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{self._at.containerd_socket}",
            "clusterDNS": [layout.DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(resolv),
            "podLogsDir": str(self._at.data / "pod-logs"),
            "volumePluginDir": str(self._at.data / "kubelet" / "volume-plugins"),
            # The machine's control groups are its own: pods are limited one by one, the node as a whole is not.
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": True,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
            "imageGCHighThresholdPercent": 100,  # off: a machine with a full disk is somebody's, not the kubelet's
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "shutdownGracePeriod": "0s",
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "20s",
        }
        return self._flags(
            "kubelet",
            {
                "config": self._yaml("kubelet.yaml", config),
                "kubeconfig": self._plane.kubeconfig_as(f"system:node:{layout.NODE}", ["system:nodes"]),
                "hostname-override": layout.NODE,
                "node-ip": layout.ADDRESS,
                "root-dir": self._at.data / "kubelet",
                "cert-dir": self._at.data / "kubelet" / "pki",
            },
        )

    def _storage(self) -> Part:
        folder = {"node": layout.NODE, "paths": [str(self._at.data / "volumes")]}
        configuration = self._at.configuration / "storage.json"
        configuration.write_text(json.dumps({"nodePathMap": [folder]}))
        return self._flags(
            "local-path-provisioner",
            {
                "config": configuration,
                "kubeconfig": self._plane.kubeconfig_as("catalyst-local:storage"),
                "provisioner-name": "catalyst.dev/local-path",
                "namespace": "kube-system",
                "service-account-name": "local-path",
                "configmap-name": "local-path",
                "helper-image": "docker.io/library/debian:bookworm-slim",
            },
            before=["start"],
        )

    # Containers

    def _containerd(self) -> Part:
        self._cni()
        self._registry_hosts()
        runtime = "io.containerd.cri.v1.runtime"
        config: dict[str, Any] = {
            "version": 3,
            "root": str(self._at.data / "containerd"),
            "state": str(self._at.run / "containerd"),
            "disabled_plugins": ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"],
            "grpc": {"address": str(self._at.containerd_socket)},
            "plugins": {
                runtime: {
                    "restrict_oom_score_adj": True,  # without CAP_SYS_RESOURCE runc could not lower it
                    "netns_mounts_under_state_dir": True,
                    "cni": {"bin_dirs": [str(CNI_PLUGINS)], "conf_dir": str(self._at.configuration / "cni")},
                    "containerd": {
                        "default_runtime_name": "runc",
                        "runtimes": {
                            "runc": {
                                "runtime_type": "io.containerd.runc.v2",
                                "runtime_path": str(self._binaries["containerd-shim-runc-v2"]),
                                "options": {"BinaryName": str(self._binaries["runc"]), "SystemdCgroup": False},
                            }
                        },
                    },
                },
                "io.containerd.cri.v1.images": {
                    "pinned_images": {"sandbox": layout.PAUSE_IMAGE},
                    "registry": {"config_path": str(self._at.configuration / "certs.d")},
                    "max_concurrent_downloads": 8,
                },
            },
        }
        path = self._at.configuration / "containerd.toml"
        path.write_text(toml(config))
        return self._part("containerd", [self._binaries["containerd"], "--config", path])

    def _cni(self) -> None:
        folder = self._at.configuration / "cni"
        folder.mkdir(exist_ok=True)
        bridge = {
            "type": "bridge",
            "bridge": layout.PODS_BRIDGE,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.244.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": str(self._at.data / "cni"),
            },
        }
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        network = {"cniVersion": "1.0.0", "name": layout.PODS_BRIDGE, "plugins": [bridge, ports]}
        (folder / "10-catalyst.conflist").write_text(json.dumps(network, indent=2))

    def _registry_hosts(self) -> None:
        """The mirror stands for every registry, so manifests and Dockerfiles keep the names they have elsewhere. It is
        not asked first, but alone: what the node runs does not depend on what the internet answers today.
        """
        for name, server in {
            "_default": f"http://{layout.MIRROR}",
            layout.REGISTRY: f"http://{layout.REGISTRY}",
        }.items():
            folder = self._at.configuration / "certs.d" / name
            folder.mkdir(parents=True, exist_ok=True)
            abilities = ["pull", "resolve"]
            (folder / "hosts.toml").write_text(toml({"server": server, "host": {server: {"capabilities": abilities}}}))

    # Parts

    def _flags(self, name: str, flags: Mapping[str, object], *, before: Sequence[str] = ()) -> Part:
        words = [f"--{flag}={_text(value)}" for flag, value in flags.items()]
        return self._part(name, [self._binaries[name], *before, *words])

    def _part(self, name: str, command: Sequence[str | Path]) -> Part:
        # kube-proxy, the CNI plugins and the others call iptables, ipset, conntrack and mount by name.
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
        return Part(
            name,
            command,
            self._at.logs / f"{name}.log",
            env={"PATH": path, "OTEL_TRACES_EXPORTER": "none"},
            cwd=self._at.state,
        )

    def _yaml(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self._at.configuration / name
        path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
        return path


def toml(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """The part of TOML that containerd's files need: tables, texts, numbers, booleans, lists of texts."""
    values = [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in content.items() if not isinstance(v, Mapping)]
    header = [f"[{'.'.join(json.dumps(word) for word in path)}]"] if path and values else []
    tables = [toml(v, (*path, k)) for k, v in content.items() if isinstance(v, Mapping)]
    return "\n".join([*header, *values, *tables]) + "\n"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
