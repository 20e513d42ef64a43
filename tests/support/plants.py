"""Bugs to be planted into a service under test: one for each guarantee, to show that its check would turn red.

Each imports what it breaks when it is planted: a pod of chaos has one service only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalyst.env_controller.core.world import Decision
    from catalyst.env_controller.effects.cluster import Cluster
    from catalyst.env_controller.handlers import Handlers
    from catalyst.env_controller.reconcile import Standings
    from catalyst.events import consuming
    from catalyst.events.bus import Bus, Received
    from catalyst.events.event import Event
    from catalyst.events.stored import Published
    from catalyst.events.watching import Watch
    from catalyst.kube import client
    from catalyst.model.manifest import Manifest


def answer_before_publish() -> None:
    """webhook-ingest says 202 and stores the fact afterwards."""
    from catalyst.events.bus import Bus
    from catalyst.events.stored import Published

    publish, behind = Bus.publish, set()

    async def early(self: Bus, event: Event) -> Published:
        task = asyncio.create_task(publish(self, event))
        behind.add(task)
        task.add_done_callback(behind.discard)
        return Published("SCM", 0, duplicate=False)

    Bus.publish = early  # type: ignore[method-assign]


def publish_without_id() -> None:
    """A fact is stored without the id by which a repeat is known."""
    from catalyst.events import binding, bus

    encode = binding.encode

    def anonymous(event: Event) -> tuple[bytes, dict[str, str]]:
        body, headers = encode(event)
        return body, {name: value for name, value in headers.items() if name != binding.MESSAGE_ID}

    setattr(bus, "encode", anonymous)  # noqa: B010 - a name it only imports


def ack_before_effect() -> None:
    """A fact is acknowledged once its key is queued."""
    from catalyst.env_controller.handlers import HANDLERS
    from catalyst.env_controller.reconcile import FactKey
    from catalyst.events.catalogue import PullRequestChanged

    async def hasty(self: Handlers, received: Received) -> None:
        self._controller._add(FactKey(received.subject))

    HANDLERS[PullRequestChanged] = hasty  # type: ignore[index]


def ack_before_record() -> None:
    """A fact is acknowledged once it took effect; who did it is written down a moment later."""
    from catalyst.env_controller.handlers import Handlers

    recorded, behind = Handlers._recorded, set()

    async def later(self: Handlers, received: Received, standings: Standings) -> None:
        async def write() -> None:
            await asyncio.sleep(1)
            await recorded(self, received, standings)

        task = asyncio.create_task(write())
        behind.add(task)
        task.add_done_callback(behind.discard)

    Handlers._recorded = later  # type: ignore[method-assign]


def no_uid_precondition() -> None:
    """Objects are deleted and changed by name alone."""
    from catalyst.kube import client
    from catalyst.kube.resources import resource_of
    from catalyst.kube.transport import Request

    async def by_name(self: client.Kube, ref: Any, **_: Any) -> Any:
        resource = resource_of(ref.api_version, ref.kind)
        return await self._write("delete", resource, Request("DELETE", resource.path(ref.namespace, ref.name)))

    client.Kube.delete = by_name  # type: ignore[method-assign]
    setattr(client, "_guarded", lambda body, _kind, _ref: body)  # noqa: B010 - with other names of its arguments


def no_fence() -> None:
    """Whoever once led may write for ever, whatever the object has become: each of the two alone would still hold."""
    from catalyst.env_controller.effects.cluster import Cluster
    from catalyst.kube import lease

    async def anyhow(self: Cluster, manifest: Manifest) -> None:
        metadata = {k: v for k, v in manifest["metadata"].items() if k not in ("uid", "resourceVersion")}
        self._learn(await self._writer.apply({**manifest, "metadata": metadata}))

    lease.Elector.fence = lambda self: None  # type: ignore[method-assign]
    Cluster._write = anyhow  # type: ignore[method-assign]


def finalizer_first() -> None:
    """The finalizer goes as soon as the deletion begins."""
    from catalyst.env_controller import reconcile
    from catalyst.env_controller.core.environment import decide
    from catalyst.env_controller.core.world import Decision
    from catalyst.env_controller.effects.cluster import Cluster

    async def gone(self: Cluster, environment: Any) -> bool:
        return True

    def hasty(environment: Any, world: Any, now: Any) -> Decision:
        if environment.metadata.deletion_timestamp and environment.metadata.finalizers:
            return Decision(release=True, announce=False)
        return decide(environment, world, now)

    Cluster.is_gone = gone  # type: ignore[method-assign]
    setattr(reconcile, "decide", hasty)  # noqa: B010 - a name it only imports


def state_not_said_again() -> None:
    """env-controller believes that a new STATE still holds what it said to the old one."""
    from catalyst.env_controller.effects.history import History

    History.forget = lambda self: None  # type: ignore[method-assign]


def said_at_each_look() -> None:
    """A sick bus is told of every few seconds."""
    from catalyst.events.watching import Watch

    tell = Watch._tell

    def loudly(self: Watch, name: str) -> None:
        self._ill.pop(name, None)
        tell(self, name)

    Watch._tell = loudly  # type: ignore[method-assign]


def unreadable_for_ever() -> None:
    """A consumer that answers again is still counted as one that cannot be read."""
    from catalyst.events import consuming

    def only_up(self: consuming.Consumption, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            consuming.unreadable.add(1, {"consumer": self.name})
        self.problem = problem

    consuming.Consumption._problem = only_up  # type: ignore[method-assign]


def answered_without_a_look() -> None:
    """notifier does not look whether its answer to a command is there already."""
    from catalyst.notifier import handlers as notifier_handlers

    setattr(notifier_handlers, "answered", lambda *_: False)  # noqa: B010 - a name it only imports


PLANTS: Mapping[str, Callable[[], None]] = {
    "": lambda: None,
    "answer-before-publish": answer_before_publish,
    "publish-without-id": publish_without_id,
    "ack-before-effect": ack_before_effect,
    "ack-before-record": ack_before_record,
    "no-uid-precondition": no_uid_precondition,
    "no-fence": no_fence,
    "finalizer-first": finalizer_first,
    "state-not-said-again": state_not_said_again,
    "said-at-each-look": said_at_each_look,
    "unreadable-for-ever": unreadable_for_ever,
    "answered-without-a-look": answered_without_a_look,
}


def plant(name: str) -> None:
    """Raises KeyError for a bug that is not there: a test with no bug planted would prove nothing."""
    PLANTS[name]()
