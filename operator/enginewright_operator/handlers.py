"""kopf's part: the watches. Every handler does one thing, telling the cache what an event says of an object.

`on.event` only: kopf's other handlers write annotations and finalizers, and may lose updates. Whom an event concerns is
watched.py's to know; what is decided is decided of the state, never of the event.
"""

import asyncio
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import kopf

from enginewright_operator import supervise
from enginewright_operator.errors import WatchError
from enginewright_operator.watched import Watched, WatchedKind

CHUNK = 200  # objects a list request: what a start takes at its most in memory
IDLE = 0.02  # seconds that kopf keeps a task for an object of which nothing more comes
WORKERS = 100
ENDING = 3.0  # seconds that kopf may take to its end before it is cancelled again

KOPF = str(Path(kopf.__file__).parent)
FIRST = ("guard", "_read_old_api", "_read_new_apis", "_read_version")  # kopf's tasks that others end with
TELLS_OF_FAILURES = ("kopf._core.reactor.running", "kopf._core.reactor.orchestration")


class NoDiffs(kopf.DiffBaseStorage):
    """kopf copies and compares each object for handlers of another sort, which was a third of all our work."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of the object is ever compared."""
        return cast(kopf.BodyEssence, {})

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""


class NoProgress(kopf.ProgressStorage):
    """kopf would note each handler's progress in the object; ours have none."""

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing is stored."""

    def touch(self, **_: Any) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is nothing to clear away."""
        return essence


def registry(watched: Watched, kinds: Mapping[str, WatchedKind]) -> kopf.OperatorRegistry:
    """Handlers for these kinds."""
    handlers = kopf.OperatorRegistry()  # a bare one: it has no handlers of its own, not even for logging in

    @kopf.on.login(registry=handlers)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**arguments)
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    for kind, how in kinds.items():
        _watch_kind(handlers, watched, kind, how)
    return handlers


def _watch_kind(handlers: kopf.OperatorRegistry, watched: Watched, kind: str, how: WatchedKind) -> None:
    @kopf.on.event(*_resource(how), registry=handlers, id=kind)
    async def event(event: kopf.RawEvent, **_: Any) -> None:
        watched.saw(
            kind, {"kind": kind, "apiVersion": how.api_version, **event["object"]}, gone=event["type"] == "DELETED"
        )


def _resource(how: WatchedKind) -> tuple[str, str, str]:
    group, _, version = how.api_version.rpartition("/")
    return group, version, how.plural


def settings(kinds: Mapping[str, WatchedKind]) -> kopf.OperatorSettings:
    """kopf's settings: it writes nothing, asks only for what concerns us, and keeps nothing for long."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True  # the kinds are there before us: the chart brings the CRDs
    for how in kinds.values():
        if how.labels:
            chosen.watching.label_selectors[_resource(how)] = how.labels
        if how.fields:
            chosen.watching.field_selectors[_resource(how)] = how.fields
    chosen.watching.chunk_size = CHUNK
    chosen.queueing.idle_timeout = IDLE
    chosen.queueing.worker_limit = WORKERS
    chosen.execution.max_workers = 1
    chosen.persistence.diffbase_storage = NoDiffs()
    chosen.persistence.progress_storage = NoProgress()
    return chosen


async def watch(
    watched: Watched, kinds: Mapping[str, WatchedKind], *, namespaces: tuple[str, ...], stop: asyncio.Event
) -> None:
    """Watch these kinds until `stop` is set, or the process is told to end. Raises WatchError where kopf cannot go on.

    Not `kopf.operator`: when a watch fails it cancels whatever task of the loop began after it, ours too, and waits
    without a limit for watchers that swallow their one cancellation.
    """
    _quieten()
    roots: supervise.Tasks = ()
    try:
        roots = await kopf.spawn_tasks(
            registry=registry(watched, kinds),
            settings=settings(kinds),
            namespaces=namespaces,
            clusterwide=not namespaces,
            standalone=True,  # no peering: our Lease sees to it that one leads
            stop_flag=stop,
        )
        await supervise.until_one_ends(roots)
    except Exception as error:
        raise WatchError(
            f"The API server cannot be watched any more ({_told(error)}): this process ends, and the next one lists "
            f"and watches all anew; if that ends too, look at the API server's log and at the operator's rights."
        ) from error
    finally:
        await supervise.end({*roots, *_kopfs(FIRST)}, within=ENDING)
        await supervise.end(_kopfs(), within=ENDING)


def _kopfs(coroutines: Collection[str] = ()) -> list["asyncio.Task[Any]"]:
    """The tasks that kopf began, its roots and theirs, which it leaves when one fails; only of these coroutines."""
    tasks = {task: _kopfs_coroutine(task) for task in asyncio.all_tasks()}
    return [task for task, name in tasks.items() if name and (name in coroutines or not coroutines)]


def _kopfs_coroutine(task: "asyncio.Task[Any]") -> str:
    """The name of a task's coroutine; nothing where it is not kopf's."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_name if code is not None and code.co_filename.startswith(KOPF) else ""


def _quieten() -> None:
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it would tell of every event
    for name in TELLS_OF_FAILURES:
        # with a traceback, each time that one task raises another's: WatchError says it once
        logging.getLogger(name).addFilter(_is_no_traceback)
    asyncio.get_running_loop().set_exception_handler(_tell)


def _is_no_traceback(record: logging.LogRecord) -> bool:
    return not record.exc_info


def _tell(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Where several watches fail at once, kopf asks one for its error, and asyncio would tell of all the others."""
    task = context.get("future")
    if not (isinstance(task, asyncio.Task) and _kopfs_coroutine(task)):
        loop.default_exception_handler(dict(context))


def _told(error: Exception) -> str:
    """What the API server said, without the rest of its answer."""
    return str(error.args[0]) if error.args and error.args[0] else repr(error)
