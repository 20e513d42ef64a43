"""Histories in which something goes wrong, as the services would tell them, each with the first cause in it."""

from collections.abc import Callable

from histories import HOST, Author, B, asked, component, condition, ready, route

from catalyst.model.environment import Phase


def build_fails(author: Author) -> None:
    author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    author.builds(author.asks(key="k-a"), reason="BuildFailed", message="RUN make ended with 2", log="a\nb\nmake: ***")
    author.is_(Phase.FAILED, components=(component(reason="BuildFailed", message="RUN make ended with 2"),))


def dockerfile_is_missing_after_a_good_commit(author: Author) -> None:
    ready(author)
    author.opens(B, action="synchronize")
    author.is_(Phase.BUILDING, builds=asked(web="k-b"), source=author.commit(B))
    author.builds(author.asks(key="k-b"), reason="DockerfileNotFound", message="no Dockerfile at ./Dockerfile")
    author.is_(Phase.DEGRADED, reason="DockerfileNotFound", message="no Dockerfile at ./Dockerfile")


def second_component_fails_because_the_first_did(author: Author) -> None:
    author.opens()
    author.is_(Phase.DEPLOYING, components=(component("api"), component("web")))
    author.is_(Phase.DEPLOYING, components=(component("api", reason="CrashLoop", message="exit 1"), component("web")))
    author.is_(
        Phase.FAILED,
        after=30,
        components=(
            component("api", reason="CrashLoop", message="exit 1"),
            component("web", reason="InitFailed", message="waits for api"),
        ),
    )


def image_cannot_be_pulled(author: Author) -> None:
    author.opens()
    author.is_(Phase.DEPLOYING, components=(component(),))
    author.is_(Phase.FAILED, components=(component(reason="ImagePull", message="not found"),))


def quota_is_exceeded(author: Author) -> None:
    author.opens()
    author.is_(Phase.DEPLOYING, components=(component(),))
    author.is_(Phase.FAILED, components=(component(reason="Quota", message="exceeded quota: pods"),))


def port_does_not_listen(author: Author) -> None:
    author.opens()
    author.is_(Phase.FAILED, components=(component(reason="PortNotListening", message="nothing on 8080"),))


def repository_is_not_granted(author: Author) -> None:
    author.opens()
    author.is_(
        Phase.FAILED,
        reason="RepositoryNotGranted",
        message="acme may not use github/Acme/Shop",
        conditions=(condition("Accepted", "False", "RepositoryNotGranted"),),
    )


def host_is_taken(author: Author) -> None:
    author.opens()
    author.is_(Phase.DEPLOYING, routes=route())
    author.routes(live=False, reason="HostTaken")
    author.is_(Phase.FAILED, reason="HostTaken", message=f"{HOST} belongs to acme/other/pr-1")


def fact_is_a_dead_letter(author: Author) -> None:
    ready(author)
    fact = author.opens(B, action="synchronize")
    author.buries(fact, reason="the cluster refused the Environment")


def build_failed_and_another_message_died_later(author: Author) -> None:
    build_fails(author)
    author.buries(author.commands(), reason="given up after 5 deliveries")


def message_died_and_a_failure_followed(author: Author) -> None:
    author.buries(author.opens(), reason="given up after 5 deliveries")
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    author.builds(author.asks(key="k-a"), reason="OutOfMemory")
    author.is_(Phase.FAILED, components=(component(reason="OutOfMemory"),))


def healed_and_broken_again(author: Author) -> None:
    """The crash of the commit before is over; only this one's counts."""
    author.opens()
    author.is_(Phase.FAILED, components=(component(reason="CrashLoop", message="the old one"),))
    ready(author, commit=B)
    author.is_(Phase.DEGRADED, after=60, components=(component(reason="CrashLoop", message="the new one"),))


INCIDENTS: list[tuple[Callable[[Author], None], str | None, str, str]] = [
    (build_fails, "web", "BuildFailed", "EVENTS/3"),
    (dockerfile_is_missing_after_a_good_commit, "web", "DockerfileNotFound", "EVENTS/9"),
    (second_component_fails_because_the_first_did, "api", "CrashLoop", "EVENTS/2"),
    (image_cannot_be_pulled, "web", "ImagePull", "EVENTS/2"),
    (quota_is_exceeded, "web", "Quota", "EVENTS/2"),
    (port_does_not_listen, "web", "PortNotListening", "EVENTS/1"),
    (repository_is_not_granted, None, "RepositoryNotGranted", "EVENTS/1"),
    (host_is_taken, None, "HostTaken", "EVENTS/2"),
    (fact_is_a_dead_letter, None, "NotHandled", "DEAD/1"),
    (build_failed_and_another_message_died_later, "web", "BuildFailed", "EVENTS/3"),
    (message_died_and_a_failure_followed, None, "NotHandled", "DEAD/1"),
    (healed_and_broken_again, "web", "CrashLoop", "EVENTS/8"),
]
