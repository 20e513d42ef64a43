"""What of the node can be decided without one: names, files, what is removed. tests/e2e runs it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from catalyst.local import autoscaling, cluster
from catalyst.local.components import AUTOSCALING, NODE
from catalyst.local.node import images, layout, leftovers, network, packages
from catalyst.local.node.images import Image
from catalyst.local.node.layout import Layout
from catalyst.local.node.parts import front_proxy, toml

HOSTS = "127.0.0.1 localhost\n10.0.0.7 somebody # theirs\n"


def test_our_names_enter_and_leave_the_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    network.write_hosts(layout.NAMES, path)
    first = path.read_text()
    assert first.startswith(HOSTS)
    assert f"{layout.ADDRESS} registry.catalyst.test\n" in first
    network.write_hosts(layout.NAMES, path)
    assert path.read_text() == first
    path.write_text(first + "10.0.0.8 later\n")
    network.write_hosts({}, path)
    assert path.read_text() == HOSTS + "10.0.0.8 later\n"


def test_a_hosts_file_without_a_last_newline_keeps_its_last_name(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost")
    network.write_hosts(layout.NAMES, path)
    assert path.read_text().startswith("127.0.0.1 localhost\n# begin")


def test_pods_get_the_resolvers_that_they_can_reach(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("search example.test\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n# nameserver 192.0.2.54\n")
    if not Path("/run/systemd/resolve/resolv.conf").exists():
        assert network.resolvers(path) == ["192.0.2.53"]


def test_toml_is_what_a_reader_reads() -> None:
    content = {
        "version": 3,
        "disabled": ["a.b", "c"],
        "plugins": {"io.x.v1": {"on": True, "cni": {"dirs": ["/usr/lib/cni"]}, "runtimes": {"runc": {"name": 'a"b'}}}},
        "host": {"http://registry:5000": {"capabilities": ["pull"]}},
    }
    assert tomllib.loads(toml(content)) == content


def test_ours_goes_from_the_firewall_and_others_stay() -> None:
    network_name = r'--comment "name: \"catalyst-pods\" id: \"ab\""'
    table = [
        ":POSTROUTING ACCEPT [0:0]",
        ":DOCKER - [0:0]",
        ":CNI-1111 - [0:0]",
        ":CNI-theirs - [0:0]",
        ":KUBE-SERVICES - [0:0]",
        "-A POSTROUTING -j DOCKER",
        f"-A POSTROUTING -s 10.244.0.9/32 -m comment {network_name} -j CNI-1111",
        "-A POSTROUTING -s 10.88.0.2/32 -j CNI-theirs",
        "-A POSTROUTING -j KUBE-SERVICES",
        "-A KUBE-SERVICES -j RETURN",
        "-A CNI-1111 -j MASQUERADE",
    ]
    assert list(leftovers.removal(table, {"CNI-theirs"})) == [
        f"-D POSTROUTING -s 10.244.0.9/32 -m comment {network_name} -j CNI-1111",
        "-D POSTROUTING -j KUBE-SERVICES",
        "-F CNI-1111",
        "-F KUBE-SERVICES",
        "-X CNI-1111",
        "-X KUBE-SERVICES",
    ]
    assert list(leftovers.removal(["-A POSTROUTING -j DOCKER", ":DOCKER - [0:0]"], set())) == []


def test_the_manifests_agree_with_the_layout() -> None:
    found = {
        (manifest["kind"], manifest["metadata"]["name"]): manifest
        for path in cluster.MANIFESTS.glob("*.yaml")
        for manifest in yaml.safe_load_all(path.read_text())
    }
    assert found["Service", "kube-dns"]["spec"]["clusterIP"] == layout.DNS
    corefile = found["ConfigMap", "coredns"]["data"]["Corefile"]
    for name, address in layout.NAMES.items():
        if name != layout.NODE:
            assert any(line.split()[:1] == [address] and name in line for line in corefile.splitlines())
    assert f"IN A {layout.INTERNET}" in corefile
    image = found["Deployment", "coredns"]["spec"]["template"]["spec"]["containers"][0]["image"]
    tags = {tag for wanted in images.wanted({n: Path(n) for c in NODE for n in c.binaries}) for tag in wanted.tags}
    assert image.removeprefix("docker.io/") in tags
    assert layout.PAUSE_IMAGE.removeprefix("docker.io/") in tags


def test_each_module_pins_what_its_recipe_names() -> None:
    for component in NODE + AUTOSCALING:
        pinned = (component.module / "go.mod").read_text()
        assert (component.module / "go.sum").exists()
        for package in component.binaries.values():
            assert package == "." or package.split("/cmd/")[0] in pinned


def test_the_packages_of_modules_name_no_host_beside_their_own() -> None:
    made = {n: Path(n) for c in NODE + AUTOSCALING for n in c.binaries}
    for image in images.wanted(made) + autoscaling.images(made):
        assert "://" not in (image.dockerfile / "Dockerfile").read_text(), image.folder


def test_apis_of_pods_believe_an_authority_that_signs_nobody_else(tmp_path: Path) -> None:
    """Who has a certificate of it may be anybody: so it is not the cluster's, and its key is nowhere."""
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in front_proxy(tmp_path))
    authority = x509.load_pem_x509_certificate(Path(flags["requestheader-client-ca-file"]).read_bytes())
    client = x509.load_pem_x509_certificate(Path(flags["proxy-client-cert-file"]).read_bytes())
    client.verify_directly_issued_by(authority)
    (name,) = client.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == flags["requestheader-allowed-names"]
    kept = [path.read_text() for path in tmp_path.iterdir() if "PRIVATE" in path.read_text()]
    assert kept == [Path(flags["proxy-client-key-file"]).read_text()]


