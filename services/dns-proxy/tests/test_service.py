"""dns-proxy whole, on a real NATS and real Caddys: snapshots in, what a visitor sees and `route.changed` out."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import httpx
from edges import ZONE, Visitor, hello, host_of, listening, snapshot, until
from scene import Scene

from catalyst.events.event import environment_changed
from catalyst.local.edge import LocalEdge
from catalyst.local.process import free_ports
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase, Route

HOST = host_of()
EdgeOf = Callable[..., LocalEdge]


async def test_a_route_lives_and_goes_with_its_environment(scene: Scene) -> None:
    visitors = [Visitor(scene.edge, address) for address in scene.edge.addresses]
    async with listening(hello) as port, scene.serving():
        await scene.say(snapshot(phase=Phase.BUILDING, port=port))
        await scene.tells((HOST, True))
        for visitor in visitors:
            assert "got=0" in (await visitor.get("https", HOST)).text
        await scene.say(snapshot(phase=Phase.READY, port=port))  # heard, and nothing to say
        await scene.say(snapshot(phase=Phase.TERMINATING, port=port))
        await scene.tells((HOST, True), (HOST, False))
        for visitor in visitors:
            gone = await visitor.get("https", HOST, headers={"Accept": "text/html"})
            assert gone.status_code == 410
            assert "This environment is gone" in gone.text


async def test_a_question_asked_again_is_answered_again_and_only_then(scene: Scene) -> None:
    async with scene.serving():
        first = snapshot(version=1)
        await scene.controller.publish(environment_changed(first, time=utc_now()))
        await scene.tells((HOST, True))
        await scene.say(first, again=1)
        await scene.tells((HOST, True), (HOST, True))
        await scene.say(snapshot(version=5))
        await asyncio.sleep(0.6)
        await scene.tells((HOST, True), (HOST, True))


async def test_every_phase_shows_its_page_through_the_edge(scene: Scene) -> None:
    visitor, html = Visitor(scene.edge), {"Accept": "text/html"}
    async with scene.serving():
        await scene.say(snapshot("pr-1", Phase.BUILDING, port=1))
        await scene.say(snapshot("pr-2", Phase.FAILED, port=1, reason="CrashLoop", message="a log with a secret"))
        await scene.say(snapshot("pr-3", Phase.READY, port=1))
        await scene.say(snapshot("pr-4", Phase.WAITING, routes=()))
        await scene.say(snapshot("pr-5", Phase.GONE))
        await scene.say(snapshot("pr-7", Phase.WAITING, routes=(), reason="MaximumReached"))
        await scene.tells(*((host_of(f"pr-{number}"), True) for number in (1, 2, 3)))
        expected = {1: (503, "Build the image"), 2: (503, "Crash loop"), 3: (502, "does not answer")}
        expected |= {4: (503, "Waiting for a person"), 5: (410, "gone"), 6: (404, "Nothing lives here")}
        expected |= {7: (503, "Waiting for its turn")}
        for number, (status, words) in expected.items():
            answer = await visitor.get("https", host_of(f"pr-{number}"), headers=html)
            assert (answer.status_code, words in answer.text) == (status, True), answer.text
            assert "secret" not in answer.text
            assert answer.headers["cache-control"] == "no-store"
        plain = await visitor.get("http", host_of("pr-2"))
        assert plain.headers["content-type"].startswith("text/plain")
        assert (await visitor.get("http", host_of("pr-2"), headers={"Accept": "application/json"})).json() == {
            "status": 503,
            "title": "This environment failed",
            "text": "The pull request shows why, with the end of the log. The next good commit heals it.",
            "environment": "acme/shop/pr-2",
            "reason": "Crash loop",
        }


async def test_an_edge_that_was_killed_is_rebuilt_whole_and_not_ready_before(scene: Scene) -> None:
    async with listening(hello) as port, scene.serving():
        for number in (1, 2, 3):
            await scene.say(snapshot(f"pr-{number}", port=port))
        await scene.tells(*((host_of(f"pr-{number}"), True) for number in (1, 2, 3)))
        address = scene.edge.addresses[0]
        scene.edge.parts[address].kill()
        scene.edge.start(address)
        visitor = Visitor(scene.edge, address)

        async def rebuilt() -> bool:
            try:
                found = await asyncio.gather(*(visitor.get("https", host_of(f"pr-{n}")) for n in (1, 2, 3)))
            except httpx.TransportError:
                return False  # it takes its configuration just now
            return all("got=0" in one.text for one in found)

        await until(rebuilt, 5)
        assert len(await scene.told()) == 3, "an edge that comes back is no news"


async def test_started_anew_it_knows_all_from_state_and_repeats_nothing(scene: Scene) -> None:
    async with listening(hello) as port:
        async with scene.serving():
            await scene.say(snapshot(port=port))
            await scene.tells((HOST, True))
        await scene.say(snapshot("pr-2", port=port))
        for address in scene.edge.addresses:
            scene.edge.parts[address].kill()
            scene.edge.start(address)
        async with scene.serving():
            await scene.tells((HOST, True), (host_of("pr-2"), True))
            assert "got=0" in (await Visitor(scene.edge).get("https", HOST)).text


async def test_gone_is_told_only_when_every_edge_said_so(scene: Scene) -> None:
    silent = scene.edge.parts[scene.edge.addresses[1]]
    async with scene.serving():
        await scene.say(snapshot())
        await scene.tells((HOST, True))
        silent.freeze()
        await scene.say(snapshot(phase=Phase.TERMINATING))
        visitor = Visitor(scene.edge)

        async def removed() -> bool:
            return (await visitor.get("http", HOST)).status_code == 410

        await until(removed, 15)
        await asyncio.sleep(1)
        await scene.tells((HOST, True))
        silent.thaw()
        await scene.tells((HOST, True), (HOST, False), within=30)


async def test_of_two_claims_the_older_wins_and_the_newer_is_told_and_inherits(scene: Scene) -> None:
    older = snapshot("pr-1", age=2)
    stolen = Route(host=HOST, namespace="acme--shop--pr-2", service="web", port=1)
    newer = snapshot("pr-2", age=1, routes=(stolen,))
    async with scene.serving():
        await scene.say(newer)
        await scene.tells((HOST, True))
        await scene.say(older)
        await scene.tells((HOST, True), (HOST, False), (HOST, True))
        reason = next(reason for _, live, reason in await scene.told() if not live)
        assert reason is not None
        assert "claimed by acme/shop/pr-1 and by acme/shop/pr-2; the older, acme/shop/pr-1, keeps it" in reason
        await scene.say(snapshot("pr-1", Phase.TERMINATING, age=2))
        await until(lambda: _length(scene, 5), 10)
        assert [live for _, live, _ in (await scene.told())[3:]] in ([True, False], [False, True])


async def _length(scene: Scene, length: int) -> bool:
    return len(await scene.told()) == length


async def test_absence_deletes_nothing(scene: Scene) -> None:
    async with listening(hello) as port:
        async with scene.serving():
            await scene.say(snapshot(port=port))
            await scene.tells((HOST, True))
        jetstream = scene.operator._client.jetstream()
        await jetstream.purge_stream("STATE")
        async with scene.serving():
            await scene.say(snapshot("pr-2", port=port))
            await scene.tells((HOST, True), (host_of("pr-2"), True))
            assert "got=0" in (await Visitor(scene.edge).get("https", HOST)).text


async def test_bad_routes_are_refused_with_what_was_expected(scene: Scene) -> None:
    bad = {
        "evil.example.org": "expected one label",
        f"*.{ZONE}": "expected one label",
        f"a.b.{ZONE}": "expected one label",
        f"{'x' * 64}.{ZONE}": "expected one label",
        f"UPPER.{ZONE}": "expected one label",
    }
    routes = [Route(host=host, namespace="acme--shop--pr-1", service="web", port=1) for host in bad]
    routes.append(Route(host=f"other.{ZONE}", namespace="kube-system", service="kube-dns", port=53))
    routes.append(Route(host=f"inner.{ZONE}", namespace="acme--shop--pr-1", service="web", port=1, private=True))
    bad |= {f"other.{ZONE}": "a route leads to its own environment only", f"inner.{ZONE}": "private URLs are not"}
    good = Route(host=HOST, namespace="acme--shop--pr-1", service="web", port=1)
    async with scene.serving():
        await scene.say(snapshot(routes=(*routes, good)))
        await until(lambda: _length(scene, len(bad) + 1))
        told = {host: (live, reason) for host, live, reason in await scene.told()}
        assert told.pop(HOST) == (True, None)
        for host, words in bad.items():
            assert told[host][0] is False
            assert words in str(told[host][1])


async def test_a_second_replica_shows_pages_stands_by_and_takes_over(scene: Scene) -> None:
    (other_port,) = free_ports(1)
    async with AsyncExitStack() as stack:
        first = AsyncExitStack()
        await first.enter_async_context(scene.serving())
        await scene.say(snapshot(phase=Phase.BUILDING))
        await scene.tells((HOST, True))
        await stack.enter_async_context(scene.serving(identity="two", http_port=other_port))

        async def page() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                headers = {"Host": HOST, "Accept": "text/html"}
                return "On its way" in (await client.get(f"http://127.0.0.1:{other_port}/", headers=headers)).text

        await until(page)
        await first.aclose()
        await scene.say(snapshot("pr-2"))
        await scene.tells((HOST, True), (host_of("pr-2"), True))


async def test_nats_away_for_a_while(scene: Scene) -> None:
    async with listening(hello) as port, scene.serving() as life:
        await scene.say(snapshot(port=port))
        await scene.tells((HOST, True))
        scene.nats.stop()
        await until(lambda: life.readiness()["nats"], 15)
        assert "got=0" in (await Visitor(scene.edge).get("https", HOST)).text
        scene.nats.start()
        await until(lambda: life.readiness()["nats"] is None, 15)
        await scene.say(snapshot("pr-2", port=port))
        await scene.tells((HOST, True), (host_of("pr-2"), True), within=20)
