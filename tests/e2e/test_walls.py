"""What a pod of an environment reaches: itself, its own URL, names, the public web. Everything else is refused, and
each refused door is one that a pod without our policies opens in the same run. No knock leaves the machine.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from knocks import KNOCK, opened, opened_in
from kubectl import Kubectl, pod, service
from neighbours import Neighbours, address_of, pod_of
from product import Product, Pull, until
from registry import Login, Owner, pull

from catalyst.local import platform
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.node import layout

IMAGE = "python:3-slim"
GATEWAY = "10.244.0.1"
"""The node's own address on the bridge of the pods."""
FETCH = """
import ssl, sys, urllib.request
trust = ssl.create_default_context(cadata=sys.argv[2])
print(urllib.request.urlopen(sys.argv[1], context=trust, timeout=10).read().decode(), end="")
"""
RESOLVE = "import json, socket, sys; print(json.dumps({n: socket.gethostbyname(n) for n in sys.argv[1:]}))"
WEB = "import socketserver,http.server as h;h.ThreadingHTTPServer(('',8080),h.SimpleHTTPRequestHandler).serve_forever()"


@dataclass(frozen=True)
class Doors:
    """Addresses that listen. `walled`: those whose own policy keeps strangers out as well, whoever they are."""

    open: frozenset[str]
    walled: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.open | self.walled


@pytest.fixture(scope="module")
def plain(product: Product) -> Iterator[Kubectl]:
    """A namespace without any policy of ours, with a server in it."""
    with product.kubectl.new_namespace() as there:
        there.apply(pod("web", IMAGE, "python3", "-c", WEB), service("web", 8080))
        there.wait("pod/web", "condition=Ready")
        yield there


@pytest.fixture(scope="module")
def machine() -> Iterator[list[str]]:
    """Listeners of the node beside its own: in the place of its sshd, on each address that pods know of it."""
    with ExitStack() as held:
        listening = [held.enter_context(socket.create_server((a, 0))) for a in (layout.ADDRESS, GATEWAY)]
        yield ["{}:{}".format(*each.getsockname()) for each in listening]


def doors_beside(mine: Pull, others: tuple[Pull, ...], product: Product, plain: Kubectl, machine: list[str]) -> Doors:
    """Everything that there is beside `mine`."""
    admin = product.kubectl.within(platform.EDGE_NAMESPACE).get("pods")["items"][0]["status"]["podIP"]
    nats = product.system.get("pod", product.pod_of("nats"))["status"]["podIP"]
    realm = product.system.get("pod", product.pod_of("builder"))["status"]["podIP"]
    free = [
        "kubernetes.default.svc:443",
        f"{layout.ADDRESS}:{layout.API_PORT}",
        f"{layout.ADDRESS}:{layout.KUBELET_PORT}",
        layout.REGISTRY,
        layout.MIRROR,
        "realm.catalyst.test:8080",
        f"{realm}:8080",
        "github.catalyst.test:8900",
        f"webhook-ingest.{SYSTEM_NAMESPACE}.svc:8080",
        f"{layout.METADATA}:80",
        f"{plain.get('pod', 'web')['status']['podIP']}:8080",
        f"web.{plain.namespace}.svc:8080",
        *machine,
    ]
    walled = [f"nats.{SYSTEM_NAMESPACE}.svc:4222", f"{nats}:4222", f"{admin}:2021"]
    for other in others:
        walled += [f"{address_of(other)}:8080", f"web.{other.namespace}.svc:8080"]
    return Doors(frozenset(free), frozenset(walled))


@pytest.mark.parametrize("which", ["mine", "theirs"])
def test_a_pod_reaches_what_is_its_own_and_nothing_else(
    product: Product, neighbours: Neighbours, plain: Kubectl, machine: list[str], which: str
) -> None:
    """Of both teams, so that no wall is one-sided."""
    mine: Pull = getattr(neighbours, which)
    others = tuple(each for each in neighbours.all if each is not mine)
    doors = doors_beside(mine, others, product, plain, machine)
    own = {"web:8080", f"{address_of(mine)}:8080", f"{host_of(mine)}:443", f"{host_of(mine)}:80", "internet.test:80"}
    assert opened(mine.kubectl, pod_of(mine), *own, *doors.all) == own

    # Somebody listens at each of them: a pod without our policies gets in where nobody has walls of his own …
    plain.apply(pod(f"from-{which}", IMAGE, "python3", "-c", KNOCK, *own, *doors.all))
    found = opened_in(plain.finished(f"from-{which}"))
    assert found == doors.open | own - {f"{address_of(mine)}:8080"}  # (`web` is a server of its own there)
    # … and one that no policy is for (it has the node's own network) gets in behind those walls, too.
    with product.kubectl.new_namespace("privileged") as beyond:
        knocks = pod("knocks", IMAGE, "python3", "-c", KNOCK, *doors.walled, hostNetwork=True, hostUsers=True)
        knocks["spec"]["dnsPolicy"] = "ClusterFirstWithHostNet"
        beyond.apply(knocks)
        assert opened_in(beyond.finished("knocks")) == doors.walled


