"""Operators whose output is made of its indices rather than of an input's elements: shapes, ranges, masks, one-hots."""

import math
from collections.abc import Mapping

import numpy as np

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Layer, Lowering
from enginewright_builder.device.operators.moves import computation, empty


def shape(layer: Layer) -> tuple[Computation, ...]:
    """The input's extents from `start` to `end`."""
    extents = terms.operand(layer, 0).shape
    output, rank = terms.result(layer), len(extents)
    start = int(layer.attributes.get("start", 0))
    first = min(max(start + rank if start < 0 else start, 0), rank)
    wanted = extents[first : first + output.shape[0]]
    if not wanted:
        return (empty(output),)
    return (computation(output, terms.chosen([terms.number(each, "int64") for each in wanted], terms.index(0))),)


def size(layer: Layer) -> tuple[Computation, ...]:
    """The number of the input's elements."""
    return (computation(terms.result(layer), terms.number(math.prod(terms.operand(layer, 0).shape), "int64")),)


def constant_of_shape(layer: Layer) -> tuple[Computation, ...]:
    """One value everywhere."""
    output = terms.result(layer)
    value = np.asarray(layer.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return (computation(output, terms.number(value.item(), terms.computed(output.dtype))),)


def sequence(layer: Layer) -> tuple[Computation, ...]:
    """Range: out[i] = start + i * delta."""
    output = terms.result(layer)
    start, delta = terms.load(layer, 0, ()), terms.load(layer, 2, ())
    steps = terms.cast(terms.index(0), terms.dtype_of(start))
    return (computation(output, terms.add(start, terms.multiply(steps, delta))),)


def eye_like(layer: Layer) -> tuple[Computation, ...]:
    """1 on the k-th diagonal."""
    output = terms.result(layer)
    row, column = terms.indices(output.shape)
    diagonal = terms.call("==", terms.subtract(column, row), int(layer.attributes.get("k", 0)))
    return (computation(output, terms.cast(diagonal, terms.computed(output.dtype))),)


def triangle(layer: Layer) -> tuple[Computation, ...]:
    """Trilu: what lies above (or below) the k-th diagonal of the last two dimensions, zeros elsewhere."""
    output = terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = terms.indices(output.shape)
    k: Expression = terms.number(0, "int64")
    if terms.optional(layer, 1) is not None:
        k = terms.load(layer, 1, [0] * len(terms.operand(layer, 1).shape))
    distance = terms.cast(terms.subtract(at[-1], at[-2]), "int64")
    upper = bool(layer.attributes.get("upper", 1))
    kept = terms.call("<=", k, distance) if upper else terms.call("<=", distance, k)
    return (computation(output, terms.select(kept, terms.load(layer, 0, at), zero(layer, 0))),)


def zero(layer: Layer, position: int) -> Expression:
    """Zero of an input's type."""
    dtype = terms.computed(terms.operand(layer, position).dtype)
    return terms.number(False, dtype) if dtype == "bool" else terms.number(0, dtype)


def one_hot(layer: Layer) -> tuple[Computation, ...]:
    """`values[1]` where the index of the axis is the given one (from the back if negative), else `values[0]`."""
    output = terms.result(layer)
    axis = terms.axis_of(layer, len(output.shape), -1)
    at = terms.indices(output.shape)
    depth = output.shape[axis]
    given = terms.load(layer, 0, at[:axis] + at[axis + 1 :])
    if terms.is_float(terms.dtype_of(given)):
        given = terms.cast(given, "int64")
    along = terms.cast(at[axis], terms.dtype_of(given))
    hit = terms.either(terms.call("==", given, along), terms.call("==", terms.add(given, depth), along))
    return (computation(output, terms.select(hit, terms.load(layer, 2, [1]), terms.load(layer, 2, [0]))),)


LOWERINGS: Mapping[str, Lowering] = {
    "Shape": shape,
    "Size": size,
    "ConstantOfShape": constant_of_shape,
    "Range": sequence,
    "EyeLike": eye_like,
    "Trilu": triangle,
    "OneHot": one_hot,
}
