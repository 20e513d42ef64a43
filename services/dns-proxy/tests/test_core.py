"""The pure decisions: tables and properties."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from edges import NOW, ZONE, event, host_of, layout, snapshot
from hypothesis import given
from hypothesis import strategies as st

from catalyst.dns_proxy.authority import public_key, write_keys
from catalyst.dns_proxy.core import caddy
from catalyst.dns_proxy.core.answers import Answer, Known, Said, Seen, answers
from catalyst.dns_proxy.core.cloudflare import MAX_COMMENT, MAX_OWNER, Record, Tunnel, ingress, mark, record_plan
from catalyst.dns_proxy.core.edge import Setup, starting_config
from catalyst.dns_proxy.core.pages import by_host, page
from catalyst.dns_proxy.core.pages import host_of as asked_host
from catalyst.dns_proxy.core.plan import plan
from catalyst.dns_proxy.core.routes import Entry, wanted
from catalyst.dns_proxy.effects.edge import Serves, worst
from catalyst.dns_proxy.effects.pages import html
from catalyst.dns_proxy.reconcile import together
from catalyst.model.environment import Phase, Route
from catalyst.model.snapshot import Snapshot, SnapshotPullRequest, SnapshotSource

HOST = host_of()
TUNNEL = Tunnel("a", "z", "catalyst-test", ZONE, "http://edge:8080", "test")

environments = st.sampled_from(["pr-1", "pr-2", "pr-3"])
phases = st.sampled_from([Phase.BUILDING, Phase.READY, Phase.TERMINATING, Phase.GONE])


@st.composite
def worlds(draw: st.DrawFn) -> list[Snapshot]:
    """One snapshot a name; they may claim each other's hosts."""
    found = []
    for name in draw(st.sets(environments)):
        claims = draw(st.lists(environments, max_size=2, unique=True))
        routes = tuple(
            Route(host=host_of(claim), namespace=f"acme--shop--{name}", service="web", port=80) for claim in claims
        )
        uid = draw(st.sampled_from([f"{name}-a", f"{name}-b"]))
        found.append(snapshot(name, draw(phases), uid=uid, age=draw(st.integers(0, 3)), routes=routes))
    return found


def table(*of: Snapshot) -> dict[str, Entry]:
    return dict(wanted(of, ZONE).entries)


# Routes and plans


def test_a_leaving_environment_wants_nothing() -> None:
    assert not table(snapshot(phase=Phase.TERMINATING), snapshot("pr-2", Phase.GONE))
    assert table(snapshot())[HOST].namespace == "acme--shop--pr-1"


def test_of_two_of_one_age_it_is_always_the_same() -> None:
    stolen = Route(host=HOST, namespace="acme--shop--pr-2", service="web", port=1)
    one, two = snapshot("pr-1", uid="b"), snapshot("pr-2", uid="a", routes=(stolen,))
    for order in ([one, two], [two, one]):
        found = wanted(order, ZONE)
        assert found.entries[HOST].uid == "a"
        assert set(found.refused) == {("b", HOST)}


@given(worlds(), worlds())
def test_plans(before: list[Snapshot], after: list[Snapshot]) -> None:
    current, aim = table(*before), wanted(after, ZONE)
    made = plan(current, aim, after)
    known = {str(one.key) for one in after}
    for entry in made.remove:
        assert entry.environment in known, "absence deletes nothing"
    for host, entry in made.table.items():
        assert entry == aim.entries.get(host) or (entry == current[host] and entry.environment not in known)
    assert {entry.host for entry in made.put} == {h for h, e in made.table.items() if current.get(h) != e}
    again = plan(made.table, aim, after)
    assert not again.changes, "a second time nothing is left to do"
    for host, entry in aim.entries.items():
        assert made.table[host] == entry or (entry.uid, host) in made.refused


def test_rebuilt_from_nothing_it_is_what_is_wanted() -> None:
    aim = wanted([snapshot("pr-1"), snapshot("pr-2")], ZONE)
    made = plan({}, aim, [])
    assert made.table == aim.entries
    assert not made.remove


def test_a_new_life_takes_over_the_old_ones_host() -> None:
    old, new = snapshot(uid="old", port=1), snapshot(uid="new", port=2)
    made = plan(table(old), wanted([new], ZONE), [new])
    assert [(entry.uid, entry.port) for entry in made.put] == [("new", 2)]


def test_a_holder_of_which_nothing_is_known_keeps_its_host() -> None:
    stolen = Route(host=HOST, namespace="acme--shop--pr-2", service="web", port=1)
    newer = snapshot("pr-2", routes=(stolen,))
    made = plan(table(snapshot("pr-1")), wanted([newer], ZONE), [newer])
    assert made.table[HOST].environment == "acme/shop/pr-1"
    assert "held by acme/shop/pr-1, of which no state is known" in made.refused["uid-pr-2", HOST]


