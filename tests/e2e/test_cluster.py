"""What the node gives to whoever builds on it: pods, names, an enforced firewall, user namespaces, image builds, a
registry with rights, volumes. Each refusal stands beside what is allowed.
"""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from knocks import KNOCK, opened
from kubectl import Kubectl, pod, service
from realm import realm

from catalyst.local import cluster
from catalyst.local.node import layout

DEBIAN = "debian:bookworm-slim"
PYTHON = "python:3-slim"
DOOR = (
    "import socketserver,http.server as h;h.ThreadingHTTPServer(('',8080),h.SimpleHTTPRequestHandler).serve_forever()"
)


def test_a_pod_runs_and_its_log_and_shell_are_there(namespace: Kubectl) -> None:
    namespace.apply(pod("hello", DEBIAN, "sh", "-c", "echo hello; exec sleep 600"))
    namespace.wait("pod/hello", "condition=Ready")
    assert namespace.run("logs", "hello") == "hello\n"
    assert namespace.execute("hello", "cat", "/etc/debian_version").startswith("12.")
    image = namespace.get("pod", "hello")["status"]["containerStatuses"][0]["imageID"]
    assert "@sha256:" in image


def test_images_name_no_package_host(namespace: Kubectl) -> None:
    looks = "cat /etc/apt/sources.list; ls /etc/apt/sources.list.d /etc/apt/apt.conf.d; grep -rlE 'https?://' /etc/apt"
    for name, image in (("base", DEBIAN), ("python", PYTHON)):
        namespace.apply(pod(name, image, "sh", "-c", f"{looks}; true"))
        assert "://" not in namespace.finished(name)


def test_services_are_found_by_name_and_names_lead_where_they_should(kubectl: Kubectl, namespace: Kubectl) -> None:
    namespace.apply(pod("web", PYTHON, "python", "-c", DOOR), service("web", 8080))
    namespace.wait("pod/web", "condition=Ready")
    ip = namespace.get("service", "web")["spec"]["clusterIP"]
    ask = "import json,socket,sys; print(json.dumps({n: socket.gethostbyname(n) for n in sys.argv[1:]}))"
    full = f"web.{namespace.namespace}.svc.cluster.local"
    expected = {
        "web": ip,
        full: ip,
        "registry.catalyst.test": layout.ADDRESS,
        "mirror.catalyst.test": layout.ADDRESS,
        "github.catalyst.test": layout.ADDRESS,
        "realm.catalyst.test": layout.REALM,
        "internet.test": layout.INTERNET,
        "deep.internet.test": layout.INTERNET,
    }
    namespace.apply(pod("asks", PYTHON, "python", "-c", ask, *expected))
    assert json.loads(namespace.finished("asks")) == expected
    namespace.apply(pod("knocks", PYTHON, "python", "-c", KNOCK, "web:8080", f"{ip}:8080", "web:8081"))
    knocked = json.loads(namespace.finished("knocks"))
    assert (knocked["web:8080"], knocked[f"{ip}:8080"]) == ("open", "open")
    assert knocked["web:8081"] != "open"


@pytest.fixture
def edge(kubectl: Kubectl) -> Iterator[str]:
    """The edge's Service; where there is none yet, one that leads nowhere: only its address matters."""
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catalyst-edge"}})
    place = kubectl.within("catalyst-edge")
    there = "service/edge" in place.run("get", "service", "--output=name")
    if not there:
        place.apply(service("edge", 443))
    yield place.get("service", "edge")["spec"]["clusterIP"]
    if not there:
        kubectl.run("delete", "namespace", "catalyst-edge", "--wait=false")


def test_environments_hostnames_lead_to_the_edge(namespace: Kubectl, edge: str) -> None:
    until = time.monotonic() + 20  # CoreDNS hears of a new Service a moment later
    while not cluster.resolves("pr-1--shop--acme.catalyst.test", layout.DNS):
        assert time.monotonic() < until
        time.sleep(0.2)
    ask = "import socket,sys; print(*[socket.gethostbyname(n) for n in sys.argv[1:]])"
    namespace.apply(pod("asks", PYTHON, "python", "-c", ask, "pr-1--shop--acme.catalyst.test", "x.catalyst.test"))
    assert namespace.finished("asks").split() == [edge, edge]


