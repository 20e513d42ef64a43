"""A run: install, let pull requests come and go while faults strike, wait until all is well again, compare."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from catalyst.local import cluster, components, platform
from chaos import bus, checks, looking, setting
from chaos.ledger import Ledger, Struck
from chaos.looking import Away, Late, Looks, until
from chaos.plan import Fault, group, plan
from chaos.strikes import Missed, Strikes
from chaos.support import Kubectl, Product, installed
from chaos.traffic import Traffic, sites
from chaos.undo import Undo, guarded

AT_ONCE: Final = 3
"""Faults that last, or are waited for, at a time."""
AHEAD: Final = 16
"""Faults of the plan that may be held back while their victims are busy."""
MOMENT: Final = 12.0
"""Seconds that a fault waits for its moment; then it strikes all the same."""
CONVERGED: Final = 60.0
"""Seconds after the last fault within which all has to be well again."""
HANDLED: Final = 130.0
"""Seconds that the bus may need for what it delivers once more: so long are the pauses between five deliveries."""
PATIENCE: Final = 300.0
"""Seconds after which a run gives up waiting for that."""


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


@dataclass
class Setting:
    """The installation under fire. `compared`: resources that were compared with those of an undisturbed twin."""

    product: Product
    looks: Looks
    undo: Undo
    home: Path
    began: float = field(default_factory=time.monotonic)
    compared: int = 0

    @property
    def state(self) -> cluster.ClusterState:
        return self.product.state

    @property
    def audit_log(self) -> Path:
        """The API server's."""
        return self.home / "control-plane" / "audit.log"

    def streams(self) -> bus.Streams:
        """What NATS holds."""
        address = self.looks.get("/api/v1/namespaces/catalyst-system/services/nats")
        assert address is not None
        return bus.read(address["spec"]["clusterIP"], self.home)


@contextmanager
def struck_setting(sweep: int = setting.SWEEP) -> Iterator[Setting]:
    """Installed for chaos; in the end the node is as others expect it, or down if it was down before. `sweep`: seconds
    between two rounds of asking the forge for lost webhooks.
    """
    before = cluster.running()
    state = cluster.up(out=sys.stderr)
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    kubectl = Kubectl(binary, Path(state.kubeconfig))
    system = kubectl.within("catalyst-system")
    with ExitStack() as stack:
        if before is None:
            stack.callback(cluster.down)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        looks = Looks(Path(state.kubeconfig))
        stack.callback(looks.close)
        undo = stack.enter_context(guarded(folder / "journal"))
        stack.enter_context(setting.restarted_soon(state))
        if setting.stands_alone(system):
            setting.forget_streams(system)
        where = setting.overlay(folder / "overlay")
        made = stack.enter_context(installed(state, folder, overlay=where, CATALYST_SWEEP_SECONDS=str(sweep)))
        if before is not None:
            stack.callback(_as_before, made, system, folder)
        stack.callback(made.clear)
        stack.enter_context(setting.small_disks(looks, system, undo))
        setting.wait_for_all(looks, 180, setting.STEADY)
        yield Setting(made, looks, undo, Path(state.kubeconfig).parent)


def _as_before(made: Product, system: Kubectl, folder: Path) -> None:
    say("the node gets its usual installation back")
    setting.forget_streams(system)
    forge = platform.Forge(made.github.app.id, folder / "app.pem", made.github.url, made.github.git_url)
    platform.install(made.state, forge, out=sys.stderr, within=240)


# While faults strike


