"""docs/incidents.md, walked: each command is typed while it is really so, where `make demo-shell` leads, and answers as
the page shows; at the end all is well again. The runbooks of the alerts that belong to it are followed on the way.

One pull request for all of them, in the page's order: each leaves it Ready.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from guide import Guide
from product import Product, Pull, another_hello, example, until
from runbooks import Terminal, Told, follow, runbook
from stage import pull_request_payload
from victims import victim

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.users import inbox_prefix
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase

pytestmark = [pytest.mark.full(sample=4), pytest.mark.usefixtures("cleared")]

DOCKERFILE = b'FROM python:3-slim\nWORKDIR /app\nCOPY . .\nEXPOSE 8080\nUSER 1000\nCMD ["python3", "app.py"]\n'
BREAKS = {"Dockerfile": DOCKERFILE + b"RUN echo out of cheese && exit 3\n"}
MENDS = {"Dockerfile": DOCKERFILE}
WRONG = "CATALYST_HTTP_PORT=never"


@pytest.fixture(scope="module")
def pull(product: Product) -> Pull:
    files = {**example("hello"), "Dockerfile": DOCKERFILE}
    return product.team().site("hello", files).pull_request(another_hello("incidents"))


@pytest.fixture
def well(pull: Pull) -> Pull:
    """The same, Ready; mended, should another test have left it red."""
    found = pull.environment()
    if found and found.status and found.status.phase in (Phase.DEGRADED, Phase.FAILED):
        pull.push(MENDS)
    pull.until(Phase.READY)
    return pull


@pytest.fixture(scope="module")
def told(on_call: Terminal) -> Told:
    return Told.at(on_call)


@pytest.fixture(scope="module")
def first(pull: Pull, told: Told) -> tuple[str, datetime]:
    """The commit that was Ready first, and a moment when it was."""
    pull.until(Phase.READY)
    known(told, pull, Phase.READY)
    return pull.head, utc_now()


def known(told: Told, pull: Pull, phase: Phase) -> None:
    """The bus knows it as well, which it does a moment after the cluster."""

    def so() -> bool:
        said = " ".join(told.terminal.types(f"catalyst env show {pull.identity}").split())
        return f"phase {phase}" in said and f"commit {pull.head}" in said

    until(so, f"{phase} is said of {pull.head}", 20)


def names(pull: Pull) -> dict[str, str]:
    """What the demo calls otherwise."""
    of = pull.identity
    return {
        "acme/hello/pr-1": str(of),
        "acme--hello": f"{of.team}--{of.project}",
        "environment/pr-1": f"environment/{of.environment}",
    }


@pytest.mark.usefixtures("first")
def test_the_shell_of_the_demo_has_it_all(well: Pull) -> None:
    """One command in `make demo-shell`, which ends with the command's code."""
    words = [sys.executable, "-m", "catalyst.local", "demo", "shell", "catalyst", "env", "show"]
    found = subprocess.run([*words, str(well.identity)], capture_output=True, text=True, check=False)
    assert (found.returncode, str(well.identity) in found.stdout) == (0, True), found
    unknown = subprocess.run([*words, "nobody/knows/this"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 3, unknown


def test_nats_is_reached_as_the_runbooks_say(on_call: Terminal) -> None:
    """In an installation that is no demo."""
    block = Guide.read("runbooks/README.md").blocks["reach"]
    answers = "for _ in {1..100}; do curl -sSf $MONITOR/healthz 2>/dev/null && break; sleep 0.1; done"
    said = on_call.types(f"{block}\n{answers}\ncatalyst env list --output json && kill $!")
    assert said.startswith('{"status":"ok"}['), said


def test_the_pull_request_is_red(well: Pull, told: Told) -> None:
    well.push(BREAKS)
    well.until(Phase.DEGRADED)
    known(told, well, Phase.DEGRADED)
    told.types("red", names(well))
    told.types("red-story", names(well))
    well.push(MENDS)
    well.until(Phase.READY)
    known(told, well, Phase.READY)
    told.types("red-over", names(well))


@runbook("CatalystServiceDown")
def test_nothing_happens_after_a_push(product: Product, well: Pull, told: Told, on_call: Terminal) -> None:
    ingest = "deployment/webhook-ingest"
    product.system.run("scale", ingest, "--replicas=0")
    try:
        product.system.run("wait", "pod", "--selector=app.kubernetes.io/name=webhook-ingest", "--for=delete")
        product.system.run("set", "env", ingest, WRONG)
        product.system.run("scale", ingest, "--replicas=1")
        well.push(another_hello("pushed while nobody hears it"))
        until(lambda: "CrashLoopBackOff" in product.system.run("get", "pods"), "it ends again and again", 60)
        told.types("silent", names(well))
        told.types("silent-log", names(well))
        follow("CatalystServiceDown", on_call, "CATALYST_HTTP_PORT", "Exit Code: 2", SERVICE="webhook-ingest")
        told.types("silent-mend", names(well))
    finally:
        product.system.run("set", "env", ingest, f"{WRONG.partition('=')[0]}-")
        product.system.run("scale", ingest, "--replicas=1")
        product.available("webhook-ingest")
    well.until(Phase.READY)
    known(told, well, Phase.READY)
    told.types("silent-over", names(well))


def test_something_was_given_up(well: Pull, told: Told) -> None:
    """Words on a subject of facts that are no event, by whoever has webhook-ingest's key."""
    subject = f"scm.github.{well.site.team}.hello.pull_request.1"
    _on_the_bus(told, "webhook-ingest", lambda jetstream: jetstream.publish(subject, b"no event"))
    until(lambda: _letters(told, "--service env-controller"), "env-controller gives it up", 30)
    what_it_is = {**names(well), "DEAD/1": _letters(told, "--service env-controller")[0]}
    told.types("dead", what_it_is)
    told.types("dead-again", what_it_is)
    told.types("dead-drop", what_it_is)
    for letter in _letters(told):  # others read facts, too
        told.terminal.types(f'catalyst dead drop {letter} --reason "as env-controller\'s"')
    assert _letters(told) == []


def _letters(told: Told, of: str = "") -> list[str]:
    """Those that nobody has dealt with."""
    return [each["ref"] for each in json.loads(told.terminal.types(f"catalyst dead list {of} -o json"))]


@runbook("CatalystBusProblem")
def test_the_bus_is_sick(product: Product, well: Pull, told: Told, on_call: Terminal) -> None:
    _on_the_bus(told, "operator", lambda jetstream: jetstream.delete_consumer("EVENTS", "notifier"))
    until(lambda: "notifier is not there" in on_call.types("catalyst status").replace("\n", " "), "it is seen", 30)
    until(lambda: _is_unready(product, "notifier"), "notifier is not ready", 60)
    told.types("sick", names(well))
    follow("CatalystBusProblem", on_call, "consumer notifier is not there", SERVICE="notifier")
    told.types("sick-mend", names(well))
    product.available("notifier")
    until(lambda: "not there" not in told.types("sick-over", names(well)), "it is well", 30)


def _is_unready(product: Product, service: str) -> bool:
    pods = product.system.run("get", "pods", f"--selector=app.kubernetes.io/name={service}")
    return "0/1" in pods


def test_what_was_it_like_and_who_did_it(well: Pull, first: tuple[str, datetime], told: Told) -> None:
    before, then = first
    if well.head == before:  # alone, nothing happened meanwhile
        well.push(another_hello("asked about a day later"))
        well.until(Phase.READY)
    known(told, well, Phase.READY)
    said = told.types("then", {**names(well), "10:14": f"{then:%Y-%m-%dT%H:%M:%S.%fZ}"})
    assert f"commit {before}" in " ".join(said.split())
    assert well.head in said
    told.types("who", names(well))


def test_would_todays_code_decide_the_same(well: Pull, told: Told) -> None:
    told.types("again", names(well))


@runbook("CatalystGoneLate", "CatalystEdgeBehind")
def test_it_does_not_go_away(product: Product, well: Pull, told: Told, on_call: Terminal) -> None:
    edge = product.kubectl.within("catalyst-edge")
    edge.run("scale", "deployment/edge", "--replicas=0")
    try:
        edge.run("wait", "pod", "--selector=app.kubernetes.io/name=edge", "--for=delete")
        well.close()
        until(lambda: "not everything could be done" in product.sight.log_end("dns-proxy", 50), "dns-proxy warns", 60)
        until(lambda: "dns-proxy has not said" in on_call.types(f"catalyst why {well.identity}"), "it waits", 60)
        told.types("stays", names(well))
        follow("CatalystGoneLate", on_call, "waits: dns-proxy has not said that", well.namespace, **well.names)
        follow("CatalystEdgeBehind", on_call, "not everything could be done")
        told.types("stays-mend", names(well))
    finally:
        edge.run("scale", "deployment/edge", "--replicas=1")
    well.until_over()
    told.types("stays-over", names(well))


# Alerts that no incident of the page comes by


@runbook("CatalystBuildsWait", "CatalystReadyLate")
def test_builds_wait_for_a_node(product: Product, pull: Pull, on_call: Terminal) -> None:
    (node,) = product.kubectl.get("nodes")["items"]
    name = node["metadata"]["name"]
    product.kubectl.run("cordon", name)
    try:
        waits = pull.site.pull_request(another_hello("it waits"), branch="waits")
        until(lambda: "Pending" in _pods_of_builds(product), "its build's pod is pending", 30)
        follow("CatalystBuildsWait", on_call, "Pending", "SchedulingDisabled")
        follow("CatalystReadyLate", on_call, "Building for", **waits.names)
    finally:
        product.kubectl.run("uncordon", name)
    until(lambda: "Pending" not in _pods_of_builds(product), "it is built, now that there is a place", 60)


def _pods_of_builds(product: Product) -> str:
    return product.kubectl.run("get", "pods", "--all-namespaces", "--selector=catalyst.dev/build")


@runbook("CatalystForgeRefuses", "CatalystKeysFail")
def test_the_forge_refuses_what_notifier_tells(product: Product, on_call: Terminal) -> None:
    team = product.team()
    installation = next(i for i in product.github.state.installations.values() if i.account.login == team.name)
    kept = {name: installation.permissions.pop(name) for name in ("issues", "pull_requests")}
    try:
        untold = team.site("untold", example("hello")).pull_request(another_hello("nobody is told"))
        until(lambda: "the forge refuses" in product.sight.log_end("notifier", 100), "notifier is refused", 60)
        follow("CatalystForgeRefuses", on_call, "the forge refuses")
        follow("CatalystKeysFail", on_call, "the forge refuses", SERVICE="notifier", **untold.names)
    finally:
        installation.permissions |= kept


@runbook("CatalystConsumerBehind", "CatalystQueueOld")
def test_a_service_is_behind(product: Product, pull: Pull, on_call: Terminal) -> None:
    """env-controller stands still while many webhooks come for it."""
    controller = victim(product, "env-controller")
    controller.process.suspend()
    try:
        _webhooks(product, 250)
        said = follow("CatalystConsumerBehind", on_call, SERVICE="env-controller")
        waiting = re.search(r"env-controller +SCM +(\d+) ", said)
        assert waiting is not None, said
        assert int(waiting[1]) > 100, said
        follow("CatalystQueueOld", on_call, "env-controller-", SERVICE="env-controller")
    finally:
        controller.process.resume()
    product.available("env-controller")


def _webhooks(product: Product, count: int) -> None:
    """Of a repository that no Project names."""
    secret = product.done.webhook_secret.read_text().strip().encode()
    with httpx.Client(trust_env=False) as client:
        for number in range(1, count + 1):
            body = json.dumps(pull_request_payload("nobody/knows", number, datetime.now(UTC))).encode()
            headers = {
                "content-type": "application/json",
                "x-github-event": "pull_request",
                "x-github-delivery": f"behind-{time.time_ns()}",
                "x-hub-signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
            }
            client.post(product.done.webhook_url, content=body, headers=headers).raise_for_status()


@runbook("CatalystNobodyLeads")
def test_nobody_leads(product: Product, on_call: Terminal) -> None:
    """Somebody has env-controller's lease and does nothing with it."""
    now = datetime.now(UTC)
    theirs = {
        "holderIdentity": "somebody-else",
        "leaseDurationSeconds": 30,
        "renewTime": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    product.system.run("patch", "lease", "env-controller", "--type=merge", f"--patch={json.dumps({'spec': theirs})}")
    time.sleep(2)
    follow("CatalystNobodyLeads", on_call, "somebody-else", SERVICE="env-controller")
    product.available("env-controller")


@runbook("CatalystWebhooksUnavailable")
def test_webhooks_are_not_taken(product: Product, told: Told, on_call: Terminal) -> None:
    with _full(told, "SCM"):
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            _webhooks(product, 1)
        follow("CatalystWebhooksUnavailable", on_call, "webhook not taken", "SCM: 100% of its bytes are taken")


@contextmanager
def _full(told: Told, stream: str) -> Iterator[None]:
    """It has no room for anything, until the topology is applied."""

    async def fill(jetstream: Any) -> None:
        info = await jetstream.stream_info(stream)
        await jetstream.update_stream(info.config.evolve(max_bytes=info.state.bytes + 1))

    _on_the_bus(told, "operator", fill)
    try:
        yield
    finally:
        told.terminal.types("python -m catalyst.events apply --url $CATALYST_NATS_URL --seed keys/nkeys/operator.seed")


def _on_the_bus(told: Told, user: str, act: Callable[[Any], Awaitable[Any]]) -> None:
    """What no command does to a bus, by one user's key: `act` gets its JetStream."""

    async def acts() -> None:
        seed = told.terminal.folder / "keys" / "nkeys" / f"{user}.seed"
        settings = BusSettings(told.terminal.environ["CATALYST_NATS_URL"], seed, inbox_prefix(user), drain_patience=1)
        bus = await Bus.connect(settings, name=user, clock=utc_now)
        try:
            await act(bus._client.jetstream())
        finally:
            await bus.drain()

    asyncio.run(acts())
