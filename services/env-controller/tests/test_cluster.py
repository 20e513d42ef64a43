"""What is read of pods and their logs holds no secret that it shows: a World is recorded as it was seen."""

from typing import Any, cast

import pytest

from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.rollout import LogWish
from catalyst.env_controller.effects.cluster import Cluster, _pod
from catalyst.kube.client import Kube
from catalyst.model.logs import REDACTED

CANARY = "canary-4711-of-a-secret"


class Reader:
    """An API server with one log."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def log(self, *_: Any, **__: Any) -> str:
        return self._text


@pytest.mark.parametrize(
    ("log", "seen"),
    [
        (f"starting\npassword={CANARY}\nbye\n", f"starting\npassword={REDACTED}\nbye"),
        ("\x1b[31mno route\x1b[0m\r\nbye", "no route\nbye"),
    ],
)
async def test_a_log_is_scrubbed_when_it_is_read(log: str, seen: str) -> None:
    reader = cast(Kube, Reader(log))
    wish = LogWish("web-1", "web")
    assert await Cluster(reader, reader, Platform())._logs("acme--shop--pr-42", (wish,), None) == {wish.key: seen}


def test_of_a_pod_neither_variables_nor_last_words_and_what_the_kubelet_says_is_scrubbed() -> None:
    ended = {"terminated": {"exitCode": 1, "message": f"my {CANARY}"}}
    waits = {"waiting": {"reason": "ImagePullBackOff", "message": f"401, token: {CANARY}"}}
    container = {"name": "web", "restartCount": 3, "lastState": ended, "state": waits}
    seen = _pod(
        {
            "metadata": {"name": "web-1", "labels": {"a": "b"}, "annotations": {"note": CANARY}},
            "spec": {"containers": [{"name": "web", "env": [{"name": "KEY", "value": CANARY}]}]},
            "status": {"phase": "Running", "containerStatuses": [container], "podIP": "10.0.0.1"},
        }
    )
    assert seen["metadata"] == {"name": "web-1", "labels": {"a": "b"}}
    assert seen["status"] == {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "web",
                "restartCount": 3,
                "lastState": {"terminated": {"exitCode": 1}},
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": f"401, token: {REDACTED}"}},
            }
        ],
    }
