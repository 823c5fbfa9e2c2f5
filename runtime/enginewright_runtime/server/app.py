"""The composition root: settings in, a running server out, and the order in which it starts and ends.

Start: listen first (so that liveness answers while a large plan loads), then fetch, load and prove each plan, then
ready. End, on SIGTERM: not ready at once, answer for the time that endpoints need to hear of it, stop listening, finish
what is in flight, leave with 0.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from enginewright_runtime import tracing
from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.signature import Check
from enginewright_runtime.server import logs, protocol, sources
from enginewright_runtime.server.dataplane import Dataplane, Model, State, ThreadDispatcher
from enginewright_runtime.server.metrics import Metrics
from enginewright_runtime.server.rest import Rest
from enginewright_runtime.server.settings import Settings

VERSION_DIGITS = 12  # of the digest: enough to tell plans apart, short enough for a URL
LAST_BYTES = 0.1  # seconds for the kernel to take what was written before sockets close


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Told once the server listens (`ready` false, no models yet) and once it is ready."""

    url: str
    ready: bool
    models: tuple[Model, ...] = ()


Announce = Callable[[Listening], None]


def load(source: sources.Source, settings: Settings, check: Check | None = None) -> Model:
    """Fetch, load and prove one plan. Raises StorageError, PlanError or GoldenMismatchError."""
    with tracing.span("load", parent=tracing.inherited(), model=source.name):
        with tracing.span("fetch"):
            path = sources.fetch(source, settings.cache, settings.storage)
        with tracing.span("open"):
            engine = Engine(path, threads=settings.threads or None, check=check, allow_plugins=settings.allow_plugins)
        try:
            sources.require_named(source, engine.manifest.digest)
            protocol.require_servable([*engine.inputs, *engine.outputs], plan=str(path))
            with tracing.span("replay goldens"):
                engine.replay_goldens()
        except BaseException:
            engine.close()
            raise
    return Model(name=source.name, version=engine.manifest.digest[:VERSION_DIGITS], engine=engine)


async def serve(settings: Settings, wanted: Sequence[sources.Source], announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT. Raises UsageError if the address cannot be had, and what `load` raises."""
    logs.configure(settings.log_level)
    log, check = structlog.get_logger("serve"), _check(settings)
    dispatcher = ThreadDispatcher(concurrency=settings.concurrency or available.processors(), waiting=settings.waiting)
    dataplane, metrics, stop_tracing = Dataplane(dispatcher), Metrics(), tracing.configure("enginewright-server")
    rest = Rest(dataplane, metrics, max_body=settings.max_body, access_log=settings.access_log)
    runner = web.AppRunner(rest.application(), access_log=None, shutdown_timeout=settings.drain_timeout)
    stopped = _on_signals()
    await runner.setup()
    try:
        site, url = await _listen(runner, settings)
        announce(Listening(url=url, ready=False))
        log.info("listening", url=url)
        if await _load_all(wanted, settings, check, dataplane, log, stopped):
            dataplane.state = State.READY
            models = tuple(dataplane.models())
            metrics.serving(models, ready=True)
            announce(Listening(url=url, ready=True, models=models))
            log.info("ready", url=url, models=[f"{model.name}/{model.version}" for model in models])
            reason = await stopped
            dataplane.state = State.DRAINING
            metrics.serving(models, ready=False)
            log.info("draining", signal=reason.name, in_flight=rest.in_flight, delay=settings.drain_delay)
            await _drain(rest, site, settings, patient=reason is signal.SIGTERM)
    finally:
        await runner.cleanup()
        dataplane.close()
        stop_tracing()
    log.info("stopped")


def _check(settings: Settings) -> Check | None:
    """Who judges the plans' signatures, if anybody. Raises UsageError for keys that cannot be read."""
    if settings.signature_policy == "off":
        return None
    from enginewright_runtime.signing import trust  # here: most servers check none and need no cryptography

    found = trust.trust(trust.Policy(settings.signature_policy), settings.trusted_keys)
    return found.check if found else None


async def _listen(runner: web.AppRunner, settings: Settings) -> tuple[web.TCPSite, str]:
    site = web.TCPSite(runner, settings.host, settings.http_port)
    try:
        await site.start()
    except OSError as error:
        raise UsageError(
            f"The server cannot listen on {settings.host} port {settings.http_port}: {error.strerror or error}; "
            "choose another with --host and --http-port (0 picks a free one)."
        ) from error
    port = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return site, f"http://{host}:{port}"


async def _load_all(
    wanted: Sequence[sources.Source],
    settings: Settings,
    check: Check | None,
    dataplane: Dataplane,
    log: structlog.typing.FilteringBoundLogger,
    stopped: "asyncio.Future[signal.Signals]",
) -> bool:
    """Load every plan, unless told to stop before; whether all are there."""
    for source in wanted:
        loading = asyncio.ensure_future(asyncio.to_thread(load, source, settings, check))
        await asyncio.wait((loading, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return False
        model = loading.result()
        dataplane.add(model)
        log.info("loaded", model=model.name, version=model.version, uri=source.uri, digest=model.engine.manifest.digest)
    return True


async def _drain(rest: Rest, site: web.TCPSite, settings: Settings, *, patient: bool) -> None:
    if patient:  # a person at the keyboard (SIGINT) has no endpoints that need to hear of it
        await asyncio.sleep(settings.drain_delay)
    await site.stop()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.drain_timeout
    while rest.in_flight and loop.time() < deadline:
        await asyncio.sleep(0.01)
    await asyncio.sleep(LAST_BYTES)


def _on_signals() -> "asyncio.Future[signal.Signals]":
    """Done with the signal that asks the server to end; a second one ends the process the system's way."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[signal.Signals] = loop.create_future()

    def stop(received: signal.Signals) -> None:
        stopped.set_result(received)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop, each)
    return stopped
