"""Reductions, arg-max, top-k, cumulative sums, softmax."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.scope import Tensor, channels_first


def _reduce(op: str, before: str = "", after: str = "") -> Convert:
    """Over constant axes; `before` and `after` wrap what ONNX has for numbers only."""

    def written(call: Call, value: ir.Value, axes: Sequence[int], *, keep: bool) -> ir.Value:
        value = call.scope.put("Cast", value, to=ir.DataType.INT32) if before else value
        if axes:  # of none: TensorFlow reduces nothing, ONNX everything
            value = call.scope.put(op, value, call.scope.ints(*axes), keepdims=int(keep))
        return call.scope.put("Cast", value, to=ir.DataType.BOOL) if after else value

    def convert(call: Call) -> list[Tensor]:
        x, keep, axes = call.inputs[0], call.flag("keep_dims"), call.axes(1)
        if x.first is not None and x.rank is not None:
            places = channels_first(x.rank)
            turned = sorted(places.index(axis % x.rank) for axis in axes)
            if keep or turned == list(range(2, x.rank)):
                value = written(call, x.first, turned, keep=keep)
                return [Tensor(first=value, rank=x.rank) if keep else Tensor(value=value, rank=2)]
        left = x.rank if keep or x.rank is None else x.rank - len(set(axes))
        return [Tensor(value=written(call, call.scope.plain(x), axes, keep=keep), rank=left)]

    return convert


def _arg(op: str) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        (axis,) = call.axes(1) if len(call.inputs) > 1 else (0,)
        x = call.inputs[0]
        value = call.scope.put(op, call.scope.plain(x), axis=axis, keepdims=0)
        if call.dtype("output_type") is not ir.DataType.INT64 and "output_type" in call.node.attributes:
            value = call.scope.put("Cast", value, to=call.dtype("output_type"))
        return [Tensor(value=value, rank=None if x.rank is None else x.rank - 1)]

    return convert


def _top_k(call: Call) -> list[Tensor]:
    scope, x = call.scope, call.inputs[0]
    count = scope.vector(call.inputs[1]) if len(call.inputs) > 1 else scope.ints(call.integer("k"))
    sorted_ = int(call.flag("sorted", default=True))
    values, places = scope.layer("TopK", scope.plain(x), count, outputs=2, axis=-1, largest=1, sorted=sorted_)
    return [
        Tensor(value=values, rank=x.rank),
        Tensor(value=scope.put("Cast", places, to=ir.DataType.INT32), rank=x.rank),
    ]


def _cumulative_sum(call: Call) -> list[Tensor]:
    x, axis = call.inputs
    flags = {"exclusive": int(call.flag("exclusive")), "reverse": int(call.flag("reverse"))}
    return [Tensor(value=call.scope.put("CumSum", call.scope.plain(x), call.scope.long(axis), **flags), rank=x.rank)]


def _softmax(op: str) -> Convert:
    def convert(call: Call) -> list[Tensor]:
        x = call.inputs[0]
        if x.first is not None:
            return [Tensor(first=call.scope.put(op, x.first, axis=1), rank=x.rank)]
        return [Tensor(value=call.scope.put(op, call.scope.plain(x), axis=-1), rank=x.rank)]

    return convert


def _l2_loss(call: Call) -> list[Tensor]:
    half = call.scope.constant(np.array(0.5, dtype=call.dtype().numpy()))
    value = call.scope.put("ReduceSumSquare", call.scope.plain(call.inputs[0]), keepdims=0)
    return [Tensor(value=call.scope.put("Mul", value, half), rank=0)]


TABLE: Table = {
    "Mean": _reduce("ReduceMean"),
    "Sum": _reduce("ReduceSum"),
    "Max": _reduce("ReduceMax"),
    "Min": _reduce("ReduceMin"),
    "Prod": _reduce("ReduceProd"),
    "All": _reduce("ReduceMin", before="int", after="bool"),
    "Any": _reduce("ReduceMax", before="int", after="bool"),
    "EuclideanNorm": _reduce("ReduceL2"),
    "ArgMax": _arg("ArgMax"),
    "ArgMin": _arg("ArgMin"),
    "TopK": _top_k,
    "TopKV2": _top_k,
    "Cumsum": _cumulative_sum,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "L2Loss": _l2_loss,
}
