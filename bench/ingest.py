"""Webhooks in: webhook-ingest as it runs, against what HTTP, HMAC, NATS and the disk allow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from bench import payload
from bench.results import Floor, Row
from bench.run import Run
from bench.servers import command, nats, service, settle, tool
from bench.stats import Runs
from catalyst.events.users import inbox_prefix
from catalyst.local.nats import Nats
from catalyst.local.process import Part, free_ports

CONNECTIONS: Final = 16
PATH: Final = "/webhooks/github"
EXPECTED_H: Final = 14_021.0
"""Requests/s of a bare ASGI app at 16 connections (events.md)."""
EXPECTED_P: Final = 119_000.0
"""Messages/s of 0.5 KB published on a raw socket, lazy sync (events.md)."""
EXPECTED_SYNC: Final = 4_665.0
"""Messages/s of 0.5 KB published on a raw socket, fsync always (events.md)."""


def ingest(run: Run) -> Sequence[Row]:
    """The whole way of a webhook without fsync: bound by the processor."""
    ours, limits, tails = [], [], []
    details: dict[str, list[Any]] = {"H": [], "P": [], "P_half_kilobyte": [], "p50_ms": [], "p99_ms": []}
    for number in range(run.runs):
        with run.folder() as folder:
            found = _ours(run, folder, fsync=False)
        ours.append(found["rate"])
        tails.append(found["p99"] / found["p50"])
        details["p50_ms"].append(found["p50"] * 1e3)
        details["p99_ms"].append(found["p99"] * 1e3)
        with run.folder() as folder:
            least = _http(run, folder)
            publish, small = _publish(run, folder)
        limits.append(1 / (1 / least + 1 / publish))
        for name, value in (("H", least), ("P", publish), ("P_half_kilobyte", small)):
            details[name].append(value)
        run.say(
            f"{number + 1}/{run.runs}: ours {ours[-1]:,.0f}/s, p50 {found['p50'] * 1e3:.2f} ms, "
            f"p99 {found['p99'] * 1e3:.2f} ms; limit {limits[-1]:,.0f}/s (H {least:,.0f}, P {publish:,.0f})"
        )
    floors = [
        Floor("H, requests/s of a bare ASGI app", EXPECTED_H, max(details["H"]), "higher"),
        Floor("P with 0.5 KB, messages/s", EXPECTED_P, max(details["P_half_kilobyte"]), "higher"),
    ]
    size = len(payload.body())
    return [
        Row(
            "ingest", "ingest", "req/s", Runs(tuple(ours)), 0.7, "ratio>=", Runs(tuple(limits)), 0.55, floors,
            f"a webhook of {size:,} bytes on {CONNECTIONS} connections; limit 1/(1/H + 1/P)", details,
        ),
        Row(
            "ingest-tail", "ingest", "", Runs(tuple(tails)), 2.5, "ours<=",
            note=f"p99 / p50 of the same requests; medians {Runs(tuple(details['p99_ms'])).median:.2f} ms and "
            f"{Runs(tuple(details['p50_ms'])).median:.2f} ms",
        ),
    ]  # fmt: skip


def ingest_fsync(run: Run) -> Sequence[Row]:
    """The same with fsync before every acknowledgement, as in production: bound by the disk."""
    ours, limits = [], []
    details: dict[str, list[Any]] = {"p50_ms": [], "p99_ms": [], "one_writer": [], "half_kilobyte": []}
    for number in range(run.runs):
        with run.folder() as folder:
            found = _ours(run, folder, fsync=True)
            ours.append(found["rate"])
            details["p50_ms"].append(found["p50"] * 1e3)
            details["p99_ms"].append(found["p99"] * 1e3)
        with run.folder() as folder:
            whole, alone, small = _synced(run, folder)
            limits.append(whole)
            details["one_writer"].append(alone)
            details["half_kilobyte"].append(small)
        run.say(f"{number + 1}/{run.runs}: ours {ours[-1]:,.0f}/s; limit {limits[-1]:,.0f}/s")
    floors = [Floor("fdatasync of 0.5 KB, writes/s", EXPECTED_SYNC, max(details["half_kilobyte"]), "higher")]
    note = (
        "limit: the encoded event appended to one file and fdatasynced, the best of 1 to 8 writers that share the "
        f"file system's commits; one writer alone {Runs(tuple(details['one_writer'])).median:,.0f}/s"
    )
    return [
        Row(
            "ingest-fsync", "ingest-fsync", "req/s", Runs(tuple(ours)), 0.45, "ratio>=", Runs(tuple(limits)), 0.35,
            floors, note, details,
        )
    ]  # fmt: skip


def _ours(run: Run, folder: Path, *, fsync: bool) -> dict[str, Any]:
    (port,) = free_ports(1)
    with nats(folder, fsync=fsync) as bus:
        settings = {
            "CATALYST_NATS_URL": bus.url,
            "CATALYST_NATS_SEED_FILE": str(bus.seed("webhook-ingest")),
            "CATALYST_WEBHOOK_SECRETS": payload.SECRET,
            "CATALYST_HTTP_HOST": "127.0.0.1",
            "CATALYST_HTTP_PORT": str(port),
        }
        settle()
        with service("webhook-ingest", folder, settings):
            return _loaded(run, folder, port, CONNECTIONS)


def _http(run: Run, folder: Path) -> float:
    """H: the best of several numbers of connections."""
    (port,) = free_ports(1)
    arguments = {"host": "127.0.0.1", "port": port, "secret": payload.SECRET}
    server = Part("H", command("limits.http_hmac", arguments), folder / "H.log")
    server.start()
    try:
        server.wait_until(lambda: _answers(port), within=20)
        return max(float(_loaded(run, folder, port, connections)["rate"]) for connections in (8, 16, 32))
    finally:
        server.stop()


def _answers(port: int) -> bool:
    signed = payload.headers(b"{}")
    try:
        url = f"http://127.0.0.1:{port}{PATH}"
        return httpx.post(url, content=b"{}", headers=signed, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _loaded(run: Run, folder: Path, port: int, connections: int) -> dict[str, Any]:
    body = payload.body()
    file = folder / "body"
    file.write_bytes(body)
    found = tool(
        "load",
        host="127.0.0.1",
        port=port,
        path=PATH,
        body=file,
        headers=payload.headers(body),
        connections=connections,
        warm_up=0.5 if run.quick else 1.5,
        seconds=2 if run.quick else 5,
    )
    if found["refused"]:
        raise RuntimeError(f"{found['refused']} requests were refused: {found['first_refusal']}")
    return found


def _publish(run: Run, folder: Path) -> tuple[float, float]:
    """P with the event of the webhook, and with 0.5 KB as it was measured before."""
    event = payload.event(payload.body())
    text, headers = payload.encoded(event)
    with nats(folder, fsync=False) as bus:
        settle()
        whole = _published(run, folder, bus, event.subject, text, headers)
    with nats(folder / "small", fsync=False) as bus:
        small = _published(run, folder, bus, event.subject, b"x" * 500, {})
    return whole, small


def _published(run: Run, folder: Path, bus: Nats, subject: str, text: bytes, headers: dict[str, str]) -> float:
    file = folder / "event"
    file.write_bytes(text)
    found = tool(
        "limits.publish",
        host="127.0.0.1",
        port=bus.port,
        seed=bus.seed("webhook-ingest"),
        inbox=inbox_prefix("webhook-ingest"),
        subject=subject,
        body=file,
        headers=headers,
        windows=[64, 256, 1024],
        seconds=1 if run.quick else 2,
    )
    return float(found["best"])


def _synced(run: Run, folder: Path) -> tuple[float, float, float]:
    """Best of several writers, one writer alone, and the best with 0.5 KB."""
    text, _ = payload.encoded(payload.event(payload.body()))
    rates = []
    for body in (text, b"x" * 500):
        file = folder / "event"
        file.write_bytes(body)
        settle()
        found = tool(
            "limits.fdatasync",
            file=folder / "synced",
            body=file,
            writers=[1, 2, 4, 8],
            seconds=0.5 if run.quick else 1.5,
        )
        rates.append(found)
    whole, small = rates
    return float(whole["best"]), float(whole["rates"]["1"]), float(small["best"])
