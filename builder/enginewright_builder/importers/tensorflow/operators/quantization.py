"""Quantization that training left in the graph: FakeQuant as the rounding that it is, Dequantize as a product."""

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.operators.pointwise import Values, together
from enginewright_builder.importers.tensorflow.scope import Array, Tensor


def _fixed(call: Call) -> list[Tensor]:
    """FakeQuantWithMinMaxArgs: the range is in the attributes."""
    return _rounded(call, np.array(call.number("min", -6.0)), np.array(call.number("max", 6.0)))


def _learned(call: Call) -> list[Tensor]:
    """FakeQuantWithMinMaxVars and …PerChannel: the range is in two inputs, one number each or one a channel."""
    return _rounded(call, call.constant(1, "minimum"), call.constant(2, "maximum"))


def _rounded(call: Call, low: Array, high: Array) -> list[Tensor]:
    """The range is nudged so that zero is a step (tensorflow/core/kernels/fake_quant_ops_functor.h), in float32."""
    bits, narrow = call.integer("num_bits", 8), call.flag("narrow_range")
    if not 2 <= bits <= 16:
        raise call.refuse(f"quantizes to {bits} bits, wanted 2 to 16")
    first, last = np.float32(narrow), np.float32((1 << bits) - 1)
    low, high = low.astype(np.float32), high.astype(np.float32)
    if not (low < high).all():
        raise call.refuse("quantizes to an empty range: train or export the model again")
    step = (high - low) / (last - first)
    zero = np.clip(np.floor(first - low / step + np.float32(0.5)), first, last)
    least, most = (first - zero) * step, (last - zero) * step
    shifted = np.floor(-least * (np.float32(1) / step) + np.float32(0.5))
    limits = [call.scope.known(each.astype(np.float32)) for each in (least, most, step, np.float32(1) / step, shifted)]

    def write(call: Call, values: Values) -> ir.Value:
        value, least, most, step, inverse, shifted = values
        put = call.scope.put
        within = put("Min", put("Max", value, least), most)
        count = put("Sub", put("Mul", within, inverse), put("Mul", least, inverse))
        whole = put("Floor", put("Add", count, call.scope.constant(np.array(0.5, np.float32))))
        return put("Mul", put("Sub", whole, shifted), step)

    return list(together(write)(Call(scope=call.scope, node=call.node, inputs=(call.inputs[0], *limits))))


def _dequantize(call: Call) -> list[Tensor]:
    """Of the modes MIN_COMBINED, MIN_FIRST and SCALED (tensorflow/core/kernels/dequantize_op.cc)."""
    x, mode = call.inputs[0], call.text("mode", "MIN_COMBINED")
    low, high = (call.constant(index, "range").astype(np.float32) for index in (1, 2))
    if low.size != 1 or call.list("axis") or call.integer("axis", -1) != -1:
        raise call.refuse("has a range for each channel, wanted one for all")
    kind = np.iinfo(call.dtype("T").numpy())
    scale: Array
    offset: Array
    if mode == "SCALED":
        least = kind.min + int(call.flag("narrow_range"))
        scale = high / kind.max if kind.min == 0 else np.maximum(high / kind.max, low / least)
        offset = np.zeros_like(low)
    elif mode in ("MIN_COMBINED", "MIN_FIRST"):
        scale = (high - low) / np.float32(kind.max - kind.min)
        low = np.round(low / scale) * scale if mode == "MIN_FIRST" else low
        offset = low - np.float32(kind.min) * scale
    else:
        raise call.refuse(f"has the mode {mode!r}, wanted MIN_COMBINED, MIN_FIRST or SCALED")
    scope = call.scope
    value = scope.put("Cast", scope.plain(x), to=ir.DataType.FLOAT)
    value = scope.put("Mul", value, scope.constant(scale.astype(np.float32).reshape(())))
    return [Tensor(value=scope.put("Add", value, scope.constant(offset.astype(np.float32).reshape(()))), rank=x.rank)]


TABLE: Table = {
    "FakeQuantWithMinMaxArgs": _fixed,
    "FakeQuantWithMinMaxVars": _learned,
    "FakeQuantWithMinMaxVarsPerChannel": _learned,
    "Dequantize": _dequantize,
}
