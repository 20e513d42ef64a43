"""What the node needs of Debian, and its installation. Every package is named on the screen with what it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO


class NotThisMachine(RuntimeError):
    """The node cannot run here. The text says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    gives: str
    """A file that is there when the package is installed: an absolute path, or a command."""
    purpose: str

    @property
    def installed(self) -> bool:
        if self.gives.startswith("/"):
            return Path(self.gives).exists()
        return shutil.which(self.gives, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


PACKAGES: Final = (
    Package("iproute2", "ip", "bridges and the stand-in internet"),
    Package("iptables", "iptables", "Services and network policies"),
    Package("ipset", "ipset", "network policies"),
    Package("conntrack", "conntrack", "Services"),
    Package("containernetworking-plugins", "/usr/lib/cni/bridge", "the pods' network"),
    Package("debootstrap", "debootstrap", "base images from Debian's own packages"),
    Package("buildah", "buildah", "base images"),
    Package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "for images that speak TLS"),
    Package("git", "git", "the example repositories"),
    Package("gcc", "gcc", "to build runc"),
    Package("libc6-dev", "/usr/include/stdlib.h", "to build runc"),
    Package("pkg-config", "pkg-config", "to build runc"),
    Package("libseccomp-dev", "/usr/include/seccomp.h", "to build runc"),
)

_ELSEWHERE: Final = (
    "Use a cluster you have instead (kind, k3d, a cloud's): set CATALYST_KUBECONFIG to its admin's kubeconfig."
)


def check_machine() -> None:
    """Raises NotThisMachine."""
    if sys.platform != "linux":
        raise NotThisMachine(f"the node needs Linux, and this is {sys.platform}. {_ELSEWHERE}")
    if os.geteuid() != 0:
        raise NotThisMachine(
            "the node needs root: it makes bridges, mounts and network namespaces. Run it as root "
            f"(sudo -E make cluster-up). {_ELSEWHERE}"
        )
    missing = [package for package in PACKAGES if not package.installed]
    if missing and shutil.which("apt-get") is None:
        raise NotThisMachine(
            f"the node needs {', '.join(package.gives for package in missing)}; Debian packages them as "
            f"{' '.join(package.name for package in missing)}, and there is no apt-get here. {_ELSEWHERE}"
        )


def install(out: TextIO) -> None:
    """What is missing, with apt-get. Raises NotThisMachine with apt's last lines when it fails."""
    missing = [package for package in PACKAGES if not package.installed]
    if not missing:
        return
    print("installing from Debian:", file=out)
    for package in missing:
        print(f"  {package.name:<28} {package.purpose}", file=out, flush=True)
    names = [package.name for package in missing]
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "--yes", "--no-install-recommends", "install", *names],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            end = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
            raise NotThisMachine(
                f"`{' '.join(command)}` failed:\n{end}\nInstall {' '.join(names)} by hand, then run this again."
            )
