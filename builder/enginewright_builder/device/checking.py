"""What is right for one layer, and how far a tactic may be from it.

The reference is the layer alone, expanded into ONNX's operators, in float32 arithmetic (float64 where the layer is), by
ONNX Runtime on the CPU without optimizations: nothing of ours computes it. Inputs are random and finite, already
rounded to the layer's own dtypes, so that what is left is the tactic's own error.

A product of K terms may be off by its output's rounding and by its accumulation (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 3.1), with the magnitude |a| |b| computed by the same reference on absolute
values:

    |got - want| <= 2 u_out |want| + (K u_acc + u_out / 8) |a| |b|

u_acc is 2**-24 (float32), or 2**-11 where TF32 may round the operands. The last term lets a split sum keep its parts in
the output's dtype, and is still far below one lost term of the sum. Where the terms themselves were rounded between two
products of a layer (a triple's first result), it is u_out |a| |b|; between a product and attention the reference rounds
as the layer does. What is done to the sum behind an activation (a tail) makes of its error what tail_bounds.py says;
where that has no bound, or the result is beyond its type, nothing is compared. Other layers compute in float32 and
round once:

    |got - want| <= 8 u_out (|want| + rms(want)) + sqrt(K) 2**-24 |x|

The last term is for means and sums of K numbers, which may nearly cancel: the reference itself adds them in float32, in
another order (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019, for the root).

What works on each picture of a batch by itself gets a batch in which a few pictures repeat, their number a prime so
that they are out of step with every tile: the reference then has to compute these alone, and still every element that
a tactic makes is compared.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.device import in_float32, tail_bounds, tails
from enginewright_builder.device.judging import Check
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tail_bounds import Bounded
from enginewright_builder.network import lowering
from enginewright_builder.network.network import Network
from enginewright_builder.network.tail import reads_residual
from enginewright_builder.tuning import inputs
from enginewright_runtime.engine.values import Array, Value, dtype_of
from enginewright_runtime.errors import EnginewrightError, PlanError
from enginewright_runtime.plan.manifest import Binding

ROUNDOFF: Mapping[str, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
# Next to 0 a step is no share of the result any more: exponentials of sums come there.
_SMALLEST: Mapping[str, float] = {"float16": 2.0**-24}
_WITH_WEIGHTS = (
    Kind.CONVOLUTION, Kind.COUPLE, Kind.TRIPLE, Kind.MEAN, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT,
)  # fmt: skip
_SUMS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})
_BY_PICTURE = (
    Kind.CONVOLUTION, Kind.COUPLE, Kind.TRIPLE, Kind.MEAN, Kind.TRANSPOSED_CONVOLUTION, Kind.POOLING,
)  # fmt: skip
_RESIDUAL = 3
_SCALES = (1, 1 / 8, 1 / 64, 8, 64)  # of inputs, until enough of what a tail makes of them is finite
_ENOUGH = 1 / 8
_PICTURES = 7  # that are told apart in a batch; a prime
_SEED = 20240311
_DRAWN = (1 << 20) + 7  # random numbers at most; larger inputs repeat them, out of step with every power of two
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class UncheckableError(EnginewrightError):
    """No reference could be had for a layer: the sentence says why."""


def check(layer: DeviceLayer) -> Check:
    """A check of `layer`. Raises UncheckableError where ONNX Runtime does not run it or gives nothing finite."""
    try:
        return _check(layer)
    except PlanError as error:
        raise UncheckableError(f"The layer {layer.name!r} cannot be checked: {error.message}") from error


def _check(layer: DeviceLayer) -> Check:
    alone = _of_few_pictures(layer)
    feed, expected = _reference(layer, alone)
    wide = in_float32.widened(alone)
    magnitudes = _magnitudes(layer, wide, feed)
    if _has_tail(layer):
        allowed = _behind_sums(layer, wide, feed, expected, magnitudes)
    else:
        allowed = {
            name: _allowed(layer.problem, index, want, magnitudes.get(name))
            for index, (name, want) in enumerate(expected.items())
        }
    if alone is not layer.network:
        repeated = np.arange(layer.problem.outputs[0].shape[0]) % _PICTURES
        feed = {name: value[repeated] for name, value in feed.items()}
    return Check(feed=feed, expected=expected, allowed=allowed)


def _of_few_pictures(layer: DeviceLayer) -> Network:
    """The layer for _PICTURES pictures, where it works on each by itself and has many more; else as it is."""
    network, batch = layer.network, layer.problem.outputs[0].shape[0]
    given = [emit.binding(value) for value in network.inputs]
    whole = all(each.dtype in ROUNDOFF and each.shape is not None and each.shape[0] == batch for each in given)
    if layer.problem.kind not in _BY_PICTURE or batch < 2 * _PICTURES or not whole:
        return network
    few = network.copy()
    for value in (*few.graph.inputs, *(value for node in few.layers() for value in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape((_PICTURES, *value.shape[1:]))
    return few


def _reference(layer: DeviceLayer, alone: Network) -> tuple[dict[str, Array], dict[str, Array]]:
    # Expanded before it is widened: a cluster's own layers may round to a half type between themselves.
    wide = in_float32.widened(Network(lowering.to_onnx(alone), plugins=alone.plugins))
    taken = tuple(emit.binding(value) for value in alone.inputs)

    def right(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        kept = {name: value for name, value in feed.items() if isinstance(value, np.ndarray)}
        if layer.problem.kind is Kind.HEADS:
            return in_float32.run(
                *in_float32.behind_the_first(in_float32.widened(alone), kept, layer.problem.outputs[0].dtype)
            )
        return in_float32.run(wide, {name: in_float32.wide(value) for name, value in kept.items()})

    drawn = _normal(taken)
    for scale in _SCALES if _has_tail(layer) else (1,):
        if drawn is None:
            break
        scaled = drawn if scale == 1 else {name: value * value.dtype.type(scale) for name, value in drawn.items()}
        feed = {name: _representable(layer.problem, value) for name, value in scaled.items()}
        expected = {name: v for name, v in right(feed).items() if isinstance(v, np.ndarray)}
        if all(_finite(layer, value) for value in expected.values()):
            return feed, expected
    proof = inputs.prove_with(taken, None, right)
    if proof.reason:
        raise UncheckableError(f"The layer {layer.name!r} cannot be checked: {proof.reason}.")
    feed = {name: _representable(layer.problem, v) for name, v in proof.feeds[0].items() if isinstance(v, np.ndarray)}
    expected = {name: v for name, v in right(feed).items() if isinstance(v, np.ndarray)}
    if _has_tail(layer) and not all(_finite(layer, value) for value in expected.values()):
        raise UncheckableError(
            f"The layer {layer.name!r} cannot be checked: nearly all of its results are infinite or no numbers, "
            f"whatever is put in. Keep it in fp32, or apart by naming what lies within it as an output."
        )
    return feed, expected


def _has_tail(layer: DeviceLayer) -> bool:
    """Or an activation that is steeper than the bound of a sum has room for."""
    said = layer.problem.attributes
    alone = layer.problem.kind in (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT) and "pool" not in said
    return "tail" in said or (said.get("activation") == "Selu" and alone and "halves" not in said)


def _finite(layer: DeviceLayer, value: Array) -> bool:
    """Whether there is enough to compare: all of it, or behind a tail, which may be the root of a negative sum or the
    exponential of a large one, some."""
    if not _has_tail(layer):
        return bool(np.isfinite(value).all())
    return float(np.mean(_stays(layer, value))) >= _ENOUGH


def _stays(layer: DeviceLayer, value: Array) -> Array:
    """Where a result is a number of its type."""
    with np.errstate(over="ignore"):
        kept: Array = np.isfinite(value.astype(dtype_of(layer.problem.outputs[0].dtype)))
    return kept


def _normal(taken: Sequence[Binding]) -> dict[str, Array] | None:
    """Normal numbers for inputs that are all floats; None where one is not."""
    generator = np.random.default_rng(_SEED)
    feed: dict[str, Array] = {}
    for binding in taken:
        shape = binding.shape
        if binding.dtype not in ROUNDOFF or shape is None:
            return None
        drawn = generator.standard_normal(min(math.prod(shape), _DRAWN), np.float32)
        feed[binding.name] = np.resize(drawn.astype(dtype_of(binding.dtype)), shape)
    return feed


def _representable(problem: Problem, value: Array) -> Array:
    """An input that a product casts to its weights' type is given in values that the cast keeps."""
    weights = problem.inputs[1] if problem.kind in _WITH_WEIGHTS else None
    if weights is None or weights.dtype not in ROUNDOFF or value.dtype.kind != "f":
        return value
    rounded: Array = value.astype(dtype_of(weights.dtype)).astype(value.dtype)
    return rounded


