"""Operators that read at indices given at run time.

A negative index counts from the back; one that is out of range even so reads the nearest element, since what it ought
to give is undefined and a load has to stay inside of the tensor.
"""

from collections.abc import Mapping

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty


def place(given: Expression, extent: int) -> Expression:
    """An index of the data as a place that is surely inside."""
    wrapped = terms.select(terms.call("<", given, 0), terms.add(given, extent), given)
    if terms.dtype_of(given) == "int32":
        return terms.clamp(wrapped, 0, extent - 1)
    return terms.cast(terms.clamp(wrapped, 0, extent - 1), "int32")


def gather(layer: Layer) -> tuple[Computation, ...]:
    """out[before, k..., after] = data[before, indices[k...], after]."""
    data, chosen, output = terms.operand(layer, 0), terms.operand(layer, 1), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    axis = terms.axis_of(layer, len(data.shape))
    at = terms.indices(output.shape)
    behind = axis + len(chosen.shape)
    which = place(terms.load(layer, 1, at[axis:behind]), data.shape[axis])
    return (computation(output, terms.load(layer, 0, [*at[:axis], which, *at[behind:]])),)


def gather_elements(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = data[i with indices[i] in the place of i[axis]]."""
    data, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    axis = terms.axis_of(layer, len(data.shape))
    at = terms.indices(output.shape)
    which = place(terms.load(layer, 1, at), data.shape[axis])
    return (computation(output, terms.load(layer, 0, [*at[:axis], which, *at[axis + 1 :]])),)


def gather_nd(layer: Layer) -> tuple[Computation, ...]:
    """out[batch, k..., rest] = data[batch, indices[batch, k..., 0], indices[batch, k..., 1], ..., rest]."""
    data, chosen, output = terms.operand(layer, 0), terms.operand(layer, 1), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    batch, depth = int(layer.attributes.get("batch_dims", 0)), chosen.shape[-1]
    at = terms.indices(output.shape)
    outer = at[: len(chosen.shape) - 1]
    picked = [place(terms.load(layer, 1, [*outer, k]), data.shape[batch + k]) for k in range(depth)]
    return (computation(output, terms.load(layer, 0, [*at[:batch], *picked, *at[len(outer) :]])),)


def reverse_sequence(layer: Layer) -> tuple[Computation, ...]:
    """Along time, the first `lengths[batch]` elements backwards and the rest as they are."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    time, batch = int(layer.attributes.get("time_axis", 0)), int(layer.attributes.get("batch_axis", 1))
    if {time, batch} != {0, 1}:
        raise Declined(f"its time axis is {time} and its batch axis {batch}: one must be 0 and the other 1")
    at = terms.indices(output.shape)
    length = terms.cast(terms.clamp(terms.load(layer, 1, [at[batch]]), 0, given.shape[time]), "int32")
    step = at[time]
    mirrored = terms.subtract(terms.subtract(length, 1), step)
    at[time] = terms.select(terms.call("<", step, length), mirrored, step)
    return (computation(output, terms.load(layer, 0, at)),)


LOWERINGS: Mapping[str, Lowering] = {
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ReverseSequence": reverse_sequence,
}
