"""If(condition, then, else) => both branches, and a choice between what they make.

A device segment is one graph of kernels, so a condition that comes at run time cannot skip any of them. Branches are
free of side effects; they have to agree in the shapes of what they make, which the choice reads element by element.
"""

from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.writing import Writer
from enginewright_builder.network import rewire, shapes
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class BothBranches:
    """`most_layers`: what two branches together may cost, since both are always computed."""

    name: str = "both-branches"
    reason: str = "a device segment has no control flow: both branches are computed and one is chosen"
    most_layers: int = 64

    def apply(self, network: Network) -> PassReport:
        """See the module. Branches within branches become layers of the network in turn, from the outside."""
        details: list[str] = []
        declined: dict[str, str] = {}
        pending = True
        while pending:
            found = [node for node in network.layers() if _is_if(node) and (node.name or "") not in declined]
            for node in found:
                name = node.name or ""
                try:
                    _merge(network, node, self.most_layers)
                    details.append(f"{name}: If, by computing both of its branches")
                except Declined as why:
                    declined[name] = f"{name}: If keeps its branches apart: {why}"
            pending = bool(found)
            if pending:
                rewire.lift_constants(network)
                shapes.infer(network)
        return PassReport(
            name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined.values())
        )


def _is_if(node: ir.Node) -> bool:
    return not node.domain and node.op_type == "If"


def _merge(network: Network, node: ir.Node, most_layers: int) -> None:
    """Replace the layer. Raises Declined before anything is changed."""
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = node.inputs[0]
    count = sum(len(branch) for branch in branches)
    if network.opset < 9:
        raise Declined(f"choosing takes Where, which opset {network.opset} does not have")
    if condition is None or static_shape(condition) is None or count > most_layers:
        raise Declined(f"they have {count} layers where {most_layers} are the most, or its condition has no shape")
    shapes_made: list[tuple[int, ...]] = []
    for ours, theirs in zip(branches[0].outputs, branches[1].outputs, strict=True):
        shape = _made_shape(ours)
        if shape is None or shape != _made_shape(theirs) or not isinstance(ours.type, ir.TensorType):
            raise Declined(f"{ours.name!r} and {theirs.name!r} are not known to be tensors of one shape")
        shapes_made.append(shape)
    write = Writer(network, node, ir.DataType.FLOAT)
    made = [write.inline(branch, [], label) for branch, label in zip(branches, ("then", "else"), strict=True)]
    one = write.reshape(condition, ())
    chosen = [
        write.layer("Where", [one, yes, no], shape, dtype=yes.dtype)
        for shape, yes, no in zip(shapes_made, *made, strict=True)
    ]
    write.finish(chosen)


def _made_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The shape of a branch's output, a constant's too."""
    shape = static_shape(value)
    producer = value.producer()
    if shape is None and producer is not None and producer.op_type == "Constant":
        tensor = rewire.constant_tensor(next(iter(producer.attributes.values())))
        return None if tensor is None else tuple(tensor.shape.numpy())
    return shape
