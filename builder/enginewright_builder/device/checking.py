"""What is right for one layer, and how far a tactic may be from it.

The reference is the layer alone, expanded into ONNX's operators, in float32 arithmetic (float64 where the layer is), by
ONNX Runtime on the CPU without optimizations: nothing of ours computes it. Inputs are random and finite, already
rounded to the layer's own dtypes, so that what is left is the tactic's own error.

A product of K terms may be off by its output's rounding and by its accumulation (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 3.1), with the magnitude |a| |b| computed by the same reference on absolute
values:

    |got - want| <= 2 u_out |want| + (K u_acc + u_out / 8) |a| |b|

u_acc is 2**-24 (float32), or 2**-11 where TF32 may round the operands. The last term lets a split sum keep its parts in
the output's dtype, and is still far below one lost term of the sum. Other layers compute in float32 and round once:

    |got - want| <= 8 u_out (|want| + rms(want))
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.emit import Blobs
from enginewright_builder.network import fused, lowering
from enginewright_builder.network.network import FUSED_DOMAIN, Network
from enginewright_builder.plugins import emission
from enginewright_builder.tuning import inputs, trial, tune
from enginewright_runtime.engine import available
from enginewright_runtime.engine.values import Array, Value, dtype_of
from enginewright_runtime.errors import EnginewrightError, PlanError
from enginewright_runtime.plan.manifest import Binding

ROUNDOFF: Mapping[str, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
_WITH_WEIGHTS = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.PRODUCT)
_SEED = 20240311
_PIECE = 1 << 20  # elements that are compared at a time
_DRAWN = (1 << 20) + 7  # random numbers at most; larger inputs repeat them, out of step with every power of two
_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class UncheckableError(EnginewrightError):
    """No reference could be had for a layer: the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Inputs by name, and for each output what is right and how far off each element may be."""

    feed: Mapping[str, Array]
    expected: Mapping[str, Array]
    allowed: Mapping[str, Array]

    def judge(self, got: Mapping[str, Array]) -> tuple[str, float]:
        """Why outputs are wrong, naming the first that is ("" if they are right), and the largest error as a share of
        what is allowed."""
        judged = [self._of_output(name, got[name]) for name in self.expected]
        return next((why for why, _ in judged if why), ""), max((error for _, error in judged), default=0.0)

    def _of_output(self, name: str, value: Array) -> tuple[str, float]:
        want = self.expected[name]
        if value.shape != want.shape:
            return f"output {name!r} has the shape {list(value.shape)}, wanted {list(want.shape)}", math.inf
        if not want.size:
            return "", 0.0
        flat = value.reshape(-1), want.reshape(-1), self.allowed[name].reshape(-1)
        pieces = [slice(start, start + _PIECE) for start in range(0, want.size, _PIECE)]
        with ThreadPoolExecutor(available.processors()) as pool:  # NumPy works without Python's lock
            found = list(pool.map(lambda piece: _worst(*(each[piece] for each in flat)), pieces))
        share, place = max((share, number * _PIECE + at) for number, (share, at, _) in enumerate(found))
        off = sum(count for _, _, count in found)
        if not off:
            return "", share
        at = [int(i) for i in np.unravel_index(place, want.shape)]
        said = f"{flat[0][place]!s} at {at}, wanted {flat[1][place]!s} ({off} of {want.size} are off)"
        return f"output {name!r} is {said}", share


def _worst(got: Array, want: Array, allowed: Array) -> tuple[float, int, int]:
    """The largest error as a share of what is allowed, where it is, and how many are past it."""
    if want.dtype.kind in "biu":
        share: Array = (got != want) * 2.0
    else:
        kind = np.float64 if want.dtype == np.float64 else np.float32
        left: Array = got.astype(kind)
        right: Array = want.astype(kind)
        with np.errstate(invalid="ignore", over="ignore"):
            share = np.abs(left - right) / np.maximum(allowed, np.finfo(kind).tiny)
        share = np.where(
            (left == right) | (np.isnan(left) & np.isnan(right)), 0, np.where(np.isnan(share), np.inf, share)
        )
    at = int(np.argmax(share))
    return float(share[at]), at, int(np.count_nonzero(share > 1.0))


def check(layer: DeviceLayer) -> Check:
    """A check of `layer`. Raises UncheckableError where ONNX Runtime does not run it or gives nothing finite."""
    try:
        return _check(layer)
    except PlanError as error:
        raise UncheckableError(f"The layer {layer.name!r} cannot be checked: {error.message}") from error


def _check(layer: DeviceLayer) -> Check:
    # Expanded before it is widened: a cluster's own layers may round to a half type between themselves.
    feed, expected = _reference(
        layer, _widened(Network(lowering.to_onnx(layer.network), plugins=layer.network.plugins))
    )
    magnitudes = _magnitudes(layer, _widened(layer.network), feed)
    allowed = {
        name: _allowed(layer.problem, index, want, magnitudes.get(name))
        for index, (name, want) in enumerate(expected.items())
    }
    return Check(feed=feed, expected=expected, allowed=allowed)


def _reference(layer: DeviceLayer, wide: Network) -> tuple[dict[str, Array], dict[str, Array]]:
    taken = tuple(emit.binding(value) for value in layer.network.inputs)

    def right(feed: Mapping[str, Value]) -> Mapping[str, Value]:
        kept = {name: value for name, value in feed.items() if isinstance(value, np.ndarray)}
        return _run(wide, {name: _wide(value) for name, value in kept.items()})

    feed = _normal(taken)
    if feed is not None:
        feed = {name: _representable(layer.problem, value) for name, value in feed.items()}
        expected = {name: v for name, v in right(feed).items() if isinstance(v, np.ndarray)}
        if all(np.isfinite(value).all() for value in expected.values()):
            return feed, expected
    proof = inputs.prove_with(taken, None, right)
    if proof.reason:
        raise UncheckableError(f"The layer {layer.name!r} cannot be checked: {proof.reason}.")
    feed = {name: _representable(layer.problem, v) for name, v in proof.feeds[0].items() if isinstance(v, np.ndarray)}
    return feed, {name: v for name, v in right(feed).items() if isinstance(v, np.ndarray)}


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
    """|a| |b| for products; empty for other layers."""
    if layer.problem.kind not in _WITH_WEIGHTS:
        return {}
    plain = wide.copy()
    for node in plain.layers():
        if node.domain == FUSED_DOMAIN:
            fused.drop_activation(node)
    for value in plain.graph.initializers.values():
        if value.const_value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            value.const_value = ir.tensor(np.abs(value.const_value.numpy()), name=value.name)
    given = _run(plain, {name: np.abs(_wide(value)) for name, value in feed.items()})
    return {name: value for name, value in given.items() if isinstance(value, np.ndarray)}


def _allowed(problem: Problem, index: int, want: Array, magnitude: Array | None) -> Array:
    out = ROUNDOFF.get(problem.outputs[index].dtype, 2.0**-3)
    if want.dtype.kind in "biu":
        return np.zeros(want.shape, np.float32)
    size = np.abs(want)
    if magnitude is None:
        finite = size[np.isfinite(size)]
        rms = math.sqrt(float(np.mean(np.square(finite, dtype=np.float64)))) if finite.size else 0.0
        loose: Array = 8 * out * (size + rms)
        return loose
    accumulate = ROUNDOFF["float64" if problem.outputs[index].dtype == "float64" else "float32"]
    if problem.attributes.get("math") == "tf32":
        accumulate = ROUNDOFF["float16"]
    bound: Array = 2 * out * size + (_terms(problem) * accumulate + out / 8) * np.abs(magnitude)
    return bound


def _terms(problem: Problem) -> int:
    """K, the length of the sums."""
    first, second = problem.inputs[0], problem.inputs[1]
    assert first is not None
    assert second is not None
    return first.shape[-1] if problem.kind is Kind.PRODUCT else math.prod(second.shape[1:])


def _run(network: Network, feed: Mapping[str, Array]) -> Mapping[str, Value]:
    blobs = Blobs()
    segment = emission.segment(lowering.to_onnx(network), network.plugins, blobs, "reference")
    taken = tuple(emit.binding(value) for value in network.inputs)
    given = tuple(emit.binding(value) for value in network.outputs)
    with trial.loaded(trial.with_options(segment, tune.REFERENCE), taken, given, blobs) as run:
        return run(feed)


def _widened(network: Network) -> Network:
    """The same layer with every half type as float32: tensors, initializers, and attributes that name a type."""
    wide = network.copy()
    values = [*wide.graph.inputs, *wide.graph.initializers.values()]
    for node in wide.layers():
        values += node.outputs
        to = node.attributes.get("to")
        if to is not None and node.op_type == "Cast" and to.as_int() in (int(each) for each in _HALF):
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    for value in values:
        if value.dtype in _HALF:
            if value.const_value is not None:
                value.const_value = ir.tensor(_wide(value.const_value.numpy()), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    return wide


def _wide(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value
