"""Layers with a trained matrix, and the place of the largest number."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import Blob


def inner_product(layer: Layer) -> Sequence[Blob]:
    """Everything from an axis on as one row, times the weights, plus the bias."""
    given, x, write = layer.message.inner_product_param, layer.x, layer.write
    axis, outputs = layer.axis(given.axis), given.num_output
    taken = math.prod(x.shape[axis:])
    if not outputs:
        layer.wrong("it has no num_output")
    stored = (taken, outputs) if given.transpose else (outputs, taken)
    array = layer.weight(0, stored, filler=given.weight_filler)
    added = layer.weight(1, (outputs,), filler=given.bias_filler) if given.bias_term else None
    rows = write.reshape(x, (*x.shape[:axis], taken))
    if axis == 1:
        inputs = [rows.value, write.constant(array, "weights")]
        if added is not None:
            inputs.append(write.constant(added, "bias"))
        return [write.blob("Gemm", inputs, (x.shape[0], outputs), transB=int(not given.transpose))]
    matrix = write.constant(array if given.transpose else array.T, "weights")
    made = write.blob("MatMul", [rows.value, matrix], (*x.shape[:axis], outputs))
    if added is not None:
        made = write.blob("Add", [made.value, write.constant(added, "bias")], made.shape)
    return [made]


def embed(layer: Layer) -> Sequence[Blob]:
    """A trained row for each number, which is a whole one from 0 to input_dim - 1."""
    given, x, write = layer.message.embed_param, layer.x, layer.write
    if not given.num_output or not given.input_dim:
        layer.wrong(f"it has {given.input_dim} rows of {given.num_output}")
    table = layer.weight(0, (given.input_dim, given.num_output), filler=given.weight_filler)
    rows = write.values("Cast", [x.value], to=ir.DataType.INT64)[0]
    made = write.blob("Gather", [write.constant(table, "rows"), rows], (*x.shape, given.num_output), axis=0)
    if not given.bias_term:
        return [made]
    added = layer.weight(1, (given.num_output,), filler=given.bias_filler)
    return [write.blob("Add", [made.value, write.constant(added, "bias")], made.shape)]


def arg_max(layer: Layer) -> Sequence[Blob]:
    """The places of the top_k largest numbers, as floats; of equal ones the later comes first.

    Along an axis: the places, or the numbers themselves with out_max_val. Without an axis: of everything behind the
    first one, in [N, 1, top_k, …], or the places and then the numbers in [N, 2, top_k, …].
    """
    given, x, write = layer.message.argmax_param, layer.x, layer.write
    rank = len(x.shape)
    if given.HasField("axis"):
        axis, rows = layer.axis(given.axis), x
    else:
        axis, rows = 1, write.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    size, top = rows.shape[axis], given.top_k
    if not 1 <= top <= size:
        layer.wrong(f"it looks for {top} numbers among {size}")
    # ONNX takes the earlier of equal ones, so it looks from behind.
    bounds = [
        write.constant(numbers, what) for numbers, what in (([-1], "from"), ([-size - 1], "to"), ([axis], "axes"))
    ]
    behind = write.values("Slice", [rows.value, *bounds, write.constant([-1], "step")])[0]
    numbers, found = write.values("TopK", [behind, write.constant([top], "top")], outputs=2, axis=axis)
    places = write.values("Sub", [write.constant(np.array(size - 1, np.int64), "last"), found])[0]
    shape = (*rows.shape[:axis], top, *rows.shape[axis + 1 :])
    as_floats = write.blob("Cast", [places], shape, to=ir.DataType.FLOAT)
    if given.HasField("axis"):
        return [Blob(numbers, shape) if given.out_max_val else as_floats]
    ones = [1] * max(rank - 3, 0)
    made = write.reshape(as_floats, (x.shape[0], 1, top, *ones))
    if not given.out_max_val:
        return [made]
    largest = write.reshape(Blob(numbers, shape), made.shape)
    return [write.blob("Concat", [made.value, largest.value], (x.shape[0], 2, top, *ones), axis=1)]
