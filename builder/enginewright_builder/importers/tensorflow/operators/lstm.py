"""LSTMBlockCell and BlockLSTM: TensorFlow 1's fused recurrent layers, a step and all steps.

(tensorflow/core/kernels/rnn/lstm_ops.h.) They clip the cell and hand out every gate of every step, which ONNX's LSTM
does not: so the steps are a Loop of what the cell is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow.call import Call, Convert, Table
from enginewright_builder.importers.tensorflow.operators import loops
from enginewright_builder.importers.tensorflow.scope import Scope, Tensor

_ICFO, _IFCO = ("i", "ci", "f", "o"), ("i", "f", "ci", "o")  # the gates' order in the weights
_MADE = ("i", "cs", "f", "o", "ci", "co", "h")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """`weights` [inputs + units, 4 units] in the gates' `order`; `peepholes` are of i, f and o, or none."""

    order: tuple[str, ...]
    weights: ir.Value
    bias: ir.Value
    peepholes: tuple[ir.Value, ...]
    forget: float
    clip: float
    scalar: np.dtype[np.generic]

    def step(self, scope: Scope, x: ir.Value, cs: ir.Value, h: ir.Value) -> list[ir.Value]:
        """(x [batch, inputs], cell and output before [batch, units]) -> what it is MADE of."""
        put = scope.put
        product = put("MatMul", put("Concat", x, h, axis=1), self.weights)
        parts = scope.layer("Split", put("Add", product, self.bias), outputs=4, axis=1, num_outputs=4)
        gates = dict(zip(self.order, parts, strict=True))

        def seen(gate: str, peephole: int, cell: ir.Value) -> ir.Value:
            value = gates[gate]
            if self.peepholes:
                value = put("Add", value, put("Mul", cell, self.peepholes[peephole]))
            return put("Sigmoid", value)

        if self.forget:
            gates["f"] = put("Add", gates["f"], self._number(scope, self.forget))
        i, f, ci = seen("i", 0, cs), seen("f", 1, cs), put("Tanh", gates["ci"])
        cs = put("Add", put("Mul", ci, i), put("Mul", cs, f))
        if self.clip > 0:
            cs = put("Clip", cs, self._number(scope, -self.clip), self._number(scope, self.clip))
        o, co = seen("o", 2, cs), put("Tanh", cs)
        return [i, cs, f, o, ci, co, put("Mul", co, o)]

    def _number(self, scope: Scope, number: float) -> ir.Value:
        return scope.constant(np.array(number, self.scalar))


def _cell(call: Call, order: tuple[str, ...], given: Sequence[Tensor], forget: float, clip: float) -> _Cell:
    """Of the inputs (w, wci, wcf, wco, b)."""
    w, *peepholes, b = map(call.scope.plain, given)
    return _Cell(
        order=order,
        weights=w,
        bias=b,
        peepholes=tuple(peepholes) if call.flag("use_peephole") else (),
        forget=forget,
        clip=call.number("cell_clip", clip),
        scalar=call.dtype().numpy(),
    )


def _one(call: Call) -> list[Tensor]:
    """LSTMBlockCell: (x, cs_prev, h_prev, w, wci, wcf, wco, b)."""
    x, cs, h = map(call.scope.plain, call.inputs[:3])
    cell = _cell(call, _ICFO, call.inputs[3:8], call.number("forget_bias", 1.0), 3.0)
    return [Tensor(value=value, rank=2) for value in cell.step(call.scope, x, cs, h)]


def _all(order: tuple[str, ...], forget: float, clip: float) -> Convert:
    """BlockLSTM and V2: (how many steps, x [time, batch, inputs], cs_prev, h_prev, w, wci, wcf, wco, b). Steps that
    are not taken are zeros."""

    def convert(call: Call) -> list[Tensor]:
        scope, x = call.scope, call.scope.plain(call.inputs[1])
        cell = _cell(call, order, call.inputs[4:9], call.number("forget_bias", forget), clip)
        before = [scope.plain(each) for each in call.inputs[2:4]]
        time = scope.put("Shape", x, start=0, end=1)
        steps = scope.put("Min", scope.vector(call.inputs[0]), time)
        scope.describe()
        body = _body(call, cell, x)
        count = scope.put("Squeeze", steps, scope.ints(0))
        made = scope.layer("Loop", count, None, *before, outputs=2 + len(_MADE), body=body)
        left = scope.put("Concat", scope.ints(0, 0, 0), scope.put("Sub", time, steps), scope.ints(0, 0), axis=0)
        return [Tensor(value=scope.put("Pad", each, left), rank=3) for each in made[2:]]

    return convert


def _body(call: Call, cell: _Cell, x: ir.Value) -> ir.Graph:
    """(iteration, goes on, cs, h) -> (goes on, cs, h) and what the step is made of."""
    inside, dtype = call.scope.body("body"), call.dtype()
    kinds = (("iteration", ir.DataType.INT64, 0), ("goes_on", ir.DataType.BOOL, 0), ("cs", dtype, 2), ("h", dtype, 2))
    iteration, goes_on, cs, h = (loops.argument(inside, *kind) for kind in kinds)
    row = inside.put("Gather", x, iteration, axis=0)
    made = cell.step(inside, row, cs, h)
    states = [made[_MADE.index(name)] for name in ("cs", "h")]
    inside.graph.outputs.extend(loops.own(inside, value) for value in (goes_on, *states, *made))
    return inside.graph


TABLE: Table = {
    "LSTMBlockCell": _one,
    "BlockLSTM": _all(_ICFO, 1.0, 3.0),
    "BlockLSTMV2": _all(_IFCO, 0.0, 0.0),
}
