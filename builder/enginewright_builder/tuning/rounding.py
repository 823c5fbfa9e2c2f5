"""Whether rounding decides what a model says of an input: then that input proves nothing, and another is drawn.

Some networks decide by comparing: a detector keeps the better of two boxes, or crops up to a border. Where two values
are as good as equal, the last bit of a sum says which, and every other order of the same sums gives another result. So
the untouched model itself is asked, with its weights moved by their last bit: what it says otherwise then, it says by
rounding. No bound grows by this: on the inputs that are left, results must agree as on any other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Array, Network
from enginewright_builder.tuning import bounds, inputs
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import FEEDS, LADDER, Feed, Proof, Reference
from enginewright_runtime.engine.values import Value
from enginewright_runtime.plan.manifest import Binding

DRAWN = 8  # inputs at most
HOPELESS = 4  # inputs on each of which it decides: of the others it would decide on enough
_SEED = 20261128


def nudged(network: Network) -> Network:
    """A copy whose float32 weights (constants of two axes or more) are each moved to a neighbour, up or down."""
    moved, generator = network.copy(), np.random.default_rng(_SEED)
    for value in moved.graph.initializers.values():
        array = moved.constant(value)
        if array is not None and array.ndim > 1 and array.dtype == np.float32:
            value.const_value = ir.tensor(_neighbours(array, generator), name=value.name)
    return moved


def _neighbours(array: Array, generator: np.random.Generator) -> Array:
    towards = np.where(generator.integers(0, 2, array.shape), np.float32(np.inf), np.float32(-np.inf))
    return np.where(np.isfinite(array), np.nextafter(array, towards), array).astype(np.float32)


def decides(proof: Proof, moved: Reference, kind: Arithmetic) -> bool:
    """Whether rounding decides what the model says of an input of the proof; `moved` is the nudged one."""
    pairs = zip(proof.feeds, proof.expected, strict=True)
    return any(bounds.disagreement(moved(feed), wanted, kind) for feed, wanted in pairs)


def undecided(
    proof: Proof,
    bindings: Sequence[Binding],
    right: Reference,
    moved: Reference,
    kind: Arithmetic,
    deadline: Deadline,
) -> Proof:
    """A proof with random inputs on which rounding does not decide, or that there is none; itself where time runs out.

    `right` is the untouched model, `moved` the nudged one.
    """
    feeds: list[Feed] = []
    expected: list[Mapping[str, Value]] = []
    for number in range(1, DRAWN + 1):
        if not deadline.left:
            return proof
        feed = inputs.random(bindings, LADDER[proof.rung], _SEED + number - 1)
        wanted = right(feed)
        if not bounds.disagreement(moved(feed), wanted, kind):
            feeds.append(feed)
            expected.append(wanted)
        if len(feeds) == FEEDS:
            source = f"random inputs, {FEEDS} of {number}: on the others rounding decides what the model says"
            return Proof(feeds=tuple(feeds), expected=tuple(expected), source=source, rung=proof.rung)
        if number == HOPELESS and not feeds:
            break
    return Proof(reason=f"rounding decides what it says, on {number - len(feeds)} of {number} random inputs")
