"""LSTM, GRU, RNN => one matrix product over all time steps for the input, then a product and pointwise layers a step.

The sequence's length is static here; the lengths of its members may be given at run time: a member's state stands still
behind its end, and its outputs there are zero. Plain and right, for networks whose recurrent layers no single kernel
takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.device import recurrent_steps
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.recurrent_steps import Activation, Cell, Step
from enginewright_builder.device.writing import Writer, shape_of
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """An operator: its step, how many gates and states it has, and its usual activations."""

    step: Step
    gates: int
    states: int
    activations: tuple[str, ...]


_KINDS: Mapping[str, _Kind] = {
    "LSTM": _Kind(step=recurrent_steps.lstm, gates=4, states=2, activations=("Sigmoid", "Tanh", "Tanh")),
    "GRU": _Kind(step=recurrent_steps.gru, gates=3, states=1, activations=("Sigmoid", "Tanh")),
    "RNN": _Kind(step=recurrent_steps.rnn, gates=1, states=1, activations=("Tanh",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandRecurrent:
    """`most_steps`: a longer sequence would make too many layers."""

    name: str = "expand-recurrent"
    reason: str = "a recurrent layer's steps are products and pointwise layers, which have kernels"
    most_steps: int = 1024

    def apply(self, network: Network) -> PassReport:
        """See the module."""
        details, declined = [], []
        for node in list(network.layers()):
            if node.domain or node.op_type not in _KINDS:
                continue
            try:
                steps = _expand(network, node, self.most_steps)
                details.append(f"{node.name}: {node.op_type} in {steps} steps")
            except Declined as why:
                declined.append(f"{node.name}: {node.op_type} is not expanded: {why}")
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _expand(network: Network, node: ir.Node, most_steps: int) -> int:
    """Replace the layer; how many steps it has. Raises Declined before anything is changed."""
    kind = _KINDS[node.op_type]
    given = [*node.inputs, *[None] * 8][:8]
    x, w = given[0], given[1]
    shapes = [static_shape(value) for value in given[:3]]
    if x is None or w is None or x.dtype is None or any(shape is None for shape in shapes):
        raise Declined("its shapes are not static")
    batch_first = bool(node.attributes.get_int("layout", 0))
    length = shape_of(x)[1 if batch_first else 0]
    if length > most_steps:
        raise Declined(f"its sequence has {length} steps where {most_steps} are the most")
    directions = shape_of(w)[0]
    functions = _activations(node, kind, directions)
    lengths = _lengths(network, given[4], length)
    if lengths is not None and network.opset < 9:
        raise Declined(f"its members' lengths take Where, which opset {network.opset} does not have")
    write = Writer(network, node, x.dtype)
    if batch_first:
        x = write.transpose(x, (1, 0, 2))
    runs = [
        _run(write, kind, functions[number], number, x, given, lengths, batch_first=batch_first)
        for number in range(directions)
    ]
    whole = write.concat([run[0] for run in runs], 1)
    states = [write.concat([run[1][k] for run in runs], 0) for k in range(kind.states)]
    if batch_first:
        whole = write.transpose(whole, (2, 0, 1, 3))
        states = [write.transpose(state, (1, 0, 2)) for state in states]
    write.finish([whole, *states][: len(node.outputs)])
    return length


def _activations(node: ir.Node, kind: _Kind, directions: int) -> list[tuple[Activation, ...]]:
    names = node.attributes.get_strings("activations", None) or kind.activations * directions
    alphas = node.attributes.get_floats("activation_alpha", None) or ()
    betas = node.attributes.get_floats("activation_beta", None) or ()
    made = recurrent_steps.activations(names, alphas, betas)
    each = len(kind.activations)
    return [made[number * each : (number + 1) * each] for number in range(directions)]


def _lengths(network: Network, given: ir.Value | None, length: int) -> ir.Value | None:
    """The members' lengths, None where all are whole."""
    constant = network.constant(given)
    return None if constant is not None and bool(np.all(constant == length)) else given


