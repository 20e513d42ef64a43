"""Dashboards, alert rules and runbooks: they fit each other, and Prometheus' own promtool says that the rules do what
they say. That the metrics they name exist is shown by tests/stories/test_one_trace.py, where the services run.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring import ALERTS, MONITORING, dashboards, metrics_in, rules

from catalyst.local import components

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="promtool")
def _promtool() -> Path:
    return components.binaries(components=(components.PROMTOOL,))["promtool"]


def run(promtool: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (promtool, *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_promtool_takes_the_rules(promtool: Path, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(ALERTS.read_text())["spec"]))
    done = run(promtool, "check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_each_alert_fires_and_is_silent(promtool: Path, tmp_path: Path) -> None:
    _without_annotations(tmp_path / "rules.yaml", rules())
    tests = MONITORING / "alerts.test.yaml"
    (tmp_path / tests.name).write_text(tests.read_text())
    done = run(promtool, "test", "rules", tmp_path / tests.name)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {case["name"] for case in yaml.safe_load(tests.read_text())["tests"]}
    assert named == {f"{rule['alert']} is {how}" for rule in rules() for how in ("firing", "silent")}


@pytest.mark.parametrize("never", ["vector(0) > 1", "vector(1)"])
def test_a_rule_that_never_or_always_fires_is_found(promtool: Path, tmp_path: Path, never: str) -> None:
    broken, *rest = rules()
    _without_annotations(tmp_path / "rules.yaml", [{**broken, "expr": never}, *rest])
    (tmp_path / "alerts.test.yaml").write_text((MONITORING / "alerts.test.yaml").read_text())
    done = run(promtool, "test", "rules", tmp_path / "alerts.test.yaml")
    assert done.returncode != 0
    assert broken["alert"] in done.stdout + done.stderr


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    for rule in rules():
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.stem == rule["alert"]
        text = page.read_text()
        assert all(part in text for part in (f"# {rule['alert']}\n", "## What to look at", "## What to do"))
        assert rule["labels"]["severity"] in ("warning", "critical")
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("Catalyst*.md")}
    assert pages == {rule["alert"] for rule in rules()}


def test_dashboards_have_ids_of_their_own_and_are_all_installed() -> None:
    found = dashboards()
    assert len({each["uid"] for each in found.values()}) == len(found)
    listed = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["configMapGenerator"][0]["files"]
    assert set(listed) == {f"dashboards/{name}" for name in found}
    for board in found.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_what_an_alert_asks_can_be_seen_on_a_dashboard() -> None:
    shown = {
        metric
        for board in dashboards().values()
        for panel in board["panels"]
        for target in panel["targets"]
        for metric in metrics_in(target["expr"])
    }
    asked = {metric: rule["alert"] for rule in rules() for metric in metrics_in(rule["expr"])}
    assert {metric: alert for metric, alert in asked.items() if metric not in shown} == {}


def _without_annotations(path: Path, given: list[dict[str, Any]]) -> None:
    """promtool would compare the sentences, too; here it is about when, not about words."""
    plain = [{key: value for key, value in rule.items() if key != "annotations"} for rule in given]
    path.write_text(yaml.safe_dump({"groups": [{"name": "catalyst", "rules": plain}]}))
