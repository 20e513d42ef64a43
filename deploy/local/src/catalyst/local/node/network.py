"""The machine's side of the network: the node's address, the stand-in internet, names and kernel settings.

    machine ── catalyst0      172.30.0.1/32               the node's address
            ── catalyst-pods  10.244.0.1/24 ── pods       made by the CNI plugin
            ── catalyst-inet  198.18.0.1/24 ── namespace catalyst-internet: 198.18.0.2, 169.254.169.254

The namespace has no route to anywhere: it answers its link. The rest of 198.18.0.0/15, of the pods' and of the
Services' ranges is unreachable, and what pods send to link-local addresses ends in the namespace, so neither a wrong
rule nor a hostile pod sends such a packet out, or asks the real metadata service of a machine that runs in a cloud.

`make` may be repeated; it adds what is missing.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from catalyst.local.node import layout

HOSTS: Final = Path("/etc/hosts")
_ENV: Final = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
_KNOWN: Final = "0x20000/0x20000"
_BEGIN: Final = "# begin catalyst-local: removed by `make cluster-down`"
_END: Final = "# end catalyst-local"
_METADATA_RULE: Final = (
    "pref", str(layout.ROUTING_TABLE), "iif", layout.PODS_BRIDGE,
    "to", layout.LINK_LOCAL, "lookup", str(layout.ROUTING_TABLE),
)  # fmt: skip
_GUARDED: Final = (layout.INTERNET_RANGE, layout.PODS)
"""Ranges of which only a part is in use: the rest must not follow the machine's default route."""

