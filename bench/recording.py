"""What env-controller writes for one environment, taken from the API server's own audit log, as a recording that
limits/kubernetes.py can send again."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.run import Run
from bench.servers import installation, service, until
from bench.world import World
from catalyst.local.installation import Installation

TEMPLATE = "recorded-env"
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


def record(run: Run) -> list[dict[str, str]]:
    """The requests for one environment, from its own POST on, in the order in which the API server received them."""
    run.say("recording what env-controller writes for one environment")
    with run.folder() as folder, installation(folder, audit_bodies=True) as found:
        world = World(found)
        world.arrange()
        with service("env-controller", folder, found.settings("env-controller")):
            world.projects_ready()
            world.create(TEMPLATE)
            until(lambda: world.is_complete(TEMPLATE), "the environment is complete", within=20)
            until(lambda: _is_quiet(found), "env-controller is done", within=20)
        return requests(found.control_plane.audit_log)


def _is_quiet(found: Installation) -> bool:
    marker = found.audit.marker()
    time.sleep(1)
    return not found.audit.writes_since(marker)


def requests(audit_log: Path) -> list[dict[str, str]]:
    """Those of the audit log that concern the recorded environment."""
    events = [json.loads(line) for line in audit_log.read_text().splitlines()]
    events = [event for event in events if _is_of_environment(event)]
    events.sort(key=lambda event: event["requestReceivedTimestamp"])
    uids = _uids(events)
    return [_request(event, uids) for event in events]


def _is_of_environment(event: Mapping[str, Any]) -> bool:
    user = event["user"]["username"]
    ours = user.startswith("system:serviceaccount:catalyst-system:") or user == "catalyst-local-admin"
    code = event.get("responseStatus", {}).get("code", 0)
    concerns = TEMPLATE in event["requestURI"] or TEMPLATE in json.dumps(event.get("requestObject", {}))
    return ours and concerns and event["verb"] in _METHODS and code < 300


def _uids(events: list[dict[str, Any]]) -> dict[str, str]:
    """The uids that the recorded bodies hold → their placeholders."""
    found: dict[str, str] = {}
    for event in events:
        body = event.get("requestObject") or {}
        labels = body.get("metadata", {}).get("labels", {})
        if "catalyst.dev/environment-uid" in labels:
            found[labels["catalyst.dev/environment-uid"]] = "@UID@"
        namespace = body.get("status", {}).get("namespace", {}) if isinstance(body.get("status"), dict) else {}
        if "uid" in namespace:
            found[namespace["uid"]] = "@NAMESPACE_UID@"
    return found


def _request(event: Mapping[str, Any], uids: Mapping[str, str]) -> dict[str, str]:
    body = event.get("requestObject")
    if body is not None:
        metadata = body.get("metadata", {})
        if event["objectRef"]["resource"] == "environments" and event["verb"] != "create":
            if "resourceVersion" in metadata:
                metadata["resourceVersion"] = "@VERSION@"
        else:
            for name in ("uid", "resourceVersion", "creationTimestamp"):
                metadata.pop(name, None)
            body.pop("status", None)
    text = "" if body is None else json.dumps(body, separators=(",", ":"))
    for uid, placeholder in uids.items():
        text = text.replace(uid, placeholder)
    target = event["requestURI"]
    return {
        "method": _METHODS[event["verb"]],
        "target": target.replace(TEMPLATE, "@NAME@"),
        "content_type": _content_type(event),
        "body": text.replace(TEMPLATE, "@NAME@"),
    }


def _content_type(event: Mapping[str, Any]) -> str:
    if event["verb"] != "patch":
        return "application/json"
    is_apply = "force=" in event["requestURI"] or "kind" in (event.get("requestObject") or {})
    return "application/apply-patch+yaml" if is_apply else "application/merge-patch+json"


def manifests(recording: list[dict[str, str]], name: str) -> list[dict[str, Any]]:
    """The namespace and everything that was applied, for kubectl: every object once."""
    found: dict[str, dict[str, Any]] = {}
    for request in recording:
        text = request["body"].replace("@NAME@", name).replace("@UID@", "00000000-0000-4000-8000-000000000000")
        body = json.loads(text) if text else {}
        if body.get("kind") not in (None, "Environment"):
            found[f"{body['kind']}/{body['metadata'].get('namespace')}/{body['metadata']['name']}"] = body
    return list(found.values())
