"""Inputs to check and time with: real samples where there are any, else seeded random ones that the model accepts.

A constant input hides mistakes (a transposed kernel gives the same sums), so all are random. What range a model accepts
cannot be read from its types: integers may be indices or lengths, floats the argument of a logarithm. So there is a
ladder of ranges, from the most telling to the most harmless, and the first on which the untouched model gives
finite results is used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enginewright_builder.calibration.samples import Samples
from enginewright_runtime.engine.executor import ExecutionError
from enginewright_runtime.engine.values import DTYPES, STRING, TEXT, Array, Value
from enginewright_runtime.errors import InputError
from enginewright_runtime.plan.manifest import Binding

Feed = Mapping[str, Value]
Reference = Callable[[Feed], Mapping[str, Value]]

FEEDS = 2  # one could agree by luck (a mask that is all true), and more only cost time
_SEED = 20240229


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of the ladder: floats from a normal or a uniform distribution, integers in [low, high), texts."""

    normal: bool
    low: int
    high: int
    texts: tuple[str, ...]


LADDER: tuple[Rung, ...] = (
    Rung(normal=True, low=0, high=8, texts=("a", "b", "cat", "")),  # varied, and small enough for most vocabularies
    Rung(normal=False, low=1, high=2, texts=("1", "2", "3.5")),  # no negative floats; lengths and divisors that fit
    Rung(normal=False, low=0, high=2, texts=("0", "1")),  # masks and indices of the smallest tables
    Rung(normal=False, low=0, high=1, texts=("0",)),  # an index that always exists
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Feeds and what the untouched model gives for them, or why there are none (`reason`).

    `rung` is the step of the ladder that random feeds are from.
    """

    feeds: tuple[Feed, ...] = ()
    expected: tuple[Mapping[str, Value], ...] = ()
    source: str = ""
    rung: int = 0
    reason: str = ""


def prove_with(bindings: Sequence[Binding], samples: Samples | None, reference: Reference) -> Proof:
    """Feeds for these inputs that the untouched model accepts, with its results."""
    odd = next((b for b in bindings if b.container != "tensor" or b.shape is None or min(b.shape, default=0) < 0), None)
    if odd is not None:
        return Proof(reason=f"no input can be made up for {odd.name!r}: it is a {odd.container} without an exact shape")
    refusal = ""
    fallback: Proof | None = None
    for source, rung, feeds in _sources(bindings, samples):
        try:
            expected = tuple(reference(feed) for feed in feeds)
        except (InputError, ExecutionError) as error:
            refusal = error.message
            continue
        proof = Proof(feeds=feeds, expected=expected, source=source, rung=rung)
        if all(_finite(outputs) for outputs in expected):
            return proof
        fallback = fallback or proof
    if fallback is not None:
        return fallback
    return Proof(reason=f"the untouched model refuses every input that was tried; the last time: {refusal}")


def random(bindings: Sequence[Binding], rung: Rung, seed: int = _SEED) -> dict[str, Array]:
    """One feed; the same for the same bindings, rung and seed."""
    generator = np.random.default_rng(seed)
    return {binding.name: _draw(generator, binding, rung) for binding in bindings}


def _sources(bindings: Sequence[Binding], samples: Samples | None) -> Iterator[tuple[str, int, tuple[Feed, ...]]]:
    if samples is not None:
        size = (bindings[0].shape or (1,))[0] if bindings else 1
        yield "calibration samples", 0, tuple(samples.batch(index * size, bindings) for index in range(FEEDS))
    for number, rung in enumerate(LADDER):
        feeds = tuple(random(bindings, rung, _SEED + index) for index in range(FEEDS))
        yield f"random inputs (step {number + 1} of {len(LADDER)})", number, feeds


def _draw(generator: np.random.Generator, binding: Binding, rung: Rung) -> Array:
    shape = binding.shape or ()
    if binding.dtype == STRING:
        texts = np.empty(shape, TEXT)
        texts.reshape(-1)[:] = [str(text) for text in generator.choice(rung.texts, size=shape).reshape(-1)]
        return texts
    dtype = DTYPES[binding.dtype]
    if dtype == np.bool_:
        return generator.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        return np.asarray(generator.integers(rung.low, rung.high, shape)).astype(dtype)
    draw = generator.standard_normal if rung.normal else generator.random
    return np.asarray(draw(shape)).astype(dtype)


def _finite(outputs: Mapping[str, Value]) -> bool:
    arrays = [value for value in outputs.values() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"]
    return all(bool(np.isfinite(array).all()) for array in arrays)
