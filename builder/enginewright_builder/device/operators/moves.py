"""Operators that put elements elsewhere without computing: out[indices] = in[other indices].

Each is one load at computed indices, so that substituting it into its readers makes the move cost nothing.
"""

from collections.abc import Mapping, Sequence

from enginewright_builder.device.expression import Computation, Expression
from enginewright_builder.device.operators import terms
from enginewright_builder.device.operators.layer import Declined, Layer, Lowering, Operand


def computation(output: Operand, value: Expression) -> Computation:
    """The computation of one output."""
    return Computation(shape=output.shape, dtype=output.dtype, value=value)


def reshape(layer: Layer) -> tuple[Computation, ...]:
    """out[p] = in[p] for each position p in C order: Reshape, Flatten, Squeeze, Unsqueeze, Identity."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    at = relinearized(terms.indices(output.shape), output.shape, given.shape)
    return (computation(output, terms.load(layer, 0, at)),)


def relinearized(at: Sequence[Expression], shape: Sequence[int], other: Sequence[int]) -> list[Expression]:
    """The indices, in a tensor of the shape `other`, of the element at indices `at` of one of shape `shape`.

    Runs of dimensions whose products agree are treated apart, so that a dimension that stays is read as it is.
    """
    made: list[Expression] = []
    here = there = 0
    while there < len(other):
        if other[there] == 1:
            made.append(terms.number(0))
            there += 1
            continue
        while here < len(shape) and shape[here] == 1:
            here += 1
        first, start = here, there
        have, want = shape[here], other[there]
        here, there = here + 1, there + 1
        while have != want:
            if have < want:
                have, here = have * shape[here], here + 1
            else:
                want, there = want * other[there], there + 1
        place = terms.ravel(at[first:here], shape[first:here])
        made += terms.unravel(place, other[start:there])
    return made


def _reshape(layer: Layer) -> tuple[Computation, ...]:
    if 0 in terms.result(layer).shape:
        return (empty(terms.result(layer)),)
    return reshape(layer)


def empty(output: Operand) -> Computation:
    """An output without elements."""
    return computation(output, terms.cast(terms.number(0), terms.computed(output.dtype)))


def transpose(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = in[j] where j[perm[k]] = i[k]."""
    output = terms.result(layer)
    rank = len(output.shape)
    order = terms.integers(layer, "perm") or tuple(reversed(range(rank)))
    at = terms.indices(output.shape)
    return (computation(output, terms.load(layer, 0, [at[order.index(k)] for k in range(rank)])),)


def expand(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = in[i], dimensions of one element repeated."""
    output = terms.result(layer)
    return (computation(output, terms.broadcast(layer, 0, terms.indices(output.shape))),)


def tile(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = in[i mod extent]."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    at = [
        each if have == want else terms.call("%", each, have)
        for each, have, want in zip(terms.indices(output.shape), given.shape, output.shape, strict=True)
    ]
    return (computation(output, terms.load(layer, 0, at)),)


def concat(layer: Layer) -> tuple[Computation, ...]:
    """The input that an index of the axis falls into, at the index less where that input begins."""
    output = terms.result(layer)
    axis = terms.axis_of(layer, len(output.shape), 1)
    at = terms.indices(output.shape)
    along = at[axis]
    value: Expression | None = None
    end = output.shape[axis]
    for position in reversed(range(len(layer.inputs))):
        extent = terms.operand(layer, position).shape[axis]
        begin = end - extent
        if extent:
            at[axis] = terms.subtract(along, begin)
            here = terms.load(layer, position, at)
            value = here if value is None else terms.select(terms.call("<", along, end), here, value)
        end = begin
    return (empty(output) if value is None or 0 in output.shape else computation(output, value),)


def split(layer: Layer) -> tuple[Computation, ...]:
    """Output k begins where those before it end."""
    given = terms.operand(layer, 0)
    axis = terms.axis_of(layer, len(given.shape))
    sizes = terms.integers(layer, "split") or terms.settled(layer, 1, "sizes")
    if sizes is None:  # equal parts, the last may be smaller
        part = -(-given.shape[axis] // len(layer.outputs))
        sizes = (part,) * len(layer.outputs)
    made, begin = [], 0
    for output, size in zip(layer.outputs, sizes, strict=True):
        if output is not None:
            at = terms.indices(output.shape)
            at[axis] = terms.add(at[axis], begin)
            made.append(empty(output) if 0 in output.shape else computation(output, terms.load(layer, 0, at)))
        begin += size
    return tuple(made)


def slices(layer: Layer) -> tuple[Computation, ...]:
    """out[i] = in[start + i * step]; starts are clamped into the tensor as in NumPy."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    if 0 in output.shape:
        return (empty(output),)
    starts = terms.integers(layer, "starts") or terms.settled(layer, 1, "starts")
    if starts is None:
        raise Declined("it has no starts")
    axes = terms.integers(layer, "axes") or terms.settled(layer, 3, "axes") or tuple(range(len(starts)))
    steps = terms.settled(layer, 4, "steps") or (1,) * len(starts)
    at = terms.indices(output.shape)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        extent = given.shape[axis]
        first = start + extent if start < 0 else start
        first = min(max(first, 0), extent if step > 0 else extent - 1)
        at[axis] = terms.add(terms.multiply(at[axis], step), first)
    return (computation(output, terms.load(layer, 0, at)),)


def depth_to_space(layer: Layer) -> tuple[Computation, ...]:
    """Channels become blocks of pixels: (block, block, c) in the mode DCR, (c, block, block) in CRD."""
    output = terms.result(layer)
    block, channels = int(layer.attributes["blocksize"]), output.shape[1]
    n, c, h, w = terms.indices(output.shape)
    row, column = terms.call("%", h, block), terms.call("%", w, block)
    if layer.attributes.get("mode", "DCR") == "DCR":
        source = terms.add(terms.multiply(terms.add(terms.multiply(row, block), column), channels), c)
    else:
        source = terms.add(terms.multiply(terms.add(terms.multiply(c, block), row), block), column)
    at = (n, source, terms.call("//", h, block), terms.call("//", w, block))
    return (computation(output, terms.load(layer, 0, at)),)


def space_to_depth(layer: Layer) -> tuple[Computation, ...]:
    """Blocks of pixels become channels: (block, block, c), or (c, block, block) in the mode CRD."""
    given, output = terms.operand(layer, 0), terms.result(layer)
    block, channels = int(layer.attributes["blocksize"]), given.shape[1]
    n, c, h, w = terms.indices(output.shape)
    if layer.attributes.get("mode", "DCR") == "DCR":
        source, within = terms.call("%", c, channels), terms.call("//", c, channels)
    else:
        source, within = terms.call("//", c, block * block), terms.call("%", c, block * block)
    row, column = terms.call("//", within, block), terms.call("%", within, block)
    at = (n, source, terms.add(terms.multiply(h, block), row), terms.add(terms.multiply(w, block), column))
    return (computation(output, terms.load(layer, 0, at)),)


LOWERINGS: Mapping[str, Lowering] = {
    "Identity": _reshape,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Split": split,
    "Slice": slices,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
