"""Pods' metrics over HTTP: what is read, and what is said of a pod that does not answer as it should."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from enginewright_operator.rollout import Sample
from enginewright_operator.scrape import MOST_BYTES, Scraper

TEXT = 'enginewright_requests_total{model="m",code="200"} 7\n# TYPE enginewright_requests counter\n'


def pod(name: str, address: str = "127.0.0.1", restarts: int = 0) -> dict[str, Any]:
    status = {"podIP": address, "containerStatuses": [{"restartCount": restarts}]}
    return {"metadata": {"name": name}, "status": status}


@pytest.fixture
def sample() -> Callable[..., Sample]:
    """sample(handler, stable, canary): what is read of a server that answers so."""

    async def read(handler: Callable[[web.Request], Awaitable[web.Response]], stable: Any, canary: Any) -> Sample:
        app = web.Application()
        app.router.add_get("/metrics", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            return await Scraper(port=port).sample(stable, canary, model="m")
        finally:
            await runner.cleanup()

    return lambda *arguments: asyncio.run(read(*arguments))


async def answer(_: web.Request) -> web.Response:
    return web.Response(text=TEXT)


def test_the_counters_of_all_pods_of_a_deployment_add_up(sample: Callable[..., Sample]) -> None:
    found = sample(answer, [pod("a"), pod("b")], [pod("c", restarts=2)])
    assert found.stable.counts is not None
    assert found.canary.counts is not None
    assert (found.stable.counts.requests, found.canary.counts.requests) == (14, 7)
    assert (found.stable.pods, found.canary.restarts, found.problem) == (("a", "b"), 2, "")


def test_a_pod_without_an_address_leaves_its_side_without_counters(sample: Callable[..., Sample]) -> None:
    found = sample(answer, [pod("a"), pod("b", "")], [pod("c")])
    assert found.stable.counts is None
    assert found.canary.counts is not None
    assert found.problem == "the pod b has no address yet"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (web.Response(status=302, headers={"Location": "http://elsewhere/"}), "status 302"),
        (web.Response(text="{not metrics"), "are none"),
        (web.Response(body=b"\xff\xfe"), "are none"),
        (web.Response(text="x" * (2 * MOST_BYTES)), "are none"),
    ],
)
def test_what_is_no_answer_is_said_and_no_more_of_it_is_read_than_there_may_be(
    sample: Callable[..., Sample], given: web.Response, said: str
) -> None:
    async def other(_: web.Request) -> web.Response:
        return given

    found = sample(other, [], [pod("c")])
    assert found.canary.counts is None
    assert said in found.problem


def test_a_pod_that_cannot_be_reached_is_named() -> None:
    found = asyncio.run(Scraper(port=9).sample([], [pod("c")], model="m"))
    assert "the metrics of the pod c cannot be read" in found.problem
