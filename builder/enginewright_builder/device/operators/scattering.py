"""Operators that write at indices given at run time, turned round: each element of the output folds the updates that
hit it, in their order. Slower than atomics where there are many updates, but the same result every time."""

from collections.abc import Callable, Mapping, Sequence

from enginewright_builder.device.expression import Axis, Computation, Expression, Index, Reduction
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty

_FOLDS = {"add": ("sum", "+"), "mul": ("product", "*"), "max": ("max", "max"), "min": ("min", "min")}


def scatter_elements(layer: Layer) -> tuple[Computation, ...]:
    """out[i] folds data[i] with each updates[j] whose indices[j] is i[axis], where j is i but for the axis."""
    data, updates, output = terms.operand(layer, 0), terms.operand(layer, 2), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    axis = terms.axis_of(layer, len(data.shape))
    at = terms.indices(output.shape)
    covered = terms.both(
        *(
            terms.call("<", each, extent)
            for k, (each, extent, whole) in enumerate(zip(at, updates.shape, output.shape, strict=True))
            if k != axis and extent < whole
        )
    )

    def update(which: Expression) -> list[Expression]:
        return [*at[:axis], which, *at[axis + 1 :]]

    def hits(which: Expression) -> Expression:
        return _is_at(terms.load(layer, 1, update(which)), at[axis], data.shape[axis])

    folded = _folded(layer, at, updates.shape[axis], hits, update)
    return (computation(output, terms.select(covered, folded, terms.load(layer, 0, at))),)


def scatter_nd(layer: Layer) -> tuple[Computation, ...]:
    """out[i..., rest] folds data with each updates[k..., rest] whose indices[k...] are i."""
    data, chosen, output = terms.operand(layer, 0), terms.operand(layer, 1), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    depth, many = chosen.shape[-1], chosen.shape[:-1]
    at = terms.indices(output.shape)
    count = 1
    for extent in many:
        count *= extent

    def update(which: Expression) -> list[Expression]:
        return [*terms.unravel(which, many), *at[depth:]]

    def hits(which: Expression) -> Expression:
        outer = terms.unravel(which, many)
        return terms.both(*(_is_at(terms.load(layer, 1, [*outer, k]), at[k], data.shape[k]) for k in range(depth)))

    return (computation(output, _folded(layer, at, count, hits, update)),)


def _is_at(given: Expression, here: Expression, extent: int) -> Expression:
    here = terms.cast(here, terms.dtype_of(given))
    return terms.either(terms.call("==", given, here), terms.call("==", terms.add(given, extent), here))


def _folded(
    layer: Layer,
    at: Sequence[Expression],
    count: int,
    hits: Callable[[Expression], Expression],
    update: Callable[[Expression], list[Expression]],
) -> Expression:
    """data[at] and the updates 0 .. count that hit it, by the layer's reduction."""
    name = str(layer.attributes.get("reduction", "none"))
    before, which = terms.load(layer, 0, at), Index("update")
    if not count:
        return before
    if name == "none":  # the last one wins
        last = terms.reduction("max", [("update", count)], terms.select(hits(which), which, terms.number(-1)), "int32")
        value = terms.load(layer, 2, update(terms.call("max", last, 0)))
        return terms.select(terms.call("<=", 0, last), value, before)
    if name not in _FOLDS:
        raise Declined(f"its reduction is {name}")
    function, operator = _FOLDS[name]
    dtype = terms.dtype_of(before)
    if dtype == "bool":
        raise Declined(f"it reduces truth values by {name}")
    neutral = {"sum": terms.number(0, dtype), "product": terms.number(1, dtype)}.get(function)
    if neutral is None:
        neutral = terms.lowest(dtype) if function == "max" else terms.highest(dtype)
    body = terms.select(hits(which), terms.load(layer, 2, update(which)), neutral)
    return terms.call(operator, before, Reduction(function, (Axis("update", count),), body, dtype))


def tensor_scatter(layer: Layer) -> tuple[Computation, ...]:
    """TensorScatter: the update lies in the cache from `write_indices[batch]` on, around its end if circular."""
    update, output = terms.operand(layer, 1), terms.result(layer)
    axis = terms.axis_of(layer, len(output.shape), -2)
    at = terms.indices(output.shape)
    length = output.shape[axis]
    begin: Expression = terms.number(0)
    if terms.optional(layer, 2) is not None:
        begin = terms.cast(terms.load(layer, 2, at[:1]), "int32")
    behind = terms.subtract(at[axis], begin)
    if layer.attributes.get("mode", "linear") == "circular":
        behind = terms.modulo(behind, length)
    new = terms.load(layer, 1, [*at[:axis], behind, *at[axis + 1 :]])
    inside = terms.within(behind, update.shape[axis])
    return (computation(output, terms.select(inside, new, terms.load(layer, 0, at))),)


LOWERINGS: Mapping[str, Lowering] = {
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TensorScatter": tensor_scatter,
}
