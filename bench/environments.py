"""Environments: how soon one has its baseline, how many at once, and what a thousand of them cost."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml

from bench import drive, payload
from bench.recording import manifests, record
from bench.results import Floor, Row
from bench.run import Run
from bench.servers import Service, installation, service, tool, until
from bench.stats import Runs, percentile
from bench.world import World
from catalyst.local.installation import Installation
from catalyst.local.process import free_ports

EXPECTED_F: Final = 0.076
"""Seconds for 15 server-side applies over one warm connection (kubernetes.md: 48 to 76 ms)."""
EXPECTED_K: Final = 0.69
"""Seconds for kubectl (kubernetes.md: 0.52 to 0.69 s)."""
EXPECTED_RATE: Final = 12.0
"""Environments/s of raw requests (kubernetes.md: 12 to 26)."""
APPLIES: Final = 15
ADMIN: Final = "admin"
CONTROLLER: Final = "env-controller"
USER: Final = "system:serviceaccount:catalyst-system:env-controller"


def baseline(run: Run) -> Sequence[Row]:
    """One environment after the other on an empty control plane: created until its baseline is complete."""
    recording = record(run)
    ours, raw, kubectl = [], [], []
    details: dict[str, list[Any]] = {"raw_s": [], "kubectl_s": [], "ours_p99_s": []}
    count = 10 if run.quick else 40
    for number in range(run.runs):
        with run.folder() as folder, installation(folder) as found:
            world = World(found)
            world.arrange()
            with service("env-controller", folder, found.settings("env-controller")):
                world.projects_ready()
                admin = found.control_plane.admin_kubeconfig
                seconds = uvloop.run(drive.one_at_a_time(admin, [f"ours-{i:05}" for i in range(count)]))
            ours.append(percentile(seconds, 50))
            details["ours_p99_s"].append(percentile(seconds, 99))
            by_sender = _raw_latencies(run, folder, found, recording, count)
            raw.append(min(each[1] for each in by_sender.values()))
            details["raw_s"].append(by_sender)
            kubectl.append(_kubectl(folder, found, recording, 3 if run.quick else 7))
            details["kubectl_s"].append(kubectl[-1])
        run.say(
            f"{number + 1}/{run.runs}: ours {ours[-1] * 1e3:.0f} ms; raw {raw[-1] * 1e3:.0f} ms on one connection; "
            f"kubectl {kubectl[-1] * 1e3:.0f} ms"
        )
    requests = len(recording)
    alone = {who: Runs(tuple(each[who][1] for each in details["raw_s"])) for who in (ADMIN, CONTROLLER)}
    spread = Runs(tuple(min(each[ADMIN].values()) for each in details["raw_s"]))
    per_apply = [seconds * APPLIES / requests for seconds in alone[ADMIN].values]
    details["recorded"] = [f"{r['method']} {r['target'].partition('?')[0]}" for r in recording]
    return [
        Row(
            "baseline", "baseline", "s", Runs(tuple(ours)), 3, "ratio<=", Runs(tuple(raw)),
            floors=[Floor("15 raw requests over one warm connection, s", EXPECTED_F, min(per_apply), "lower")],
            note=f"p50; limit F: the same {requests} requests sent raw over one warm connection, as admin (as "
            f"env-controller {alone[CONTROLLER].median * 1e3:.0f} ms); spread over several connections at best "
            f"{spread.median * 1e3:.0f} ms",
            details=details,
        ),
        Row(
            "baseline-kubectl", "baseline", "s", Runs(tuple(ours)), 0.5, "ratio<=", Runs(tuple(kubectl)),
            floors=[Floor("kubectl apply --server-side, s", EXPECTED_K, min(kubectl), "lower")],
            note="p50; limit K: kubectl apply --server-side of the same manifests",
        ),
    ]  # fmt: skip


def _raw_latencies(
    run: Run, folder: Path, found: Installation, recording: list[dict[str, str]], count: int
) -> dict[str, dict[int, float]]:
    """p50 by who sends and on how many connections, which share the requests of one environment."""
    return {
        who: {
            spread: percentile(_raw(folder, found, recording, f"{who}-{spread}", count, who, spread=spread)["each"], 50)
            for spread in (1, 4, 8)
        }
        for who in (ADMIN, CONTROLLER)
    }


def _raw(
    folder: Path, found: Installation, recording: list[dict[str, str]], prefix: str, count: int, who: str, **how: int
) -> dict[str, Any]:
    """As env-controller, or as admin, whom the API server asks less: no policy of ours, no check for escalation."""
    file = folder / "recording.json"
    file.write_text(json.dumps(recording))
    kubeconfig = found.control_plane.admin_kubeconfig if who == ADMIN else found.kubeconfig(who)
    return tool("limits.kubernetes", kubeconfig=kubeconfig, recording=file, prefix=prefix, count=count, **how)


def _kubectl(folder: Path, found: Installation, recording: list[dict[str, str]], count: int) -> float:
    """p50 of `kubectl apply --server-side -f`."""
    seconds = []
    for number in range(count):
        file = folder / f"kubectl-{number}.yaml"
        file.write_text(yaml.safe_dump_all(manifests(recording, f"kubectl-{number:05}")))
        plane = found.control_plane
        command: list[str | Path] = [plane.kubectl, "--kubeconfig", plane.admin_kubeconfig, "apply", "--server-side"]
        began = time.perf_counter()
        done = subprocess.run([*command, "-f", file], capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl apply failed: {done.stderr.strip()}")
    return percentile(seconds, 50)


def burst(run: Run) -> Sequence[Row]:
    """A thousand environments at once, one person meanwhile; then restarts, writes, memory, and one more at a time."""
    count = 100 if run.quick else 1000
    recording = record(run)
    best, freest = _sweep(run, recording)
    ours: dict[str, list[float]] = {}
    limits, interactive, later = [], [], []
    for number in range(run.runs):
        found = _burst(run, count)
        interactive += found.pop("interactive")
        later += found.pop("later")
        for name, value in found.items():
            ours.setdefault(name, []).append(value)
        limits.append(_replayed(run, recording, count, best))
        run.say(
            f"{number + 1}/{run.runs}: ours {ours['rate'][-1]:.1f}/s, limit {limits[-1]:.1f}/s; interactive p95 "
            f"{percentile(interactive, 95):.2f} s; {ours['memory'][-1]:.0f} MB; restart {ours['restart'][-1]:.2f} s; "
            f"{ours['writes'][-1]:.0f} writes"
        )
    return _burst_rows(run, count, best, freest, ours, limits, interactive, later)


def _burst_rows(
    run: Run,
    count: int,
    best: tuple[str, int],
    freest: float,
    ours: dict[str, list[float]],
    limits: list[float],
    interactive: list[float],
    later: list[float],
) -> list[Row]:
    """`interactive`, `later`: seconds of all runs together."""
    memory = 100 + 60 * count / 1000
    beside = Runs((percentile(interactive, 95),))
    after = Runs((percentile(later, 99),))
    return [
        Row(
            "burst", "burst", "env/s", Runs(tuple(ours["rate"])), 0.7, "ratio>=", Runs(tuple(limits)),
            floors=[Floor("raw environments/s", EXPECTED_RATE, max(limits), "higher")],
            note=f"{count:,} environments of one project; limit: the same requests raw by the same account, on "
            f"{best[1]} connections; as {ADMIN}, whom the API server asks less, {freest:.1f}/s in a short run: "
            f"a ratio of {Runs(tuple(ours['rate'])).median / freest:.2f}",
            details={"processor_s_per_environment": ours["processor"]},
        ),
        Row("burst-interactive", "burst", "s", beside, 1, "ours<=", note=f"p95 of {len(interactive)} pull requests of "
            "another project during the bursts, from webhook to complete baseline", details={"all": interactive}),
        Row("burst-writes", "burst", "writes", Runs(tuple(ours["writes"])), 0, "ours<=",
            note="by env-controller in the audit log, over its restart and two resyncs with nothing changed"),
        Row("burst-memory", "burst", "MB", Runs(tuple(ours["memory"])), memory, "ours<=",
            note=f"env-controller's highest resident set with {count:,} environments"),
        Row("burst-restart", "burst", "s", Runs(tuple(ours["restart"])), 5, "ours<=",
            note="from starting the process until every key has been looked at; before it an orderly stop"),
        Row("baseline-among-many", "burst", "s", after, 1, "ours<=",
            note=f"p99 of {len(later)} environments created one at a time with {count:,} present"),
    ]  # fmt: skip


def _sweep(run: Run, recording: list[dict[str, str]]) -> tuple[tuple[str, int], float]:
    """On how many connections env-controller's account gets most done, and the best rate of a cluster admin."""
    rates = {how: _replayed(run, recording, 40 if run.quick else 150, how) for how in SWEEP}
    run.say("raw: " + ", ".join(f"{rate:.1f}/s on {on} connections as {who}" for (who, on), rate in rates.items()))
    best = max((how for how in rates if how[0] == CONTROLLER), key=rates.__getitem__)
    return best, max(rate for (who, _), rate in rates.items() if who == ADMIN)


