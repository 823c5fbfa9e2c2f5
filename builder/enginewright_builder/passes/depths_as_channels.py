"""Three-dimensional convolutions of few channels => two-dimensional ones of blocks of depths, for a CPU.

ONNX Runtime multiplies a 3-D convolution as a matrix of as few rows as it has output channels, for which it unfolds the
input; a 2-D one runs unfolded on blocks of channels (onnxruntime/core/mlas/lib/snchwc.cpp). So values are kept as
pictures whose channels are blocks of depths, and a convolution is the sum of two: of the block, and of the depths
beside it. Some of their weights are zeros, and it is faster all the same. Max pools, transposed convolutions,
concatenations and activations between take values as they lie; before anything else they are turned back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.device.writing import Writer, shape_of
from enginewright_builder.network.network import Array, Network, static_shape
from enginewright_builder.passes import depth_pictures as pictures
from enginewright_builder.passes.base import PassReport
from enginewright_builder.passes.depth_pictures import Pictures, Window
from enginewright_builder.passes.unread import Unread

_MOST_ROWS = 64  # output channels beyond which the matrix product of the 3-D convolution is as fast
_OPSET = 11  # from which Pad and Slice take their places as inputs
_POINTWISE = frozenset({"Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "Softplus"})
_BOTH = frozenset({"Add", "Sub", "Mul"})
_LISTS = ("kernel_shape", "strides", "dilations", "pads", "output_padding")

Known = dict[ir.Value, Pictures]


class _Refusal(Exception):
    """Why a layer is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthsAsChannels:
    """See the module. For shapes that are known and constant weights in float32."""

    name: str = "depths-as-channels"
    reason: str = "the library unfolds 3-D convolutions; 2-D ones of blocks of depths run as they lie"

    def apply(self, network: Network) -> PassReport:
        """Counts layers; declines convolutions that slide along the depth in another way, or are wide."""
        details: list[str] = []
        declined: list[str] = []
        known: Known = {}
        for node in list(network.layers()) if network.opset >= _OPSET else []:
            write = None if node.domain else _WRITERS.get(node.op_type)
            if write is None or not _has_depth(node, known):
                continue
            writer = Writer(network, node, ir.DataType.FLOAT)
            try:
                made = write(writer, known)
            except _Refusal as why:
                declined.append(f"{node.name}: {why}")
                continue
            back = pictures.leave(writer, made)
            writer.finish([back])
            known[back] = made
            details.append(f"{node.name}: {node.op_type}")
        if details:
            Unread().apply(network)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _has_depth(node: ir.Node, known: Known) -> bool:
    """Whether a layer is one to be written: a convolution, or what reads one that was."""
    values = [value for value in (node.inputs[0], *node.outputs) if value is not None]
    plain = all(value.dtype is ir.DataType.FLOAT and len(static_shape(value) or ()) == 5 for value in values)
    reads = any(value in known for value in node.inputs)
    return plain and len(node.outputs) == 1 and (reads or node.op_type == "Conv")


def _taken(w: Writer, value: ir.Value | None, known: Known) -> Pictures:
    assert value is not None, f"{w.node.name} has an input"
    return known[value] if value in known else pictures.enter(w, value)


def _depth_in(w: Writer) -> int:
    value = w.node.inputs[0]
    assert value is not None, f"{w.node.name} has an input"
    return shape_of(value)[2]


def _window(node: ir.Node) -> tuple[Window, Mapping[str, tuple[int, ...]]]:
    """A layer's attributes without the depth, and those of the depth alone."""
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("", "NOTSET"):
        raise _Refusal("it pads by itself")
    flat: list[ir.Attr] = []
    deep: dict[str, tuple[int, ...]] = {}
    for name in _LISTS:
        numbers = node.attributes.get_ints(name) if name in node.attributes else None
        if numbers:
            deep[name] = tuple(numbers[::3])  # one; of pads the beginning and the end
            flat.append(ir.AttrInt64s(name, [each for index, each in enumerate(numbers) if index % 3]))
    size = shape_of(node.outputs[0])[3:]
    return Window(attributes=tuple(flat), size=(size[0], size[1])), deep


