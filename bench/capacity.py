"""The figures of docs/capacity.md: what one installation carries and which part gives first, reckoned from
bench/results.json and bench/scaling.json (`make scale`). Pure but for `write`.

    python -m bench.capacity
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bench import payload
from bench.results import ROOT, load
from catalyst.builder.config import Settings as BuilderSettings
from catalyst.events.topology import DAY, EVENTS, KEPT, SCM, Budget

DOCUMENT: Final = ROOT / "docs" / "capacity.md"
SCALING: Final = ROOT / "bench" / "scaling.json"
FORGE_REQUESTS: Final = 5_000
"""An hour, of a GitHub App in one account: GitHub's word."""
FORGE_WRITES: Final = 500
"""An hour, of what makes content: GitHub's word for its secondary limit."""
HOUR: Final = 3600.0
MIB: Final = 2**20

Found = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """One part: what was measured (with the row's name), the arithmetic, and pull requests an hour if only this part
    counted.
    """

    part: str
    measured: str
    reckoned: str
    hourly: float
    more: str


def bounds(rows: Mapping[str, Found], life: Found) -> list[Bound]:
    """The tightest first. `life`: what one pull request costs, opened, pushed to once, closed."""
    at_once = BuilderSettings.model_fields["builds_at_once"].default
    ten = rows["ten-at-once"]["details"]["seconds"]
    build = _median([stages[0][2] - stages[0][1] for stages in rows["url-cached"]["details"]["stages"]])
    burst, fsync = rows["burst"]["ours"], rows["ingest-fsync"]["ours"]
    found = [
        Bound(
            "GitHub, content",
            f"{life['forge_writes']} that write (`pull-request`); {FORGE_WRITES} an hour in an account, if each "
            "counts as content",
            f"{FORGE_WRITES} / {life['forge_writes']}",
            FORGE_WRITES / life["forge_writes"],
            "a GitHub App and installation for each account: the limit is each account's own",
        ),
        Bound(
            "GitHub, all requests",
            f"{life['forge_requests']} requests (`pull-request`); {FORGE_REQUESTS:,} an hour in an account",
            f"{FORGE_REQUESTS:,} / {life['forge_requests']}",
            FORGE_REQUESTS / life["forge_requests"],
            "the same; GitHub gives large organizations more",
        ),
        Bound(
            "builds on two cores",
            f"ten builds in {ten:.0f} s, while the same two cores ran everything else (`ten-at-once`)",
            f"10 / {ten:.0f} s × 3,600 s / 2 builds",
            10 / ten * HOUR / 2,
            "more and larger nodes, then `CATALYST_BUILDS_AT_ONCE`",
        ),
        Bound(
            f"builds, {at_once} at once",
            f"{build:.1f} s a build with cached layers (`url-cached`); `CATALYST_BUILDS_AT_ONCE` is {at_once}",
            f"{at_once} / {build:.1f} s × 3,600 s / 2 builds",
            at_once / build * HOUR / 2,
            "`CATALYST_BUILDS_AT_ONCE`, where nodes have the cores",
        ),
        Bound(
            "env-controller",
            f"{burst:.1f} environments/s (`burst`)",
            f"{burst:.1f}/s × 3,600 s",
            burst * HOUR,
            "nothing yet: one leads. The API server is as slow (its limit in the same row)",
        ),
        Bound(
            "webhook-ingest, one replica",
            f"{fsync:,.0f} webhooks/s, each synced to disk (`ingest-fsync`); {life['webhooks']} webhooks a pull "
            "request (`pull-request`)",
            f"{fsync:,.0f}/s × 3,600 s / {life['webhooks']}",
            fsync * HOUR / life["webhooks"],
            "replicas, until the disk of NATS is the limit (the same row's limit)",
        ),
    ]
    size, facts, events = len(payload.body()), life["messages"][SCM], life["bytes"][EVENTS]
    found += [
        _stream(
            SCM, Budget().scm, facts * size, f"{facts} facts of {size / 1000:.0f} kB, as GitHub sends them (`ingest`)"
        ),
        _stream(EVENTS, Budget().events, events, f"{events / 1000:.0f} kB (`pull-request`)"),
    ]
    return sorted(found, key=lambda bound: bound.hourly)


def _stream(name: str, budget: int, each: int, measured: str) -> Bound:
    """`budget`, `each`: bytes that it may hold, and that one pull request adds."""
    return Bound(
        f"NATS, stream {name}, in every hour of {KEPT / DAY:.0f} days",
        f"{measured}; {budget / 2**30:g} GiB for {KEPT / DAY:.0f} days",
        f"{budget / 2**30:g} GiB / {each / 1000:.0f} kB / {KEPT / HOUR:,.0f} h",
        budget / each / (KEPT / HOUR),
        "a larger budget and volume; its alarm comes at 70 %",
    )


