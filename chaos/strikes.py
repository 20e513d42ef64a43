"""Faults on real processes, disks and wires. Each returns what it hit, and the evidence that it did; one that cannot
be struck now raises Missed, and counts for nothing.

kill     SIGKILL to the first process of its container, or to the part of the node
         ─ the container ended by signal 9 and the next one runs; the part's supervisor started another process
freeze   SIGSTOP, later SIGCONT
         ─ every thread stopped and no CPU time spent; its door, where it has one, does not answer
cut      its packets are dropped
         ─ how many were
full     a file takes what is free of its disk
         ─ ENOSPC, and what the victim said of it
clock    its wall clock is moved, by libfaketime
         ─ its answers are dated so
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from joserfc import jwt
from joserfc.jwk import ECKey

from catalyst.local import cluster
from catalyst.local.node import layout
from chaos import looking, setting
from chaos.looking import Away, Late, Looks, until
from chaos.plan import EDGE, NATS, PARTS, SERVICES, Fault
from chaos.support import is_ready
from chaos.undo import Undo, packets

BACK: Final = 90.0
"""Seconds until a victim that was killed runs again, while others are struck."""
LEASE_HOLDERS: Final = ("env-controller", "builder")
PORTS: Final = {"kube-apiserver": layout.API_PORT, "registry": layout.REGISTRY_PORT}
"""Of parts that others dial."""
ALLOWED_ERROR: Final = 45
"""Seconds by which an answer's date may miss the clock that was set."""
CHUNK: Final = 1024 * 1024


class Missed(Exception):
    """It could not be struck, or nothing shows that it was. The text says why."""


@dataclass(frozen=True, slots=True)
class Hit:
    """`what`: the very process, disk or wire. `ended`: when it was undone (CLOCK_MONOTONIC)."""

    what: str
    evidence: str
    ended: float


@dataclass(frozen=True, slots=True)
class Aim:
    """A victim as it is now. `pod` None: a part of the node."""

    victim: str
    process: psutil.Process
    pod: dict[str, Any] | None

    @property
    def what(self) -> str:
        """For the ledger."""
        who = self.pod["metadata"]["name"] if self.pod else self.victim
        return f"{who} (pid {self.process.pid})"

    @property
    def address(self) -> str:
        """Of its pod."""
        assert self.pod is not None
        found: str = self.pod["status"]["podIP"]
        return found


