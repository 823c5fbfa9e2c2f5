"""What a plugin's kernel is told of its layer, in whichever language it is written.

Constants of a layer are packed in C order; other operands lie where the layout has them, and a kernel asks where.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from enginewright_builder.device import tensors
from enginewright_builder.device.implementation import Array, Constants, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.plugins import layers
from enginewright_runtime.engine.cuda.program import Pointer, Space, Step
from enginewright_runtime.plugins.definition import Plugin, PluginError


def operands(
    layer: DeviceLayer, plugin: Plugin, known: Mapping[str, str]
) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    """The inputs and outputs as a kernel finds them. Raises PluginError for a dtype that its language does not know."""
    inputs = tuple(
        tensors.plain(kind.dtype, kind.shape) if number in layer.constants else kind
        for number, kind in enumerate(layer.problem.inputs)
        if kind is not None
    )
    unknown = sorted({kind.dtype for kind in (*inputs, *layer.problem.outputs)} - set(known))
    if unknown:
        raise PluginError(f"No kernel of the plugin {plugin.name} can take {unknown[0]}: cast it before the layer.")
    return inputs, layer.problem.outputs


def pointers(layer: DeviceLayer) -> list[Pointer]:
    """To all operands in order."""
    return [
        Pointer(space=Space.CONSTANT, name=str(number)) if number in layer.constants else
        Pointer(space=Space.OPERAND, name=str(number))
        for number in range(len(layer.problem.operands))
    ]  # fmt: skip


def implementation(layer: DeviceLayer, step: Step, cubin: bytes, workspace_bytes: int = 0) -> Implementation:
    """One launch of the kernel in `cubin`, which the step calls by its function's name."""
    assert step.kernel is not None, "a plugin's step is a kernel"
    return Implementation(
        steps=(step,),
        cubins={step.kernel.cubin: cubin},
        constants={str(number): partial(_constant, number) for number in layer.constants},
        workspace_bytes=workspace_bytes,
    )


def attributes(layer: DeviceLayer, plugin: Plugin) -> dict[str, Any]:
    """Of the layer, defaults among them."""
    (node,) = layer.network.layers()
    return layers.attributes_of(plugin, node)


def named(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Attributes by the names that a kernel has for them: in capitals, lists item by item as AXES_0."""
    for name, value in given.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            yield from ((f"{name.upper()}_{place}", item) for place, item in enumerate(value))
        else:
            yield name.upper(), value


def offset(kind: TensorType, over: str) -> str:
    """Where the element `at`, counted in C order, lies; `over` divides whole numbers in the kernel's language."""
    if kind.is_contiguous:
        return "at"
    inner = [math.prod(kind.shape[axis + 1 :]) for axis in range(len(kind.shape))]
    terms = [
        f"at {over} {step} % {size} * {stride}"
        for size, stride, step in zip(kind.shape, kind.strides, inner, strict=True)
        if size > 1 and stride
    ]
    return " + ".join(terms) or "0"


def _constant(number: int, constants: Constants) -> Array:
    array = constants[number]
    return np.ascontiguousarray(array).reshape(array.shape)
