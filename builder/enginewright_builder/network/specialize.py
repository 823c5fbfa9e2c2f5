"""One schedule's network: the free dimensions of the inputs fixed, and every shape inferred again from them."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from enginewright_builder.network import shapes as inference
from enginewright_builder.network.network import Network, static_shape
from enginewright_runtime.errors import InputError, UnsupportedError

Shape = tuple[int, ...]


def with_shapes(network: Network, shapes: Mapping[str, Sequence[int]]) -> Network:
    """A copy with these inputs' shapes fixed; it shares the constants. Inputs that are not named stay as they are.

    Where the inputs have these shapes already, what the model says of its layers stays too: inference may know less.

    Raises InputError: no such input, another rank, a dimension that the model fixes otherwise, a negative dimension.
    Raises UnsupportedError: the input is no tensor.
    """
    known = {value.name: value for value in network.inputs}
    for name, shape in shapes.items():
        if name not in known:
            names = ", ".join(repr(value.name) for value in network.inputs) or "none"
            raise InputError(f"There is no input {name!r} to give a shape to: the model's inputs are {names}.")
        _check(known[name], tuple(shape))
    fixed = network.copy()
    if all(static_shape(known[name]) == tuple(shape) for name, shape in shapes.items()):
        return fixed
    symbols = _symbols(network, shapes)
    _bind_outside_onnx(fixed, symbols)
    for value in fixed.inputs:
        given = shapes.get(value.name or "")
        if given is not None:
            value.shape = ir.Shape(given)
    inference.infer(fixed)
    return fixed


def free_inputs(network: Network) -> tuple[str, ...]:
    """The names of the inputs that have a free dimension or no known rank."""
    return tuple(v.name or "" for v in network.inputs if v.shape is None or not v.shape.is_static())


def describe(value: ir.Value) -> str:
    """A shape as people write it: [batch, 3, 224, 224], with ? for what is unknown; "any rank" where nothing is."""
    if value.shape is None:
        return "any rank"
    return "[" + ", ".join(str(d) if isinstance(d, int) else d.value or "?" for d in value.shape) + "]"


def _check(value: ir.Value, shape: Shape) -> None:
    if not isinstance(value.type, ir.TensorType):
        raise UnsupportedError(
            f"The input {value.name!r} cannot be given a shape: it is {value.type or 'of unknown type'}, not a tensor."
        )
    what = f"The shape {list(shape)} does not fit input {value.name!r}"
    if any(dimension < 0 for dimension in shape):
        raise InputError(f"{what}: wanted {describe(value)}, and a dimension cannot be negative.")
    if value.shape is None:
        return
    if len(shape) != len(value.shape):
        raise InputError(f"{what}: got {len(shape)} dimensions, wanted the {len(value.shape)} of {describe(value)}.")
    for index, (got, wanted) in enumerate(zip(shape, value.shape, strict=True)):
        if isinstance(wanted, int) and got != wanted:
            raise InputError(
                f"{what}: dimension {index} is {got}, and the model {describe(value)} fixes it to {wanted}."
            )


def _symbols(network: Network, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Names of free dimensions with the sizes they get; a name that gets two is left out."""
    sizes: dict[str, set[int]] = {}
    for value in network.inputs:
        given = shapes.get(value.name or "")
        if given is not None and value.shape is not None:
            for dimension, size in zip(value.shape, given, strict=True):
                if not isinstance(dimension, int) and dimension.value:
                    sizes.setdefault(dimension.value, set()).add(size)
    return {name: found.pop() for name, found in sizes.items() if len(found) == 1}


def _bind_outside_onnx(network: Network, symbols: Mapping[str, int]) -> None:
    """Forget what inference will find again; of other domains' layers keep the claim with the sizes put in."""
    for node in network.graph.all_nodes():
        for value in node.outputs:
            if not node.domain:
                value.shape = None
            elif value.shape is not None:
                value.shape = ir.Shape(
                    [d if isinstance(d, int) else symbols.get(d.value or "", d) for d in value.shape]
                )
