"""From a plan file to contexts that can run: target checked, every blob verified once, an executor for each segment.

EXECUTORS is the table of what can take a segment; a device's executor joins it as one more line.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from enginewright_runtime.engine import available
from enginewright_runtime.engine.context import Context
from enginewright_runtime.engine.executor import Blobs, Executor, Limits
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import target
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.manifest import Manifest, Schedule, Segment
from enginewright_runtime.plan.signature import Check
from enginewright_runtime.plan.target import Target


# Imported when the first segment asks: a CPU's plan needs no CUDA packages, and most of a GPU's need no ONNX Runtime.
def _host(segment: Segment, blobs: Blobs, limits: Limits) -> Executor:
    from enginewright_runtime.engine.host import HostExecutor

    return HostExecutor(segment, blobs, limits)


def _cuda(segment: Segment, blobs: Blobs, limits: Limits) -> Executor:
    from enginewright_runtime.engine.cuda.executor import CudaExecutor

    return CudaExecutor(segment, blobs, limits)


def _plugins(segment: Segment, blobs: Blobs, limits: Limits) -> Executor:
    from enginewright_runtime.engine.plugins import PluginExecutor

    return PluginExecutor(segment, blobs, limits)


EXECUTORS: Mapping[str, Callable[[Segment, Blobs, Limits], Executor]] = MappingProxyType(
    {
        "host": _host,  # ONNX Runtime on the CPU
        "cuda": _cuda,  # one CUDA graph on an NVIDIA GPU
        "plugins": _plugins,  # ONNX Runtime, and NumPy between its parts; only where the limits allow it
    }
)


class VerifiedBlobs:
    """A plan's blobs, each hashed once: schedules share weights, and hashing them anew for each would take seconds."""

    def __init__(self, plan: PlanFile) -> None:
        """Check the sha256 of every blob. Raises PlanError at the first that is damaged."""
        self._path = plan.path
        self._views = plan.blobs()

    def blob(self, name: str) -> memoryview:
        """The bytes of a blob, read-only, without a copy."""
        try:
            return self._views[name]
        except KeyError as error:
            raise PlanError(f"The plan {self._path} has no blob {name!r}: build it again.") from error


class Loaded:
    """A plan with its executors, one context a schedule. `close` gives back the file and the executors."""

    def __init__(self, path: Path, limits: Limits, *, check: Check | None = None) -> None:
        """`check` judges the plan's signatures. Raises PlanError, or TargetMismatchError naming what differs."""
        with ExitStack() as undo:
            plan = PlanFile(path, check=check)
            undo.callback(plan.close)
            built_for = depended_on(plan)
            target.require_same(built_for, available.describe(built_for), plan=str(path))
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


def depended_on(plan: PlanFile) -> Target:
    """The target that a plan was built for, with those vendor libraries alone that its device segments call."""
    from enginewright_runtime.engine.cuda import validation  # here for the same reason as the executors

    segments = [segment for schedule in plan.manifest.schedules for segment in schedule.segments]
    called: dict[str, str] = {}
    for segment in segments:
        if segment.executor == "cuda":
            called |= validation.libraries(bytes(plan.blob(segment.blob)), what=f"The device segment {segment.blob!r}")
    return replace(plan.manifest.target, libraries=called)


def load_schedule(schedule: Schedule, blobs: Blobs, limits: Limits, *, plan: str) -> Context:
    """An executor for each segment of a schedule. Raises PlanError for an executor that this runtime does not have."""
    executors: list[Executor] = []
    with ExitStack() as undo:  # a later segment that does not load must not leave an earlier one on the device
        for segment in schedule.segments:
            make = EXECUTORS.get(segment.executor)
            if make is None:
                raise PlanError(
                    f"The plan {plan} needs the executor {segment.executor!r} for its segment {segment.blob!r}, and "
                    f"this runtime has {', '.join(EXECUTORS)}: use the runtime of the builder's version."
                )
            executors.append(make(segment, blobs, limits))
            undo.callback(executors[-1].close)
        context = Context(schedule, executors)
        undo.pop_all()
    return context
