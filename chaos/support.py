"""What the tests end to end stand on, for a program that is no test."""

from __future__ import annotations

import sys

from bench.results import ROOT

sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests")]

from doubles.github import GitHubDouble  # noqa: E402
from kubectl import Kubectl  # noqa: E402
from product import EXAMPLES, Product, Pull, Site, another_hello, example, is_ready  # noqa: E402
from product import product as installed  # noqa: E402
from victims import first_process  # noqa: E402

__all__ = [
    "EXAMPLES", "ROOT", "GitHubDouble", "Kubectl", "Product", "Pull", "Site", "another_hello", "example",
    "first_process", "installed", "is_ready",
]  # fmt: skip
