"""LSTM as Caffe unrolls it: time first, and a second bottom that says where a sequence goes on."""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.writing import OPSET, Blob

_GATES = 4  # in, forget, out, and the new content


def lstm(layer: Layer) -> Sequence[Blob]:
    """x [T, N, …], continuations [T, N] (0 begins a sequence), perhaps a static input [N, …] and states [1, N, H].

    The inputs' part of the gates is one product over all steps; a Scan does the rest, step by step.
    """
    given, write = layer.message.recurrent_param, layer.write
    hidden, exposed = given.num_output, given.expose_hidden
    static = len(layer.bottoms) == 3 + 2 * exposed
    if len(layer.bottoms) != 2 + static + 2 * exposed or len(layer.x.shape) < 2 or not hidden:
        layer.wrong(
            f"it has {len(layer.bottoms)} bottoms and {hidden} outputs, the first bottom being {list(layer.x.shape)}"
        )
    steps, batch = layer.x.shape[:2]
    if layer.bottoms[1].shape != (steps, batch):
        layer.wrong(f"its continuations have the shape {list(layer.bottoms[1].shape)}, wanted {[steps, batch]}")
    gates = _GATES * hidden
    taken = _product(layer, layer.x, 2, 0, gates)
    bias = write.constant(layer.weight(1, (gates,), filler=given.bias_filler), "bias")
    taken = write.blob("Add", [taken.value, bias], taken.shape)
    if static:
        taken = write.blob("Add", [taken.value, _product(layer, layer.bottoms[2], 1, 2, gates).value], taken.shape)
    recurrent = layer.weight(2 + static, (gates, hidden), filler=given.weight_filler)
    states = [write.reshape(state, (batch, hidden)) for state in layer.bottoms[2 + static :]]
    if not exposed:
        zero = write.constant(np.zeros((batch, hidden), np.float32), "zero")
        states = [Blob(zero, (batch, hidden))] * 2
    last_h, last_c, made = write.values(
        "Scan",
        [*(state.value for state in states), taken.value, layer.bottoms[1].value],
        outputs=3,
        body=_step(write.constant(recurrent.T, "recurrent"), batch, hidden),
        num_scan_inputs=2,
    )
    tops = [Blob(made, (steps, batch, hidden))]
    if exposed:
        tops += [write.reshape(Blob(last, (batch, hidden)), (1, batch, hidden)) for last in (last_h, last_c)]
    return tops


def _product(layer: Layer, x: Blob, axis: int, index: int, gates: int) -> Blob:
    taken = math.prod(x.shape[axis:])
    matrix = layer.weight(index, (gates, taken), filler=layer.message.recurrent_param.weight_filler).T
    rows = layer.write.reshape(x, (*x.shape[:axis], taken))
    return layer.write.blob("MatMul", [rows.value, layer.write.constant(matrix, "weights")], (*x.shape[:axis], gates))


def _step(recurrent: ir.Value, batch: int, hidden: int) -> ir.Graph:
    """h and c of before, the inputs' part of the gates, the continuations, to h, c and h once more for the outputs."""

    def value(name: str, *shape: int) -> ir.Value:
        return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))

    nodes: list[ir.Node] = []

    def add(operator: str, name: str, *inputs: ir.Value, outputs: int = 1, **attributes: int) -> ir.Value:
        held = ir.convenience.convert_attributes(attributes)
        node = ir.Node("", operator, inputs, attributes=held, num_outputs=outputs, name=name)
        for index, made in enumerate(node.outputs):
            made.name = f"{name}{index}" if outputs > 1 else name
        nodes.append(node)
        return node.outputs[0]

    h, c = value("h", batch, hidden), value("c", batch, hidden)
    taken, goes_on = value("taken", batch, _GATES * hidden), value("goes_on", batch)
    axes = ir.Node("", "Constant", [], attributes=ir.convenience.convert_attributes({"value_ints": [1]}), name="axes")
    axes.outputs[0].name = "axes"
    nodes.append(axes)
    column = add("Unsqueeze", "column", goes_on, axes.outputs[0])
    kept = add("MatMul", "remembered", add("Mul", "h_kept", h, column), recurrent)
    add("Split", "gate", add("Add", "gates", taken, kept), outputs=_GATES, axis=1, num_outputs=_GATES)
    into, forget, out, content = nodes[-1].outputs
    before = add("Mul", "c_kept", add("Mul", "forgotten", add("Sigmoid", "forget", forget), column), c)
    new = add("Mul", "new", add("Sigmoid", "into", into), add("Tanh", "content", content))
    next_c = add("Add", "next_c", before, new)
    next_h = add("Mul", "next_h", add("Sigmoid", "out", out), add("Tanh", "shown", next_c))
    copy = add("Identity", "step", next_h)
    for made in (next_h, next_c, copy):
        made.shape, made.type = ir.Shape((batch, hidden)), ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([h, c, taken, goes_on], [next_h, next_c, copy], nodes=nodes, opset_imports={"": OPSET}, name="step")
