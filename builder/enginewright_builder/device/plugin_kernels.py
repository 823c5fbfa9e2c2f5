"""A plugin's CUDA kernel as the tactic of its layers, compiled with what it is told of a layer.

In front of the plugin's text stand constants, types and functions: `N`, the elements of the first output; `T`, the type
of the first input, and INPUT0_T, OUTPUT0_T and so on; sizes as INPUT0_0; numeric attributes by their names in capitals,
lists as AXES_0. `input0(at)` and `output0(at)` give where the element `at`, counted in C order, lies: tensors need not
be contiguous. What the kernel gives is checked against the plugin's NumPy function, as every tactic is against its
layer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import tensors
from enginewright_builder.device.compile import KernelCompileError
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import layers
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step
from enginewright_runtime.plugins.definition import Cuda, Plugin, PluginError

NAME = "plugin"
_TYPES: Mapping[str, str] = {
    "float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double", "bool": "bool",
    "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short", "int32": "int",
    "uint32": "unsigned", "int64": "long long", "uint64": "unsigned long long",
}  # fmt: skip
_HEADERS: Mapping[str, str] = {"float16": "cuda_fp16.h", "bfloat16": "cuda_bf16.h"}


def plugin_of(alone: Network) -> Plugin | None:
    """The plugin that a layer by itself is, if it is one."""
    return next((layers.plugin_of(alone.plugins, node) for node in alone.layers()), None)


def require(plugin: Plugin) -> None:
    """Raises Declined where a plugin has no kernel."""
    if plugin.cuda is None:
        raise Declined(f"the plugin {plugin.name} has no CUDA kernel")


def candidates(layer: DeviceLayer, plugin: Plugin, device: Device) -> tuple[Candidate, ...]:
    """The one way. Raises Declined."""
    require(plugin)
    return (Candidate(tactic=NAME, name=plugin.name, build=partial(build, layer, plugin, device.architecture)),)


def build(layer: DeviceLayer, plugin: Plugin, architecture: str) -> Implementation:
    """The kernel over the layer's operands, its constants in C order. Raises PluginError where it does not compile."""
    cuda, problem = plugin.cuda, layer.problem
    assert cuda is not None, f"{plugin.name} has a kernel"
    size = problem.outputs[0].size
    if not size:
        return Implementation(steps=())
    names = [f"operand {number}" for number in range(len(problem.operands))]
    pointers = [
        Pointer(space=Space.CONSTANT, name=name) if number in layer.constants else
        Pointer(space=Space.OPERAND, name=str(number))
        for number, name in enumerate(names)
    ]  # fmt: skip
    kernel = Kernel(
        cubin="0",
        function=cuda.entry,
        grid=(-(-size // cuda.threads), 1, 1),
        block=(cuda.threads, 1, 1),
        arguments=tuple(Argument(pointer=pointer) for pointer in pointers),
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"0": _compiled(plugin, cuda, text(layer, plugin), architecture)},
        constants={names[number]: partial(_constant, number) for number in layer.constants},
    )


def text(layer: DeviceLayer, plugin: Plugin) -> str:
    """The plugin's source behind what it is told of the layer."""
    assert plugin.cuda is not None, f"{plugin.name} has a kernel"
    problem = layer.problem
    inputs = [
        tensors.plain(kind.dtype, kind.shape) if number in layer.constants else kind
        for number, kind in enumerate(problem.inputs)
        if kind is not None
    ]
    (node,) = layer.network.layers()
    unknown = sorted({kind.dtype for kind in (*inputs, *problem.outputs)} - set(_TYPES))
    if unknown:
        raise Declined(f"no kernel of a plugin takes {unknown[0]}")
    headers = {_HEADERS[kind.dtype] for kind in (*inputs, *problem.outputs) if kind.dtype in _HEADERS}
    lines = [
        *(f"#include <{header}>" for header in sorted(headers)),
        f"constexpr long long N = {problem.outputs[0].size};",
    ]
    for role, kinds in (("input", inputs), ("output", problem.outputs)):
        for number, kind in enumerate(kinds):
            lines += _operand(f"{role}{number}", kind)
    lines += [f"typedef {'INPUT0' if inputs else 'OUTPUT0'}_T T;"]
    lines += _constants(layers.attributes_of(plugin, node))
    return "\n".join([*lines, plugin.cuda.source])


def _operand(name: str, kind: TensorType) -> Iterator[str]:
    yield f"typedef {_TYPES[kind.dtype]} {name.upper()}_T;"
    for axis, size in enumerate(kind.shape):
        yield f"constexpr int {name.upper()}_{axis} = {size};"
    terms = ["at"] if kind.is_contiguous else _offset(kind)
    yield f"__device__ inline long long {name}(long long at) {{ return {' + '.join(terms) or '0'}; }}"


def _offset(kind: TensorType) -> list[str]:
    """The terms of an element's offset by its number in C order."""
    inner = [math.prod(kind.shape[axis + 1 :]) for axis in range(len(kind.shape))]
    return [
        f"at / {step} % {size} * {stride}"
        for size, stride, step in zip(kind.shape, kind.strides, inner, strict=True)
        if size > 1 and stride
    ]


def _constants(attributes: Mapping[str, Any]) -> Iterator[str]:
    for name, value in attributes.items():
        items = {name.upper(): value}
        if isinstance(value, Sequence) and not isinstance(value, str):
            items = {f"{name.upper()}_{place}": item for place, item in enumerate(value)}
        for word, item in items.items():
            if isinstance(item, int):
                yield f"constexpr long long {word} = {item};"
            elif isinstance(item, float):
                yield (
                    f"constexpr float {word} = {np.float32(item)!s}f;" if math.isfinite(item) else f"// {word}: {item}"
                )


def _compiled(plugin: Plugin, cuda: Cuda, source: str, architecture: str) -> bytes:
    try:
        cubin = compiler.compile(source, architecture)
    except KernelCompileError as error:
        raise PluginError(f"The CUDA kernel of the plugin {plugin.name} is refused: {error.message}") from error
    if cuda.entry.encode() not in cubin:
        raise PluginError(f"The CUDA source of the plugin {plugin.name} has no kernel {cuda.entry!r} with C's name.")
    return cubin


def _constant(number: int, constants: Constants) -> Array:
    array = constants[number]
    return np.ascontiguousarray(array).reshape(array.shape)