# Caddy


@given(st.lists(st.integers(1, 65535), max_size=4))
def test_a_table_survives_the_way_to_caddy_and_back(ports: list[int]) -> None:
    entries = table(*(snapshot(f"pr-{at}", port=port) for at, port in enumerate(ports, 1)))
    made = caddy.routes(entries.values(), layout(), token=3)
    read = caddy.read(json.loads(json.dumps(made)))
    assert (dict(read.entries), read.token, read.revision) == (entries, 3, caddy.revision(made))


def test_the_revision_says_what_is_served_not_who_wrote_it() -> None:
    entries = table(snapshot()).values()
    one, two = (caddy.routes(entries, layout(), token=token) for token in (1, 2))
    assert caddy.revision(one) == caddy.revision(two)
    assert caddy.revision(one) != caddy.revision(caddy.routes([], layout(), token=1))
    assert caddy.revision(one) != caddy.revision(caddy.routes(entries, layout("elsewhere:1"), token=1))


def test_the_services_name_is_whole() -> None:
    (entry,) = table(snapshot()).values()
    assert caddy.upstream(entry, caddy.Layout(ZONE)) == "web.acme--shop--pr-1.svc.cluster.local:8080"


def test_an_edge_may_be_programmed_by_one_key_and_in_one_place() -> None:
    config = starting_config(Setup(zones=(ZONE,), client_key="key"))
    assert config["admin"]["disabled"] is True
    assert config["admin"]["remote"]["access_control"] == [
        {
            "public_keys": ["key"],
            "permissions": [{"paths": ["/config/apps/http/servers/public/routes"], "methods": ["GET", "PATCH"]}],
        }
    ]
    assert "trusted_proxies" not in config["apps"]["http"]["servers"]["public"]
    assert starting_config(Setup(zones=(ZONE,), client_key="", https_port=None))["apps"]["tls"] == {}


def test_keys_are_made_once_and_only_ours_to_read(tmp_path: Path) -> None:
    write_keys(tmp_path, [ZONE], now=NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path)) for path in before} == {
        "root.key", "root.crt", "edge/root.crt", "edge/tls.crt", "edge/tls.key",
        "dns-proxy/root.crt", "dns-proxy/tls.crt", "dns-proxy/tls.key",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in before if path.suffix == ".key")
    write_keys(tmp_path, [ZONE], now=NOW + timedelta(days=1))
    assert before == {path: path.read_bytes() for path in before}
    assert public_key(tmp_path / "dns-proxy" / "tls.crt").startswith("MII")


# Answers


def told(
    one: Snapshot, seen: Seen | None = None, refused: str = "", said: Said | None = None, again: int = 0
) -> list[Answer]:
    key = one.uid, HOST
    return answers(
        [Known(one, event(one, again=again))],
        {key: refused} if refused else {},
        {key: seen} if seen else {},
        {key: said} if said else {},
    )


LIVE, GONE = Said(live=True, reason=None, cause="x"), Said(live=False, reason=None, cause="x")


@pytest.mark.parametrize(
    ("phase", "seen", "refused", "said", "again", "expected"),
    [
        (Phase.BUILDING, "served", "", None, 0, True),
        (Phase.BUILDING, "unclear", "", None, 0, None),
        (Phase.BUILDING, None, "taken", None, 0, False),
        (Phase.READY, "served", "", LIVE, 0, None),
        (Phase.READY, "served", "", LIVE, 1, True),
        (Phase.READY, None, "taken", LIVE, 0, False),
        (Phase.READY, None, "taken", Said(live=False, reason="taken", cause="x"), 0, None),
        (Phase.TERMINATING, "absent", "", LIVE, 0, False),
        (Phase.TERMINATING, "unclear", "", LIVE, 0, None),
        (Phase.TERMINATING, "served", "", LIVE, 0, None),
        (Phase.TERMINATING, "absent", "", GONE, 0, None),
        (Phase.TERMINATING, "absent", "", GONE, 2, False),
        (Phase.TERMINATING, "absent", "taken", Said(live=False, reason="taken", cause="x"), 0, False),
        (Phase.GONE, "absent", "", None, 0, None),
    ],
)
def test_what_is_told(
    phase: Phase, seen: Seen | None, refused: str, said: Said | None, again: int, expected: bool | None
) -> None:
    found = told(snapshot(phase=phase), seen, refused, said, again)
    assert [answer.live for answer in found] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("edges", "names", "leaving", "expected"),
    [
        (["this", "this"], None, False, "served"),
        (["this", "refused"], None, False, "served"),
        (["this", "silent"], "served", False, "served"),
        (["this", "other"], None, False, "unclear"),
        (["silent"], None, False, "unclear"),
        (["this"], "absent", False, "unclear"),
        (["this"], "unclear", False, "unclear"),
        ([], None, False, "unclear"),
        (["other", "refused"], None, True, "absent"),
        (["other", "silent"], None, True, "unclear"),
        (["other", "this"], None, True, "unclear"),
        (["other"], "served", True, "unclear"),
        (["other"], "absent", True, "absent"),
        (["other"], "unclear", True, "unclear"),
        ([], None, True, "unclear"),
    ],
)
def test_one_word_for_all_edges(edges: list[Serves], names: Seen | None, leaving: bool, expected: Seen) -> None:
    assert together(edges, names, leaving=leaving) == expected


