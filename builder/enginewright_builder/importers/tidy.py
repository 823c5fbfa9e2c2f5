"""The form that passes expect: functions inlined, constants as initializers, layers named, nothing claimed but checked.

Types and shapes that the file claims for its inner values are dropped where ONNX's inference can tell them itself: a
file can be wrong about them, and a pass that trusted it would be too.
"""

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

_MINIMUM_IR_VERSION = 4  # the first in which an initializer need not be an input
_ONNX_ALIAS = "ai.onnx"


def tidy(model: ir.Model) -> tuple[str, ...]:
    """Bring a model into form, in place. Returns notes for the build's report."""
    notes = [*_inline(model), *_own_inputs(model), *_on_one_device(model)]
    _one_name_for_the_domain(model)
    model.ir_version = max(model.ir_version, _MINIMUM_IR_VERSION)
    _name_layers(model)
    _drop_claims(model)
    return tuple(notes)


def _inline(model: ir.Model) -> Iterator[str]:
    if not model.functions:
        return
    kept = {identifier for identifier, function in model.functions.items() if not _inlinable(function, model)}
    InlinePass(criteria=lambda function: function.identifier() not in kept)(model)
    for domain, name, _ in sorted(kept):
        yield f"the local function {domain}.{name} stays a call: it has another opset than the model, or takes a graph"


def _inlinable(function: ir.Function, model: ir.Model) -> bool:
    same = all(model.opset_imports.get(d, version) == version for d, version in function.opset_imports.items())
    calls = [node for node in model.graph.all_nodes() if node.op_identifier() == function.identifier()]
    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return same and not any(a.type in graphs for call in calls for a in call.attributes.values())


def _own_inputs(model: ir.Model) -> Iterator[str]:
    """An input with a default is a constant: old exporters list every weight so, and nobody feeds weights."""
    graph = model.graph
    defaults = [value for value in graph.inputs if value.is_initializer()]
    if not defaults:
        return
    own = [value for value in graph.inputs if not value.is_initializer()]
    graph.inputs.clear()
    graph.inputs.extend(own)
    if model.ir_version >= _MINIMUM_IR_VERSION:
        names = ", ".join(value.name or "" for value in defaults[:3])
        more = ", …" if len(defaults) > 3 else ""
        yield f"{len(defaults)} inputs have defaults and are constants from here on: {names}{more}"


def _on_one_device(model: ir.Model) -> Iterator[str]:
    """How a model is spread over several devices is nothing that one engine can do; damaged, it cannot be written."""
    spread = [node for node in _all_nodes(model) if node.device_configurations]
    for node in spread:
        node.device_configurations = ()
    if spread or model.device_configurations:
        model.device_configurations = ()
        yield "how the model is spread over several devices is left out: an engine runs on one"


def _one_name_for_the_domain(model: ir.Model) -> None:
    for imports in (model.graph.opset_imports, *(function.opset_imports for function in model.functions.values())):
        if _ONNX_ALIAS in imports:
            imports[""] = imports.pop(_ONNX_ALIAS)
    for node in _all_nodes(model):
        if node.domain == _ONNX_ALIAS:
            node.domain = ""


def _name_layers(model: ir.Model) -> None:
    """Layers are named after what they do and make, where the model does not name them or names two alike."""
    taken: set[str] = set()
    for node in _all_nodes(model):
        made = next((value.name for value in node.outputs if value.name), "")
        wanted = node.name or f"{node.op_type}:{made}"
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name)
        node.name = name


def _drop_claims(model: ir.Model) -> None:
    for node in model.graph:
        if not node.domain and node.op_identifier() not in model.functions:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
                    value.type = None


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
