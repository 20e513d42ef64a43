"""What to do about each reason: one sentence for the comment, and the runbook that says more. Pure data.

`reason` is what env-controller writes into conditions and components; a name of its own in docs/runbooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Remedy:
    """`advice` is Markdown of ours. `runbook` is a file in docs/runbooks without its ending."""

    advice: str
    runbook: str


REMEDIES: Final[Mapping[str, Remedy]] = {
    "BuildFailed": Remedy(
        "Read the end of the log, fix the Dockerfile or the code it builds, and push.", "BuildFailed"
    ),
    "DockerfileNotFound": Remedy(
        "Add the Dockerfile, or name its path in the Project (`components[].build`), and push.", "DockerfileNotFound"
    ),
    "ContextNotFound": Remedy(
        "The folder to build in is not in the repository. Add it, or correct `components[].build` in the Project.",
        "DockerfileNotFound",
    ),
    "DockerfileInvalid": Remedy("The Dockerfile cannot be read. The log names the line.", "DockerfileInvalid"),
    "BaseImageNotFound": Remedy(
        "An image in `FROM` cannot be pulled. Correct its name and tag, or make it readable.", "BaseImageNotFound"
    ),
    "InvalidInput": Remedy("Correct the component's `build` in the Project.", "InvalidInput"),
    "CommitNotFound": Remedy(
        "The commit is not in the repository any more, as after a force push. Push again.", "CommitNotFound"
    ),
    "SourceUnavailable": Remedy(
        "The repository could not be read. Check that the forge's App is installed on it, then `/catalyst deploy`.",
        "SourceUnavailable",
    ),
    "SourceCredentialMissing": Remedy(
        "The repository is private. Install the forge's App on it, then `/catalyst deploy`.", "SourceUnavailable"
    ),
    "SourceNotReadable": Remedy(
        "The repository is not there, or we may not read it. Install the forge's App on it, with permission to read "
        "its contents; it is tried again by itself, and at once after `/catalyst deploy`.",
        "SourceUnavailable",
    ),
    "SourceMoved": Remedy("Name the repository's new place in the Project's source.", "SourceUnavailable"),
    "SourceRefused": Remedy(
        "Only the forge's own repositories are built. Correct the Project's source.", "SourceRefused"
    ),
    "RegistryRefused": Remedy(
        "The registry did not accept our credential. The platform's people look; afterwards `/catalyst deploy`.",
        "RegistryRefused",
    ),
    "RegistryUnavailable": Remedy(
        "A registry could not be reached. It is tried again by itself, and at once after `/catalyst deploy`.",
        "RegistryRefused",
    ),
    "PushFailed": Remedy(
        "The image could not be stored. It is tried again by itself, and at once after `/catalyst deploy`.",
        "RegistryRefused",
    ),
    "ImageInvalid": Remedy(
        "The image in the registry is damaged. `/catalyst deploy` builds it again.", "RegistryRefused"
    ),
    "ImageMissing": Remedy("The image is not in the registry. `/catalyst deploy` builds it again.", "RegistryRefused"),
    "BuildTimedOut": Remedy(
        "The build took longer than it may. Order the Dockerfile for its cache, or make it do less.", "BuildTimedOut"
    ),
    "BuildNotStarted": Remedy("The build found no place to run. `/catalyst deploy` tries again.", "BuildLost"),
    "BuildLost": Remedy("The node that ran the build went away. `/catalyst deploy` tries again.", "BuildLost"),
    "BuildEvicted": Remedy("The node stopped the build. `/catalyst deploy` tries again.", "BuildLost"),
    "OutOfMemory": Remedy("It needs more memory than it may have. Use less, or raise its limit.", "OutOfMemory"),
    "OutOfDisk": Remedy("The build needs more disk than it may have. Copy and install less.", "OutOfDisk"),
    "CrashLoop": Remedy(
        "The program ends soon after it starts. The end of its log says why; fix it and push.", "CrashLoop"
    ),
    "ImagePull": Remedy(
        "The image cannot be pulled. Check its name and tag, and that the registry lets this project read it.",
        "ImagePull",
    ),
    "Quota": Remedy(
        "The environment asks for more than it may have. Ask for less in `resources`, or have the quota raised.",
        "Quota",
    ),
    "ProbeFailing": Remedy(
        "The program runs but does not answer its probe. Check the probe's path and port, and what it needs to start.",
        "ProbeFailing",
    ),
    "PortNotListening": Remedy(
        "Nothing listens on the exposed port. Listen on `0.0.0.0` and on the port in `$PORT`, or expose the right one.",
        "PortNotListening",
    ),
    "InitFailed": Remedy(
        "An init container failed, so the program was not started. The end of its log says why.", "InitFailed"
    ),
    "SecretNotFound": Remedy(
        "A Secret that the Project names is not there. Create it, or correct its name.", "SecretNotFound"
    ),
    "SecretNotReadable": Remedy(
        "A Secret that the Project shares may not be read. The message says who has to allow what.", "SecretNotReadable"
    ),
    "Unschedulable": Remedy(
        "No node has room for it. Ask for less in `resources`, or have the platform's people add nodes.",
        "Unschedulable",
    ),
    "DeadlineExceeded": Remedy(
        "It did not become ready in time. The end of its log may say what it waits for.", "DeadlineExceeded"
    ),
    "RepositoryNotGranted": Remedy(
        "The platform's people have to grant this repository to the team.", "RepositoryNotGranted"
    ),
    "Fork": Remedy(
        "Somebody with write access reads the change, and comments `/catalyst approve` if it may run.", "Held"
    ),
    "Draft": Remedy("Mark the pull request as ready for review, or comment `/catalyst deploy`.", "Held"),
    "HostTaken": Remedy(
        "Another environment has this host. Rename the component or the Project, or remove the other one.", "HostTaken"
    ),
    "InvalidHost": Remedy("Correct the host name in the Project.", "InvalidHost"),
    "NamespaceTaken": Remedy(
        "A namespace of this name belongs to somebody else. The platform's people can say whose it is.",
        "NamespaceTaken",
    ),
    "RefusedByCluster": Remedy(
        "The cluster refuses a part of the environment. The message says which; it is tried again by itself.",
        "RefusedByCluster",
    ),
    "ClusterRefused": Remedy(
        "The cluster refuses the build. The message says why; it is tried again by itself.", "RefusedByCluster"
    ),
    "UnsafeQuota": Remedy("Remove that entry from the Project's `development.quota`.", "UnsafeSettings"),
    "UnsafeEgress": Remedy("Name a smaller network in the Project's `development.egress`.", "UnsafeSettings"),
    "Paused": Remedy("Nothing has to be done here: it goes on by itself when the pause ends.", "Paused"),
    "MaximumReached": Remedy(
        "Close what is not needed any more, or have the platform's people raise the team's maximum.", "MaximumReached"
    ),
    "MaximumInvalid": Remedy("The platform's people have to correct the team's maximum.", "MaximumReached"),
    "RouteFailed": Remedy(
        "The environment runs, but its address could not be published. It is tried again by itself.", "RouteFailed"
    ),
}

UNKNOWN: Final = Remedy("The message above says what is known; the next push tries again.", "Other")


def remedy(reason: str) -> Remedy:
    """What to do about `reason`; a reason that is not in the table gets the general answer."""
    return REMEDIES.get(reason, UNKNOWN)
