"""A double of GitHub: see `double.py`."""

from doubles.github.double import GitHubDouble
from doubles.github.problem import Problem

__all__ = ["GitHubDouble", "Problem"]
