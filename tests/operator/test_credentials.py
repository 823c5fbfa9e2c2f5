"""A Secret that hundreds of engines name is asked for once in a few seconds; one that is missing each time."""

from typing import Any, cast

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.gather.credentials import FRESH_FOR, Credentials

STORAGE = api.Storage(uri="s3://p", credentials_secret="store")


class OneSecret:
    """An API server with or without it, and how often it was asked."""

    def __init__(self) -> None:
        self.asked, self.there = 0, True

    async def get(self, *_: str) -> dict[str, Any] | None:
        self.asked += 1
        return {"data": {"AWS_ACCESS_KEY_ID": "YQ=="}} if self.there else None


async def test_it_is_remembered_for_some_seconds_and_no_longer() -> None:
    server, now = OneSecret(), 0.0
    credentials = Credentials(cast(CachedKube, server), clock=lambda: now)
    for _ in range(3):
        assert await credentials.secret("n", STORAGE) == {"AWS_ACCESS_KEY_ID": "a"}
    assert server.asked == 1
    now = FRESH_FOR
    await credentials.secret("n", STORAGE)
    assert server.asked == 2


async def test_one_that_is_missing_is_found_as_soon_as_it_is_made() -> None:
    server = OneSecret()
    credentials = Credentials(cast(CachedKube, server), clock=lambda: 0.0)
    server.there = False
    assert await credentials.secret("n", STORAGE) is None
    server.there = True
    assert await credentials.secret("n", STORAGE) is not None


async def test_a_namespace_never_gets_anothers() -> None:
    server = OneSecret()
    credentials = Credentials(cast(CachedKube, server), clock=lambda: 0.0)
    await credentials.secret("n", STORAGE)
    server.there = False
    assert await credentials.secret("m", STORAGE) is None
