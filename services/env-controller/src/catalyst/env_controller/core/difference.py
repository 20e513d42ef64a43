"""How the objects of an environment differ from what they should be, as far as their metadata tells."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from catalyst.env_controller.core.world import Observed, meant_for, object_key
from catalyst.model import labels
from catalyst.model.manifest import Manifest, Ref


@dataclass(frozen=True, slots=True)
class Difference:
    """`going`: one that belongs there is still being deleted, and is made anew when it is gone. `foreign`: somebody
    else's objects where ours belong.
    """

    apply: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    going: bool = False
    foreign: tuple[Observed, ...] = ()

    @property
    def is_none(self) -> bool:
        return not (self.apply or self.delete or self.going)


def difference(
    uid: str,
    wanted: Iterable[Manifest],
    found: Mapping[str, Observed],
    *,
    once: frozenset[str] = frozenset(),
    keeps: Callable[[Observed], bool] = lambda _: False,
) -> Difference:
    """`found`: all that is there of these kinds, by `object_key`. `once`: kinds that are made and never changed.
    `keeps`: what stays though it is not wanted now.
    """
    by_key = {object_key(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]): m for m in wanted}
    apply, foreign, going = [], [], False
    for key, manifest in by_key.items():
        one = found.get(key)
        if one is None:
            apply.append(manifest)
        elif one.terminating:
            going = True
        elif one.labels.get(labels.ENVIRONMENT_UID) != uid and not _is_cluster_made(one):
            foreign.append(one)
        elif one.ref.kind not in once and not _is_current(one, manifest):
            apply.append(meant_for(manifest, one.ref))
    delete = [one.ref for key, one in found.items() if key not in by_key and _is_left_over(one, uid) and not keeps(one)]
    return Difference(tuple(apply), tuple(delete), going, tuple(foreign))


def _is_left_over(found: Observed, uid: str) -> bool:
    return found.labels.get(labels.ENVIRONMENT_UID) == uid and not found.terminating


def _is_cluster_made(found: Observed) -> bool:
    """Kubernetes itself makes the ServiceAccount `default` of every namespace; ours are its fields, not the object."""
    return found.ref.kind == "ServiceAccount" and found.ref.name == "default"


def _is_current(found: Observed, manifest: Manifest) -> bool:
    """It is what we want now, under our labels, and nobody else has written its content."""
    metadata = manifest["metadata"]
    return (
        found.applied == metadata["annotations"][labels.APPLIED]
        and all(found.labels.get(key) == value for key, value in metadata["labels"].items())
        and not found.is_drifted_from(manifest)
    )
