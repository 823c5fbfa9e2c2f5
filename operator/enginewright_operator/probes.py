"""/healthz for the kubelet's probes and /metrics for Prometheus.

Both answer on a standby too: it is healthy, it waits.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import prometheus_client
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serve(*, health_port: int, metrics_port: int) -> AsyncIterator[None]:
    """Answer on both ports, of every address, while the block runs; a port of 0 is not served."""
    runners = [
        await _site(health_port, "/healthz", _healthy),
        await _site(metrics_port, "/metrics", _metrics),
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
    text = prometheus_client.generate_latest()
    return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


async def _site(port: int, path: str, handler: Handler) -> web.AppRunner | None:
    if not port:
        return None
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
