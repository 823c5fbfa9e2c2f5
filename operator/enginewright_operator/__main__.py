"""`enginewright-operator`: the composition root. Everything is made here, once, and handed to who needs it."""

import asyncio
import datetime
import logging
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import structlog
import typer
import uvloop
from kubernetes.aio import client

from enginewright_operator import handlers, metrics, probes, supervise
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.cluster import Cluster
from enginewright_operator.connection import connect
from enginewright_operator.controller import SOON, Controller, Key
from enginewright_operator.errors import ClusterError
from enginewright_operator.gather import Gatherer, kinds
from enginewright_operator.leader import ClusterLease, Leader, Terms
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.scrape import Scraper
from enginewright_operator.settings import Settings, read
from enginewright_operator.stores import Stores
from enginewright_operator.watched import Watched, WatchedKind
from enginewright_operator.workqueue import WorkQueue
from enginewright_runtime import tracing
from enginewright_runtime.errors import EnginewrightError

logger = logging.getLogger(__name__)

WAIT_FOR_KINDS = 2.0
ENDING = 14.0  # seconds: longer than the watches, and the reconciliations under way, give themselves


def command(
    namespace: Annotated[
        list[str] | None, typer.Option(help="Serve the engines of this namespace only; may be given several times.")
    ] = None,
    operator_namespace: Annotated[str | None, typer.Option(help="Where the lease is.")] = None,
    lease_name: Annotated[str | None, typer.Option(help="The Lease that decides which replica leads.")] = None,
    resync_seconds: Annotated[float | None, typer.Option(help="How often everything is looked at again.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Where Prometheus asks (/metrics); 0: nowhere.")] = None,
    health_port: Annotated[int | None, typer.Option(help="Where the kubelet asks (/healthz); 0: nowhere.")] = None,
) -> None:
    """Turn InferenceEngines into built, proven and served plans.

    Every option is also a variable of the environment, ENGINEWRIGHT_OPERATOR_ and its name in capitals.
    """
    given = {
        "watch_namespaces": tuple(namespace) if namespace else None,
        "operator_namespace": operator_namespace,
        "lease_name": lease_name,
        "resync_seconds": resync_seconds,
        "metrics_port": metrics_port,
        "health_port": health_port,
    }
    try:
        settings = read(**{name: value for name, value in given.items() if value is not None})
        _log_as_json()
        stop_tracing = tracing.configure("enginewright-operator", endpoint=settings.tracing_endpoint)
        try:
            uvloop.run(run(settings))
        finally:
            stop_tracing()
    except EnginewrightError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(error.outcome) from error


async def run(settings: Settings) -> None:
    """Wait to lead, lead until told to end or until the lease is lost."""
    await connect()
    async with (
        client.ApiClient() as api,
        probes.serve(host=settings.host, health_port=settings.health_port, metrics_port=settings.metrics_port),
    ):
        lease = ClusterLease(
            api, namespace=settings.operator_namespace, name=settings.lease_name, duration=settings.lease_seconds
        )
        leader = Leader(lease, identity=_identity(), terms=_terms(settings.lease_seconds))
        await leader.lead(lambda lost: work(settings, parts(api, may_write_for=leader.may_write_for), lost))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What one term of leadership is made of: a new leader begins with nothing in its memory."""

    queue: WorkQueue[Key]
    watched: Watched
    kube: CachedKube
    stores: Stores
    now: Callable[[], datetime.datetime]


def parts(api: client.ApiClient, *, may_write_for: Callable[[], float]) -> Parts:
    """The usual parts."""
    queue: WorkQueue[Key] = WorkQueue()
    watched = Watched(
        lambda kind, namespace, name: queue.put(Key(kind=kind, namespace=namespace, name=name)),
        lambda kind, namespace, name: queue.put_after(Key(kind=kind, namespace=namespace, name=name), SOON),
    )
    kube = CachedKube(api, watched, may_write_for=may_write_for)
    stores = Stores(may_write_for=may_write_for)
    return Parts(queue=queue, watched=watched, kube=kube, stores=stores, now=_now)


async def work(settings: Settings, made_of: Parts, lost: asyncio.Event) -> None:
    """What the leader does, until `lost` is set or the process is told to end. Raises what ends it otherwise."""
    watchable = await _kinds(made_of.kube, settings, lost)
    scope = Scope(
        gatherer=Gatherer(made_of.kube, made_of.stores, settings, kinds=watchable),
        cluster=Cluster(made_of.kube, now=made_of.now),
        scraper=Scraper(port=settings.serving_port, proxy=settings.scrape_proxy),
        stores=made_of.stores,
        settings=settings,
        now=made_of.now,
    )
    controller, ended = Controller(scope, queue=made_of.queue), asyncio.Event()
    metrics.LEADING.set(1)
    watch = handlers.watch(made_of.watched, watchable, namespaces=settings.watch_namespaces, stop=lost)
    tasks = [
        asyncio.create_task(controller.run(ended), name="controller"),
        asyncio.create_task(watch, name="watches"),
    ]
    try:
        await supervise.until_one_ends(tasks)
    finally:
        ended.set()
        await supervise.end(tasks, within=ENDING)
        metrics.LEADING.set(0)
        metrics.OBJECTS.clear()


async def _kinds(kube: CachedKube, settings: Settings, lost: asyncio.Event) -> Mapping[str, WatchedKind]:
    """What is to be watched, once the CRDs are there: kopf looks for kinds once, and not for those that come later."""
    while not lost.is_set():
        try:
            if await kinds.are_served(kube):
                return await kinds.watchable(kube, settings)
            logger.warning("The kinds of enginewright.dev are not there yet: install the CRDs (crds/*.yaml).")
        except ClusterError as error:
            logger.warning("%s", error.message)
        await asyncio.sleep(WAIT_FOR_KINDS)
    return {}


def _terms(seconds: float) -> Terms:
    return Terms(duration=seconds, renew_within=seconds * 2 / 3, retry_every=seconds / 7.5)


def _identity() -> str:
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _log_as_json() -> None:
    stamps = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*stamps, structlog.processors.TimeStamper(fmt="iso")],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("botocore").setLevel(logging.WARNING)


def main() -> None:
    """The entry point."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)  # pretty ones show variables: secrets
    app.command()(command)
    app()


if __name__ == "__main__":
    main()
