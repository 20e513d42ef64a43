"""What a node leaves in a machine besides the processes of its supervisor, and how it goes.

Containers outlive containerd on purpose, and with them mounts, control groups, network devices and firewall rules:
that is how a node survives the kill -9 of any part, and why ending it is work of its own. `remember` is called
before the first start and `clean` after the last part ended; both may be repeated, and need no part to run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from catalyst.local.node import network
from catalyst.local.node.layout import PODS_BRIDGE, Layout

_MNT_DETACH: Final = 2
_CHAINS: Final = re.compile(r"^(KUBE-|CNI-)")
_SETS: Final = re.compile(r"^(KUBE-|kube-router|inet6:KUBE-|inet6:kube-router)")
_ROUTER_RULE: Final = "KUBE-ROUTER rule to explicitly ACCEPT traffic"
FOLDERS: Final = ("/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")
"""Written by shims, the CNI library and the kubelet wherever their own folders lie; removed if they were not there."""
_CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
_FIREWALLS: Final = ("iptables", "ip6tables")


def remember(at: Layout) -> None:
    """Note what the machine was like, unless that was done and not yet cleaned up."""
    if not at.before.exists():
        chains = {tool: sorted(_chains(tool)) for tool in _FIREWALLS}
        state = {
            "settings": network.settings(),
            "chains": chains,
            "sets": sorted(_sets()),
            "folders": [path for path in FOLDERS if Path(path).exists()],
        }
        at.before.write_text(json.dumps(state))


def clean(at: Layout, say: Callable[[str], None]) -> None:
    """Everything goes, the cluster's data, too; `say` is told what would not."""
    end_containers(at)
    unmount(at.data, at.run)
    before = known(at)
    if before:  # else nothing tells our chains from somebody's; after a restart of the machine there are none
        _remove_firewall(before, say)
    network.remove()
    for refused in network.restore(before.get("settings", {})):
        say(f"the kernel refused to set back {refused}")
    _remove_control_groups()
    _remove_log_links(at)
    for path in set(FOLDERS) - set(before.get("folders", FOLDERS)):
        shutil.rmtree(path, ignore_errors=True)
    for folder in (at.data, at.run / "containerd"):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            say(f"{folder} could not be removed whole; something still holds {_holders(folder) or 'files in it'}")
    at.before.unlink(missing_ok=True)


def found(at: Layout, before: Mapping[str, Any] | None = None) -> list[str]:
    """What of a node is in this machine, in words; empty when nothing is.

    `before`: what `known` gave, when `clean` has forgotten it. Without either, chains and sets may be somebody's.
    """
    before = before or known(at)
    rules = [
        f"{tool} chain {chain}"
        for tool in (_FIREWALLS if before else ())
        for chain in sorted(_chains(tool) - set(before.get("chains", {}).get(tool, ())))
    ]
    return [
        *(f"process {process.pid} ({process.name()})" for process in shims(at)),
        *(f"mount {mount}" for mount in _mounts(at.data, at.run)),
        *(f"network device {name}" for name in psutil.net_if_addrs() if name.startswith("catalyst")),
        *rules,
        *(f"{tool} rule {line}" for tool in _FIREWALLS for _, lines in _tables(tool) for line in lines if _ours(line)),
        *(f"ipset {name}" for name in sorted(_sets() - set(before.get("sets", ()))) if before),
        *(f"folder {path}" for path in (at.data, Path("/run/netns", "catalyst-internet")) if path.exists()),
        *([f"entries in {network.HOSTS}"] if "catalyst-local" in network.HOSTS.read_text() else []),
    ]


def firewall_stands() -> bool:
    """Whether network policies are enforced: kube-router's chains are in place."""
    return any(chain.startswith("KUBE-ROUTER-FORWARD") for chain in _chains("iptables"))


def shims(at: Layout) -> list[psutil.Process]:
    """Of this node's containerd; every container is a child of one."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if "containerd-shim" in " ".join((process.info["cmdline"] or ("",))[:1])
        and str(at.containerd_socket) in (process.info["cmdline"] or ())
    ]


def end_containers(at: Layout) -> None:
    """kill -9 of every container and its shim. The kubelet must not run: it would start them again."""
    owned = shims(at)
    doomed = [child for shim in owned for child in _children(shim)]
    for process in (*doomed, *owned):  # containers first: a shim without its container removes its own files
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([*doomed, *owned], timeout=10)
    for bundle in (at.run / "containerd").glob("io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(bundle.read_text().removeprefix("unix://"))
        if socket.is_absolute() and socket.exists() and stat.S_ISSOCK(socket.stat().st_mode):
            socket.unlink()


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        children: list[psutil.Process] = process.children(recursive=True)
        return children
    return []


# Mounts


def unmount(*folders: Path) -> None:
    """Whatever is mounted in these folders. Raises OSError naming what stays."""
    libc = ctypes.CDLL(None, use_errno=True)
    for mount in _mounts(*folders):
        if libc.umount2(os.fsencode(mount), _MNT_DETACH) != 0 and ctypes.get_errno() != 2:  # gone with its parent
            raise OSError(ctypes.get_errno(), f"unmounting {mount}: {os.strerror(ctypes.get_errno())}")


def _mounts(*folders: Path) -> list[str]:
    """Below the folders, deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    ours = [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]
    return sorted(ours, key=lambda point: point.count("/"), reverse=True)


