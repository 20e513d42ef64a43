"""deploy/k8s/monitoring as values: rules, dashboards, and the metrics that they name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

MONITORING: Final = Path(__file__).parents[2] / "deploy" / "k8s" / "monitoring"
ALERTS: Final = MONITORING / "alerts.yaml"
_NAME: Final = re.compile(r"\b((?:catalyst|process|python)_[a-z0-9_]+)\b")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboards() -> dict[str, dict[str, Any]]:
    """File name → dashboard."""
    return {path.name: json.loads(path.read_text()) for path in sorted((MONITORING / "dashboards").glob("*.json"))}


def metrics_in(expression: str) -> list[str]:
    """The metrics, as samples' names."""
    return _NAME.findall(expression)


def named() -> dict[str, set[str]]:
    """Metric (as a sample's name) → where it is named."""
    found: dict[str, set[str]] = {}
    expressions = [(rule["alert"], rule["expr"]) for rule in rules()]
    for name, board in dashboards().items():
        expressions += [(name, target["expr"]) for panel in board["panels"] for target in panel["targets"]]
        queries = [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
        expressions += [(name, query) for query in queries]
    for where, expression in expressions:
        for metric in metrics_in(expression):
            found.setdefault(metric, set()).add(where)
    return found
