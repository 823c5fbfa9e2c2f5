"""Which shapes a plan is built for: what the recipe says, or batch 1 where only the batch is free."""

from collections.abc import Mapping

import onnx_ir as ir

from enginewright_builder.network import specialize
from enginewright_builder.network.network import Network
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.recipe import Recipe

Shapes = dict[str, tuple[int, ...]]


def wanted(network: Network, recipe: Recipe) -> tuple[tuple[Shapes, ...], str]:
    """The inputs' shapes, one mapping a schedule, and a sentence where something was decided for the person (or "").

    Raises UsageError naming the dimensions that are free and not given, and both ways to give them at once.
    """
    if recipe.shapes and recipe.batch_sizes:
        raise UsageError("Shapes and batch sizes exclude each other: give --shape or --batch, not both.")
    if recipe.shapes:
        return tuple(_completed(network, shapes) for shapes in recipe.shapes), ""
    free = _free(network)
    if recipe.batch_sizes:
        if not free:
            shapes = ", ".join(f"{v.name} {specialize.describe(v)}" for v in network.inputs) or "no inputs"
            raise UsageError(f"A batch size is given, and the model leaves no batch free ({shapes}): leave it out.")
        return tuple(_batch(network, size) for size in dict.fromkeys(recipe.batch_sizes)), ""
    if not free:
        return ({},), ""
    names = ", ".join(repr(value.name) for value in free)
    return (_batch(network, 1),), f"no shape is given, so it is built for batch 1 of {names}: --batch 1,8 builds more"


def _batch(network: Network, size: int) -> Shapes:
    if size < 1:
        raise UsageError(f"A batch size must be 1 or more, got {size}.")
    return {v.name or "": _with_first(v, size) for v in _free(network)}


def _with_first(value: ir.Value, size: int) -> tuple[int, ...]:
    dimensions = None if value.shape is None else tuple(value.shape)
    if not dimensions or any(not isinstance(d, int) for d in dimensions[1:]):
        raise _missing([value])
    return (size, *(d for d in dimensions[1:] if isinstance(d, int)))


def _completed(network: Network, given: Mapping[str, tuple[int, ...]]) -> Shapes:
    """The given shapes, and those that follow: a name such as `batch` means one size wherever it stands."""
    if not set(given) <= {value.name for value in network.inputs}:
        return {name: tuple(shape) for name, shape in given.items()}  # refused by name where shapes are fixed
    sizes = {
        dimension.value: size
        for value in network.inputs
        if value.shape is not None
        for dimension, size in zip(value.shape, given.get(value.name or "", ()), strict=False)
        if isinstance(dimension, ir.SymbolicDim) and dimension.value
    }
    shapes: Shapes = {name: tuple(shape) for name, shape in given.items()}
    missing = []
    for value in _free(network):
        if value.name in shapes:
            continue
        known = (
            None
            if value.shape is None
            else [d if isinstance(d, int) else sizes.get(d.value or "") for d in value.shape]
        )
        if known is None or None in known:
            missing.append(value)
        else:
            shapes[value.name or ""] = tuple(d for d in known if d is not None)
    if missing:
        raise _missing(missing)
    return shapes


def _free(network: Network) -> list[ir.Value]:
    names = specialize.free_inputs(network)
    return [value for value in network.inputs if value.name in names and isinstance(value.type, ir.TensorType)]


def _missing(values: list[ir.Value]) -> UsageError:
    listed = ", ".join(f"{value.name!r} {specialize.describe(value)}" for value in values)
    flags = " ".join(f"--shape {value.name}={_example(value)}" for value in values)
    return UsageError(
        f"The model leaves more than the batch free: {listed}; give exact shapes, for example {flags} "
        "(in a manifest: spec.shapes)."
    )


def _example(value: ir.Value) -> str:
    if value.shape is None:
        return "1x3x224x224"
    dimensions = tuple(value.shape)
    return "x".join(str(d) if isinstance(d, int) else "1" if not i else "224" for i, d in enumerate(dimensions))