def _magnitudes(layer: DeviceLayer, wide: Network, feed: Mapping[str, Array]) -> Mapping[str, Array]:
    """|a| |b| for products, the same sum of absolute values for sums; empty for other layers."""
    sums = any(node.op_type in _SUMS and not node.domain for node in layer.network.layers())
    if layer.problem.kind not in _WITH_WEIGHTS and not sums:
        return {}
    if layer.problem.kind is Kind.TRIPLE:  # magnitudes through three layers would say nothing
        wide, feed = in_float32.behind_the_first(wide, feed)
    plain = in_float32.sums_of(wide)
    for value in plain.graph.initializers.values():
        if value.const_value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            value.const_value = ir.tensor(np.abs(value.const_value.numpy()), name=value.name)
    given = in_float32.run(plain, {name: np.abs(in_float32.wide(value)) for name, value in feed.items()})
    return {name: value for name, value in given.items() if isinstance(value, np.ndarray)}


def _behind_sums(
    layer: DeviceLayer, wide: Network, feed: Mapping[str, Array], expected: Mapping[str, Array],
    magnitudes: Mapping[str, Array],
) -> dict[str, Array]:  # fmt: skip
    """What is allowed behind a tail, by what its sums may be off."""
    ((name, want),) = expected.items()
    sums, problem = (
        in_float32.run(in_float32.sums_of(wide), {each: in_float32.wide(value) for each, value in feed.items()})[name],
        layer.problem,
    )
    assert isinstance(sums, np.ndarray), "a sum is a tensor"
    steps, residual = tails.whole(problem.attributes), None
    if reads_residual(steps):
        place = layer.inputs[_RESIDUAL] or ""
        residual = in_float32.wide(feed[place] if place in feed else layer.stored[_RESIDUAL])
    off = _of_sum(problem, magnitudes[name])
    made = tail_bounds.result(steps, Bounded(value=sums, error=off), residual)
    dtype = problem.outputs[0].dtype
    bound = 2 * ROUNDOFF[dtype] * np.abs(want) + made.error + _SMALLEST.get(dtype, 2.0**-126)
    return {name: np.where(_stays(layer, want), bound, np.float32(np.inf))}


