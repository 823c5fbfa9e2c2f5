"""From a plan file to contexts that can run: target checked, every blob verified once, an executor for each segment.

EXECUTORS is the table of what can take a segment; a device's executor joins it as one more line.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from enginewright_runtime.engine import available, host
from enginewright_runtime.engine.context import Context
from enginewright_runtime.engine.executor import Blobs, Executor, Limits
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import target
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.manifest import Manifest, Schedule, Segment

EXECUTORS: Mapping[str, Callable[[Segment, Blobs, Limits], Executor]] = MappingProxyType(
    {
        "host": host.HostExecutor,  # ONNX Runtime on the CPU
    }
)


class VerifiedBlobs:
    """A plan's blobs, each hashed once: schedules share weights, and hashing them anew for each would take seconds."""

    def __init__(self, plan: PlanFile) -> None:
        """Check the sha256 of every blob. Raises PlanError at the first that is damaged."""
        self._path = plan.path
        self._views = {name: plan.blob(name) for name in plan.manifest.blobs}

    def blob(self, name: str) -> memoryview:
        """The bytes of a blob, read-only, without a copy."""
        try:
            return self._views[name]
        except KeyError as error:
            raise PlanError(f"The plan {self._path} has no blob {name!r}: build it again.") from error


class Loaded:
    """A plan with its executors, one context a schedule. `close` gives back the file and the executors."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises PlanError, or TargetMismatchError naming what differs."""
        with ExitStack() as undo:
            plan = PlanFile(path)
            undo.callback(plan.close)
            target.require_same(plan.manifest.target, available.describe_host(), plan=str(path))
            self.manifest: Manifest = plan.manifest
            self.blobs = VerifiedBlobs(plan)
            self.contexts: list[Context] = []
            for schedule in plan.manifest.schedules:
                context = load_schedule(schedule, self.blobs, limits, plan=str(path))
                undo.callback(context.close)
                self.contexts.append(context)
            self._release = undo.pop_all()

    def close(self) -> None:
        """Let go; runs in progress end well, and the file's mapping goes with the last of them."""
        self._release.close()


def load_schedule(schedule: Schedule, blobs: Blobs, limits: Limits, *, plan: str) -> Context:
    """An executor for each segment of a schedule. Raises PlanError for an executor that this runtime does not have."""
    executors: list[Executor] = []
    for segment in schedule.segments:
        make = EXECUTORS.get(segment.executor)
        if make is None:
            raise PlanError(
                f"The plan {plan} needs the executor {segment.executor!r} for its segment {segment.blob!r}, and this "
                f"runtime has {', '.join(EXECUTORS)}: use the runtime of the builder's version."
            )
        executors.append(make(segment, blobs, limits))
    return Context(schedule, executors)
