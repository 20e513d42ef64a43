"""A Project and an Environment that use every field, and how to change one of them: for tests and for learning."""

import copy
from typing import Any

from catalyst.model.manifest import Manifest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOW = "2026-11-23T20:00:00Z"

PROJECT: Manifest = {
    "apiVersion": "catalyst.dev/v1alpha1",
    "kind": "Project",
    "metadata": {"name": "shop", "namespace": "acme"},
    "spec": {
        "source": {
            "forge": "github",
            "repository": "acme/shop",
            "defaultBranch": "main",
            "credentialsRef": {"name": "forge"},
        },
        "triggers": {
            "pullRequests": {
                "enabled": True,
                "drafts": True,
                "forks": "Never",
                "labels": {"require": ["preview"], "exclude": ["wip"]},
                "baseBranches": ["main", "release/*"],
            },
            "branches": [{"pattern": "release/*"}],
            "manual": False,
            "agents": False,
        },
        "components": [
            {
                "name": "web",
                "build": {
                    "context": "apps/web",
                    "dockerfile": "apps/web/Dockerfile",
                    "target": "run",
                    "args": {"MODE": "preview"},
                },
                "command": ["./web"],
                "args": ["--port", "8080"],
                "workingDir": "/srv",
                "replicas": 2,
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "env": [
                    {"name": "MODE", "value": "preview"},
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}},
                    {"name": "FLAG", "valueFrom": {"configMapKeyRef": {"name": "flags", "key": "a.b"}}},
                ],
                "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}, {"configMapRef": {"name": "flags"}}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": 1}},
                "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
                "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30},
                "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "web", "readOnly": False}],
                "initContainers": [{"name": "migrate", "image": "busybox:1", "command": ["true"]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"size": "1Gi"}},
                    {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
                    {"name": "flags", "configMap": {"name": "flags"}},
                    {"name": "keys", "secret": {"name": "keys"}},
                ],
                "expose": {"port": 8080, "path": "/start", "private": True},
                "dependsOn": ["api", "db"],
                "development": {"command": ["./dev"], "sourcePath": "/srv"},
            },
            {"name": "api", "image": "registry.example.org/api:1"},
        ],
        "services": [
            {
                "name": "db",
                "engine": "postgres",
                "version": "16",
                "container": {"resources": {"limits": {"memory": "1Gi"}}},
                "storage": {"size": "5Gi", "storageClassName": "fast"},
                "credentialsRef": {"name": "db"},
                "backup": {"every": "12h", "keep": 3},
            }
        ],
        "definition": {"helm": {"chart": "chart", "valuesFiles": ["values.yaml"], "values": {"a.b": "c"}}},
        "secrets": [{"name": "shared", "types": ["Development"], "forks": True}],
        "development": {
            "quota": {"requests.cpu": "4", "pods": 30, "count/jobs.batch": 10},
            "limits": {
                "default": {"cpu": "1"},
                "defaultRequest": {"memory": "64Mi"},
                "max": {"ephemeral-storage": "5Gi"},
                "maxPersistentVolumeClaim": "20Gi",
            },
            "egress": [{"cidr": "203.0.113.0/24", "ports": [{"port": 5432, "protocol": "TCP"}]}],
            "ttl": "72h",
            "sleep": {"after": "1h30m"},
        },
        "deployments": [
            {"name": "staging", "branch": "main"},
            {"name": "production", "promoteFrom": "staging", "approval": {"required": 2, "approvers": ["ann"]}},
            {"name": "nightly", "release": "v*"},
        ],
        "paused": False,
    },
    "status": {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Granted",
                "message": "acme may use acme/shop",
                "observedGeneration": 3,
                "lastTransitionTime": NOW,
            }
        ],
        "namespace": {"name": "acme--shop", "uid": "7c20"},
    },
}

ENVIRONMENT: Manifest = {
    "apiVersion": "catalyst.dev/v1alpha1",
    "kind": "Environment",
    "metadata": {
        "name": "pr-42",
        "namespace": "acme--shop",
        "labels": {"catalyst.dev/team": "acme"},
        "annotations": {"catalyst.dev/branch": "feature/foo"},
        "finalizers": ["catalyst.dev/environment"],
    },
    "spec": {
        "projectRef": {"team": "acme", "name": "shop"},
        "type": "Development",
        "source": {
            "branch": "feature/foo",
            "commit": COMMIT,
            "pullRequest": {
                "number": 42,
                "headRepository": "stranger/shop",
                "fork": True,
                "draft": False,
                "openedAt": NOW,
                "author": "dependabot[bot]",
                "title": "Füge <b>alles</b> hinzu",
                "url": "https://github.com/acme/shop/pull/42",
            },
        },
        "owner": "ann",
        "desiredState": "Running",
        "hold": {"reason": "Fork", "message": "waits for an approval of 0123456"},
        "approval": {"commit": COMMIT, "by": "ann", "at": NOW},
        "expiresAt": NOW,
        "deletion": {"reason": "Closed", "at": NOW, "evidence": "delivery 72d3162e"},
        "overrides": {"components": {"web": {"replicas": 1, "env": [{"name": "MODE", "value": "x"}]}}},
    },
    "status": {
        "observedGeneration": 5,
        "phase": "Degraded",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Granted",
                "observedGeneration": 5,
                "lastTransitionTime": NOW,
            },
            {
                "type": "Ready",
                "status": "False",
                "reason": "CrashLoop",
                "message": "web: exit 1",
                "lastTransitionTime": NOW,
            },
        ],
        "url": "https://pr-42--shop--acme.preview.example.org/",
        "commit": COMMIT,
        "namespace": {"name": "acme--shop--pr-42", "uid": "8a1f"},
        "components": [
            {
                "name": "web",
                "image": "registry.example.org/acme/shop/web:1",
                "digest": "sha256:" + "a" * 64,
                "commit": COMMIT,
                "ready": False,
                "readyReplicas": 0,
                "replicas": 1,
                "reason": "CrashLoop",
                "message": "exit 1",
            }
        ],
        "builds": {"web": {"key": "k1", "attempt": 2, "deploy": "d-9/command", "retries": 1}},
        "routes": [
            {
                "host": "pr-42--shop--acme.preview.example.org",
                "namespace": "acme--shop--pr-42",
                "service": "web",
                "port": 8080,
                "component": "web",
                "path": "/start",
                "private": True,
            }
        ],
        "answers": {
            "routes": {"pr-42--shop--acme.preview.example.org": {"live": True, "at": NOW, "failed": False}},
            "builds": {
                "web": {
                    "key": "k1",
                    "attempt": 2,
                    "outcome": "succeeded",
                    "at": NOW,
                    "digest": "sha256:" + "a" * 64,
                    "ports": [8080],
                    "user": "65532",
                    "reason": "Superseded",
                    "message": "no",
                }
            },
            "buildsCleaned": False,
        },
        "pull": {"sha256": "5" * 64},
        "stages": [{"name": "Namespace", "startedAt": NOW, "finishedAt": NOW}],
    },
}

EXAMPLES = {"Project": PROJECT, "Environment": ENVIRONMENT}


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with one field set, by a path such as `spec/components/0/name`. The value `...` removes the field."""
    copied = copy.deepcopy(manifest)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    node: Any = copied
    for part in way:
        node = node[part]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return copied
