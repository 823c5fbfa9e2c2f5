"""Scan, and Loop with a trip count that is known => its body once an iteration.

A device segment is one graph of kernels: nothing in it decides at run time how often something runs. A Loop whose body
computes its own condition is therefore left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.writing import Writer, shape_of
from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class UnrollLoops:
    """`most_iterations`: more would make too many layers. Loops within loops are unrolled too, from the outside."""

    name: str = "unroll-loops"
    reason: str = "a device segment has no control flow: what is repeated is written out"
    most_iterations: int = 256
    rounds: int = 8

    def apply(self, network: Network) -> PassReport:
        """See the module."""
        details: list[str] = []
        declined: dict[str, str] = {}
        for _ in range(self.rounds):
            found = [node for node in network.layers() if _is_loop(node) and (node.name or "") not in declined]
            for node in found:
                name = node.name or ""
                try:
                    details.append(
                        f"{name}: {node.op_type} of {_unroll(network, node, self.most_iterations)} iterations"
                    )
                except Declined as why:
                    declined[name] = f"{name}: {node.op_type} is not unrolled: {why}"
            if not found:
                break
            rewire.lift_constants(network)
            shapes.infer(network)
        return PassReport(
            name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined.values())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scanned:
    """An input of which each iteration sees one element of an axis, or an output that is made so."""

    axis: int
    backwards: bool


def _is_loop(node: ir.Node) -> bool:
    return not node.domain and node.op_type in ("Scan", "Loop")


def _unroll(network: Network, node: ir.Node, most: int) -> int:
    """Replace the layer; how many iterations it has. Raises Declined before anything is changed."""
    if any(value is not None and value.dtype is None for value in node.inputs):
        raise Declined("the type of one of its inputs is not known")
    if node.op_type == "Scan":
        return _scan(network, node, most)
    return _loop(network, node, most)


def _scan(network: Network, node: ir.Node, most: int) -> int:
    batched = network.opset < 9  # then everything has a batch dimension in front, and lengths may come first
    if batched and node.inputs[0] is not None:
        raise Declined("its sequences have lengths of their own")
    body = node.attributes["body"].as_graph()
    many = node.attributes["num_scan_inputs"].as_int()
    values = _present(node)
    states, scanned = values[: len(values) - many], values[len(values) - many :]
    ranks = [len(_static(value)) - batched for value in scanned]
    inputs = _scans(node, "directions" if batched else "scan_input_directions", "scan_input_axes", many, ranks)
    count = _static(scanned[0])[inputs[0].axis + batched]
    batch = _static(scanned[0])[0] if batched else 1
    _check(node, count * batch, most)
    for value in states if batched else ():
        _static(value)
    results = len(body.outputs) - len(states)
    outputs = _scans(node, "scan_output_directions", "scan_output_axes", results, None)
    write = _writer(network, node)
    if not batched:
        write.finish(_over_sequence(write, body, states, scanned, inputs, outputs, ""))
        return count
    whole = _Scanned(axis=0, backwards=False)
    members = []
    for member in range(batch):
        own = [[_element(write, value, whole, member) for value in each] for each in (states, scanned)]
        members.append(_over_sequence(write, body, own[0], own[1], inputs, outputs, f"{member}."))
    write.finish([write.stack(column, 0) for column in zip(*members, strict=True)])
    return count * batch


def _over_sequence(
    write: Writer,
    body: ir.Graph,
    states: Sequence[ir.Value],
    scanned: Sequence[ir.Value],
    inputs: Sequence[_Scanned],
    outputs: Sequence[_Scanned],
    label: str,
) -> list[ir.Value]:
    """All iterations over one sequence: the last states, and what the iterations gave."""
    count = shape_of(scanned[0])[inputs[0].axis]
    collected: list[list[ir.Value]] = [[] for _ in outputs]
    for iteration in range(count):
        elements = [
            _element(write, value, scan, count - 1 - iteration if scan.backwards else iteration)
            for value, scan in zip(scanned, inputs, strict=True)
        ]
        made = write.inline(body, [*states, *elements], f"{label}{iteration}")
        states = made[: len(states)]
        for column, value in zip(collected, made[len(states) :], strict=True):
            column.append(value)
    joined = [
        write.stack(column[::-1] if scan.backwards else column, scan.axis)
        for column, scan in zip(collected, outputs, strict=True)
    ]
    return [*states, *joined]


def _loop(network: Network, node: ir.Node, most: int) -> int:
    body = node.attributes["body"].as_graph()
    count = _trips(network, node)
    _check(node, count, most)
    states = [value for value in node.inputs[2:] if value is not None]
    if len(states) + 2 != len(body.inputs):
        raise Declined("one of its states is not given")
    results = len(body.outputs) - 1 - len(states)
    if results and not count:
        raise Declined("it has no iteration to tell what its results are")
    write = _writer(network, node)
    collected: list[list[ir.Value]] = [[] for _ in range(results)]
    truth = write.constant(np.array(True))
    for iteration in range(count):
        number = write.constant(np.array(iteration, np.int64))
        made = write.inline(body, [number, truth, *states], str(iteration))[1:]
        states = made[: len(states)]
        for column, value in zip(collected, made[len(states) :], strict=True):
            column.append(value)
    write.finish([*states, *(write.stack(column, 0) for column in collected)])
    return count


def _trips(network: Network, node: ir.Node) -> int:
    """How often a Loop surely runs. Raises Declined where that is decided at run time."""
    given, condition = [*node.inputs, None, None][:2]
    body = node.attributes["body"].as_graph()
    trips = network.constant(given)
    if trips is None or trips.size != 1:
        raise Declined("its trip count is not constant")
    if condition is not None:
        first = network.constant(condition)
        if first is None:
            raise Declined("its condition is not constant")
        if not first.item():
            return 0
    if not _always_true(body):
        raise Declined("its body computes whether to go on")
    return max(int(trips.item()), 0)


def _always_true(body: ir.Graph) -> bool:
    """Whether the body hands its condition on, or says true."""
    value: ir.Value | None = body.outputs[0]
    while value is not None and (producer := value.producer()) is not None and producer.op_type == "Identity":
        value = producer.inputs[0]
    if value is None or value is body.inputs[1]:
        return value is not None
    producer = value.producer()
    tensor = value.const_value
    if producer is not None and producer.op_type == "Constant" and not producer.domain:
        tensor = rewire.constant_tensor(next(iter(producer.attributes.values())))
    return tensor is not None and bool(tensor.numpy().all())


def _check(node: ir.Node, count: int, most: int) -> None:
    if count > most:
        raise Declined(f"it has {count} iterations where {most} are the most")
    if not all(isinstance(value.type, ir.TensorType) for value in _present(node)[0 if node.op_type == "Scan" else 2 :]):
        raise Declined("one of its states is no tensor")


def _present(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _static(value: ir.Value) -> tuple[int, ...]:
    shape = static_shape(value)
    if shape is None:
        raise Declined(f"the shape of {value.name!r} is not static")
    return shape


def _scans(node: ir.Node, directions: str, axes: str, count: int, ranks: Sequence[int] | None) -> list[_Scanned]:
    """The attributes of those names, one entry for each input or output; forwards along axis 0 by default."""
    places = node.attributes.get_ints(axes, None) or (0,) * count
    turned = node.attributes.get_ints(directions, None) or (0,) * count
    return [
        _Scanned(axis=axis if ranks is None else axis % ranks[number], backwards=bool(turn))
        for number, (axis, turn) in enumerate(zip(places, turned, strict=True))
    ]


def _writer(network: Network, node: ir.Node) -> Writer:
    dtype = next((value.dtype for value in node.inputs if value is not None and value.dtype is not None), None)
    return Writer(network, node, dtype or ir.DataType.FLOAT)


def _element(write: Writer, value: ir.Value, scan: _Scanned, at: int) -> ir.Value:
    """One element of an axis, without the axis."""
    shape = shape_of(value)
    part = write.slice(value, scan.axis, at, at + 1)
    return write.reshape(part, (*shape[: scan.axis], *shape[scan.axis + 1 :]))