def _run(
    write: Writer,
    kind: _Kind,
    functions: tuple[Activation, ...],
    number: int,
    x: ir.Value,
    given: Sequence[ir.Value | None],
    lengths: ir.Value | None,
    *,
    batch_first: bool,
) -> tuple[ir.Value, list[ir.Value]]:
    """One direction: all outputs (length, 1, batch, hidden) and the last states (1, batch, hidden)."""
    length, batch, _ = shape_of(x)
    weights = _of_direction(write, given[2], number)
    assert weights is not None, "a recurrent layer has recurrent weights"
    hidden = shape_of(weights)[1]
    cell, projected = _cell(write, kind, functions, number, x, given, weights)
    states = [
        _initial(write, given[5 + k], number, (batch, hidden), batch_first=batch_first) for k in range(kind.states)
    ]
    direction = write.node.attributes.get_string("direction", "forward")
    backwards = direction == "reverse" or number == 1
    outputs: dict[int, ir.Value] = {}
    for time in reversed(range(length)) if backwards else range(length):
        own = write.reshape(write.slice(projected, 0, time, time + 1), (batch, kind.gates * hidden))
        new = kind.step(write, cell, own, states)
        if lengths is not None:
            alive = _alive(write, lengths, time)
            shown = _where(write, alive, new[0], write.constant(np.zeros((batch, hidden), write.dtype.numpy())))
            states = [_where(write, alive, after, before) for after, before in zip(new, states, strict=True)]
        else:
            shown, states = new[0], new
        outputs[time] = write.reshape(shown, (1, 1, batch, hidden))
    whole = write.concat([outputs[time] for time in range(length)], 0)
    return whole, [write.reshape(state, (1, batch, hidden)) for state in states]


def _cell(
    write: Writer,
    kind: _Kind,
    functions: tuple[Activation, ...],
    number: int,
    x: ir.Value,
    given: Sequence[ir.Value | None],
    weights: ir.Value,
) -> tuple[Cell, ir.Value]:
    """What the steps of a direction share, and its product with the whole input (length, batch, gates * hidden)."""
    length, batch, features = shape_of(x)
    node, hidden = write.node, shape_of(weights)[1]
    wide = kind.gates * hidden
    input_weights, bias = _of_direction(write, given[1], number), _of_direction(write, given[3], number)
    assert input_weights is not None, "a recurrent layer has weights"
    projected = write.product(write.reshape(x, (length * batch, features)), write.transpose(input_weights, (1, 0)))
    recurrent_bias = None
    if bias is not None:
        first, second = write.slice(bias, 0, 0, wide), write.slice(bias, 0, wide, 2 * wide)
        projected = write.both("Add", projected, first)
        recurrent_bias = second
    linear = node.op_type == "GRU" and bool(node.attributes.get_int("linear_before_reset", 0))
    if linear and recurrent_bias is None:
        recurrent_bias = write.constant(np.zeros(wide, write.dtype.numpy()))
    if not linear and recurrent_bias is not None:
        projected, recurrent_bias = write.both("Add", projected, recurrent_bias), None
    cell = Cell(
        hidden=hidden,
        activations=functions,
        clip=node.attributes.get_float("clip", None),
        weights=write.transpose(weights, (1, 0)),
        recurrent_bias=recurrent_bias,
        peepholes=_of_direction(write, given[7], number) if node.op_type == "LSTM" else None,
        couples=bool(node.attributes.get_int("input_forget", 0)),
    )
    return cell, write.reshape(projected, (length, batch, wide))


def _of_direction(write: Writer, value: ir.Value | None, number: int) -> ir.Value | None:
    if value is None:
        return None
    return write.reshape(write.slice(value, 0, number, number + 1), shape_of(value)[1:])


def _initial(
    write: Writer, value: ir.Value | None, number: int, shape: tuple[int, int], *, batch_first: bool
) -> ir.Value:
    if value is None:
        return write.constant(np.zeros(shape, write.dtype.numpy()))
    return write.reshape(write.slice(value, 1 if batch_first else 0, number, number + 1), shape)


def _alive(write: Writer, lengths: ir.Value, time: int) -> ir.Value:
    """Which members of the batch have a step of that number, as a column."""
    batch = shape_of(lengths)[0]
    now = write.constant(np.array(time, np.int32))
    later = write.layer("Less", [now, lengths], (batch,), dtype=ir.DataType.BOOL)
    return write.reshape(later, (batch, 1))


def _where(write: Writer, condition: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
    return write.layer("Where", [condition, yes, no], shape_of(yes))
