"""maxpool(act(conv(x, w) + b)) => one layer that stores the maxima alone: what is pooled is never written.

For pools of 2x2 with stride 2, as in VGG: their windows never overlap, so a tile of a convolution holds whole ones.
"""

from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network import fused, rewire
from enginewright_builder.network.fused import Pool
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant, only_use, static_shape
from enginewright_builder.passes.base import PassReport

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_WINDOW = Pool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))
_UNIT = 8  # channels of 16 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FusePools:
    """See the module."""

    name: str = "fuse-pools"
    reason: str = "a quarter of a convolution's results is written and read again, and one launch fewer"

    def apply(self, network: Network) -> PassReport:
        """Counts pools; declines max pools behind convolutions that no kernel does with them."""
        details: list[str] = []
        declined: list[str] = []
        for pool in list(network.layers()):
            source = pool.inputs[0] if pool.op_type == "MaxPool" and not pool.domain else None
            node = None if source is None else source.producer()
            if source is None or node is None or node.op_type not in ("Conv", "FusedConv"):
                continue
            why = _refusal(node, pool, source)
            if why:
                declined.append(f"{pool.name} into {node.name}: {why}")
                continue
            details.append(f"{node.name} + {pool.name}")
            rewire.put(network, fused.with_pool(node, pool, _WINDOW), pool, [pool, node])
            network.graph.opset_imports[FUSED_DOMAIN] = fused.VERSION
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def plain_window(pool: ir.Node) -> Pool | None:
    """The window of a MaxPool in two dimensions, None where it is dilated, rounds up or gives positions too."""
    kernel = tuple(pool.attributes.get_ints("kernel_shape", []) or ())
    strides = tuple(pool.attributes.get_ints("strides", [1] * len(kernel)) or ())
    pads = tuple(pool.attributes.get_ints("pads", [0] * 2 * len(kernel)) or ())
    odd = any(pool.attributes.get_int(name, 0) for name in ("ceil_mode", "storage_order"))
    odd = odd or pool.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    odd = odd or any(d != 1 for d in pool.attributes.get_ints("dilations", [1]) or ())
    if odd or len(kernel) != 2 or any(value.name for value in pool.outputs[1:]):
        return None
    return Pool(kernel=kernel, strides=strides, pads=pads)


def _refusal(node: ir.Node, pool: ir.Node, source: ir.Value) -> str:
    """Why a pool stays a layer, as the end of a sentence; "" where it goes into the convolution."""
    if plain_window(pool) != _WINDOW:
        return "it is not 2x2 with stride 2 and no padding"
    if only_use(source) is not pool:
        return "what it pools is read elsewhere"
    if source.dtype not in _NARROW or node.inputs[0] is None or node.inputs[0].dtype is not source.dtype:
        return "they are not in a half type"
    _, weights, bias, residual = fused.padded_inputs(node)
    if residual is not None or fused.pair_of(node) is not None or fused.pool_of(node) is not None:
        return "the convolution adds more than its bias"
    if fused.epilogue_of(node).tail:
        return "the convolution has a tail"
    shape = static_shape(weights)
    if shape is None or len(shape) != 4 or shape[0] % _UNIT or shape[1] % _UNIT:
        return f"its channels are no multiples of {_UNIT}"
    if node.attributes.get_int("group", 1) != 1 or any(s != 1 for s in node.attributes.get_ints("strides", [1]) or ()):
        return "the convolution is grouped or has strides"
    if not all(is_constant(value) for value in (weights, bias) if value is not None):
        return "its weights are not constant"
    return ""