SWEEP: Final = tuple((who, connections) for who in (ADMIN, CONTROLLER) for connections in (8, 16, 32, 64))


def _replayed(run: Run, recording: list[dict[str, str]], count: int, how: tuple[str, int]) -> float:
    with run.folder() as folder, installation(folder) as found:
        world = World(found)
        world.arrange()
        with service("env-controller", folder, found.settings("env-controller")):
            world.projects_ready()
        who, connections = how
        rate: float = _raw(folder, found, recording, "raw", count, who, connections=connections)["rate"]
    return rate


def _burst(run: Run, count: int) -> dict[str, Any]:
    with run.folder() as folder, installation(folder) as found:
        world = World(found)
        world.arrange()
        admin = found.control_plane.admin_kubeconfig
        settings = found.settings("env-controller")
        with (
            webhooks(folder, found) as url,
            service("env-controller", folder, settings) as controller,
        ):
            world.projects_ready()
            idle = controller.processor_seconds()
            names = [f"ours-{number:05}" for number in range(count)]
            every = 1.0 if run.quick else 3.0
            seconds, interactive = uvloop.run(drive.all_at_once(admin, names, url, every))
            used = controller.processor_seconds() - idle
            quiet(controller)
            memory = controller.peak_memory()
            more = [f"later-{number:05}" for number in range(20 if run.quick else 100)]
            later = uvloop.run(drive.one_at_a_time(admin, more))
            quiet(controller)
        everything = count + len(more)
        restart, writes = _restarted(folder, found, everything)
    return {
        "rate": count / seconds,
        "interactive": interactive,
        "processor": used / count,
        "memory": memory,
        "later": later,
        "restart": restart,
        "writes": float(writes),
    }


