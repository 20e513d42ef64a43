"""The bus, judged by what its server says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from catalyst.cli.core.doctor import Finding, hidden, several
from catalyst.cli.core.health import lost
from catalyst.cli.core.hidden import Hidden
from catalyst.events.applying import consumer_differences, stream_differences
from catalyst.events.server import MAX_PAYLOAD
from catalyst.events.topology import consumers as wanted_consumers
from catalyst.events.topology import streams as wanted_streams

APPLY: Final = "python -m catalyst.events apply, with the operator's seed"
CLUSTER: Final = 3
"""Servers from which on one may be lost."""


@dataclass(frozen=True, slots=True)
class Server:
    """`max_payload` in bytes. `streams` and `consumers`: the server's own words, by stream; None: there is no such."""

    version: str
    max_payload: int
    streams: Mapping[str, Mapping[str, Any] | None]
    consumers: Mapping[str, Sequence[Mapping[str, Any]]]


def bus(found: Server | Hidden, monitored: Mapping[str, Any] | Hidden, servers: int | Hidden) -> list[Finding]:
    """`monitored`: the monitoring page `varz`; `servers`: how many there should be."""
    if isinstance(found, Hidden):
        return [hidden(check, found) for check in ("bus", "streams", "consumers", "bus-copies")] + [_sync(monitored)]
    return [_server(found), _sync(monitored), _streams(found), _consumers(found), _copies(found, servers)]


def _server(found: Server) -> Finding:
    if not any(info is not None for info in found.streams.values()):
        how = f"{APPLY}; if it is refused, `jetstream` is missing in the server's configuration"
        return Finding("bus", "failed", f"nats-server {found.version} has no stream of ours", how)
    if found.max_payload < MAX_PAYLOAD:
        how = f"max_payload: {MAX_PAYLOAD} in the server's configuration: larger events are refused"
        return Finding("bus", "failed", f"messages may have {found.max_payload} bytes, expected {MAX_PAYLOAD}", how)
    return Finding("bus", "ok", f"nats-server {found.version} with JetStream, messages up to {found.max_payload} bytes")


def _sync(monitored: Mapping[str, Any] | Hidden) -> Finding:
    if isinstance(monitored, Hidden):
        return hidden("bus-sync", monitored)
    config = (monitored.get("jetstream") or {}).get("config")
    if not config:
        return Finding(
            "bus-sync", "failed", "the server runs without JetStream", "add `jetstream` to its configuration"
        )
    if config.get("sync_always"):
        return Finding("bus-sync", "ok", "what is acknowledged is on disk")
    every = config.get("sync_interval")
    told = f"every {every / 1e9:g} s" if isinstance(every, int | float) and every else "now and then"
    how = "jetstream: {sync_interval: always} in the server's configuration, as `catalyst.local install` writes it"
    return Finding(
        "bus-sync", "failed", f"written to disk {told}: a power failure takes what was acknowledged since", how
    )


def _streams(found: Server) -> Finding:
    missing = [name for name, info in found.streams.items() if info is None]
    if missing:
        return Finding("streams", "failed", f"not there: {several(missing)}", APPLY)
    wanted = {config.name or "": config for config in wanted_streams()}
    differing = [
        f"{name} ({', '.join(differences)})"
        for name, info in found.streams.items()
        if info and (differences := stream_differences(info["config"], wanted[name]))
    ]
    if differing:
        return Finding("streams", "failed", f"not as the topology says: {several(differing, 3)}", APPLY)
    return Finding("streams", "ok", f"{several(found.streams, 9)} are as the topology says")


def _consumers(found: Server) -> Finding:
    there = {(stream, each["name"]): each for stream, infos in found.consumers.items() for each in infos}
    wanted = {(each.stream, each.name): each.config() for each in wanted_consumers()}
    missing = [f"{stream}/{name}" for stream, name in wanted if (stream, name) not in there]
    if missing:
        return Finding("consumers", "failed", f"not there, so nothing reaches them: {several(missing)}", APPLY)
    differing = [
        f"{key[0]}/{key[1]} ({', '.join(differences)})"
        for key, config in wanted.items()
        if (differences := consumer_differences(there[key]["config"], config))
    ]
    if differing:
        return Finding("consumers", "failed", f"not as the topology says: {several(differing, 3)}", APPLY)
    foreign = [f"{stream}/{name}" for stream, name in there if (stream, name) not in wanted]
    if foreign:
        how = "nobody of ours reads them; if nobody else does, the operator removes them"
        return Finding("consumers", "warning", f"besides ours: {several(foreign)}", how)
    return Finding("consumers", "ok", f"{len(wanted)} are as the topology says")


def _copies(found: Server, servers: int | Hidden) -> Finding:
    infos = {name: info for name, info in found.streams.items() if info is not None}
    if not infos:
        return Finding("bus-copies", "unknown", "there is no stream of ours", APPLY)
    away = [f"{name}: {problem}" for name, info in infos.items() if (problem := lost(info))]
    if away:
        how = "kubectl get pods --selector app.kubernetes.io/name=nats: all servers have to run"
        return Finding("bus-copies", "failed", several(away, 3), how)
    copies = {name: info["config"].get("num_replicas", 1) for name, info in infos.items()}
    fewest = min(copies.values())
    if isinstance(servers, Hidden):
        if fewest >= CLUSTER:
            return Finding("bus-copies", "ok", f"{fewest} copies of every stream")
        return Finding(
            "bus-copies",
            "unknown",
            f"copies of each stream: {fewest}, on how many servers: {servers.why}",
            servers.needs,
        )
    if servers >= CLUSTER and fewest < CLUSTER:
        single = [name for name, number in copies.items() if number < CLUSTER]
        how = f"python -m catalyst.events apply --replicas {CLUSTER}"
        return Finding(
            "bus-copies", "failed", f"{servers} servers, and fewer than {CLUSTER} copies of {several(single)}", how
        )
    if servers < CLUSTER:
        how = "three servers and --replicas 3, to lose one without losing events"
        return Finding(
            "bus-copies", "warning", f"{servers} server{'s' * (servers != 1)}: its disk is the only copy", how
        )
    return Finding("bus-copies", "ok", f"{fewest} copies of every stream on {servers} servers")
