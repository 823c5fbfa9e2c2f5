"""Matrix products and sums of products."""

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.scope import Tensor


def _side(call: Call, index: int, *, flipped: bool, rank: int | None) -> ir.Value:
    """A factor with its last two dimensions exchanged if asked for: weights here and now."""
    tensor = call.inputs[index]
    if not flipped:
        return call.scope.plain(tensor)
    if tensor.array is not None:
        return call.scope.constant(np.swapaxes(tensor.array, -1, -2))
    rank = rank or call.scope.rank(tensor)
    order = [*range(rank - 2), rank - 1, rank - 2]
    return call.scope.put("Transpose", call.scope.plain(tensor), perm=order)


def _matmul(call: Call) -> list[Tensor]:
    left = _side(call, 0, flipped=call.flag("transpose_a"), rank=2)
    right = _side(call, 1, flipped=call.flag("transpose_b"), rank=2)
    return [Tensor(value=call.scope.put("MatMul", left, right), rank=2)]


def _batch_matmul(call: Call) -> list[Tensor]:
    left = _side(call, 0, flipped=call.flag("adj_x"), rank=None)
    right = _side(call, 1, flipped=call.flag("adj_y"), rank=None)
    ranks = [each.rank for each in call.inputs]
    rank = max(each for each in ranks if each is not None) if None not in ranks else None
    return [Tensor(value=call.scope.put("MatMul", left, right), rank=rank)]


def _einsum(call: Call) -> list[Tensor]:
    values = [call.scope.plain(each) for each in call.inputs]
    return [Tensor(value=call.scope.put("Einsum", *values, equation=call.text("equation")))]


TABLE: Table = {
    "MatMul": _matmul,
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BatchMatMulV3": _batch_matmul,
    "Einsum": _einsum,
}