def _weights(w: Writer) -> tuple[Array, Array | None]:
    node = w.node
    weights = w.network.constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = w.network.constant(given)
    if weights is None or (given is not None and bias is None):
        raise _Refusal("its weights are not constant")
    if node.attributes.get_int("group", 1) != 1:
        raise _Refusal("it is grouped")
    return weights, bias


def _convolution(w: Writer, known: Known) -> Pictures:
    weights, bias = _weights(w)
    window, deep = _window(w.node)
    depth, outputs = weights.shape[2], weights.shape[0]
    slides = deep.get("strides", (1,)) == (1,) and (depth == 1 or deep.get("dilations", (1,)) == (1,))
    if depth % 2 == 0 or not slides or deep.get("pads", (0, 0)) != (depth // 2, depth // 2):
        raise _Refusal("along the depth it does not give one for one")
    if outputs > _MOST_ROWS:
        raise _Refusal(f"it has {outputs} output channels, and up to {_MOST_ROWS} are few")
    value = w.node.inputs[0]
    if depth == 1 and value not in known:
        raise _Refusal("it looks at one depth alone, and nothing before it is in pictures")
    if not pictures.block_of(shape_of(w.node.outputs[0])[2], outputs, depth // 2):
        raise _Refusal("it looks further than a block of depths")
    return pictures.convolved(w, _taken(w, value, known), weights, bias, window)


def _pool(w: Writer, known: Known) -> Pictures:
    window, deep = _window(w.node)
    (depths,) = deep["kernel_shape"]
    plain = deep.get("pads", (0, 0)) == (0, 0) and deep.get("dilations", (1,)) == (1,)
    if not plain or deep.get("strides", (1,)) != (depths,) or _depth_in(w) % depths:
        raise _Refusal("its depths overlap, or are left over")
    if w.node.attributes.get_int("ceil_mode", 0):
        raise _Refusal("it rounds sizes up")
    return pictures.pooled(w, _taken(w, w.node.inputs[0], known), depths, window)


def _transposed(w: Writer, known: Known) -> Pictures:
    weights, bias = _weights(w)
    window, deep = _window(w.node)
    (stride,), begin = deep.get("strides", (1,)), deep.get("pads", (0, 0))[0]
    if "output_shape" in w.node.attributes or deep.get("dilations", (1,)) != (1,):
        raise _Refusal("it is dilated, or says its output's shape")
    if shape_of(w.node.outputs[0])[2] != _depth_in(w) * stride or weights.shape[2] > _depth_in(w):
        raise _Refusal("along the depth it does not give a stride for one")
    return pictures.transposed(w, _taken(w, w.node.inputs[0], known), weights, bias, (stride, begin), window)


def _joined(w: Writer, known: Known) -> Pictures:
    if w.node.attributes.get_int("axis", 0) not in (1, -4):
        raise _Refusal("it joins no channels")
    return pictures.joined([_taken(w, value, known) for value in w.node.inputs])


def _pointwise(w: Writer, known: Known) -> Pictures:
    x = _taken(w, w.node.inputs[0], known)
    return pictures.pointwise(w, w.node.op_type, x, tuple(w.node.attributes.values()))


def _both(w: Writer, known: Known) -> Pictures:
    if len({static_shape(value) for value in w.node.inputs}) != 1:
        raise _Refusal("one of its values is spread")
    if any(len(known[value].parts) > 1 for value in w.node.inputs if value in known):
        raise _Refusal("one of its values is in parts")
    x, y = (_taken(w, value, known) for value in w.node.inputs)
    return pictures.both(w, w.node.op_type, x, y)


_WRITERS: Mapping[str, Callable[[Writer, Known], Pictures]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MaxPool": _pool,
    "Concat": _joined,
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_BOTH, _both),
}
