"""Which layers lose the accuracy of a narrow plan, and which of them to keep in fp32. Simulated on the CPU.

The rounded network is held against the float32 one layer by layer: a layer is to blame where its output is off by far
more than its inputs. Then it is kept in fp32, alone, and with ever more of its neighbours (what overflows in one layer
overflows again in the cast before the next), until the plan's own judge is content.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape

import numpy as np
import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.causes.names import short
from enginewright_builder.causes.rounding import Rounded, rounded
from enginewright_builder.emit import Blobs
from enginewright_builder.network.network import Network, static_shape
from enginewright_builder.plugins import emission
from enginewright_builder.tuning import bounds, trial, tune
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import Feed, Reference
from enginewright_runtime.engine.values import Array
from enginewright_runtime.errors import EnginewrightError
from enginewright_runtime.plan.recipe import Precision, Recipe

SECONDS = 60.0  # for the whole search
_DTYPES = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
_ROUNDOFF = {Precision.FP16: 2.0**-11, Precision.BF16: 2.0**-8}
_JUMP = 4.0  # times the inputs' error: more than a sum of a few of them explains
_NOTICED = 8.0  # times the roundoff: less is how narrow arithmetic is
_MOST_BLAMED, _MOST_KEPT, _RINGS = 3, 24, 3
_PROBED = 512 << 20  # bytes of layers' outputs that are held at once

Judge = Callable[[Reference], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """How far a layer's output and its inputs are off, as shares of their sizes; `largest` is the right output's."""

    node: ir.Node
    given: float
    made: float
    largest: float


def find(network: Network, recipe: Recipe, feed: Feed, right: Judge, *, seconds: float = SECONDS) -> str:
    """Half a sentence on why a plan of `recipe` is off; empty where it cannot be told.

    `network` has its shapes fixed, `feed` shows the error, and `right` judges whoever runs such feeds.
    """
    dtype, deadline = _DTYPES.get(recipe.arithmetic), Deadline(at=time.monotonic() + seconds)
    if bounds.arithmetic(network) is not Arithmetic.FP32:
        return ""
    if dtype is None:
        exact = recipe.arithmetic is Precision.FP32
        return "no layer is in a lower precision than the model's own" if exact else ""
    keep = tuple(rule.layers for rule in recipe.keep if rule.precision in (Precision.FP32, Precision.TF32))
    try:
        if _is_right(network, dtype, keep, right):
            return f"rounding to {recipe.arithmetic} does not explain it (simulated on the CPU)"
        blamed = _blamed(network, rounded(network, dtype, keep), feed, _ROUNDOFF[recipe.arithmetic])
        if not blamed:
            return ""
        said = "; ".join(_describe(each, dtype) for each in blamed)
        cure = _cure(network, dtype, keep, [each.node for each in blamed], right, deadline)
    except EnginewrightError:
        return ""  # a layer that the CPU does not run so: nothing can be shown
    told = f"in {recipe.arithmetic} the error begins at {said}"
    if not cure:
        return f"{told}; no few layers kept in fp32 were found to mend it: leave {recipe.arithmetic} out"
    return f"{told}; it is mended (simulated on the CPU) by precision.keep fp32 for {', '.join(map(short, cure))}"


def _blamed(network: Network, narrow: Rounded, feed: Feed, roundoff: float) -> list[_Layer]:
    layers = _compared(network, narrow, feed)
    off = [each for each in layers if math.isfinite(each.given) and each.made > _NOTICED * roundoff]
    jumps = [each for each in off if each.made > _JUMP * each.given]
    grown = sorted(off, key=lambda each: each.given - each.made)
    return (jumps or grown)[:_MOST_BLAMED]


def _compared(network: Network, narrow: Rounded, feed: Feed) -> list[_Layer]:
    """The layers that are rounded, in their order."""
    errors: dict[str, float] = {}
    made: list[_Layer] = []
    for nodes in _portions(network):
        names = [value.name or "" for node in nodes for value in node.outputs if _is_float(value)]
        theirs = {name: narrow.names.get(name, name) for name in names}
        with _running(network, names) as run:
            wanted = run(feed)
        with _running(narrow.network, list(dict.fromkeys(theirs.values()))) as run:
            got = run(feed)
        for node in nodes:
            own = [name for name in (value.name or "" for value in node.outputs) if name in theirs]
            if not own:
                continue
            errors |= {name: _error(got[theirs[name]], wanted[name]) for name in own}
            made.append(
                _Layer(
                    node=node,
                    given=max((errors.get(v.name or "", 0.0) for v in node.inputs if v is not None), default=0.0),
                    made=max(errors[name] for name in own),
                    largest=max(float(np.max(np.abs(wanted[name]), initial=0.0)) for name in own),
                )
            )
    return made


def _portions(network: Network) -> Iterator[list[ir.Node]]:
    """The layers in runs whose outputs are held at once."""
    nodes: list[ir.Node] = []
    size = 0
    for node in network.layers():
        nodes.append(node)
        size += sum(4 * math.prod(static_shape(value) or (0,)) for value in node.outputs)
        if size > _PROBED:
            yield nodes
            nodes, size = [], 0
    if nodes:
        yield nodes


def _error(got: Array, wanted: Array) -> float:
    """|got - wanted| as a share of |wanted|, as root mean squares; infinite where a value is not finite any more."""
    left, right = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(right)
    if not np.isfinite(left[finite]).all():
        return math.inf
    off = math.sqrt(float(np.sum(np.square(left[finite] - right[finite]))))
    size = math.sqrt(float(np.sum(np.square(right[finite]))))
    return off / size if size else off


def _cure(
    network: Network,
    dtype: ir.DataType,
    keep: tuple[str, ...],
    blamed: Sequence[ir.Node],
    right: Judge,
    deadline: Deadline,
) -> list[str]:
    """The fewest layers found that, kept in fp32, let the judge be content; empty where there are none, or no time."""

    def enough(nodes: Sequence[ir.Node]) -> bool:
        return _is_right(network, dtype, (*keep, *(escape(node.name or "") for node in nodes)), right)

    nodes = list(blamed)
    for _ in range(_RINGS):
        if len(nodes) > _MOST_KEPT or not deadline.left:
            return []
        if enough(nodes):
            break
        nodes = _with_neighbours(nodes)
    else:
        return []
    for node in list(nodes):
        fewer = [each for each in nodes if each is not node]
        if fewer and deadline.left and enough(fewer):
            nodes = fewer
    return [node.name or "" for node in nodes]


def _with_neighbours(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    found = dict.fromkeys(nodes)
    for node in nodes:
        before = [value.producer() for value in node.inputs if value is not None]
        found |= dict.fromkeys(each for each in before if each is not None)
        found |= dict.fromkeys(use.node for value in node.outputs for use in value.uses())
    return list(found)


def _is_right(network: Network, dtype: ir.DataType, keep: tuple[str, ...], right: Judge) -> bool:
    narrow = rounded(network, dtype, keep).network
    with _running(narrow, [value.name or "" for value in narrow.outputs]) as run:
        return right(run)


@contextmanager
def _running(network: Network, names: Sequence[str]) -> Iterator[Callable[[Feed], Mapping[str, Array]]]:
    """The network in ONNX Runtime, giving these of its values."""
    copy = network.copy()
    known = {value.name: value for node in copy.layers() for value in node.outputs}
    copy.graph.outputs[:] = [known[name] for name in names]
    taken = tuple(emit.binding(value) for value in copy.inputs)
    given = tuple(emit.binding(value) for value in copy.outputs)
    blobs = Blobs()
    segment = trial.with_options(emission.segment(copy.model, copy.plugins, blobs, "causes.onnx"), tune.REFERENCE)
    with trial.loaded(segment, taken, given, blobs) as run:
        yield lambda feed: {name: value for name, value in run(feed).items() if isinstance(value, np.ndarray)}


def _is_float(value: ir.Value) -> bool:
    return bool(value.name) and value.dtype is ir.DataType.FLOAT


def _describe(layer: _Layer, dtype: ir.DataType) -> str:
    which = f"{layer.node.op_type} {short(layer.node.name or '')}"
    if math.isinf(layer.made):
        most = float(np.finfo(np.float16).max) if dtype is ir.DataType.FLOAT16 else 3.39e38
        return f"{which} (its values reach {layer.largest:.3g}, the largest that fits is {most:.6g})"
    return f"{which} (off by {layer.made:.2g} of its size, its inputs by {layer.given:.2g})"