def test_network_policy_is_enforced(kubectl: Kubectl, namespace: Kubectl) -> None:
    """The same knocks from a pod with policies and from one without: every refused door stands open for the other."""
    with kubectl.new_namespace() as other:
        for place in (namespace, other):
            place.apply(pod("web", PYTHON, "python", "-c", DOOR), service("web", 8080))
        for place in (namespace, other):
            place.wait("pod/web", "condition=Ready")
        theirs = other.get("pod", "web")["status"]["podIP"]
        allowed = ["web:8080", f"{layout.INTERNET}:80", "internet.test:80"]
        refused = [
            f"{theirs}:8080",
            f"web.{other.namespace}.svc.cluster.local:8080",
            "kubernetes.default.svc.cluster.local:443",
            f"{layout.ADDRESS}:{layout.API_PORT}",
            f"{layout.ADDRESS}:{layout.KUBELET_PORT}",
            layout.REGISTRY,
            layout.MIRROR,
            f"{layout.METADATA}:80",
        ]
        namespace.apply(pod("before", PYTHON, "python", "-c", KNOCK, *allowed, *refused))
        assert set(json.loads(namespace.finished("before")).values()) == {"open"}
        namespace.apply(*_policies(), pod("after", PYTHON, "sleep", "600"))
        namespace.wait("pod/after", "condition=Ready")
        until = time.monotonic() + 30  # kube-router hears of a new pod, and of a policy, a moment after it runs
        while (found := opened(namespace, "after", *allowed, *refused)) != set(allowed):
            assert time.monotonic() < until, f"open beside what is allowed: {sorted(found - set(allowed))}"
        other.apply(pod("enters", PYTHON, "python", "-c", KNOCK, f"web.{namespace.namespace}:8080", "web:8080"))
        entered = json.loads(other.finished("enters"))
        assert entered.pop("web:8080") == "open"
        assert "open" not in entered.values()


def _policies() -> list[dict[str, object]]:
    private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"]
    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
           "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}  # fmt: skip
    everyone_here: list[object] = [{"podSelector": {}}]
    dns_ports = [{"port": 53, "protocol": "UDP"}, {"port": 53}]
    public = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": private}}]
    specs: dict[str, dict[str, object]] = {
        "deny": {"policyTypes": ["Ingress", "Egress"]},
        "here": {"ingress": [{"from": everyone_here}], "egress": [{"to": everyone_here}]},
        "dns": {"policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": dns_ports}]},
        "public": {"policyTypes": ["Egress"], "egress": [{"to": public, "ports": [{"port": 80}]}]},
    }
    group = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return [{**group, "metadata": {"name": name}, "spec": {"podSelector": {}, **spec}} for name, spec in specs.items()]


def test_root_in_a_pod_is_nobody_on_the_machine(namespace: Kubectl) -> None:
    namespace.apply(pod("inside", DEBIAN, "sh", "-c", "id -u; cat /proc/self/uid_map"))
    uid, _, host, size = namespace.finished("inside").split()
    assert (uid, size) == ("0", "65536")
    assert int(host) >= 65536


