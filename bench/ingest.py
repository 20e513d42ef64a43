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
EXPECTED_P: Final = 23_558.0
"""Messages/s of 0.5 KB published with 64 in flight, lazy sync (events.md)."""
EXPECTED_SYNC: Final = 4_665.0
"""Messages/s of 0.5 KB published on a raw socket, fsync always (events.md)."""


def ingest(run: Run) -> Sequence[Row]:
    """The whole way of a webhook without fsync: bound by the processor."""
    ours, limits, tails = [], [], []
    details: dict[str, list[Any]] = {"H": [], "P": [], "P_half_kilobyte": [], "P_raw": [], "p50_ms": [], "p99_ms": []}
    for number in range(run.runs):
        with run.folder() as folder:
            found = _ours(run, folder, fsync=False)
        ours.append(found["rate"])
        tails.append(found["p99"] / found["p50"])
        details["p50_ms"].append(found["p50"] * 1e3)
        details["p99_ms"].append(found["p99"] * 1e3)
        with run.folder() as folder:
            least = _http(run, folder)
            publish, small, raw = _publish(run, folder)
        limits.append(1 / (1 / least + 1 / publish))
        for name, value in (("H", least), ("P", publish), ("P_half_kilobyte", small), ("P_raw", raw)):
            details[name].append(value)
        run.say(
            f"{number + 1}/{run.runs}: ours {ours[-1]:,.0f}/s, p50 {found['p50'] * 1e3:.2f} ms, "
            f"p99 {found['p99'] * 1e3:.2f} ms; limit {limits[-1]:,.0f}/s (H {least:,.0f}, P {publish:,.0f}, "
            f"raw {raw:,.0f})"
        )
    floors = [
        Floor("H, requests/s of a bare ASGI app", EXPECTED_H, max(details["H"]), "higher"),
        Floor("P with 0.5 KB, messages/s", EXPECTED_P, max(details["P_half_kilobyte"]), "higher"),
    ]
    size = len(payload.body())
    by_hand = Runs(tuple(1 / (1 / h + 1 / p) for h, p in zip(details["H"], details["P_raw"], strict=True))).median
    return [
        Row(
            "ingest", "ingest", "req/s", Runs(tuple(ours)), 0.7, "ratio>=", Runs(tuple(limits)), 0.55, floors,
            f"a webhook of {size:,} bytes on {CONNECTIONS} connections; limit 1/(1/H + 1/P), P by nats-py with up to "
            f"256 in flight; with P by hand on a raw socket the limit were {by_hand:,.0f}/s and the ratio "
            f"{Runs(tuple(ours)).median / by_hand:.2f}", details,
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
    details: dict[str, list[Any]] = {"p50_ms": [], "p99_ms": [], "sharing_writers": [], "half_kilobyte": []}
    for number in range(run.runs):
        with run.folder() as folder:
            found = _ours(run, folder, fsync=True)
            ours.append(found["rate"])
            details["p50_ms"].append(found["p50"] * 1e3)
            details["p99_ms"].append(found["p99"] * 1e3)
        with run.folder() as folder:
            alone, shared, small = _synced(run, folder)
            limits.append(alone)
            details["sharing_writers"].append(shared)
            details["half_kilobyte"].append(small)
        run.say(f"{number + 1}/{run.runs}: ours {ours[-1]:,.0f}/s; limit {limits[-1]:,.0f}/s")
    floors = [Floor("fdatasync of 0.5 KB, writes/s", EXPECTED_SYNC, max(details["half_kilobyte"]), "higher")]
    sharing = Runs(tuple(details["sharing_writers"])).median
    note = (
        "limit: the encoded event appended to one file and fdatasynced, one after the other, as a stream is written; "
        f"up to 8 writers that share the file system's commits reach {sharing:,.0f}/s, against which the ratio were "
        f"{Runs(tuple(ours)).median / sharing:.2f}"
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


def _publish(run: Run, folder: Path) -> tuple[float, float, float]:
    """P with the event of the webhook, with 0.5 KB as it was measured before, and the event on a raw socket."""
    event = payload.event(payload.body())
    text, headers = payload.encoded(event)
    found: list[float] = []
    for by, body, windows in (
        ("limits.publish_pipelined", text, [16, 64, 256]),
        ("limits.publish_pipelined", b"x" * 500, [64]),
        ("limits.publish", text, [64, 256, 1024]),
    ):
        with nats(folder / str(len(found)), fsync=False) as bus:
            settle()
            found.append(_published(run, folder, bus, by, event.subject, body, headers, windows))
    whole, small, raw = found
    return whole, small, raw


def _published(
    run: Run, folder: Path, bus: Nats, by: str, subject: str, text: bytes, headers: dict[str, str], windows: list[int]
) -> float:
    file = folder / "event"
    file.write_bytes(text)
    found = tool(
        by,
        url=bus.url,
        host="127.0.0.1",
        port=bus.port,
        seed=bus.seed("webhook-ingest"),
        inbox=inbox_prefix("webhook-ingest"),
        subject=subject,
        body=file,
        headers=headers,
        windows=windows,
        seconds=1 if run.quick else 2,
    )
    return float(found["best"])


def _synced(run: Run, folder: Path) -> tuple[float, float, float]:
    """One writer alone, the best of several, and the best with 0.5 KB."""
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
    return float(whole["rates"]["1"]), float(whole["best"]), float(small["best"])
