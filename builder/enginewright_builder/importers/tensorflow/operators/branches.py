"""Branches as ONNX's If, and calls of functions as what they compute."""

from collections.abc import Sequence

import onnx_ir as ir

from enginewright_builder.importers.tensorflow import dtypes, functions
from enginewright_builder.importers.tensorflow.call import Call, Table
from enginewright_builder.importers.tensorflow.conditionals import IF
from enginewright_builder.importers.tensorflow.graph import Subgraph
from enginewright_builder.importers.tensorflow.operators.loops import own
from enginewright_builder.importers.tensorflow.scope import Tensor


def _called(call: Call) -> list[Tensor]:
    return call.scope.convert(functions.called(call, "f"), call.inputs)


def _functional(call: Call) -> list[Tensor]:
    branches = [functions.called(call, f"{side}_branch") for side in ("then", "else")]
    types = call.node.attributes["Tout"].list.type if "Tout" in call.node.attributes else ()
    return _if(call, call.inputs[0], branches, [call.inputs[1:]] * 2, types)


def _merged(call: Call) -> list[Tensor]:
    """A conditional of TensorFlow 1: both branches have the same arguments."""
    types = [call.node.attributes["T"].type] if "T" in call.node.attributes else ()
    return _if(call, call.inputs[0], call.node.bodies, [call.inputs[1:]] * 2, types)


def _if(
    call: Call,
    condition: Tensor,
    branches: Sequence[Subgraph],
    given: Sequence[Sequence[Tensor]],
    types: Sequence[int],
) -> list[Tensor]:
    """(then, else); a condition that is known takes its branch right here."""
    scope = call.scope
    if condition.array is not None:
        side = 0 if condition.array.any() else 1
        return scope.convert(branches[side], given[side])
    scope.describe()
    made: list[list[Tensor]] = []
    bodies: list[ir.Graph] = []
    for role, branch, arguments in zip(("then", "else"), branches, given, strict=True):
        inside = scope.body(role)
        results = inside.convert(branch, [scope.lend(each) for each in arguments])
        if any(each.rows is not None or each.dead for each in results):
            raise call.refuse("makes an array of tensors in a branch, which ONNX's If cannot hand out")
        inside.graph.outputs.extend(own(inside, inside.plain(each)) for each in results)
        made.append(results)
        bodies.append(inside.graph)
    count = len(made[0])
    values = scope.layer("If", _truth(call, condition), outputs=count, then_branch=bodies[0], else_branch=bodies[1])
    for value, number in zip(values, types, strict=False):
        dtype = dtypes.to_onnx(number)
        value.type = None if dtype is None else ir.TensorType(dtype)
    ranks = [{side.rank for side in pair} for pair in zip(*made, strict=True)]
    return [
        Tensor(value=value, rank=rank.pop() if len(rank) == 1 else None)
        for value, rank in zip(values, ranks, strict=True)
    ]


def _truth(call: Call, condition: Tensor) -> ir.Value:
    """A condition that is a number is true where it is not 0."""
    value = call.scope.plain(condition)
    number = call.node.attributes["Tcond"].type if "Tcond" in call.node.attributes else dtypes.BOOL
    return value if number == dtypes.BOOL else call.scope.put("Cast", value, to=ir.DataType.BOOL)


TABLE: Table = {
    IF: _merged,
    "If": _functional,
    "StatelessIf": _functional,
    "PartitionedCall": _called,
    "StatefulPartitionedCall": _called,
}
