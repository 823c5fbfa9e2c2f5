"""Whether a plan agrees with a native runtime, also where that runtime does not agree with itself.

An error is of the output's range: the largest difference over the largest absolute value; of integers and texts the
share that differs. Allowed is 1e-4, or what the native runtime differs from itself with and without its optimizer where
that is more (quantized and fp16 models).

Some networks decide by comparing: a detector crops its features at a box that ends on the image's border, and whether
the last sample lies inside is up to the last bit of a sum. There the runtime's own two results are different boxes, and
an input agrees only if every output is within 1e-4 of those of one of the two; else another input is drawn. Where the
runtime agrees with itself on every input, the first that is wrong is wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ALLOWED = 1e-4  # of the output's range, in fp32
UNSTABLE = 0.1  # of the range: results that far apart are of two decisions, not of two roundings
INPUTS = 16  # are drawn at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Of one input: our error to the nearer of the native runtime's two results, and how far these are apart."""

    error: float
    spread: float

    @property
    def unstable(self) -> bool:
        """Whether rounding decides what the native runtime itself gives."""
        return self.spread > UNSTABLE

    @property
    def allowed(self) -> float:
        """What our error may be."""
        return ALLOWED if self.unstable else max(ALLOWED, self.spread)

    @property
    def agrees(self) -> bool:
        """Whether it is not more."""
        return self.error <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The sample that decides, and of how many inputs rounding decided on how many."""

    sample: Sample
    inputs: int
    unstable: int

    @property
    def words(self) -> str:
        """Empty where the first input said it all."""
        return f" (input {self.inputs}; on {self.unstable} of them rounding decides natively)" if self.unstable else ""


def judge(samples: Iterable[Sample]) -> Agreement:
    """The first input that agrees; where the runtime is at one with itself on all that were tried, the first of all.

    `samples` (one at least) are taken one by one, so that no more are made than are needed.
    """
    seen: list[Sample] = []
    for sample in samples:
        seen.append(sample)
        if sample.agrees:
            break
    unstable = sum(each.unstable for each in seen)
    return Agreement(sample=seen[-1] if unstable else seen[0], inputs=len(seen), unstable=unstable)


def worst(right: Mapping[str, Any], given: Mapping[str, Any]) -> float:
    """The largest error of all outputs."""
    return max(error(right[name], given[name]) for name in right)


def error(right: Any, given: Any) -> float:
    """Of one output; infinite where the shapes differ."""
    right, given = np.asarray(right), np.asarray(given)
    if right.shape != given.shape:
        return float("inf")
    if right.size == 0:
        return 0.0
    if right.dtype.kind != "f":
        return float(np.mean(right != given))
    range_ = float(np.max(np.abs(right))) or 1.0
    return float(np.max(np.abs(right.astype(np.float64) - given.astype(np.float64)))) / range_