SETTINGS: Final = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",  # else a Service's answer from the same bridge is never translated back
}
CHANGED_BY_KUBERNETES: Final = (
    "net.bridge.bridge-nf-call-ip6tables",
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_max",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)


class NetworkTaken(RuntimeError):
    """This machine uses an address range that the node needs. The text names both."""


def check() -> None:
    """Raises NetworkTaken when the machine's own network overlaps the node's."""
    ours = [
        ipaddress.ip_network(text) for text in (layout.PODS, layout.SERVICES, layout.INTERNET_RANGE, layout.ADDRESS)
    ]
    for entry in json.loads(_ip("-json", "-4", "route", "show", "table", "main")):
        if entry.get("dev") in (layout.BRIDGE, layout.PODS_BRIDGE, layout.INTERNET_LINK) or entry["dst"] == "default":
            continue
        if entry.get("type") == "unreachable" and entry["dst"] in _GUARDED:
            continue
        theirs = ipaddress.ip_network(entry["dst"])
        for network in ours:
            if theirs.overlaps(network):
                raise NetworkTaken(
                    f"this machine has a route to {theirs} ({entry.get('dev', entry.get('type'))}), and the node needs "
                    f"{network}. Remove that network (another cluster's, a VPN's), or set CATALYST_KUBECONFIG to use a "
                    "cluster you have."
                )


def make() -> None:
    links = _links()
    if layout.BRIDGE not in links:
        _ip("link", "add", layout.BRIDGE, "type", "bridge")
    _ip("addr", "replace", f"{layout.ADDRESS}/32", "dev", layout.BRIDGE)
    _ip("link", "set", layout.BRIDGE, "up")
    _make_internet(links)
    for network in _GUARDED:
        _ip("route", "replace", "unreachable", network)
    _ip("route", "replace", layout.SERVICES, "dev", layout.BRIDGE)  # kube-proxy translates; the rest finds nobody
    for name, value in SETTINGS.items():
        _setting(name).write_text(value)
    write_hosts(layout.NAMES)


def _make_internet(links: set[str]) -> None:
    space = layout.INTERNET_NAMESPACE
    if space not in _namespaces():
        _ip("netns", "add", space)
    if layout.INTERNET_LINK not in links:
        _ip("link", "add", layout.INTERNET_LINK, "type", "veth", "peer", "name", "inside", "netns", space)
    _ip("addr", "replace", f"{layout.INTERNET_GATEWAY}/24", "dev", layout.INTERNET_LINK)
    _ip("link", "set", layout.INTERNET_LINK, "up")
    _setting(f"net.ipv4.conf.{layout.INTERNET_LINK}.rp_filter").write_text("2")  # answers come from METADATA, too
    _ip("-n", space, "addr", "replace", f"{layout.INTERNET}/24", "dev", "inside")
    _ip("-n", space, "addr", "replace", f"{layout.METADATA}/32", "dev", "lo")
    _ip("-n", space, "link", "set", "inside", "up")
    _ip("-n", space, "link", "set", "lo", "up")
    table = str(layout.ROUTING_TABLE)
    _ip("route", "replace", "unreachable", "default", "table", table)
    _ip("route", "replace", layout.METADATA, "via", layout.INTERNET, "dev", layout.INTERNET_LINK, "table", table)
    if layout.LINK_LOCAL not in _ip("rule", "show"):
        _ip("rule", "add", *_METADATA_RULE)


def guard() -> None:
    """Nothing for a pod that the firewall does not know yet.

    kube-router learns a pod's address from the API server, after the pod has begun. Its chains mark what a known pod
    may do (0x20000); without the mark a new connection is dropped, so that an early one waits for its repetition a
    second later instead of slipping through. (Left open: from a pod unknown to one that is known and has no policy of
    its own.)
    """
    for chain in ("FORWARD", "INPUT"):
        rule = [
            chain, "-i", layout.PODS_BRIDGE, "-m", "conntrack", "--ctstate", "NEW", "-m", "mark", "!", "--mark", _KNOWN,
            "-m", "comment", "--comment", f'name: "{layout.PODS_BRIDGE}" not known to the firewall yet', "-j", "DROP",
        ]  # fmt: skip
        if _iptables("-C", *rule).returncode != 0:
            done = _iptables("-A", *rule)
            if done.returncode != 0:
                raise RuntimeError(f"iptables -A {_joined(rule)} failed: {done.stderr.strip()}")


def remove() -> None:
    """Everything that `make` and the CNI plugin made. What is not there is no error."""
    if layout.LINK_LOCAL in _ip("rule", "show"):
        _ip("rule", "delete", *_METADATA_RULE)
    _ip("route", "flush", "table", str(layout.ROUTING_TABLE), may_fail=True)
    for network in _GUARDED:
        _ip("route", "delete", "unreachable", network, may_fail=True)
    for link in _links() & {layout.PODS_BRIDGE, layout.BRIDGE, layout.INTERNET_LINK}:
        _ip("link", "delete", link)
    if layout.INTERNET_NAMESPACE in _namespaces():
        _ip("netns", "delete", layout.INTERNET_NAMESPACE)
    write_hosts({})


def write_hosts(names: dict[str, str], path: Path = HOSTS) -> None:
    """Replace our block in the hosts file; no names: remove it. Everything else stays byte for byte."""
    lines = path.read_text().splitlines(keepends=True)
    ours = [number for number, line in enumerate(lines) if line.strip() in (_BEGIN, _END)]
    if len(ours) >= 2:
        del lines[ours[0] : ours[-1] + 1]
    text = "".join(lines)
    if names:
        text += "" if text.endswith("\n") or not text else "\n"
        block = [_BEGIN, *(f"{address} {name}" for name, address in names.items()), _END]
        text += "\n".join(block) + "\n"
    path.write_text(text)  # in place: in a container the hosts file is a mount and cannot be renamed over


def settings() -> dict[str, str]:
    """The kernel settings that a node changes, as they are now."""
    names = (*SETTINGS, *CHANGED_BY_KUBERNETES)
    return {name: _setting(name).read_text().strip() for name in names if _setting(name).exists()}


def restore(saved: dict[str, str]) -> list[str]:
    """Set kernel settings back; returns what the kernel refused."""
    refused = []
    for name, value in saved.items():
        path = _setting(name)
        if path.exists() and path.read_text().strip() != value:
            try:
                path.write_text(value)
            except OSError as error:
                refused.append(f"{name}={value}: {error.strerror}")
    return refused


def resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The machine's name servers that a pod can reach, too: a loopback address would be the pod's own."""
    systemd = Path("/run/systemd/resolve/resolv.conf")
    words = [line.split() for line in (systemd if systemd.exists() else path).read_text().splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [text for text in found if not ipaddress.ip_address(text.partition("%")[0]).is_loopback]


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["iptables", "--wait", *arguments], capture_output=True, text=True, env=_ENV, check=False)


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _links() -> set[str]:
    return {entry["ifname"] for entry in json.loads(_ip("-json", "link", "show"))}


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _ip("netns", "list").splitlines() if line}


def _ip(*arguments: str, may_fail: bool = False) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, env=_ENV, check=False)
    if done.returncode != 0 and not may_fail:
        raise RuntimeError(f"`ip {_joined(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _joined(words: Iterable[str]) -> str:
    return " ".join(words)
