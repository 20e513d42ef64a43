"""The node for end-to-end tests: the checkout's own cluster. One that runs already is used and left running."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl
from neighbours import Neighbours
from neighbours import neighbours as opened
from product import Product
from product import product as installed
from runbooks import Terminal

from catalyst.local import cluster, components
from catalyst.local.demo.desk import desk
from catalyst.local.node.packages import NotThisMachine, check_machine


@pytest.fixture(scope="session")
def began_here() -> Iterator[bool]:
    """Whether no cluster of this checkout ran before; then none runs afterwards."""
    try:
        check_machine()
    except NotThisMachine as error:
        pytest.skip(str(error))
    before = cluster.running()
    yield before is None
    if before is None and cluster.ClusterState.read() is not None:
        assert cluster.down() == []


@pytest.fixture(scope="module")
def node(began_here: bool) -> cluster.ClusterState:
    return cluster.up(out=sys.stderr)


@pytest.fixture(scope="module")
def kubectl(node: cluster.ClusterState) -> Kubectl:
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    return Kubectl(binary, Path(node.kubeconfig))


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    """A new one, under Pod Security `baseline`."""
    with kubectl.new_namespace() as there:
        yield there


@pytest.fixture(autouse=True)
def no_foreign_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    if "CATALYST_KUBECONFIG" in os.environ:
        monkeypatch.delenv("CATALYST_KUBECONFIG")


@pytest.fixture(scope="session")
def product(began_here: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The whole product, installed once for all modules of a part."""
    with installed(cluster.up(out=sys.stderr), tmp_path_factory.mktemp("product")) as found:
        yield found


@pytest.fixture(scope="module")
def cleared(product: Product) -> Iterator[None]:
    """What a module made in the product goes with it: two cores have room for a dozen pods that ask for a tenth of one,
    and for the builds beside them.
    """
    yield
    product.clear()


@pytest.fixture(scope="session")
def on_call(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Where somebody on call types: what `make demo-shell` gives."""
    folder = tmp_path_factory.mktemp("desk")
    with desk(product.state, folder) as here:
        yield Terminal(folder, {"HOME": str(folder), "USER": "hubot", **here.environ})


@pytest.fixture(scope="session")
def neighbours(product: Product) -> Neighbours:
    """Environments of two teams, for whoever looks at the walls between them."""
    return opened(product)
