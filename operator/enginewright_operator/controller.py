"""The workers: take a key from the queue, reconcile it, say when to look again.

Keys come from events and from resyncs; a worker never trusts what an event said, only that it came.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from enginewright_operator import metrics, resync, supervise
from enginewright_operator.errors import ConflictError, NamespaceTerminatingError
from enginewright_operator.reconcile import engine, plan
from enginewright_operator.reconcile.scope import Again, Scope
from enginewright_operator.workqueue import WorkQueue
from enginewright_runtime.errors import EnginewrightError

logger = logging.getLogger(__name__)

WORKERS = 16  # a reconciliation mostly waits for answers: on two processors the API server is full before they are
SOON = 0.5  # seconds in which what happens to an object's children is gathered into one look at it
ENDING = 5.0  # seconds that a reconciliation under way may take to its end when this process leads no more

Reconcile = Callable[[str, str, Scope], Awaitable[Again]]

RECONCILERS: Mapping[str, Reconcile] = {
    "InferenceEngine": engine.reconcile,
    "EnginePlan": plan.reconcile,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One object to look at."""

    kind: str
    namespace: str
    name: str


class Controller:
    """Runs reconciliations, each key by one worker at a time."""

    def __init__(
        self,
        scope: Scope,
        *,
        queue: "WorkQueue[Key] | None" = None,
        reconcilers: Mapping[str, Reconcile] = RECONCILERS,
    ) -> None:
        self._scope = scope
        self._reconcilers = reconcilers
        self.queue: WorkQueue[Key] = WorkQueue() if queue is None else queue
        self._begin = asyncio.Event()

    def put(self, kind: str, namespace: str, name: str) -> None:
        """An event named this object."""
        self.queue.put(Key(kind=kind, namespace=namespace, name=name))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what is begun is ended. Raises what ended a worker, or the resync, before."""
        tasks = [
            asyncio.create_task(stop.wait(), name="told to end"),
            asyncio.create_task(resync.run(self._scope, self.put, stop, begin=self._begin), name="resync"),
        ]
        tasks += [asyncio.create_task(self._work(stop), name=f"worker {number}") for number in range(WORKERS)]
        try:
            await supervise.until_one_ends(tasks)
        finally:
            await supervise.end(tasks, within=ENDING + 1)

    async def _work(self, stop: asyncio.Event) -> None:
        await self._begin.wait()  # until the cache is filled everything would be asked for one by one
        while not stop.is_set():
            looking = asyncio.create_task(self.reconcile(await self.queue.get()))
            try:
                await asyncio.shield(looking)
            except asyncio.CancelledError:
                await asyncio.wait({looking}, timeout=ENDING)  # a write that is under way is ended
                looking.cancel()
                raise

    async def reconcile(self, key: Key) -> None:
        """One reconciliation, counted and timed; whatever goes wrong brings the key back later."""
        begun = time.monotonic()
        try:
            again = await self._reconcilers[key.kind](key.namespace, key.name, self._scope)
        except ConflictError as error:
            logger.debug("%s %s/%s is read again: %s", key.kind, key.namespace, key.name, error.message)
            metrics.RECONCILES.labels(key.kind, "conflict").inc()
            self.queue.failed(key)
        except NamespaceTerminatingError as error:
            logger.info("%s %s/%s: %s", key.kind, key.namespace, key.name, error.message)
            metrics.RECONCILES.labels(key.kind, "done").inc()
            self.queue.done(key)
        except Exception as error:
            # The boundary of one key: a defect that one object brings out must not stop all the others.
            delay = self.queue.failed(key)
            metrics.RECONCILES.labels(key.kind, "error").inc()
            known = isinstance(error, EnginewrightError)
            logger.log(
                logging.WARNING if known else logging.ERROR,
                "%s %s/%s failed and is tried again in %.1f s: %s",
                *(key.kind, key.namespace, key.name, delay, error),
                exc_info=not known,
            )
        else:
            metrics.RECONCILES.labels(key.kind, "done").inc()
            self._release(key, again)
        finally:
            metrics.SECONDS.labels(key.kind).observe(time.monotonic() - begun)
            metrics.DEPTH.set(len(self.queue))

    def _release(self, key: Key, again: Again) -> None:
        if again.failed:
            self.queue.failed(key)
        else:
            self.queue.done(key)
        if again.seconds is not None:
            self.queue.put_after(key, again.seconds)
