"""The seam between an engine and what runs a segment.

An executor takes one segment of one schedule. `host.HostExecutor` runs it on the CPU; executors for devices join
beside it, each a line in the table of `loader.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from enginewright_runtime.engine.values import Value
from enginewright_runtime.errors import EnginewrightError


class ExecutionError(EnginewrightError):
    """A segment failed while it ran, for a reason that is not in the inputs' names, dtypes or shapes."""


class Blobs(Protocol):
    """Where an executor finds its segment's bytes: a PlanFile, or anything else that gives a blob by name."""

    def blob(self, name: str) -> memoryview:
        """The bytes, read-only; they stay valid as long as the view lives. Raises PlanError if there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an executor may use of this machine: never more than `threads` at a time.

    `cores` are the CPUs that threads may be bound to, one each: all of `threads`, or none where others share them.
    `contexts` is how many inferences a device segment may have on the device at once, each with memory of its own.
    `plugins` allows a segment to run Python that the plan carries.
    """

    threads: int
    cores: tuple[int, ...] = ()
    contexts: int = 1
    plugins: bool = False


class Executor(Protocol):
    """Runs one segment; `run` may be called from several threads at once."""

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """The segment's outputs by name; `tensors` holds exactly the segment's inputs."""

    def close(self) -> None:
        """Give back what the executor holds; runs in progress still end well."""
