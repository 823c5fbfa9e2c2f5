"""A plugin's Triton kernel, compiled with what it is told of a layer.

In front of the plugin's text stand the names that a CUDA kernel has too (plugin_cuda.py), as tl.constexpr, dtypes and
functions of Triton's, and `BLOCK`, the elements of a program.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from enginewright_builder.device import compile_triton as compiler
from enginewright_builder.device import plugin_layer
from enginewright_builder.device.compile import KernelCompileError
from enginewright_builder.device.compile_triton import TritonKernel
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.plugins.definition import Plugin, PluginError, TensorSpec

_TYPES: Mapping[str, str] = {
    dtype: "tl.int1" if dtype == "bool" else f"tl.{dtype}" for dtype in compiler.POINTERS
}  # by NumPy's names
_MOST = 1 << 31  # bytes: Triton counts in 32 bits


def build(layer: DeviceLayer, plugin: Plugin, capability: int) -> Implementation:
    """The kernel over the layer's operands, its constants in C order. Raises PluginError where it does not compile."""
    triton = plugin.triton
    assert triton is not None, f"{plugin.name} has a Triton kernel"
    inputs, outputs = plugin_layer.operands(layer, plugin, _TYPES)
    if any(kind.span_bytes >= _MOST for kind in (*inputs, *outputs)):
        raise PluginError(f"The Triton kernel of the plugin {plugin.name} takes no tensor of 2 GiB or more: split it.")
    if not outputs[0].size:
        return Implementation(steps=())
    programs = _programs(layer, plugin, inputs)
    kernel = TritonKernel(
        text=text(layer, plugin),
        entry=triton.entry,
        pointers=(*inputs, *outputs),
        warps=triton.warps,
        stages=triton.stages,
    )
    try:
        made = compiler.compile(kernel, capability)
    except KernelCompileError as error:
        raise PluginError(f"The kernel of the plugin {plugin.name} is refused: {error.message}") from error
    step = compiler.launch(made, triton.entry, (programs, 1, 1), plugin_layer.pointers(layer))
    return plugin_layer.implementation(layer, step, made.cubin, made.scratch_bytes * programs)


def text(layer: DeviceLayer, plugin: Plugin) -> str:
    """The plugin's source behind what it is told of the layer."""
    assert plugin.triton is not None, f"{plugin.name} has a Triton kernel"
    inputs, outputs = plugin_layer.operands(layer, plugin, _TYPES)
    lines = ["import triton", "import triton.language as tl", ""]
    lines += [_constant("N", outputs[0].size), _constant("BLOCK", plugin.triton.block)]
    for role, kinds in (("input", inputs), ("output", outputs)):
        for number, kind in enumerate(kinds):
            lines += _operand(f"{role}{number}", kind)
    lines += [f"T = {'INPUT0' if inputs else 'OUTPUT0'}_T"]
    lines += [_constant(word, item) for word, item in plugin_layer.named(plugin_layer.attributes(layer, plugin))]
    return "\n".join([*lines, plugin.triton.source])


def _programs(layer: DeviceLayer, plugin: Plugin, inputs: tuple[TensorType, ...]) -> int:
    """How many programs run: as many as the plugin says, or one for each BLOCK elements of the first output."""
    triton = plugin.triton
    assert triton is not None, f"{plugin.name} has a Triton kernel"
    if triton.programs is None:
        return -(-layer.problem.outputs[0].size // triton.block)
    specs = [TensorSpec(kind.dtype, kind.shape) for kind in inputs]
    try:
        count = int(triton.programs(*specs, **plugin_layer.attributes(layer, plugin)))
    except Exception as error:
        raise PluginError(
            f"The programs of the plugin {plugin.name} cannot be counted: {type(error).__name__}: {error}."
        ) from error
    if count < 1:
        raise PluginError(f"The plugin {plugin.name} says that {count} programs run: there must be one or more.")
    return count


def _constant(name: str, value: Any) -> str:
    return (
        f'{name} = tl.constexpr(float("{value}"))' if isinstance(value, float) else f"{name} = tl.constexpr({value!r})"
    )


def _operand(name: str, kind: TensorType) -> Iterator[str]:
    yield f"{name.upper()}_T = {_TYPES[kind.dtype]}"
    yield from (_constant(f"{name.upper()}_{axis}", size) for axis, size in enumerate(kind.shape))
    yield from ("", "", "@triton.jit", f"def {name}(at):", f"    return {plugin_layer.offset(kind, '//')}", "", "")
