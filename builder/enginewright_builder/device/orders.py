"""Which memory order a value should have, and which orders the layers that read it can take. Pure."""

import itertools

import onnx_ir as ir

from enginewright_builder.device.tensors import TensorType
from enginewright_builder.network.fused import BASE_OF
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant
from enginewright_builder.network.pointwise import is_pointwise

# Layers with pixels and channels: what they read and write lies channels-last.
_WINDOWED = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
)
_FUSED_WINDOWED = frozenset({"FusedConv", "FusedConvTranspose", "FusedConvPair", "ConvPool"})
# Layers that work in either order, so that they go with their neighbours; pointwise ones do too.
_CARRIERS = frozenset(
    {
        "BatchNormalization", "Concat", "GroupNormalization", "InstanceNormalization", "LRN", "Pad", "Resize", "Slice",
        "Split", "Upsample", "SpaceToDepth", "DepthToSpace", "GridSample",
    }
)  # fmt: skip
_PRODUCTS = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm"})
# Layers with kernels of their own that read and write plain C order alone.
_PLAIN_ONLY = frozenset(
    {
        "TopK", "NonZero", "NonMaxSuppression", "LSTM", "GRU", "RNN", "CumSum", "Unique", "ScatterND",
        "ScatterElements", "Scatter", "Compress", "DFT", "STFT", "RoiAlign", "MaxRoiPool", "MaxUnpool", "Det",
    }
)  # fmt: skip


def is_windowed(node: ir.Node) -> bool:
    """Whether a layer is a convolution or pooling, ours or ONNX's."""
    return node.op_type in (_FUSED_WINDOWED if node.domain == FUSED_DOMAIN else _WINDOWED) and (
        node.domain in ("", FUSED_DOMAIN)
    )


def channels_last_values(network: Network) -> set[ir.Value]:
    """The computed values that lie channels-last: those of windowed layers, and all that hang on them.

    Inputs and outputs of the network are none, nor what a matrix product or a layer that wants C order makes or reads.
    """
    parent: dict[ir.Value, ir.Value] = {}

    def find(value: ir.Value) -> ir.Value:
        while parent.setdefault(value, value) is not value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    seeds: set[ir.Value] = set()
    for node in network.layers():
        pictures = _pictures(node)
        if is_windowed(node):
            seeds.update(pictures)
        if is_windowed(node) or is_pointwise(node) or (not node.domain and node.op_type in _CARRIERS) or _ours(node):
            for one, other in itertools.pairwise(pictures):
                parent[find(one)] = find(other)
    roots = {find(value) for value in seeds}
    return {value for value in parent if find(value) in roots and _may_turn(value)}


def wants_plain(value: ir.Value) -> bool:
    """Whether a layer that makes or reads a value takes nothing but C order."""
    around = [use.node for use in value.uses()]
    producer = value.producer()
    return any(n.op_type in _PLAIN_ONLY and not n.domain for n in (*around, *([producer] if producer else [])))


def readers_take(value: ir.Value, kind: TensorType) -> bool:
    """Whether every layer that reads a value can read it as it lies."""
    return all(_reader_takes(use.node, use.idx, kind) for use in value.uses())


def _reader_takes(node: ir.Node, index: int, kind: TensorType) -> bool:
    if node.op_type in _PLAIN_ONLY and not node.domain:
        return kind.is_contiguous
    if is_windowed(node) and index == 0:
        return kind.is_channels_last and _even_pixels(kind)
    if node.op_type in _PRODUCTS and index < 2 and len(kind.shape) >= 2:
        return 1 in kind.strides[-2:] or kind.shape[-1] == 1
    return True


def _even_pixels(kind: TensorType) -> bool:
    """Whether all pixels follow each other at one distance, over rows and pictures."""
    axes = (0, *range(2, len(kind.shape)))
    return all(kind.strides[a] == kind.strides[b] * kind.shape[b] for a, b in itertools.pairwise(axes))


def _pictures(node: ir.Node) -> list[ir.Value]:
    """What of a layer's inputs and outputs has pixels and channels: all of the result's rank, but not weights."""
    rank = next((len(value.shape) for value in node.outputs if value.name and value.shape is not None), 0)
    if rank < 3:
        return []
    read = [v for v in node.inputs if v is not None and not is_constant(v)]
    made = [value for value in node.outputs if value.name]
    return [v for v in (*read, *made) if v.shape is not None and len(v.shape) == rank]


def _may_turn(value: ir.Value) -> bool:
    if value.is_graph_input() or value.is_graph_output() or wants_plain(value):
        return False
    producer = value.producer()
    around = [producer, *(use.node for use in value.uses())]
    return not any(node is not None and node.op_type in _PRODUCTS for node in around)


def _ours(node: ir.Node) -> bool:
    return node.domain == FUSED_DOMAIN and (BASE_OF.get(node.op_type) == "Conv" or node.op_type == "Cluster")
