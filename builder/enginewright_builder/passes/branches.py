"""If(constant, then, else) => the branch that is taken, as layers of the network itself."""

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network


def inline(network: Network) -> list[str]:
    """Inline every If of the main graph whose condition is a constant. Returns a line for each."""
    done: list[str] = []
    for node in list(network.layers()):
        if node.op_type == "If" and not node.domain:
            condition = network.constant(node.inputs[0])
            if condition is not None and condition.size == 1:
                name = "then_branch" if condition.item() else "else_branch"
                branch = node.attributes[name].as_graph()
                if _ends_inside(branch) and len(branch.outputs) == len(node.outputs):
                    _splice(network, node, branch)
                    done.append(f"{node.name}: If is always its {name}")
    return done


def scalar_bounds(network: Network) -> list[str]:
    """Range([a], [b], [c]) => Range(a, b, c) where a bound is a constant vector of one element.

    ONNX Runtime takes such vectors only while it does not see their shape; out of a branch it does.
    """
    done: list[str] = []
    for node in network.layers():
        for index, value in enumerate(node.inputs if node.op_type == "Range" and not node.domain else ()):
            array = network.constant(value)
            if value is not None and array is not None and array.shape == (1,):
                node.replace_input_with(index, network.add_constant(f"{value.name}_scalar", array.reshape(())))
                done.append(f"{node.name}: its bound {value.name} is a scalar")
    return done


def _ends_inside(branch: ir.Graph) -> bool:
    """Whether every output of the branch is made in it, once; else there is nothing to take its place."""
    made = [v.producer() is not None or v.is_initializer() for v in branch.outputs]
    return all(made) and len(set(branch.outputs)) == len(branch.outputs)


def _splice(network: Network, node: ir.Node, branch: ir.Graph) -> None:
    outputs = list(branch.outputs)
    branch.outputs.clear()
    for value in list(branch.initializers.values()):
        branch.initializers.pop(value.name or "")
        value.name = network.fresh(value.name or "constant")
        network.graph.register_initializer(value)
    moved = list(branch)
    for inner in moved:
        branch.remove(inner)
        for value in inner.outputs:
            if value.name:
                value.name = network.fresh(value.name)
        inner.name = f"{node.name}/{inner.name}"
    network.graph.insert_before(node, moved)
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.name:
            rewire.take_over(network, old, new)
    rewire.remove(network, node)
