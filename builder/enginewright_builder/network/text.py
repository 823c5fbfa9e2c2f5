"""A network as text that a person can review: golden tests of passes compare it before and after, and parsing.py reads
it back.

network "digits", opset 17
input image: float32[batch,1,8,8]
constant w: float32[8,1,3,3]
constant k: float32[2] = 0.5,2
conv1: x = Conv(image, w, pads=[1,1,1,1], strides=[1,1]) : float32[batch,8,8,8]
output x

A name that is no plain word stands in quotes, `_` is an input or output that is left out, `?` a type or size that is
not known. The content of a constant is shown up to eight elements; `unseen` gives the others. Local functions
follow the network, each with its attributes and their defaults; @alpha:float is the attribute of that name:

function local.Scale(alpha, beta=0.5), opset 17
input x: ?
LeakyRelu:y: y = LeakyRelu(x, alpha=@alpha:float) : ?
output y
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import ONNX_DOMAIN, Array, Network, bodies, is_constant
from enginewright_runtime.errors import UnsupportedError

_WIDEST = 8  # elements of a constant that are shown
_PLAIN = re.compile(r"[^\s(),=\[\]{}:'\"]+(:+[^\s(),=\[\]{}:'\"]+)*")
DTYPE_NAMES: Mapping[ir.DataType, str] = {
    dtype: {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}.get(dtype, dtype.name.lower())
    for dtype in ir.DataType
    if dtype is not ir.DataType.UNDEFINED
}


def to_text(network: Network) -> str:
    """One line for each input, constant, layer and output; bodies are indented below their layer.

    Raises UnsupportedError for a local function that is one of several of its name.
    """
    head = f'network "{network.name}", {_opsets(network.graph.opset_imports)}'
    functions = [line for function in network.model.functions.values() for line in _function_lines(function)]
    return "\n".join([head, *_graph_lines(network.graph), *functions, ""])


def unseen(network: Network) -> dict[str, Array]:
    """The constants whose content the text leaves out, by name; those of a layer's attribute as layer.attribute.

    Raises UnsupportedError where two bodies have a constant of one name.
    """
    found: dict[str, Array] = {}
    for name, tensor in _tensors(network):
        if tensor.size and not _is_shown(tensor):
            if name in found:
                raise UnsupportedError(f"Two constants of the network {network.name!r} have the name {name!r}.")
            found[name] = tensor.numpy()
    return found


def type_text(value: ir.Value) -> str:
    """float32[1,3,?,width]; ? where a size or the type is not known, [...] where the rank is not."""
    return _type(value.type, value.shape)


def word(name: str | None) -> str:
    """A name as the text has it: in quotes where it is no plain word, or could be taken for something else."""
    name = name or ""
    return name if _PLAIN.fullmatch(name) and name not in ("_", "?") else repr(name)


def _tensors(network: Network) -> Iterator[tuple[str, ir.TensorProtocol]]:
    outer = (network.graph, *(function.graph for function in network.model.functions.values()))
    for graph in (each for whole in outer for each in (whole, *(body for node in whole for body in bodies(node)))):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.name or "", value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type is ir.AttributeType.TENSOR:
                    yield f"{node.name}.{attribute.name}", attribute.as_tensor()


def _type(kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> str:
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        outer = "sequence" if isinstance(kind, ir.SequenceType) else "optional"
        return f"{outer}({_type(kind.elem_type, shape)})"
    if not isinstance(kind, ir.TensorType):
        return "?" if kind is None else str(kind)
    sizes = "..." if shape is None else ",".join(str(d) if isinstance(d, int) else _free(d.value) for d in shape)
    return f"{DTYPE_NAMES[kind.dtype]}[{sizes}]"


def _free(name: str | None) -> str:
    return "?" if not name else repr(name) if name.lstrip("-").isdigit() or name == "..." else word(name)


def _opsets(imports: Mapping[str, int]) -> str:
    others = [f"{domain} {version}" for domain, version in imports.items() if domain]
    return ", ".join([f"opset {imports.get(ONNX_DOMAIN, 0)}", *others])


def _function_lines(function: ir.Function) -> Iterator[str]:
    name = f"{function.domain}.{function.name}"
    if function.overload:
        raise UnsupportedError(f"The text form has no word for the overload {function.overload!r} of function {name}.")
    given = sorted(function.attributes.values(), key=lambda attribute: attribute.name)
    attributes = [a.name if a.value is None else f"{a.name}={_attribute(a)}" for a in given]
    yield f"function {word(name)}({', '.join(attributes)}), {_opsets(function.opset_imports)}"
    yield from _graph_lines(function.graph)


def _graph_lines(graph: ir.Graph) -> Iterator[str]:
    yield from (f"input {word(value.name)}: {type_text(value)}" for value in graph.inputs)
    for value in graph.initializers.values():
        yield f"constant {word(value.name)}: {type_text(value)}{_content(value)}"
    for node in graph:
        yield from _node_lines(node)
    yield "output " + ", ".join(word(value.name) for value in graph.outputs)


def _node_lines(node: ir.Node) -> Iterator[str]:
    inputs = ["_" if value is None else word(value.name) for value in node.inputs]
    attributes = sorted(node.attributes.values(), key=lambda attribute: attribute.name)
    plain = [f"{a.name}={_attribute(a)}" for a in attributes if a.type is not ir.AttributeType.GRAPH]
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    made = ", ".join(word(value.name) if value.name else "_" for value in node.outputs)
    types = ", ".join(type_text(value) for value in node.outputs if value.name)
    yield f"{word(node.name)}: {made} = {operator}({', '.join([*inputs, *plain])}) : {types}"
    for attribute in attributes:
        if attribute.type is ir.AttributeType.GRAPH:
            yield f"  {attribute.name}:"
            yield from (f"    {line}" for line in _graph_lines(attribute.as_graph()))


def _attribute(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}:{attribute.type.name.lower()}"
    match attribute.type:
        case ir.AttributeType.INTS:
            return "[" + ",".join(str(item) for item in attribute.as_ints()) + "]"
        case ir.AttributeType.FLOATS:
            items = attribute.as_floats()
            return "[" + ",".join(_float(item) for item in items) + "]" if items else "floats[]"
        case ir.AttributeType.STRINGS:
            words = attribute.as_strings()
            return "[" + ",".join(repr(item) for item in words) + "]" if words else "strings[]"
        case ir.AttributeType.FLOAT:
            return _float(attribute.as_float())
        case ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            sizes = ",".join(str(size) for size in tensor.shape.numpy())
            return f"{DTYPE_NAMES[tensor.dtype]}[{sizes}]" + (f"{{{_items(tensor)}}}" if _is_shown(tensor) else "")
        case _:
            return repr(attribute.value)


def _float(number: float) -> str:
    """Nine digits tell any float32; a point tells it from an integer."""
    text = f"{number:.9g}"
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _content(value: ir.Value) -> str:
    tensor = value.const_value
    return f" = {_items(tensor)}" if tensor is not None and is_constant(value) and _is_shown(tensor) else ""


def _is_shown(tensor: ir.TensorProtocol) -> bool:
    return 0 < tensor.size <= _WIDEST


def _items(tensor: ir.TensorProtocol) -> str:
    if tensor.dtype is ir.DataType.STRING:
        return ",".join(repr(item.decode()) for item in np.ravel(tensor.numpy()).tolist())
    items = np.ravel(tensor.numpy()).tolist()
    if tensor.dtype.is_floating_point():
        digits = 17 if tensor.dtype is ir.DataType.DOUBLE else 9
        return ",".join(f"{item:.{digits}g}" for item in items)
    return ",".join(str(int(item) if isinstance(item, bool) else item) for item in items)