class Striker:
    """Deals the plan until so many faults have hit."""

    def __init__(self, on: Setting, traffic: Traffic, faults: Iterator[Fault], wanted: int, most: int) -> None:
        self.ledger = Ledger()
        self.strikes = Strikes(on.looks, on.undo, on.state)
        self._on, self._traffic, self._faults = on, traffic, faults
        self._wanted, self._most = wanted, most
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._held: deque[Fault] = deque()
        self._threads: list[threading.Thread] = []
        self._tried = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Returns when enough have hit, or too many were tried; nothing lasts any more."""
        try:
            while not self._enough():
                fault = self._next()
                if fault is None:
                    self._stop.wait(0.2)
                    continue
                self._stop.wait(fault.after)
                self._begin(fault)
        except BaseException:
            self.stop()
            raise
        finally:
            for thread in self._threads:
                thread.join()

    def stop(self) -> None:
        """At once."""
        self._stop.set()
        self.strikes.stop()

    def _enough(self) -> bool:
        with self._lock:
            return len(self.ledger.hits) >= self._wanted or self._tried >= self._most or self._stop.is_set()

    def _next(self) -> Fault | None:
        """The next one whose victim is free; None when none is, or those that last will do."""
        with self._lock:
            if len(self._busy) >= AT_ONCE or len(self.ledger.hits) + len(self._busy) >= self._wanted:
                return None
            for _ in range(AHEAD - len(self._held)):
                found = next(self._faults, None)
                if found is not None:
                    self._held.append(found)
            free = next((each for each in self._held if group(each.victim) not in self._busy), None)
            if free is None and not self._held and not self._busy:
                self._most = self._tried
            if free is not None:
                self._held.remove(free)
                self._busy.add(group(free.victim))
            return free

    def _begin(self, fault: Fault) -> None:
        self._tried += 1
        thread = threading.Thread(target=self._strike, args=(fault,), name=f"fault {fault.number}")
        self._threads.append(thread)
        thread.start()

    def _strike(self, fault: Fault) -> None:
        began = time.monotonic()
        try:
            moment = self._moment(fault)
            began = time.monotonic()
            hit = self.strikes.strike(fault)
            self._add(Struck(fault, self._since(began), self._since(hit.ended), hit.what, hit.evidence, moment=moment))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is said, and the victim is free again
            told = f"{'' if isinstance(error, Missed) else type(error).__name__ + ': '}{error}"
            now = time.monotonic()
            self._add(Struck(fault, self._since(began), self._since(now), fault.victim, missed=told[:300]))
        finally:
            with self._lock:
                self._busy.discard(group(fault.victim))

    def _moment(self, fault: Fault) -> str:
        """Waits for it. What is said of it in the ledger."""
        if fault.moment is None:
            return "at random"
        ends = time.monotonic() + MOMENT
        while time.monotonic() < ends and not self._stop.is_set():
            try:
                found = self._traffic.at_moment(fault.moment)
            except Away:
                found = None
            if found is not None:
                return f"{fault.moment} ({found.name})"
            time.sleep(0.05)
        return f"at random ({fault.moment} was not seen)"

    def _since(self, moment: float) -> float:
        return round(moment - self._on.began, 2)

    def _add(self, struck: Struck) -> None:
        with self._lock:
            self.ledger.add(struck)
            hits = len(self.ledger.hits)
        told = struck.evidence or f"MISSED: {struck.missed}"
        what = f"#{struck.fault.number} {struck.fault.name} [{struck.moment}] {struck.what}"
        say(f"{hits:3}/{self._wanted}  {what}: {told}")


@dataclass
class Leaders:
    """Which env-controller led since when, looked at all the time. Pods' names."""

    looks: Looks
    changes: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _watch(self) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/catalyst-system/leases/env-controller"
        while not self._stop.wait(0.3):
            try:
                found = self.looks.get(path)
            except Away:
                continue
            holder = ((found or {}).get("spec", {}).get("holderIdentity") or "").rpartition("-")[0]
            if not self.changes or self.changes[-1][1] != holder:
                self.changes.append((time.time(), holder))

    def __enter__(self) -> Leaders:
        self._thread = threading.Thread(target=self._watch, name="leaders", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


# Afterwards


def converge(on: Setting, traffic: Traffic, last_end: float) -> tuple[float, list[str]]:
    """Seconds from the last fault's end until every pull request is as it should be; and what is not, after all
    patience.
    """
    told = ""
    while True:
        try:
            wrong = traffic.unsettled()
        except Away as error:
            wrong = {"the cluster": str(error)}
        seconds = time.monotonic() - on.began - last_end
        if not wrong or seconds > PATIENCE:
            return seconds, [f"{name}: {why}" for name, why in wrong.items()]
        now = "; ".join(f"{name}: {why}" for name, why in wrong.items())
        if now != told:
            say(f"{seconds:5.1f} s after the last fault: {now[:400]}")
            told = now
        time.sleep(0.5)


def _until_handled(on: Setting) -> None:
    """No consumer has anything left. Raises Late naming those that have."""
    ends = time.monotonic() + HANDLED
    while waiting := on.streams().waiting:
        if time.monotonic() > ends:
            raise Late(f"not handled within {HANDLED:g} s: {waiting}")
        time.sleep(2)


def compare(on: Setting, traffic: Traffic, last_end: float) -> list[str]:
    """Every open one with one of its kind that is made now, undisturbed; what each said last."""
    inventory, opened = checks.Inventory(on.looks), [each for each in traffic.watched if each.is_open]
    _until_handled(on)
    _until_reported(traffic)
    say(f"all reported {time.monotonic() - on.began - last_end:.1f} s after the last fault")
    seen = {each.name: checks.picture(inventory, each, on.streams()) for each in opened}
    found = list(checks.last_words(traffic, on.streams()))
    for kind in sorted({each.kind for each in opened}):
        say(f"an undisturbed pull request beside {kind}")
        twin = traffic.open(kind)
        twin.pull.until_served()
        _until_reported(traffic)
        _until_handled(on)
        undisturbed = checks.picture(inventory, twin, on.streams())
        for each in opened:
            if each.kind == kind:
                on.compared += len(seen[each.name]["resources"])
                found += checks.compared(undisturbed, seen[each.name], each.name)
    return found


def _until_reported(traffic: Traffic) -> None:
    """Raises Late naming those whose deployment and check do not say that they are ready."""
    try:
        until(lambda: not traffic.unreported(), "the forge has all reports", PATIENCE, every=1)
    except Late as error:
        raise Late(f"{error}: {traffic.unreported()}") from error


def close_all(on: Setting, traffic: Traffic) -> list[str]:
    """Every pull request is closed; what is left of any of them then."""
    visitors = {each.name: each.pull.visitor() for each in traffic.watched if each.is_open}
    for each in traffic.watched:
        if each.is_open:
            each.pull.close()
    try:
        until(lambda: not traffic.unsettled(), "all that was closed is over", 180, every=1)
    except Late as error:
        still = "; ".join(f"{name}: {why}" for name, why in traffic.unsettled().items())
        return [f"{error}: {still}", *checks.left_over(on.looks, traffic, on.product.teams)]
    _until_handled(on)
    streams = on.streams()
    return [
        *checks.left_over(on.looks, traffic, on.product.teams),
        *checks.gone_hosts(visitors),
        *checks.last_words(traffic, streams),
        *checks.acknowledged(checks.stored_webhooks(on.product.github), streams),
        *checks.handled(streams),
    ]


@dataclass(frozen=True)
class Result:
    """`findings`: what was wrong, in sentences."""

    ledger: Ledger
    findings: list[str]
    facts: dict[str, Any]


def chaos(seed: int, wanted: int, logs: Path) -> Result:
    """The main part. `logs`: a folder for what the pods said, kept when something was found."""
    with struck_setting() as on:
        result = struck(on, seed, wanted, plan(seed))
        if result.findings:
            looking.keep_logs(on.looks, logs)
            say(f"what the pods said is in {logs}")
        return result


def struck(on: Setting, seed: int, wanted: int, faults: Iterator[Fault]) -> Result:
    """In an installation that is there."""
    traffic = Traffic(on.product, on.looks, seed, sites(on.product))
    mark = on.audit_log.stat().st_size
    for kind in traffic.sites:
        traffic.open(kind)
    until(lambda: not traffic.unsettled(), "the first pull requests are served", 240, every=0.5)
    on.began = time.monotonic()
    say(f"seed {seed}: {wanted} faults that hit, while pull requests come and go")
    striker = Striker(on, traffic, faults, wanted, most=2 * wanted + 10)
    acting = threading.Thread(target=traffic.run, name="traffic")
    with Leaders(on.looks) as leaders:
        acting.start()
        try:
            striker.run()
        finally:
            traffic.stop()
            acting.join()
        lasted = striker.ledger.last_end
        say(f"{len(striker.ledger.hits)} faults hit within {lasted:.0f} s; now all has to become well again")
        seconds, wrong = converge(on, traffic, lasted)
        say(f"converged {seconds:.1f} s after the last fault" if not wrong else f"not converged: {wrong}")
    findings = [f"not well again {seconds:.0f} s after the last fault: {each}" for each in wrong]
    if not wrong and seconds > CONVERGED:
        findings.append(f"well again only {seconds:.0f} s after the last fault: expected {CONVERGED:g}")
    if len(striker.ledger.hits) < wanted:
        findings.append(f"only {len(striker.ledger.hits)} of {wanted} faults hit")
    findings += _guarded(lambda: setting.all_there(on.looks), "not ready in the end: {}")
    if not wrong:
        findings += _guarded(lambda: compare(on, traffic, lasted))
    findings += _guarded(lambda: close_all(on, traffic))
    findings += _guarded(lambda: list(checks.second_writers(on.audit_log, mark, leaders.changes)))
    facts = {
        "seed": seed,
        "seconds under fire": round(lasted),
        "converged after seconds": round(seconds, 1),
        "pull requests": len(traffic.watched),
        "acts": dict(traffic.acts),
        "webhooks answered 202 and stored": len(checks.stored_webhooks(on.product.github)),
        "webhooks that failed at first": sum(
            not each.delivered for each in list(on.product.github.webhooks.attempts.values())
        ),
        "resources compared with a twin's": on.compared,
        "changes of who leads": len(leaders.changes) - 1,
        "news given up after five deliveries": _told(lambda: checks.given_up(on.streams())),
    }
    return Result(striker.ledger, findings, facts)


def _told(look: Callable[[], Any]) -> str:
    """A figure for the report, or why there is none."""
    try:
        return str(look())
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def _guarded(look: Callable[[], list[str]], text: str = "{}") -> list[str]:
    """A check that cannot be made is a finding, too: the others are made all the same."""
    try:
        return [text.format(each) for each in look()]
    except Exception as error:  # noqa: BLE001
        return [f"a check failed: {type(error).__name__}: {error}"]