class Strikes:
    """Whoever strikes. Thread-safe: several faults may last at a time."""

    def __init__(self, looks: Looks, undo: Undo, state: cluster.ClusterState) -> None:
        self._looks = looks
        self._undo = undo
        self._home = Path(state.kubeconfig).parent
        self._stop = threading.Event()

    def strike(self, fault: Fault) -> Hit:
        """Returns when it is over and its evidence is in. Raises Missed."""
        strike: Callable[[Fault, Aim], Hit] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "cut": self._cut,
            "full": self._fill,
            "clock": self._move_clock,
        }[fault.kind]
        try:
            aim = until(lambda: self.aim(fault.victim), f"{fault.victim} is there", 20)
            return strike(fault, aim)
        except (Late, Away, psutil.NoSuchProcess, FileNotFoundError) as error:
            raise Missed(str(error)) from error

    def stop(self) -> None:
        """What lasts ends now."""
        self._stop.set()

    def aim(self, victim: str) -> Aim:
        """Raises Away while it is not there. Of several pods: who leads, else the first."""
        if victim in PARTS:
            return Aim(victim, looking.part_process(victim), None)
        pods = [pod for pod in self._looks.pods(victim) if is_ready(pod)]
        if not pods:
            raise Away(f"{victim} has no pod that is ready")
        if victim in NATS and (others := [each for each in NATS if not self._is_well(each)]):
            raise Away(f"{', '.join(others)} is not back yet: without two there is no majority")
        holder = self.leader(victim) if len(pods) > 1 else ""
        pod = next((pod for pod in pods if holder.startswith(pod["metadata"]["name"])), pods[0])
        return Aim(victim, looking.process_in(pod, victim), pod)

    def _is_well(self, victim: str) -> bool:
        return any(is_ready(pod) for pod in self._looks.pods(victim))

    def leader(self, service: str) -> str:
        """Who holds its Lease; empty where nobody does."""
        lease = self._looks.get(f"/apis/coordination.k8s.io/v1/namespaces/catalyst-system/leases/{service}")
        return (lease or {}).get("spec", {}).get("holderIdentity") or ""

    # Kill

    def _kill(self, _: Fault, aim: Aim) -> Hit:
        before = self._restarts(aim)
        aim.process.kill()
        ended = time.monotonic()
        until(lambda: setting.ended(aim.process), f"{aim.what} is dead", 5, every=0.01)
        if aim.pod is None:
            again = until(lambda: self._other(aim), f"{aim.victim} runs again", BACK)
            return Hit(aim.what, f"dead by signal 9; its supervisor started pid {again.pid}", ended)
        status = until(lambda: self._again(aim, before), f"{aim.what} is started again", BACK)
        return Hit(aim.what, f"ended with exit code 137; container start {status['restartCount'] + 1} runs", ended)

    def _restarts(self, aim: Aim) -> int:
        return int(looking.container(aim.pod, aim.victim).get("restartCount", 0)) if aim.pod else 0

    def _goes_on(self) -> None:
        """Raises Missed when nobody wants to know any more."""
        if self._stop.is_set():
            raise Missed("the run was stopped")

    def _other(self, aim: Aim) -> psutil.Process | None:
        self._goes_on()
        found = looking.part_process(aim.victim)
        return found if found != aim.process else None

    def _again(self, aim: Aim, before: int) -> dict[str, Any] | None:
        """The container's status once it runs again because it was killed."""
        assert aim.pod is not None
        self._goes_on()
        metadata = aim.pod["metadata"]
        pod = self._looks.get(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}")
        if pod is None or pod["metadata"]["uid"] != metadata["uid"]:
            raise Missed(f"{aim.what}: its pod was replaced")
        status = looking.container(pod, aim.victim)
        last = status.get("lastState", {}).get("terminated", {})
        runs = "running" in status.get("state", {})
        return status if runs and status["restartCount"] > before and last.get("exitCode") == 137 else None

    # Freeze

    def _freeze(self, fault: Fault, aim: Aim) -> Hit:
        with self._undo.frozen(aim.process):
            until(lambda: self._stopped(aim.process), f"every thread of {aim.what} stops", 3, every=0.005)
            spent = sum(time_ for _, time_ in looking.threads(aim.process))
            silent = self._silent(aim)
            self._stop.wait(fault.seconds)
            still = sum(time_ for _, time_ in looking.threads(aim.process))
            count = sum(1 for _ in looking.threads(aim.process))
            stopped = self._stopped(aim.process)
        ended = time.monotonic()
        if not stopped or still != spent:
            raise Missed(f"{aim.what} was not frozen throughout")
        return Hit(aim.what, f"{count} threads stopped (T), no CPU time spent{silent}", ended)

    @staticmethod
    def _stopped(process: psutil.Process) -> bool:
        states = {state for state, _ in looking.threads(process)}
        return bool(states) and states <= {"T", "t"}

    def _silent(self, aim: Aim) -> str:
        """That its door did not answer. Raises Missed when it did."""
        url = self._door(aim)
        if url is None:
            return ""
        try:
            httpx.get(url, verify=False, trust_env=False, timeout=1)
        except httpx.TransportError as error:
            return f"; {url} unanswered: {type(error).__name__}"
        raise Missed(f"{aim.what} is frozen and {url} answers")

    def _door(self, aim: Aim) -> str | None:
        if aim.victim in SERVICES:
            return f"http://{aim.address}:9090/healthz"
        if aim.victim in NATS:
            return f"http://{aim.address}:8222/healthz"
        if aim.victim == EDGE:
            return f"http://{aim.address}:8080/.well-known/catalyst/edge"
        if aim.victim == "kube-apiserver":
            return f"https://{layout.ADDRESS}:{layout.API_PORT}/readyz"
        return f"http://{layout.ADDRESS}:{layout.REGISTRY_PORT}/v2/" if aim.victim == "registry" else None

    # Cut off

    def _cut(self, fault: Fault, aim: Aim) -> Hit:
        with ExitStack() as stack:
            mark = f"catalyst-chaos-{fault.number}"
            rules = [(*where, "-m", "comment", "--comment", mark, "-j", "DROP") for where in self._wires(aim)]
            for rule in rules:
                stack.enter_context(self._undo.ruled(*rule))
            self._stop.wait(fault.seconds)
            dropped = sum(packets(table, chain, *rule) for table, chain, *rule in rules)
        ended = time.monotonic()
        if not dropped:
            raise Missed(f"{aim.what} sent nothing while it was cut off")
        return Hit(aim.what, f"{dropped} packets dropped", ended)

    def _wires(self, aim: Aim) -> Iterator[tuple[str, ...]]:
        """Table, chain and match of what has to be dropped."""
        if aim.pod is not None:
            yield "raw", "PREROUTING", "-s", aim.address
        elif aim.victim in PORTS:
            yield "filter", "INPUT", "-p", "tcp", "--dport", str(PORTS[aim.victim])
        else:  # the kubelet, which dials: its connections to the API server, until it gives them up after half a minute
            connections = [c for c in aim.process.net_connections("tcp") if c.raddr and c.raddr.port == layout.API_PORT]
            if not connections:
                raise Missed(f"{aim.what} has no connection to the API server")
            for connection in connections:
                yield (
                    "filter",
                    "OUTPUT",
                    "-p",
                    "tcp",
                    "--sport",
                    str(connection.laddr.port),
                    "--dport",
                    str(layout.API_PORT),
                )
                yield (
                    "filter",
                    "INPUT",
                    "-p",
                    "tcp",
                    "--sport",
                    str(layout.API_PORT),
                    "--dport",
                    str(connection.laddr.port),
                )

    # A full disk

    def _fill(self, fault: Fault, aim: Aim) -> Hit:
        place = setting.registry_folder() if aim.victim == "registry" else setting.volume(self._looks, aim.victim)
        if not place.is_mount():
            raise Missed(f"{place} is no disk of its own: filling it would fill the machine's")
        filler, began = place / "chaos-filler", time.monotonic()
        self._undo.file(filler)
        try:
            written = _filled(filler)
            said = self._notices(fault, aim, filler)
        finally:
            filler.unlink(missing_ok=True)
        ended = time.monotonic()
        if aim.victim in NATS:  # as its runbook says: with room again, the server is started again
            with contextlib.suppress(psutil.NoSuchProcess):
                aim.process.kill()
        seconds = ended - began
        return Hit(f"the disk of {aim.victim}", f"ENOSPC after {written} MB, for {seconds:.0f} s; {said}", ended)

    def _notices(self, fault: Fault, aim: Aim, filler: Path) -> str:
        """What the victim says of its disk, waited for as long as the fault lasts at least. Raises Missed."""
        ends, said = time.monotonic() + fault.seconds, ""
        while time.monotonic() < ends + (0 if said else 10) and not self._stop.wait(0.5):
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as more:  # whatever became free meanwhile
                more.write(b"\0" * CHUNK)
            if not said:
                with contextlib.suppress(Away):
                    said = self._registry_says() if aim.victim == "registry" else self._nats_says(aim)
        if not said:
            raise Missed(f"{aim.what} did not notice its full disk")
        return said

    def _nats_says(self, aim: Aim) -> str:
        assert aim.pod is not None
        log = self._looks.log(aim.pod, "nats", 30)
        return next((line[-160:] for line in log.splitlines() if "no space left" in line.lower()), "")

    def _registry_says(self) -> str:
        """What it answers to a push."""
        name = "chaos/full"
        url = f"http://{layout.ADDRESS}:{layout.REGISTRY_PORT}/v2/{name}/blobs/uploads/"
        headers = {"authorization": f"Bearer {self._token(name)}"}
        try:
            answer = httpx.post(url, headers=headers, trust_env=False, timeout=3)
            if answer.status_code == httpx.codes.ACCEPTED:
                headers["content-type"] = "application/octet-stream"
                where = httpx.URL(url).join(answer.headers["location"])
                answer = httpx.patch(where, headers=headers, content=os.urandom(CHUNK), trust_env=False, timeout=3)
        except httpx.TransportError as error:
            raise Away(f"registry: {error}") from error
        return f"a push was answered {answer.status_code}" if answer.status_code >= 500 else ""

    def _token(self, repository: str) -> str:
        """As builder would sign it."""
        key = ECKey.import_key((self._home / "realm" / "key.pem").read_bytes())
        kid = json.loads((self._home / "realm" / "jwks.json").read_text())["keys"][0]["kid"]
        now = int(time.time())
        claims = {
            "iss": layout.REALM_ISSUER, "aud": layout.REGISTRY, "sub": "chaos", "iat": now, "nbf": now - 5,
            "exp": now + 60, "jti": f"chaos-{now}",
            "access": [{"type": "repository", "name": repository, "actions": ["pull", "push"]}],
        }  # fmt: skip
        return jwt.encode({"alg": "ES256", "kid": kid}, claims, key)

    # Clocks

    def _move_clock(self, fault: Fault, aim: Aim) -> Hit:
        assert aim.pod is not None
        clock = looking.empty_dir(aim.pod, "chaos-hand") / "clock"
        self._undo.file(clock)
        try:
            _write(clock, f"{fault.jump:+d}\n")
            seen = until(lambda: self._off(aim, fault.jump), f"{aim.what} has the other time", 8)
            self._stop.wait(fault.seconds)
        finally:
            _write(clock, "+0\n")
        ended = time.monotonic()
        until(lambda: self._off(aim, 0) is not None, f"{aim.what} has the right time again", 20)
        return Hit(aim.what, f"its answers were dated {seen:+.0f} s, and right again afterwards", ended)

    def _off(self, aim: Aim, jump: int) -> float | None:
        """By how many seconds its answers are dated wrong, when that is about `jump`. Raises Away."""
        try:
            answer = httpx.get(f"http://{aim.address}:9090/healthz", trust_env=False, timeout=2)
        except httpx.TransportError as error:
            raise Away(f"{aim.victim}: {error}") from error
        off = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        return off if abs(off - jump) < ALLOWED_ERROR else None


def _write(path: Path, text: str) -> None:
    """Whole or not at all: the library reads it at any moment."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.chmod(0o644)
    scratch.rename(path)


def _filled(filler: Path) -> int:
    """Megabytes that the disk had free. Raises Missed when it has no end."""
    written = 0
    with filler.open("wb", buffering=0) as file:
        for size in (CHUNK, 4096):
            try:
                while written < 4096 * CHUNK:
                    written += file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                raise Missed(f"{filler.parent} does not fill")
    return written // CHUNK


@contextmanager
def held(looks: Looks, pod: dict[str, Any], point: str) -> Iterator[Callable[[], bool]]:
    """Whoever reaches the point in this pod waits until the block ends; the function says whether somebody does."""
    hand = looking.empty_dir(pod, "chaos-hand")
    (hand / "held").unlink(missing_ok=True)
    _write(hand / "hold", point)
    try:
        yield (hand / "held").exists
    finally:
        (hand / "hold").unlink(missing_ok=True)
