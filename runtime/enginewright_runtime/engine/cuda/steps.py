"""From a step's record to something that puts it on a stream: arguments packed, kernels found, vendors asked.

VENDORS is the table of the libraries that steps may call. Each is imported when the first step asks for it, so a plan
of kernels alone needs none of them.
"""

import importlib
import struct
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Step
from enginewright_runtime.engine.cuda.seam import DeviceError, Driver, Function, Launch, Module
from enginewright_runtime.errors import PlanError

Address = Callable[[Pointer], int]
_POINTER = struct.Struct("<Q")

VENDORS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "cudnn": ("enginewright_runtime.engine.cuda.cudnn", "CudnnLibrary"),  # CudnnGraph
        "cublaslt": ("enginewright_runtime.engine.cuda.cublaslt", "CublasLtLibrary"),  # MatrixProduct
    }
)


class Prepared(Protocol):
    """A step of a vendor's library, ready to launch."""

    def launch(self, stream: int, address: Address, /) -> None:
        """Put it on the stream."""


class Library(Protocol):
    """A vendor's library in this process."""

    @property
    def version(self) -> str:
        """As the library itself gives it."""

    def prepare(self, record: Any, blob: Callable[[str], bytes], /) -> Prepared:
        """Raises PlanError where this version does not take the step."""


@cache
def library(name: str) -> Library:
    """One instance a process: handles and loaded code cost hundreds of milliseconds."""
    module, attribute = VENDORS[name]
    made: Library = getattr(importlib.import_module(module), attribute)()
    return made


def version(name: str) -> str:
    """A vendor library's version as it gives it itself; empty where it is not installed, or not one that steps call."""
    try:
        return library(name).version if name in VENDORS else ""
    except (PlanError, ImportError):
        return ""


def bind(
    step: Step, *, driver: Driver, module: Callable[[str], Module], blob: Callable[[str], bytes], address: Address
) -> Launch:
    """The step with all its addresses fixed. Raises PlanError, or DeviceError naming the layer."""
    try:
        return _bound(step, driver, module, blob, address)
    except DeviceError as error:
        raise DeviceError(f"The layer {step.layer!r} cannot be prepared: {error}") from error


def _bound(
    step: Step, driver: Driver, module: Callable[[str], Module], blob: Callable[[str], bytes], address: Address
) -> Launch:
    if step.kernel is not None:
        return _kernel(step.layer, step.kernel, driver, module(step.kernel.cubin), address)
    if step.fill is not None:
        fill = step.fill
        at = address(fill.pointer)
        return lambda stream: driver.fill(at, fill.value, fill.bytes, stream)
    if step.copy is not None:
        copied = step.copy
        source, target = address(copied.source), address(copied.target)
        return lambda stream: driver.copy(target, source, copied.bytes, stream)
    name, record = ("cudnn", step.cudnn) if step.cudnn is not None else ("cublaslt", step.product)
    prepared = library(name).prepare(record, blob)
    return lambda stream: prepared.launch(stream, address)


def packed(argument: Argument, driver: Driver, address: Address) -> bytes:
    """A kernel's parameter as the bytes that it reads: little endian, pointers as 8 bytes, descriptors as 128."""
    if argument.pointer is not None:
        return _POINTER.pack(address(argument.pointer))
    if argument.tensor_map is not None:
        return driver.encode(argument.tensor_map, address(argument.tensor_map.pointer))
    return bytes.fromhex(argument.value)


def _kernel(layer: str, record: Kernel, driver: Driver, module: Module, address: Address) -> Launch:
    function = module.function(record.function)
    arguments = tuple(packed(argument, driver, address) for argument in record.arguments)
    _check_sizes(layer, function, arguments)
    return function.bind(record, arguments)


def _check_sizes(layer: str, function: Function, arguments: tuple[bytes, ...]) -> None:
    got = tuple(len(each) for each in arguments)
    if got != function.parameters:
        # Unchecked, the driver would read past the end of what it is given.
        raise PlanError(
            f"The kernel {function.name!r} of the layer {layer!r} takes parameters of {list(function.parameters)} "
            f"bytes, and the plan gives {list(got)}: build the plan again."
        )