def test_a_port_of_the_machine_leads_into_a_pod(kubectl: Kubectl) -> None:
    with kubectl.new_namespace("privileged") as there:  # Pod Security counts a host port as a privilege
        ports = {
            "ports": [{"containerPort": 8080, "hostPort": 18080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        }
        there.apply(pod("web", PYTHON, "python", "-c", DOOR, container=ports))
        there.wait("pod/web", "condition=Ready")
        for address in ("127.0.0.1", layout.ADDRESS):
            assert httpx.get(f"http://{address}:18080/", trust_env=False, timeout=5).status_code == httpx.codes.OK


def test_every_base_image_runs(namespace: Kubectl) -> None:
    commands = {
        "python:3": ["python", "-c", "import http, ssl, sqlite3; print('Python 3.11')"],
        "node:18": ["node", "-p", "process.version"],
        "postgres:15": ["postgres", "--version"],
        "redis:7": ["redis-server", "--version"],
        "nats:2.15.1": ["/nats-server", "--version"],
        "caddy:2.11.7": ["caddy", "version"],
        "catalyst/git:bookworm": ["git", "--version"],
        "gcr.io/go-containerregistry/crane:v0.22.1": ["crane", "digest", "--help"],
        "gcr.io/kaniko-project/executor:v1.24.0": ["/kaniko/executor", "version"],
    }
    for number, (image, command) in enumerate(commands.items()):
        namespace.apply(pod(f"says-{number}", image, *command))
    said = {image: namespace.finished(f"says-{number}") for number, image in enumerate(commands)}
    assert {image for image, text in said.items() if not any(c.isdigit() for c in text)} == set()


# Registry and builds

BUILT = "acme/shop/web"


@pytest.fixture(scope="module")
def registry_realm(node: cluster.ClusterState, kubectl: Kubectl) -> Iterator[dict[str, str]]:
    """A realm behind builder's address, and a user of it."""
    folder = Path(node.kubeconfig).parent / "realm"
    user = {"username": "builder", "password": "word"}
    with (
        realm(folder / "key.pem", folder / "jwks.json", {"builder": "word"}, {BUILT: "pull,push"}) as port,
        kubectl.new_namespace() as there,
    ):
        there.apply(
            {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "realm"},
                "spec": {"clusterIP": layout.REALM, "ports": [{"port": 8080, "targetPort": port}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "realm", "labels": {"kubernetes.io/service-name": "realm"}},
                "endpoints": [{"addresses": [layout.ADDRESS]}], "ports": [{"name": "", "port": port}],
            },
        )  # fmt: skip
        yield user


@pytest.fixture
def credential(namespace: Kubectl, registry_realm: dict[str, str]) -> dict[str, str]:
    """The user, whose credential is in a Secret `registry`."""
    auth = base64.b64encode(f"{registry_realm['username']}:{registry_realm['password']}".encode()).decode()
    config = json.dumps({"auths": {layout.REGISTRY: {"auth": auth}}})
    kind = "kubernetes.io/dockerconfigjson"
    secret = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": "registry"}}
    namespace.apply({**secret, "stringData": {".dockerconfigjson": config}})
    return registry_realm


def test_kaniko_builds_pushes_and_the_node_pulls(namespace: Kubectl, credential: dict[str, str]) -> None:
    run = 'RUN python -c \'open("/made", "w").write("by RUN")\''
    dockerfile = f"FROM python:3-slim\nCOPY page /page\n{run}\nCMD cat /page /made\n"
    namespace.run(
        "create", "configmap", "context", f"--from-literal=Dockerfile={dockerfile}", "--from-literal=page=a page, "
    )
    namespace.apply(_kaniko("build", f"{layout.REGISTRY}/{BUILT}:1"))
    namespace.wait("pod/build", "jsonpath={.status.phase}=Succeeded", 180)
    digest = namespace.get("pod", "build")["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    assert digest.startswith("sha256:")

    image = f"{layout.REGISTRY}/{BUILT}@{digest}"
    namespace.apply(pod("runs", image, imagePullSecrets=[{"name": "registry"}]))
    assert namespace.finished("runs") == "a page, by RUN"


def test_the_registry_refuses_without_and_beyond_a_right(namespace: Kubectl, credential: dict[str, str]) -> None:
    base = f"http://{layout.REGISTRY}/v2"
    with httpx.Client(trust_env=False) as client:
        challenge = client.get(f"{base}/").headers["www-authenticate"]
        assert f'realm="{layout.REALM_URL}"' in challenge
        assert f'service="{layout.REGISTRY}"' in challenge
        for repository, status in ((BUILT, 202), ("acme/other/web", 401)):
            token = _ask(client, f"repository:{repository}:pull,push", (credential["username"], credential["password"]))
            upload = client.post(f"{base}/{repository}/blobs/uploads/", headers={"authorization": f"Bearer {token}"})
            assert upload.status_code == status
            assert client.post(f"{base}/{repository}/blobs/uploads/").status_code == httpx.codes.UNAUTHORIZED
        mirror = client.post(f"http://{layout.MIRROR}/v2/library/debian/blobs/uploads/")
        assert mirror.status_code == httpx.codes.METHOD_NOT_ALLOWED
    dockerfile = "FROM scratch\nCOPY Dockerfile /\n"
    namespace.run("create", "configmap", "context", f"--from-literal=Dockerfile={dockerfile}")
    namespace.apply(_kaniko("beyond", f"{layout.REGISTRY}/acme/other/web:1"))
    namespace.wait("pod/beyond", "jsonpath={.status.phase}=Failed")
    assert "UNAUTHORIZED" in namespace.run("logs", "beyond")


def _ask(client: httpx.Client, scope: str, auth: tuple[str, str]) -> str:
    """By the name that containerd uses; kube-proxy leads the host to the Service, too."""
    until = time.monotonic() + 20
    while True:
        try:
            answer = client.get(layout.REALM_URL, params={"service": layout.REGISTRY, "scope": scope}, auth=auth)
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.2)
        else:
            return str(answer.raise_for_status().json()["token"])


def _kaniko(name: str, destination: str) -> dict[str, object]:
    flags = [
        "--context=dir:///workspace", "--dockerfile=/workspace/Dockerfile", f"--destination={destination}",
        f"--registry-mirror={layout.MIRROR}", "--skip-default-registry-fallback",
        f"--insecure-registry={layout.MIRROR}",
        f"--insecure-registry={layout.REGISTRY}", "--insecure", "--insecure-pull", "--digest-file=/dev/termination-log",
    ]  # fmt: skip
    mounts = [
        {"name": "context", "mountPath": "/workspace"},
        {"name": "credential", "mountPath": "/kaniko/.docker", "readOnly": True},
    ]
    config = {"key": ".dockerconfigjson", "path": "config.json"}
    copied = {
        "name": "copy", "image": DEBIAN, "command": ["sh", "-c", "cp -L /from/* /workspace/"],
        "volumeMounts": [{"name": "source", "mountPath": "/from"}, {"name": "context", "mountPath": "/workspace"}],
    }  # fmt: skip
    return pod(
        name,
        "gcr.io/kaniko-project/executor:v1.24.0",
        container={"args": flags, "volumeMounts": mounts},
        initContainers=[copied],
        volumes=[
            {"name": "source", "configMap": {"name": "context"}},
            {"name": "context", "emptyDir": {}},
            {"name": "credential", "secret": {"secretName": "registry", "items": [config]}},
        ],
    )


# Volumes


def test_a_database_keeps_its_data_in_a_volume_claim(namespace: Kubectl) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    probe = {"exec": {"command": ["psql", "-h", "127.0.0.1", "-U", "shop", "-c", "select 1"]}, "periodSeconds": 1}
    container = {
        "env": [{"name": f"POSTGRES_{key}", "value": "shop"} for key in ("USER", "PASSWORD", "DB")]
        + [{"name": "PGPASSWORD", "value": "shop"}],
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data", "subPath": "pg"}],
        "readinessProbe": probe,
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    database = pod("postgres", "postgres:15", container=container, volumes=volumes)
    namespace.apply(claim, database)
    namespace.wait("pod/postgres", "condition=Ready")
    sql = ("psql", "-h", "127.0.0.1", "-U", "shop", "-Atc")
    namespace.execute("postgres", *sql, "create table orders as select 42 as number")
    namespace.run("delete", "pod", "postgres")
    namespace.apply(database)
    namespace.wait("pod/postgres", "condition=Ready")
    assert namespace.execute("postgres", *sql, "select number from orders").strip() == "42"

    volume = namespace.get("pvc", "data")["spec"]["volumeName"]
    folder = next(path for path in Path("/var/lib/catalyst-local/volumes").iterdir() if path.name.startswith(volume))
    namespace.run("delete", "pod", "postgres")
    namespace.run("delete", "pvc", "data")
    until = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < until, f"{folder} stays after its claim"
        time.sleep(0.3)


def test_redis_answers(namespace: Kubectl) -> None:
    namespace.apply(pod("redis", "redis:7"), service("redis", 6379))
    namespace.wait("pod/redis", "condition=Ready")
    patiently = "for i in 1 2 3 4 5 6 7 8 9; do redis-cli -h redis ping && exit; sleep 1; done; exit 1"
    namespace.apply(pod("asks", "redis:7", "sh", "-c", patiently))
    assert namespace.finished("asks").endswith("PONG\n")