def test_of_several_ways_to_one_edge() -> None:
    assert worst(["this", "this"]) == "this"
    assert worst(["this", "other"]) == "silent"
    assert worst(["other", "refused"]) == "other"
    assert worst(["refused", "refused"]) == "refused"
    assert worst(["other", "silent"]) == "silent"


# Cloudflare


def test_our_rule_is_in_front_of_the_last_and_the_others_stay() -> None:
    ours, last = {"hostname": f"*.{ZONE}", "service": "http://edge:8080"}, {"service": "http_status:404"}
    wiki = {"hostname": "wiki.org", "service": "http://wiki"}
    assert ingress([], TUNNEL) == [ours, last]
    assert ingress([wiki, last], TUNNEL) == [wiki, ours, last]
    assert ingress([ours, wiki, last], TUNNEL) == [wiki, ours, last]
    assert ingress([{**ours, "originRequest": {"x": 1}}, last], TUNNEL)[0]["originRequest"] == {"x": 1}
    assert ingress([wiki], TUNNEL) == [wiki, ours, last]
    for rules in ([], [wiki, last], [ours, wiki, {"service": "http_status:503", "hostname": ""}]):
        assert ingress(ingress(rules, TUNNEL), TUNNEL) == ingress(rules, TUNNEL)


def test_the_mark_fits_into_a_comment() -> None:
    assert len(mark("x" * MAX_OWNER, "00000000-0000-0000-0000-000000000000")) <= MAX_COMMENT


def test_records_of_the_other_mode_are_cleared_away_once_the_wildcard_covers_them() -> None:
    old = Record(HOST, "t", mark("test", "uid-of-nobody"), id="1")
    foreign = Record(f"x.{ZONE}", "t", "by hand", id="2")
    made = record_plan([old, foreign], [], TUNNEL, "t", [])
    assert [record.name for record in made.create] == [f"*.{ZONE}"]
    assert made.delete == (old,)
    hosts = replace(TUNNEL, wildcard=False)
    wild = Record(f"*.{ZONE}", "t", mark("test", "-"), id="3")
    assert record_plan([wild, old], [], hosts, "t", []).delete == ()


# Pages


def test_a_page_for_everything_that_can_be() -> None:
    for phase in Phase:
        for error in ("", "502"):
            made = page(HOST, error, by_host([snapshot(phase=phase)], ZONE))
            assert made.environment == "acme/shop/pr-1"
            assert f"Status {int(made.status)}" in html(made)


def test_hosts_are_known_in_every_spelling() -> None:
    for header in (HOST, HOST.upper(), f"{HOST}:8443", f"{HOST}.", HOST.replace(".localhost", ".test")):
        assert asked_host(header, ZONE, ("catalyst.test",)) == HOST
    assert asked_host("", ZONE, ()) == ""


def test_the_living_hide_the_dead() -> None:
    dead, living = snapshot("pr-1", Phase.GONE, age=0), snapshot("pr-2", Phase.BUILDING, age=9)
    both = by_host([living.model_copy(update={"routes": dead.routes}), dead], ZONE)
    assert both[HOST].phase == Phase.BUILDING


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a" * 5000])
def test_nothing_from_outside_is_markup(hostile: str) -> None:
    request = SnapshotPullRequest(number=1, title=hostile, url=f"https://github.com/{hostile}")
    made = snapshot(phase=Phase.FAILED, reason=hostile, commit=hostile, source=SnapshotSource(pull_request=request))
    text = html(page(HOST, "", by_host([made], ZONE)))
    assert "<script>" not in text
    assert "<img" not in text
    for url in ("javascript:alert(1)", "http://insecure.example.org"):
        request = SnapshotPullRequest(number=1, url=url)
        made = snapshot(phase=Phase.FAILED, source=SnapshotSource(pull_request=request))
        assert page(HOST, "", by_host([made], ZONE)).link is None
    assert page(hostile, hostile, {}).title == "Nothing lives here"