def host_of(pull: Pull) -> str:
    """Its public name as pods know it."""
    found = pull.environment()
    assert found
    assert found.status
    assert found.status.url
    return pull.visitor().host.replace(".catalyst.localhost", ".catalyst.test")


def test_it_sees_its_own_page_at_its_own_url(product: Product, neighbours: Neighbours) -> None:
    authority = product.done.edge_authority.read_text()
    for each in (neighbours.mine, neighbours.theirs):
        url = f"https://{host_of(each)}/"
        assert each.kubectl.execute(pod_of(each), "python3", "-c", FETCH, url, authority) == each.head


def test_names_are_told(product: Product, neighbours: Neighbours) -> None:
    mine = neighbours.mine
    edge = product.done.edge_address
    expected = {host_of(mine): edge, host_of(neighbours.theirs): edge, "internet.test": layout.INTERNET}
    assert json.loads(mine.kubectl.execute(pod_of(mine), "python3", "-c", RESOLVE, *expected)) == expected


# The registry: no pod reaches it, but the node pulls for them, and a login can be carried away


@pytest.fixture(scope="module")
def images(neighbours: Neighbours) -> Mapping[str, str]:
    """Namespace → the image that runs there, `repository@digest`."""
    found = {}
    for each in neighbours.all:
        running = each.kubectl.get("pod", pod_of(each))["spec"]["containers"][0]["image"]
        found[each.namespace] = running.removeprefix(f"{layout.REGISTRY}/")
    return found


def login_of(mine: Pull) -> Login:
    """What its pods are pulled with."""
    config = mine.kubectl.get("secret", "catalyst-pull")["data"][".dockerconfigjson"]
    return Login.of(base64.b64decode(config).decode())


def test_a_pull_secret_is_good_for_the_images_of_its_own_project(
    product: Product, neighbours: Neighbours, images: Mapping[str, str]
) -> None:
    for mine, other in ((neighbours.mine, neighbours.theirs), (neighbours.theirs, neighbours.mine)):
        login = login_of(mine)
        own, _, digest = images[mine.namespace].partition("@")
        foreign, _, foreign_digest = images[other.namespace].partition("@")
        assert pull(own, digest, login.token(own)) == 200
        # Alone, the realm does not even know it there; asked for both, it grants its own and leaves the other out.
        assert login.asks(f"repository:{foreign}:pull").status_code == 401
        for beside in (foreign, f"{mine.site.team}/blog/web", f"{mine.site.team}/site/cache/development"):
            answer = login.asks(f"repository:{own}:pull,push,delete", f"repository:{beside}:pull").json()
            assert answer["scope"] == f"repository:{own}:pull"
            assert pull(own, digest, answer["token"]) == 200
            assert pull(beside, foreign_digest, answer["token"]) == 401
        # Whoever may gets it.
        folder = Path(product.state.kubeconfig).parent / "realm"
        assert pull(foreign, foreign_digest, Owner(folder).token(("repository", foreign, "pull"))) == 200


def test_an_image_that_lies_on_the_node_is_nobody_elses(neighbours: Neighbours, images: Mapping[str, str]) -> None:
    """Nothing is pulled for it, so no registry is asked: the kubelet must know whose login the image came with."""
    mine, theirs = neighbours.mine, neighbours.theirs
    login = [{"name": "catalyst-pull"}]
    for name, owner in (("own", mine), ("foreign", theirs)):
        image = f"{layout.REGISTRY}/{images[owner.namespace]}"
        quick = {"imagePullPolicy": "IfNotPresent"}
        mine.kubectl.apply(
            pod(name, image, "python3", "-c", "print('it runs')", container=quick, imagePullSecrets=login)
        )
    try:
        assert mine.kubectl.finished("own") == "it runs\n"

        def refused() -> bool:
            (status,) = mine.kubectl.get("pod", "foreign")["status"].get("containerStatuses", [{}])
            waiting = status.get("state", {}).get("waiting", {}).get("reason")
            assert status.get("state", {}).keys() <= {"waiting"}, status
            return waiting in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")

        until(refused, "the neighbour's image is refused", within=30)
    finally:
        mine.kubectl.run("delete", "pod", "own", "foreign", "--wait=false")