def _holders(folder: Path) -> str:
    return ", ".join(str(path) for path in sorted(folder.rglob("*"))[:3])


# Firewall


def _remove_firewall(before: dict[str, Any], say: Callable[[str], None]) -> None:
    """Chains of Kubernetes and CNI that were not there before; rules that jump to one or name our network."""
    for tool in _FIREWALLS:
        kept = set(before.get("chains", {}).get(tool, ()))
        for table, rules in _tables(tool):
            script = list(removal(rules, kept))
            if script:
                text = "\n".join([f"*{table}", *script, "COMMIT", ""])
                done = _run([f"{tool}-restore", "--noflush"], text)
                if done.returncode != 0:
                    say(f"{tool} {table}: {done.stderr.strip()}")
    for name in _sets() - set(before.get("sets", ())):
        _run(["ipset", "destroy", name])
    for name in _sets() - set(before.get("sets", ())):  # those that a list of sets held
        done = _run(["ipset", "destroy", name])
        if done.returncode != 0:
            say(f"ipset {name}: {done.stderr.strip()}")


def removal(rules: list[str], kept: set[str]) -> Iterator[str]:
    """Lines for iptables-restore that undo ours, of one table as iptables-save prints it."""
    chains = [line[1:].split()[0] for line in rules if line.startswith(":")]
    ours = {chain for chain in chains if _CHAINS.match(chain) and chain not in kept}
    for line in rules:
        words = line.split()
        if words[0] == "-A" and words[1] not in ours:
            target = words[words.index("-j") + 1] if "-j" in words else ""
            if target in ours or (ours and _ROUTER_RULE in line) or _ours(line):
                yield line.replace("-A", "-D", 1)
    for chain in sorted(ours):
        yield f"-F {chain}"
    for chain in sorted(ours):
        yield f"-X {chain}"


def _ours(rule: str) -> bool:
    """Of a built-in chain, and of nobody else: our network's name is in it."""
    return f'name: \\"{PODS_BRIDGE}\\"' in rule


def _tables(tool: str) -> Iterator[tuple[str, list[str]]]:
    table, rules = "", list[str]()
    for line in _run([f"{tool}-save"]).stdout.splitlines():
        if line.startswith("*"):
            table, rules = line[1:], []
        elif line == "COMMIT":
            yield table, rules
        elif line and not line.startswith("#"):
            rules.append(line)


def _chains(tool: str) -> set[str]:
    return {
        name
        for _, rules in _tables(tool)
        for line in rules
        if line.startswith(":") and _CHAINS.match(name := line[1:].split()[0])
    }


def _sets() -> set[str]:
    return {name for name in _run(["ipset", "list", "-n"]).stdout.splitlines() if _SETS.match(name)}


# The rest


def _remove_control_groups() -> None:
    """Empty folders named as containerd names them; the kernel refuses to remove one that is in use."""
    for _ in range(20):
        left = [
            path for top in _CONTROL_GROUPS.glob("**/k8s.io") for path in (*_deepest_first(top), top) if path.is_dir()
        ]
        if not left:
            return
        for path in left:
            with contextlib.suppress(OSError):
                path.rmdir()
        time.sleep(0.05)


def _deepest_first(top: Path) -> list[Path]:
    return sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda p: len(p.parts), reverse=True)


def _remove_log_links(at: Layout) -> None:
    """The kubelet links each container's log from /var/log/containers, wherever the pods' logs lie."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(at.data) in str(link.readlink()):
            link.unlink()


def known(at: Layout) -> dict[str, Any]:
    """What `remember` noted; empty when nothing was, or it was cleaned up."""
    try:
        content: dict[str, Any] = json.loads(at.before.read_text())
    except FileNotFoundError:
        return {}
    return content


def _run(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return subprocess.run(command, input=text, capture_output=True, text=True, env=env, check=False)
