"""Loops as ONNX's Loop: TensorFlow 1's frames and functional While alike, once they are a condition and a body.

What the body hands through is no state but a value from outside. What it writes into an array of tensors, at a place
that counts up from zero, is a scan output. TensorFlow asks before each iteration, ONNX after it: so the condition is
written twice, in front of the loop and at its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from enginewright_builder.importers.tensorflow import dtypes, functions
from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.frames import WHILE
from enginewright_builder.importers.tensorflow.graph import GIVEN, Subgraph
from enginewright_builder.importers.tensorflow.scope import Rows, Scope, Tensor

_END = np.iinfo(np.int64).max


@dataclass(slots=True)
class _Loop:
    """Arguments by kind: `states` are carried, `written` are arrays that the body writes, all else is from outside."""

    call: Call
    body: Subgraph
    inside: Scope
    states: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)


def _functional(call: Call) -> list[Tensor]:
    return _while(call, functions.called(call, "cond"), functions.called(call, "body"))


def _frame(call: Call) -> list[Tensor]:
    return _while(call, *call.node.bodies)


def _while(call: Call, condition: Subgraph, body: Subgraph) -> list[Tensor]:
    scope, given = call.scope, call.inputs
    begins = scope.convert(condition, given)[0]
    if begins.array is not None and not begins.array:
        return list(given)
    begun = scope.plain(begins)
    scope.describe()
    loop = _Loop(call, body, scope.body("body"))
    for index in range(len(body.results)):
        if given[index].rows is not None:
            loop.written.append(index)
        elif not _handed_through(body, index):
            loop.states.append(index)
    arguments = _arguments(loop)
    results = loop.inside.convert(body, arguments)
    loop.written = [index for index in loop.written if results[index].rows is not arguments[index].rows]
    again = loop.inside.convert(condition, [*results, *arguments[len(results) :]])[0]
    return _written(loop, begun, again, arguments, results)


def _handed_through(body: Subgraph, index: int) -> bool:
    """Whether a result is its own argument, through nothing but Identities."""
    ref, seen = body.results[index], 0
    while body.nodes[ref.node].op == "Identity" and seen < len(body.nodes):
        ref, seen = body.nodes[ref.node].inputs[0], seen + 1
    return ref.node in body.given[index] and body.nodes[ref.node].op == GIVEN


def _arguments(loop: _Loop) -> list[Tensor]:
    """What the body reads: its graph's inputs for states, the values themselves for what comes from outside."""
    inside, call = loop.inside, loop.call
    argument(inside, "iteration", ir.DataType.INT64, 0)
    argument(inside, "goes_on", ir.DataType.BOOL, 0)
    arguments: list[Tensor] = []
    for index, given in enumerate(call.inputs):
        if index in loop.states:
            dtype = _type(call, index)
            rank = given.rank if given.rank is not None else _known_rank(call.scope, given)
            value = argument(inside, f"state_{index}", dtype, rank)
            arguments.append(Tensor(value=value, rank=rank))
        else:
            arguments.append(call.scope.lend(given))
    return arguments


def argument(scope: Scope, role: str, dtype: ir.DataType, rank: int | None) -> ir.Value:
    """One more input of a body. The shape of a state may change from iteration to iteration: only its rank is said."""
    shape = None if rank is None else ir.Shape([None] * rank)
    value = ir.Value(name=scope.fresh(f"{scope.node}/{role}"), type=ir.TensorType(dtype), shape=shape)
    scope.graph.inputs.append(value)
    return value


def _known_rank(scope: Scope, tensor: Tensor) -> int | None:
    shape = scope.shape(tensor)
    return None if shape is None else len(shape)


def _type(call: Call, index: int) -> ir.DataType:
    attributes = call.node.attributes
    listed = attributes["T"].list.type if "T" in attributes else ()
    number = listed[index] if index < len(listed) else attributes[f"T{index}"].type
    found = dtypes.to_onnx(number)
    if found is None:
        raise call.refuse(f"carries a state of type {dtypes.name(number)}, which ONNX has no tensors of")
    return found


def _written(
    loop: _Loop, begun: ir.Value, again: Tensor, arguments: Sequence[Tensor], results: Sequence[Tensor]
) -> list[Tensor]:
    """Put the Loop into the outer graph."""
    call, inside, scope = loop.call, loop.inside, loop.call.scope
    scans = [_scanned(loop, index, arguments, results) for index in loop.written]
    ends = [inside.plain(again), *(inside.plain(results[index]) for index in loop.states), *map(inside.plain, scans)]
    inside.graph.outputs.extend(own(inside, value) for value in ends)
    first = [scope.plain(call.inputs[index]) for index in loop.states]
    made = scope.layer("Loop", None, begun, *first, outputs=max(len(ends) - 1, 1), body=inside.graph)
    outputs = list(call.inputs[: len(results)])
    for index, value in zip(loop.states, made, strict=False):
        value.type = ir.TensorType(_type(call, index))
        outputs[index] = Tensor(value=value, rank=arguments[index].rank)
    for index, row, value in zip(loop.written, scans, made[len(loop.states) :], strict=True):
        if _overwrites(results[index]):
            value = scope.put("Slice", value, scope.ints(-1), scope.ints(_END), scope.ints(0))
        stacked = Tensor(value=value, rank=None if row.rank is None else row.rank + 1)
        given = call.inputs[index].rows
        outputs[index] = Tensor(rows=Rows(size=None if given is None else given.size, stacked=stacked))
    return outputs


def _scanned(loop: _Loop, index: int, arguments: Sequence[Tensor], results: Sequence[Tensor]) -> Tensor:
    rows, call = results[index].rows, loop.call
    if rows is None or rows.row is None or rows.at is None:
        raise call.refuse("makes an array of tensors in a way that ONNX's Loop cannot")
    if not _overwrites(results[index]) and not any(
        _counts(call, state, arguments, results, rows.at) for state in loop.states
    ):
        raise call.refuse("writes an array of tensors in another order than from the first to the last")
    return rows.row


def _overwrites(result: Tensor) -> bool:
    """Whether an array of one row is written at its only place: the last iteration's row stays, as Keras wants it."""
    rows = result.rows
    places = [] if rows is None else [each.array for each in (rows.at, rows.size) if each is not None]
    return [None if each is None or each.size != 1 else each.item() for each in places] == [0, 1]


def _counts(call: Call, state: int, arguments: Sequence[Tensor], results: Sequence[Tensor], at: Tensor) -> bool:
    """Whether `at` is this state, and the state is 0, 1, 2, …"""
    first, argument, following = call.inputs[state].array, arguments[state].value, results[state].value
    if first is None or first.size != 1 or first.item() != 0 or at.value is not argument or following is None:
        return False
    producer = following.producer()
    if producer is None or producer.op_type != "Add" or argument not in producer.inputs:
        return False
    other = next((each for each in producer.inputs if each is not argument), None)
    step = None if other is None or other.const_value is None else other.const_value.numpy()
    return step is not None and step.size == 1 and step.item() == 1


def own(scope: Scope, value: ir.Value) -> ir.Value:
    """An output of a body has to be made in it, and once for each output."""
    producer = value.producer()
    if producer is not None and producer.graph is scope.graph and not value.is_graph_output():
        return value
    return scope.put("Identity", value)


TABLE: Table = {
    WHILE: _frame,
    "While": _functional,
    "StatelessWhile": _functional,
}