def blocks(results: Sequence[Found], scaling: Mapping[str, Any]) -> dict[str, list[str]]:
    """The generated parts of docs/capacity.md, as lines of Markdown."""
    rows = {row["name"]: row for row in results}
    found = bounds(rows, scaling["pull-request"])
    return {
        "life": _life(scaling["pull-request"]),
        "bounds": _bounds(found),
        "environments": _environments(rows),
        "scaling": _scaling(scaling),
        "failover": _failover(scaling),
    }


def page(text: str, results: Sequence[Found], scaling: Mapping[str, Any]) -> str:
    """`text` with each block filled in. Raises ValueError naming a block that it lacks."""
    for name, lines in blocks(results, scaling).items():
        begin, end = f"<!-- begin: {name}, by python -m bench.capacity -->", f"<!-- end: {name} -->"
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not opened or not closed:
            raise ValueError(f"{DOCUMENT} lacks the line {begin!r} or {end!r} between which figures go")
        text = "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"])
    return text


def _bounds(found: Sequence[Bound]) -> list[str]:
    first, second = found[:2]
    return [
        "| Part | Measured | Reckoned | Pull requests an hour | To have more |",
        "|---|---|---|---|---|",
        *(
            f"| {bound.part} | {bound.measured} | {bound.reckoned} | {_count(bound.hourly)} | {bound.more} |"
            for bound in found
        ),
        "",
        f"First gives: **{first.part}**, at {_count(first.hourly)} an hour. Then: {second.part}, at "
        f"{_count(second.hourly)}.",
    ]


def _life(life: Found) -> list[str]:
    streams = [f"{life['messages'][name]} in {name} ({size / 1000:.0f} kB)" for name, size in life["bytes"].items()]
    return [
        f"- {life['webhooks']} webhooks",
        f"- {life['forge_requests']} requests to the forge, of them {life['forge_writes']} that write; those for "
        "tokens apart, and unchanged answers (304), which are free",
        f"- messages: {', '.join(streams)}",
    ]


def _environments(rows: Mapping[str, Found]) -> list[str]:
    """env-controller's memory, which grows with them."""
    limit, each, again = _memory_limit() / 1e6, rows["burst-memory"]["ours"], rows["burst-restart"]["ours"]
    lines = [
        f"- `burst-memory`: env-controller took {each:.0f} MB with 1,000. If all of that were theirs, its limit of "
        f"{limit:.0f} MB would hold {limit:.0f} / {each:.0f} × 1,000 = {_count(limit / each * 1000)}.",
        f"- `burst-restart`: started again among 1,000, it had looked at each after {again:.1f} s.",
    ]
    many = [row for name, row in sorted(rows.items()) if row["benchmark"] == "many" or "-10k" in name]
    return lines + [f"- `{row['name']}`: {row['ours']:.3g} {row['unit']}. {row['note']}" for row in many]


def _memory_limit() -> int:
    """Bytes that env-controller may take, as its Deployment says."""
    text = (ROOT / "deploy" / "k8s" / "platform" / "env-controller.yaml").read_text()
    deployment = next(one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment")
    said: str = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return int(said.removesuffix("Mi")) * MIB


def _scaling(scaling: Mapping[str, Any]) -> list[str]:
    if not {"builder", "webhook-ingest"} <= scaling.keys():
        return ["Not measured yet: `make scale`."]
    builder, ingest = scaling["builder"], scaling["webhook-ingest"]
    return [
        "| | builder | webhook-ingest |",
        "|---|---|---|",
        f"| from the load's begin until three are ready | {builder['ready_s']:.0f} s | {ingest['ready_s']:.0f} s |",
        f"| from the load's end until two are left | {builder['back_at_floor_s']:.0f} s "
        f"| {ingest['back_at_floor_s']:.0f} s |",
        f"| a second, with two | {builder['handled_per_s_at_floor']:.0f} requests looked at "
        f"| {ingest['rate_per_s_at_floor']:.0f} webhooks stored on three servers |",
        f"| a second, with three | {builder['handled_per_s_at_ceiling']:.0f} | {ingest['rate_per_s_at_ceiling']:.0f} |",
        f"| most processor time of a replica | – | {ingest['cores_a_replica']:.2f} cores |",
        "",
        f"A pull request opened at the end of builder's burst, behind {builder['waiting_amid']:,} requests, was served "
        f"after {builder['pull_request_amid_s']:.0f} s.",
    ]


def _failover(scaling: Mapping[str, Any]) -> list[str]:
    return [
        "| Service | Another leads after | The commit is served after |",
        "|---|---|---|",
        *(
            f"| {name} | {found['leads_after_s']:.1f} s | {found['served_after_s']:.0f} s |"
            for name, found in sorted(scaling["failover"].items())
        ),
    ]


def _count(value: float) -> str:
    """Two digits are as much as such a figure knows."""
    digits = len(str(int(value)))
    return f"{round(value, 2 - digits) if digits > 2 else round(value):,.0f}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def write(path: Path = DOCUMENT) -> None:
    """Raises FileNotFoundError or KeyError when `make scale` did not measure all, ever."""
    path.write_text(page(path.read_text(), load(), json.loads(SCALING.read_text())))


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{DOCUMENT.relative_to(ROOT)}\n")
