"""Every label, annotation, finalizer and API name of Catalyst, once.

Labels are identity and are protected by an admission policy; annotations carry what a label cannot (slashes, length).
"""

GROUP = "catalyst.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# Labels on everything that belongs to an environment. Values are names (see names.py).
TEAM = f"{GROUP}/team"
PROJECT = f"{GROUP}/project"
ENVIRONMENT = f"{GROUP}/environment"
ENVIRONMENT_UID = f"{GROUP}/environment-uid"
"""On the workload namespace: the uid of the Environment that made it. Only such a namespace is adopted or deleted."""
PROJECT_UID = f"{GROUP}/project-uid"
"""On the project namespace: the uid of the Project that made it."""
TYPE = f"{GROUP}/type"
"""`development` or `deployment`, on the workload namespace; admission policies select by it."""
TRUST = f"{GROUP}/trust"
"""`trusted` or `fork`, on a build namespace: whose code runs there. builder writes into no other namespace."""
COMPONENT = f"{GROUP}/component"
EXPOSED = f"{GROUP}/exposed"
"""`true` on pods that the edge may reach."""

# Annotations.
REPOSITORIES = f"{GROUP}/repositories"
"""On the team's namespace, written by the platform: globs of repositories the team may use, separated by spaces or
commas, such as `github/acme/*`."""
PAUSED = f"{GROUP}/paused"
"""On the team's namespace, or for all teams on Catalyst's own, written by the platform: nothing new is made, built or
updated. Its value says why; `false` is the same as no annotation."""
MAXIMUM = f"{GROUP}/maximum-environments"
"""On the team's namespace, written by the platform: so many environments at most, the rest wait in line."""
BRANCH = f"{GROUP}/branch"
"""The branch's own name, which a label would refuse (`feature/foo`)."""
CAUSE = f"{GROUP}/cause"
"""The event that led to the present spec, as `source/id`."""
DEPLOY = f"{GROUP}/deploy"
"""The last `/catalyst deploy` that was obeyed, by its event's id."""
TRACEPARENT = f"{GROUP}/traceparent"
"""The W3C trace context in which the present spec was written."""
TRIGGERED_AT = f"{GROUP}/triggered-at"
"""When the webhook came that led to the present spec, by our clock."""
APPLIED = f"{GROUP}/applied"
"""sha256 of the manifest we applied last."""
SOURCES = f"{GROUP}/sources"
"""On the copy of a shared Secret: the uids and resourceVersions of those that it was made of."""
SECRETS = f"{GROUP}/secrets"
"""On a pod's template: another one when a shared Secret is; a digest of uids and resourceVersions, not of values."""
PULL_DIGEST = f"{GROUP}/pull-sha256"
"""On the Secret `catalyst-pull`: sha256 of its password, so that nobody needs to read the Secret itself."""

FINALIZER = f"{GROUP}/environment"
"""On every Environment before any effect outside the resource; removed last."""
