"""cast(product(x)) => product with a wide result; conv(cast(picture)) => conv that reads the picture as it is given.

The first saves the launch that widens a classifier's result. The second is for a stem, a convolution of at most four
channels: its kernel reads float32 in any order, and does the max pool that follows it too, where there is one.
"""

from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.fused import Epilogue, Pool
from enginewright_builder.network.network import FUSED_DOMAIN, Network, only_use
from enginewright_builder.passes import stems
from enginewright_builder.passes.base import PassReport
from enginewright_builder.passes.fuse_pools import plain_window

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_UNARY = ("Softmax", "LogSoftmax", "Sigmoid")  # how classifiers end


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseCasts:
    """The first of the module's two."""

    name: str = "fuse-casts"
    reason: str = (
        "a product's sums are float32 anyway: rounding them, only to widen them again, is a launch for nothing"
    )

    def apply(self, network: Network) -> PassReport:
        """Counts the casts that went."""
        details = _hoist(network)
        for node in list(network.layers()):
            if node.domain not in ("", FUSED_DOMAIN) or node.op_type not in _PRODUCTS:
                continue
            cast = only_use(node.outputs[0])
            if cast is None or cast.op_type != "Cast" or cast.domain or node.outputs[0].dtype not in _NARROW:
                continue
            if cast.outputs[0].dtype is not ir.DataType.FLOAT:
                continue
            details.append(f"{node.name} + {cast.name}: gives float32")
            made = _as_fused(node, [])
            _replace(network, made, [node, cast])
        return PassReport(name=self.name, changed=len(details), details=tuple(details))


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseStem:
    """The second of the module's two."""

    name: str = "fuse-stem"
    reason: str = "casting, reordering, convolving and pooling a picture are one launch"

    def apply(self, network: Network) -> PassReport:
        """Counts stems; declines a pool that is not of the form that a stem does."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            if not stems.is_stem(node) or node.outputs[0].dtype not in _NARROW:
                continue
            cast = _cast_before(node)
            pool = only_use(node.outputs[0])
            window = None
            if pool is not None and pool.op_type == "MaxPool" and not pool.domain and not fused.epilogue_of(node).tail:
                window = plain_window(pool)
                if window is None:
                    declined.append(f"{pool.name}: not a plain max pool of pictures, so {node.name} goes without it")
            if cast is None and window is None:
                continue
            made = _as_fused(node, [])
            parts = [node]
            if cast is not None:
                made.replace_input_with(0, cast.inputs[0])
            if pool is not None and window is not None:
                made = _pooled(made, pool, window)
                parts.append(pool)
            details.append(" + ".join(f"{each.name} ({each.op_type})" for each in ([cast] if cast else []) + parts))
            _replace(network, made, parts)
            if cast is not None and not cast.outputs[0].uses():
                rewire.remove(network, cast)
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _hoist(network: Network) -> list[str]:
    """cast(softmax(x)) => softmax(cast(x)) after a product, which gives float32 for nothing."""
    details: list[str] = []
    pending = [node for node in network.layers() if node.op_type == "Cast"]
    while pending:
        cast = pending.pop()
        source = cast.inputs[0] if cast.op_type == "Cast" and not cast.domain else None
        node = None if source is None else source.producer()
        if source is None or node is None or node.domain or node.op_type not in _UNARY or only_use(source) is not cast:
            continue
        before = node.inputs[0]
        product = None if before is None else before.producer()
        if before is None or product is None or only_use(before) is not node or source.dtype not in _NARROW:
            continue
        if product.op_type not in (*_PRODUCTS, *_UNARY) or cast.outputs[0].dtype is not ir.DataType.FLOAT:
            continue
        wide = ir.Node("", "Cast", [before], list(cast.attributes.values()), name=cast.name)
        wide.outputs[0].name = network.fresh(f"{before.name}_float")
        wide.outputs[0].type, wide.outputs[0].shape = cast.outputs[0].type, before.shape
        network.graph.insert_before(node, wide)
        node.replace_input_with(0, wide.outputs[0])
        source.type = cast.outputs[0].type
        details.append(f"{node.name}: in float32, as it was to be widened anyway")
        rewire.take_over(network, cast.outputs[0], source)
        rewire.remove(network, cast)
        pending.append(wide)
    return details


def _cast_before(node: ir.Node) -> ir.Node | None:
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    if producer is None or producer.op_type != "Cast" or producer.domain or producer.graph is not node.graph:
        return None
    source = producer.inputs[0]
    return producer if source is not None and source.dtype is ir.DataType.FLOAT else None


def _as_fused(node: ir.Node, others: list[ir.Node]) -> ir.Node:
    """A copy of a layer as one of ours."""
    if fused.is_fused(node):
        return ir.Node(
            FUSED_DOMAIN, node.op_type, list(node.inputs), list(node.attributes.values()), name=node.name,
            metadata_props=dict(node.metadata_props),
        )  # fmt: skip
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return fused.fuse(node, others, bias=bias, residual=None, epilogue=Epilogue())


def _pooled(node: ir.Node, pool: ir.Node, window: Pool) -> ir.Node:
    made = fused.with_pool(node, pool, window)
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)  # it was never in a graph: it reads nothing
    return made


def _replace(network: Network, made: ir.Node, parts: list[ir.Node]) -> None:
    """Put `made` in the place of `parts`, the last of which gives the result."""
    result = parts[-1].outputs[0]
    output = made.outputs[0]
    output.name = network.fresh(f"{result.name}_fused")
    output.type, output.shape = result.type, result.shape
    network.graph.insert_before(parts[-1], made)
    name, is_output = result.name, result.is_graph_output()
    rewire.take_over(network, result, output)
    for part in reversed(parts):
        rewire.remove(network, part)
    if not is_output:
        output.name = name
    network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
