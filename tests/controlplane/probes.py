"""Readiness, liveness and startup probes, with a kubelet's thresholds.

Two differences from a kubelet. Until a probe first succeeds it is tried four times a second, but its failures are
counted once a period only: tests need not wait for whole seconds. And an answer may come ten times as late, since a
process of a busy machine is slow without being ill.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp

Json = dict[str, Any]
EAGER = 0.25  # seconds
PATIENCE = 10


async def verdicts(probe: Json, attempt: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
    """Yields True when the probe has come to pass and False each time it has failed `failureThreshold` times."""
    period = probe.get("periodSeconds") or 10
    successes = failures = 0
    passing = False
    next_counted = 0.0
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    while True:
        began = time.monotonic()
        if await attempt():
            successes, failures = successes + 1, 0
        elif began >= next_counted:
            successes, failures = 0, failures + 1
            next_counted = began + 0.9 * period
        if not passing and successes >= (probe.get("successThreshold") or 1):
            passing = True
            yield True
        if failures >= (probe.get("failureThreshold") or 3):
            passing, failures = False, 0
            yield False
        await asyncio.sleep(max(0.0, began + (period if passing else min(EAGER, period)) - time.monotonic()))


async def http_get(action: Json, host: str, port: int, timeout: float) -> bool:
    """A status from 200 to 399 passes; certificates are not verified, as in a kubelet."""
    url = f"{(action.get('scheme') or 'HTTP').lower()}://{action.get('host') or host}:{port}{action.get('path') or '/'}"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or []}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout * PATIENCE)) as session,
            session.get(url, headers={"Connection": "close", **headers}, ssl=False, allow_redirects=False) as response,
        ):
            return 200 <= response.status < 400
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def tcp_socket(host: str, port: int, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout * PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True
