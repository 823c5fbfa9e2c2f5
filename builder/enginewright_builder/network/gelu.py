"""Gelu as layers of any opset: from 20 on ONNX has it, before that it is written out."""

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Network


def gelu(network: Network, like: ir.Node, x: ir.Value, name: str, *, tanh: bool) -> list[ir.Node]:
    """x * (1 + erf(x / sqrt(2))) / 2, or with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) for erf; in any opset.

    Hendrycks and Gimpel 2016. The last layer's output is the result.
    """
    made = like.outputs[0]
    if network.opset >= 20:
        output = network.add_output(made, "Gelu")
        attribute = ir.AttrString("approximate", "tanh" if tanh else "none")
        return [ir.Node("", "Gelu", [x], [attribute], name=name, outputs=[output])]
    assert x.dtype is not None, f"the type of {x.name} is known"
    dtype = x.dtype.numpy()
    nodes: list[ir.Node] = []

    def number(value: float) -> ir.Value:
        return network.add_constant(f"{made.name}_gelu", np.array(value).astype(dtype))

    def make(operator: str, *inputs: ir.Value) -> ir.Value:
        output = network.add_output(made, operator)
        output.shape = x.shape
        nodes.append(ir.Node("", operator, inputs, name=f"{name}/{operator}{len(nodes)}", outputs=[output]))
        return output

    if tanh:
        cube = make("Mul", make("Mul", x, x), x)
        inner = make("Add", x, make("Mul", cube, number(0.044715)))
        bend = make("Tanh", make("Mul", inner, number(np.sqrt(2 / np.pi))))
    else:
        bend = make("Erf", make("Mul", x, number(np.sqrt(0.5))))
    make("Mul", make("Mul", x, number(0.5)), make("Add", bend, number(1.0)))
    return nodes
