"""The small world of the environment benchmarks: one team, a project that brings the load and one beside it."""

import json
from typing import Any, Final

from bench.servers import until
from catalyst.local.installation import Installation

TEAM: Final = "bench"
MAIN: Final = "main"
SIDE: Final = "side"
API: Final = "/apis/catalyst.dev/v1alpha1"


class World:
    """Arranged and looked at as cluster admin."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def arrange(self) -> None:
        """The team's namespace, its grant, and two Projects of two repositories."""
        self.installation.team(TEAM, f"github/{TEAM}/*")
        for project in (MAIN, SIDE):
            self.installation.apply(
                {
                    "apiVersion": "catalyst.dev/v1alpha1",
                    "kind": "Project",
                    "metadata": {"namespace": TEAM, "name": project},
                    "spec": {"source": {"repository": f"{TEAM}/{project}"}},
                }
            )

    def projects_ready(self) -> None:
        """Wait until env-controller has made both projects' namespaces."""
        until(lambda: all(map(self._is_ready, (MAIN, SIDE))), "both projects are ready", within=30)

    def _is_ready(self, project: str) -> bool:
        found = self._get(f"{API}/namespaces/{TEAM}/projects/{project}")
        return any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(found))

    def create(self, name: str) -> None:
        answer = self.installation.admin.post(environments(MAIN), json=json.loads(environment(MAIN, name)))
        answer.raise_for_status()

    def is_complete(self, name: str) -> bool:
        found = self._get(f"{environments(MAIN)}/{name}")
        return any(c["type"] == "BaselineReady" and c["status"] == "True" for c in _conditions(found))

    def _get(self, path: str) -> dict[str, Any]:
        answer = self.installation.admin.get(path)
        found: dict[str, Any] = answer.json() if answer.is_success else {}
        return found


def _conditions(found: dict[str, Any]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    return conditions


def environments(project: str, team: str = TEAM) -> str:
    """Where they are created and watched."""
    return f"{API}/namespaces/{team}--{project}/environments"


def environment(project: str, name: str, team: str = TEAM) -> str:
    """As a person would write it."""
    return json.dumps(
        {
            "apiVersion": "catalyst.dev/v1alpha1",
            "kind": "Environment",
            "metadata": {"namespace": f"{team}--{project}", "name": name},
            "spec": {"projectRef": {"team": team, "name": project}},
        }
    )
