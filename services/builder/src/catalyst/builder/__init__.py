"""builder: image builds as Kubernetes Jobs, and the registry's token realm.

A `build.requested` becomes a Job that fetches one commit and builds one image; the Job's end becomes `build.finished`.
It never runs anything from a repository itself, and no build sees a credential that is not its own.
"""