def _allowed(problem: Problem, index: int, want: Array, magnitude: Array | None) -> Array:
    out = ROUNDOFF.get(problem.outputs[index].dtype, 2.0**-3)
    if want.dtype.kind in "biu":
        return np.zeros(want.shape, np.float32)
    size = np.abs(want)
    accumulate = ROUNDOFF["float64" if problem.outputs[index].dtype == "float64" else "float32"]
    if problem.kind not in _WITH_WEIGHTS:
        finite = size[np.isfinite(size)]
        rms = math.sqrt(float(np.mean(np.square(finite, dtype=np.float64)))) if finite.size else 0.0
        loose: Array = 8 * out * (size + rms)
        return loose if magnitude is None else loose + math.sqrt(_summed(problem)) * accumulate * magnitude
    assert magnitude is not None, "a product has magnitudes"
    share = 1.0 if problem.kind is Kind.TRIPLE and index == 0 else 1 / 8
    bound: Array = 2 * out * size + _of_sum(problem, magnitude, share)
    if problem.attributes.get("halves"):  # where one half is rounded the other way, the other makes up for it
        bound = np.concatenate([bound[:, : bound.shape[1] // 2]] * 2, axis=1)
    return bound


def _of_sum(problem: Problem, magnitude: Array, share: float = 1 / 8) -> Array:
    """How far a sum of products may be off before it is rounded; `share` is that of the output's roundoff."""
    out = problem.outputs[0].dtype
    accumulate = ROUNDOFF["float64" if out == "float64" else "float32"]
    if problem.attributes.get("math") == "tf32":
        accumulate = ROUNDOFF["float16"]
    bound: Array = (_terms(problem) * accumulate + ROUNDOFF[out] * share) * np.abs(magnitude)
    return bound


def _terms(problem: Problem) -> int:
    """K, the length of the sums."""
    first, second = problem.inputs[0], problem.inputs[1]
    assert first is not None
    assert second is not None
    return first.shape[-1] if problem.kind is Kind.PRODUCT else math.prod(second.shape[1:])


def _summed(problem: Problem) -> float:
    """K of a mean or sum: how many elements of the input there are for one of the output."""
    first, (output, *_) = problem.inputs[0], problem.outputs
    return 1.0 if first is None else first.size / max(output.size, 1)