def test_an_image_is_built_again_when_something_decisive_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "DOCKERFILES", tmp_path)
    for name in ("debian", "app"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(f"FROM {name}\n")
    binary = tmp_path / "0123" / "tool"
    binary.parent.mkdir()
    binary.write_bytes(b"1")
    image = Image("app", ("app:1",), {"tool": binary})
    keys = [image.key()]
    assert image.key() == keys[0]
    binary.write_bytes(b"12")
    keys.append(image.key())
    (tmp_path / "debian" / "Dockerfile").write_text("FROM scratch\n")
    keys.append(image.key())
    (tmp_path / "app" / "script").write_text("x")
    keys.append(image.key())
    assert len(set(keys)) == len(keys)


UNMOUNTED = """
import shutil, subprocess, sys
from pathlib import Path
from catalyst.local.node import leftovers
folder = Path(sys.argv[1])
beside, storage = folder / "beside", folder / "stale" / "storage"
for place in (beside, storage):
    place.mkdir(parents=True)
    subprocess.run(["mount", "--bind", place, place], check=True)
(storage / "merged").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "none", storage / "merged"], check=True)
leftovers.unmount(folder / "stale")
shutil.rmtree(folder / "stale")
mounts = Path("/proc/self/mountinfo").read_text()
print(str(beside) in mounts, str(folder / "stale") in mounts, (folder / "stale").exists())
"""


def test_what_somebody_left_mounted_in_a_folder_can_be_removed(tmp_path: Path) -> None:
    """As buildah does when it is killed. In a mount namespace of its own, so that nothing is left of the test."""
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", UNMOUNTED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.stdout.split() == ["True", "False", "False"], said.stderr


def test_who_is_not_root_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(packages.NotThisMachine, match=r"needs root.*sudo.*CATALYST_KUBECONFIG"):
        packages.check_machine()


def test_without_apt_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(packages, "PACKAGES", (packages.Package("a-package", "/nowhere/tool", "a test"),))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(packages.NotThisMachine, match=r"needs /nowhere/tool; Debian packages them as a-package"):
        packages.check_machine()


def test_no_state_file_is_no_cluster(tmp_path: Path) -> None:
    assert cluster.ClusterState.read(tmp_path) is None
    assert cluster.running(tmp_path) is None
    assert Layout(tmp_path).kubeconfig == tmp_path / "admin.kubeconfig"


def test_a_name_nobody_answers_for_does_not_resolve() -> None:
    assert not cluster.resolves("a.test", "127.0.0.1", within=0.2)
