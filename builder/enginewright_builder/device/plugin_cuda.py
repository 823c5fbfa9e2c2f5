"""A plugin's CUDA kernel, compiled with what it is told of a layer.

In front of the plugin's text stand constants, types and functions: `N`, the elements of the first output; `T`, the type
of the first input, and INPUT0_T, OUTPUT0_T and so on; sizes as INPUT0_0; numeric attributes by their names in capitals,
lists as AXES_0. `input0(at)` and `output0(at)` give where the element `at`, counted in C order, lies: tensors need not
be contiguous.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import plugin_layer
from enginewright_builder.device.compile import KernelCompileError
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step
from enginewright_runtime.plugins.definition import Cuda, Plugin, PluginError

_TYPES: Mapping[str, str] = {
    "float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double", "bool": "bool",
    "int8": "signed char", "uint8": "unsigned char", "int16": "short", "uint16": "unsigned short", "int32": "int",
    "uint32": "unsigned", "int64": "long long", "uint64": "unsigned long long",
}  # fmt: skip
_HEADERS: Mapping[str, str] = {"float16": "cuda_fp16.h", "bfloat16": "cuda_bf16.h"}


def build(layer: DeviceLayer, plugin: Plugin, architecture: str) -> Implementation:
    """The kernel over the layer's operands, its constants in C order. Raises PluginError where it does not compile."""
    cuda = plugin.cuda
    assert cuda is not None, f"{plugin.name} has a CUDA kernel"
    size = layer.problem.outputs[0].size
    if not size:
        return Implementation(steps=())
    kernel = Kernel(
        cubin=cuda.entry,
        function=cuda.entry,
        grid=(-(-size // cuda.threads), 1, 1),
        block=(cuda.threads, 1, 1),
        arguments=tuple(Argument(pointer=pointer) for pointer in plugin_layer.pointers(layer)),
    )
    cubin = _compiled(plugin, cuda, text(layer, plugin), architecture)
    return plugin_layer.implementation(layer, Step(layer="", kernel=kernel), cubin)


def text(layer: DeviceLayer, plugin: Plugin) -> str:
    """The plugin's source behind what it is told of the layer. Raises PluginError."""
    assert plugin.cuda is not None, f"{plugin.name} has a CUDA kernel"
    inputs, outputs = plugin_layer.operands(layer, plugin, _TYPES)
    headers = {_HEADERS[kind.dtype] for kind in (*inputs, *outputs) if kind.dtype in _HEADERS}
    lines = [
        *(f"#include <{header}>" for header in sorted(headers)),
        f"constexpr long long N = {outputs[0].size};",
    ]
    for role, kinds in (("input", inputs), ("output", outputs)):
        for number, kind in enumerate(kinds):
            lines += _operand(f"{role}{number}", kind)
    lines += [f"typedef {'INPUT0' if inputs else 'OUTPUT0'}_T T;"]
    lines += _constants(plugin_layer.attributes(layer, plugin))
    return "\n".join([*lines, plugin.cuda.source])


def _operand(name: str, kind: TensorType) -> Iterator[str]:
    yield f"typedef {_TYPES[kind.dtype]} {name.upper()}_T;"
    for axis, size in enumerate(kind.shape):
        yield f"constexpr int {name.upper()}_{axis} = {size};"
    yield f"__device__ inline long long {name}(long long at) {{ return {plugin_layer.offset(kind, '/')}; }}"


def _constants(attributes: Mapping[str, Any]) -> Iterator[str]:
    for word, item in plugin_layer.named(attributes):
        if isinstance(item, int):
            yield f"constexpr long long {word} = {item};"
        elif isinstance(item, float):
            yield f"constexpr float {word} = {np.float32(item)!s}f;" if math.isfinite(item) else f"// {word}: {item}"


def _compiled(plugin: Plugin, cuda: Cuda, source: str, architecture: str) -> bytes:
    try:
        cubin = compiler.compile(source, architecture)
    except KernelCompileError as error:
        raise PluginError(f"The CUDA kernel of the plugin {plugin.name} is refused: {error.message}") from error
    if cuda.entry.encode() not in cubin:
        raise PluginError(f"The CUDA source of the plugin {plugin.name} has no kernel {cuda.entry!r} with C's name.")
    return cubin
