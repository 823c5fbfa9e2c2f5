"""A network as text that a person can review: golden tests of passes compare it before and after.

network "digits", opset 17
input image: float32[batch,1,8,8]
constant w: float32[8,1,3,3]
conv1: x = Conv(image, w, pads=[1,1,1,1], strides=[1,1]) : float32[batch,8,8,8]
output x
"""

from collections.abc import Iterator

import onnx_ir as ir

from enginewright_builder.network.network import Network, is_constant

_WIDEST = 8  # elements of a constant that are shown


def to_text(network: Network) -> str:
    """One line for each input, constant, layer and output; bodies are indented below their layer."""
    domains = ", ".join(f"{domain} {version}" for domain, version in network.graph.opset_imports.items() if domain)
    head = f'network "{network.name}", opset {network.opset}' + (f", {domains}" if domains else "")
    return "\n".join([head, *_graph_lines(network.graph), ""])


def type_text(value: ir.Value) -> str:
    """float32[1,3,?,width]; ? where a size or the type is not known, [...] where the rank is not."""
    if not isinstance(value.type, ir.TensorType):
        return "?" if value.type is None else str(value.type)
    sizes = (
        "..."
        if value.shape is None
        else ",".join(str(d) if isinstance(d, int) else d.value or "?" for d in value.shape)
    )
    return f"{_dtype_text(value.type.dtype)}[{sizes}]"


def _graph_lines(graph: ir.Graph) -> Iterator[str]:
    yield from (f"input {value.name}: {type_text(value)}" for value in graph.inputs)
    for value in graph.initializers.values():
        yield f"constant {value.name}: {type_text(value)}{_content(value)}"
    for node in graph:
        yield from _node_lines(node)
    yield "output " + ", ".join(value.name or "" for value in graph.outputs)


def _node_lines(node: ir.Node) -> Iterator[str]:
    inputs = ["_" if value is None else value.name or "" for value in node.inputs]
    attributes = sorted(node.attributes.values(), key=lambda attribute: attribute.name)
    plain = [f"{a.name}={_attribute(a)}" for a in attributes if a.type is not ir.AttributeType.GRAPH]
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    made = ", ".join(value.name or "_" for value in node.outputs)
    types = ", ".join(type_text(value) for value in node.outputs if value.name)
    yield f"{node.name}: {made} = {operator}({', '.join([*inputs, *plain])}) : {types}"
    for attribute in attributes:
        if attribute.type is ir.AttributeType.GRAPH:
            yield f"  {attribute.name}:"
            yield from (f"    {line}" for line in _graph_lines(attribute.as_graph()))


def _attribute(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    match attribute.type:
        case ir.AttributeType.INTS | ir.AttributeType.FLOATS:
            return "[" + ",".join(f"{item:.9g}" for item in attribute.value) + "]"
        case ir.AttributeType.FLOAT:
            return f"{attribute.as_float():.9g}"
        case ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            return f"{_dtype_text(tensor.dtype)}{list(tensor.shape.numpy())}"
        case _:
            return repr(attribute.value)


def _content(value: ir.Value) -> str:
    tensor = value.const_value
    if tensor is None or not is_constant(value) or tensor.size > _WIDEST or tensor.dtype is ir.DataType.STRING:
        return ""
    return " = " + ",".join(f"{item:.9g}" for item in tensor.numpy().reshape(-1).tolist())


def _dtype_text(dtype: ir.DataType) -> str:
    return {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}.get(dtype, dtype.name.lower())