@contextmanager
def webhooks(folder: Path, found: Installation) -> Iterator[str]:
    """webhook-ingest, running; where it takes GitHub's."""
    (port,) = free_ports(1)
    settings = {
        **found.settings("webhook-ingest"),
        "CATALYST_WEBHOOK_SECRETS": payload.SECRET,
        "CATALYST_HTTP_HOST": "127.0.0.1",
        "CATALYST_HTTP_PORT": str(port),
    }
    with service("webhook-ingest", folder, settings):
        yield f"http://127.0.0.1:{port}/webhooks/github"


def quiet(controller: Service) -> None:
    """Until nothing waits and nothing was reconciled for a second."""

    def is_quiet() -> bool:
        before = _looked_at(controller)
        time.sleep(1)
        return controller.metric("catalyst_queue_depth") == 0 and _looked_at(controller) == before

    until(is_quiet, "env-controller is quiet", within=120)


def _looked_at(controller: Service) -> float:
    return controller.metric("catalyst_reconciles_total", kind="EnvironmentKey")


def _restarted(folder: Path, found: Installation, count: int) -> tuple[float, int]:
    """Seconds from starting the process until all keys have been looked at; and what it wrote then, and during two
    resyncs.
    """
    marker = found.audit.marker()
    resync = 10
    settings = {**found.settings("env-controller"), "CATALYST_RESYNC_SECONDS": str(resync)}
    controller = Service("env-controller", folder, settings)
    try:
        controller.start()
        seconds = until(
            lambda: _looked_at(controller) >= count and controller.metric("catalyst_queue_depth") == 0,
            "every key is looked at",
            within=60,
        )
        until(lambda: _looked_at(controller) >= 3 * count, "two resyncs have passed", within=6 * resync)
    finally:
        controller.stop()
    return seconds, len(found.audit.writes_since(marker, user=USER, refused=True))
