"""/healthz for the kubelet's probes and /metrics for Prometheus.

Both answer on a standby too: it is healthy, it waits.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web

from enginewright_operator import metrics
from enginewright_runtime.errors import UsageError

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serve(*, host: str, health_port: int, metrics_port: int) -> AsyncIterator[None]:
    """Answer on both ports of `host` (empty: of every address) while the block runs; a port of 0 is not served.

    Raises UsageError naming the port that somebody else has.
    """
    runners = [
        await _site(host, health_port, "/healthz", _healthy),
        await _site(host, metrics_port, "/metrics", _metrics),
    ]
    try:
        yield
    finally:
        for runner in runners:
            if runner is not None:
                await runner.cleanup()


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")  # that the event loop came to it is what is asked


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=metrics.told(), headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


async def _site(host: str, port: int, path: str, handler: Handler) -> web.AppRunner | None:
    if not port:
        return None
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or None, port).start()
    except OSError as error:
        await runner.cleanup()
        raise UsageError(
            f"The operator cannot answer {path} on port {port} of {host or 'every address'} ({error.strerror}): set "
            "another port, or end the process that has it."
        ) from error
    return runner
