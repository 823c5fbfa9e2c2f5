"""The GPU of this process as a target: what it is, its driver, and the libraries that plans may call."""

import importlib.metadata
from collections.abc import Collection
from dataclasses import replace

from enginewright_runtime.engine.cuda import nvml, steps
from enginewright_runtime.engine.cuda.driver import gpu
from enginewright_runtime.plan.target import Target


def describe(processors: int, libraries: Collection[str] | None) -> Target:
    """`libraries` are the names whose versions are wanted, None for all. Raises DeviceError where the GPU refuses."""
    found = {name: text for name in wanted(libraries) if (text := version(name))}
    return replace(gpu().describe(), processors=processors, driver=nvml.driver_version(), libraries=found)


def wanted(libraries: Collection[str] | None) -> tuple[str, ...]:
    """The libraries to look at, in their order."""
    known = ("cuda", *steps.VENDORS, "onnxruntime")
    return known if libraries is None else tuple(name for name in known if name in libraries)


def version(name: str) -> str:
    """A library's version as it gives it itself, empty where it is not installed."""
    if name == "cuda":
        return gpu().cuda_version()
    if name == "onnxruntime":
        return importlib.metadata.version(name)  # without loading it, which takes a tenth of a second
    return steps.version(name)
