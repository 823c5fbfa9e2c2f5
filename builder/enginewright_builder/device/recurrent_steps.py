"""One time step of LSTM, GRU and RNN in ONNX's operators, by the equations of their specification.

`projected` is what the step's input gives: x W^T and the biases that may be added to it. `weights` are R^T. Peepholes
are three rows of one element a hidden unit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.writing import Writer

# The parameters of each activation and their defaults (onnxruntime/core/providers/cpu/rnn/rnn_helpers.cc).
_ACTIVATIONS: Mapping[str, tuple[float, ...]] = {
    "relu": (),
    "tanh": (),
    "sigmoid": (),
    "softsign": (),
    "softplus": (),
    "leakyrelu": (0.01,),
    "thresholdedrelu": (1.0,),
    "elu": (1.0,),
    "hardsigmoid": (0.2, 0.5),
    "affine": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
}
_PLAIN = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softsign": "Softsign", "softplus": "Softplus"}
_SLOPED = {"leakyrelu": "LeakyRelu", "thresholdedrelu": "ThresholdedRelu", "elu": "Elu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function by its name in small letters, with its parameters."""

    name: str
    parameters: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One direction of a layer: everything that its steps share."""

    hidden: int
    activations: tuple[Activation, ...]
    clip: float | None
    weights: ir.Value
    recurrent_bias: ir.Value | None = None  # of a GRU that resets after the product
    peepholes: ir.Value | None = None
    couples: bool = False  # input_forget


Step = Callable[[Writer, Cell, ir.Value, Sequence[ir.Value]], list[ir.Value]]


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Activation, ...]:
    """The functions in their order, each taking the parameters that it has from the front. Raises Declined."""
    first, second = list(alphas), list(betas)
    made = []
    for name in (each.lower() for each in names):
        if name not in _ACTIVATIONS:
            raise Declined(f"its activation is {name}")
        default = _ACTIVATIONS[name]
        given = [(left.pop(0) if left else value) for left, value in zip((first, second), default, strict=False)]
        made.append(Activation(name=name, parameters=tuple(given)))
    return tuple(made)


def lstm(write: Writer, cell: Cell, projected: ir.Value, state: Sequence[ir.Value]) -> list[ir.Value]:
    """The gates i, o, f, c: C = f C + i c, H = o h(C)."""
    before, memory = state
    gates = write.both("Add", projected, write.product(before, cell.weights))
    i, o, f, c = (_part(write, cell, gates, k) for k in range(4))
    outer, inner, last = cell.activations
    i = _active(write, cell, outer, _peeped(write, cell, i, 0, memory))
    if cell.couples:
        f = write.both("Sub", write.number(1.0), i)
    else:
        f = _active(write, cell, outer, _peeped(write, cell, f, 2, memory))
    c = _active(write, cell, inner, c)
    memory = write.both("Add", write.both("Mul", f, memory), write.both("Mul", i, c))
    o = _active(write, cell, outer, _peeped(write, cell, o, 1, memory))
    return [write.both("Mul", o, _applied(write, last, memory)), memory]


def _peeped(write: Writer, cell: Cell, gate: ir.Value, row: int, memory: ir.Value) -> ir.Value:
    if cell.peepholes is None:
        return gate
    own = write.slice(cell.peepholes, 0, row * cell.hidden, (row + 1) * cell.hidden)
    return write.both("Add", gate, write.both("Mul", own, memory))


def gru(write: Writer, cell: Cell, projected: ir.Value, state: Sequence[ir.Value]) -> list[ir.Value]:
    """The gates z, r, h: H = (1 - z) h + z H, where r resets what h sees of H, before or after the product."""
    (before,) = state
    outer, inner = cell.activations
    size = cell.hidden
    if cell.recurrent_bias is not None:
        seen = write.both("Add", write.product(before, cell.weights), cell.recurrent_bias)
        gates = write.slice(seen, 1, 0, 2 * size)
    else:
        gates = write.product(before, write.slice(cell.weights, 1, 0, 2 * size))
    gates = write.both("Add", write.slice(projected, 1, 0, 2 * size), gates)
    z = _active(write, cell, outer, _part(write, cell, gates, 0))
    r = _active(write, cell, outer, _part(write, cell, gates, 1))
    if cell.recurrent_bias is not None:
        candidate = write.both("Mul", r, write.slice(seen, 1, 2 * size, 3 * size))
    else:
        candidate = write.product(write.both("Mul", r, before), write.slice(cell.weights, 1, 2 * size, 3 * size))
    own = write.both("Add", write.slice(projected, 1, 2 * size, 3 * size), candidate)
    h = _active(write, cell, inner, own)
    kept = write.both("Mul", write.both("Sub", write.number(1.0), z), h)
    return [write.both("Add", kept, write.both("Mul", z, before))]


def rnn(write: Writer, cell: Cell, projected: ir.Value, state: Sequence[ir.Value]) -> list[ir.Value]:
    """H = f(x W^T + H R^T)."""
    (before,) = state
    gate = write.both("Add", projected, write.product(before, cell.weights))
    return [_active(write, cell, cell.activations[0], gate)]


def _part(write: Writer, cell: Cell, gates: ir.Value, number: int) -> ir.Value:
    return write.slice(gates, 1, number * cell.hidden, (number + 1) * cell.hidden)


def _active(write: Writer, cell: Cell, activation: Activation, gate: ir.Value) -> ir.Value:
    if cell.clip is not None:
        gate = write.both("Min", write.both("Max", gate, write.number(-cell.clip)), write.number(cell.clip))
    return _applied(write, activation, gate)


def _applied(write: Writer, activation: Activation, value: ir.Value) -> ir.Value:
    name, parameters = activation.name, activation.parameters
    if name in _PLAIN:
        return write.each(_PLAIN[name], value)
    if name in _SLOPED:
        return write.each(_SLOPED[name], value, alpha=parameters[0])
    alpha, beta = parameters
    match name:
        case "hardsigmoid":
            return write.each("HardSigmoid", value, alpha=alpha, beta=beta)
        case "scaledtanh":
            inner = write.each("Tanh", write.both("Mul", value, write.number(beta)))
            return write.both("Mul", inner, write.number(alpha))
        case _:
            return write.both("Add", write.both("Mul", value, write.number(alpha)), write.number(beta))
