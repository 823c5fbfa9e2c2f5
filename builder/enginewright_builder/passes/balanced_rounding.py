"""Weights in a half type, each rounded up or down so that the errors of one sum cancel each other.

A layer's result is off by sum(e_i x_i), e_i the weights' rounding errors. Rounded to nearest, n of them sum up to about
sqrt(n / 12) last places, and what comes out of a Relu has a mean, by which all of that sum is multiplied. Within a
filter's window neighbouring x are alike, and the same holds for each window's sum. About a third of such an x's square
is its mean's, a third common to the window and a third its own, so what is made small here is, of each output,

    sum(e^2) + sum over windows (sum of the window's e)^2 + (sum of all e)^2

as SQuant does for integers (Guo et al., SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation,
2022): weights that nearly lie in the middle take their other neighbour, first for each window, then for the whole. No
data is asked. No weight moves by a last place or more, and sum(e^2) alone grows by little, 13 % with windows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from enginewright_builder.network import fused
from enginewright_builder.network.network import FUSED_DOMAIN, Array, static_shape
from enginewright_runtime.engine import available

Floats = NDArray[np.float32]

_FLIPS = 2  # at most, of each window by itself: a third gained nothing
_NEVER = np.float32(1e30)  # a price
_BLOCK = 1 << 17  # weights at a time: what is computed of them stays in the processor's cache


@dataclass(frozen=True, slots=True)
class _Type:
    """A half type: its last place to a number's power of two, the smallest last place, and whose powers are ours."""

    last: float
    smallest: float
    least: float
    beyond: float


_TYPES: Mapping[ir.DataType, _Type] = {
    ir.DataType.FLOAT16: _Type(2.0**-10, 2.0**-24, 0.0, 2.0**15),
    ir.DataType.BFLOAT16: _Type(2.0**-7, 2.0**-126, 2.0**-119, 2.0**100),
}


# What a layer's weights are, as (places of a window, outputs, inputs): a view, so that the result can be written there.
FORMS: Mapping[str, Callable[[Array], Array]] = {
    "Conv": lambda weights: weights.reshape(*weights.shape[:2], -1).transpose(2, 0, 1),
    "ConvTranspose": lambda weights: weights.reshape(len(weights), -1).T[None],  # a place is one of several strides
    "MatMul": lambda weights: weights.T[None],
    "Gemm": lambda weights: weights.T[None],
    "Gemm, transB": lambda weights: weights[None],
}


def form(readers: Iterable[tuple[ir.Node, int]]) -> str:
    """As what all readers of a constant take it; "" where one takes it as no weights, or they differ."""
    found = {_form(node, index) for node, index in readers}
    return found.pop() if len(found) == 1 else ""


def _form(node: ir.Node, index: int) -> str:
    base = fused.BASE_OF.get(node.op_type, node.op_type) if node.domain == FUSED_DOMAIN else node.op_type
    rank = len(static_shape(node.inputs[index]) or ())
    if index != 1 or node.domain not in ("", FUSED_DOMAIN) or (rank != 2 and base in ("MatMul", "Gemm")):
        return ""
    if base == "ConvTranspose" and node.attributes.get_int("group", 1) != 1:
        return ""
    if base == "Gemm" and bool(node.attributes.get_int("transB", 0)):
        return "Gemm, transB"
    return base if base in FORMS else ""


def balanced(weights: Floats, dtype: ir.DataType, of: str) -> Array:
    """Weights of the form `of` in `dtype`, each one of its two neighbours there.

    What is exact or not finite stays, and what is near the largest or smallest numbers is rounded to nearest.
    """
    with at_once() as begin:
        made = begin(weights, dtype, of)
    return made


@contextmanager
def at_once() -> Iterator[Callable[[Floats, ir.DataType, str], Array]]:
    """As `balanced`, for many weights, of which few alone keep all processors busy: what it gives is whole when the
    block ends."""
    begun: list[Future[None]] = []

    with ThreadPoolExecutor(available.processors()) as pool:

        def begin(weights: Floats, dtype: ir.DataType, of: str) -> Array:
            whole = np.ascontiguousarray(weights)
            result = np.empty(whole.shape, dtype.numpy())
            given, made = FORMS[of](whole), FORMS[of](result)
            places, outputs, inputs = given.shape
            rows = max(_BLOCK // max(places * inputs, 1), 1)

            def work(first: int) -> None:
                block = slice(first, first + rows)
                made[:, block] = _block(np.ascontiguousarray(given[:, block]), dtype)

            begun.extend(pool.submit(work, first) for first in range(0, outputs if whole.size else 0, rows))
            return result

        yield begin
    for each in begun:
        each.result()


def _block(terms: Floats, dtype: ir.DataType) -> Array:
    error, change = _errors(terms, _TYPES[dtype])
    for _ in range(_FLIPS if len(terms) > 1 else 0):
        _balance_windows(error, change)
    _balance_outputs(error, change)
    error += terms  # exact: the numbers of the narrow type, but for those that are still to be rounded to nearest
    np.copysign(error, terms, out=error)  # which the sum loses of zeros
    with np.errstate(over="ignore"):
        made: Array = error.astype(dtype.numpy())
    return made


def _errors(terms: Floats, kind: _Type) -> tuple[Floats, Floats]:
    """What rounding to nearest adds, and what taking the other neighbour adds to that; 0 and 0 where it is not ours."""
    step: Floats = (terms.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)  # the power of two at or below
    outside = (step >= kind.beyond) | (step < kind.least)
    step *= np.float32(kind.last)
    np.maximum(step, np.float32(kind.smallest), out=step)
    np.copyto(step, 0, where=outside)
    rounder = step * np.float32(1.5 * 2**23)  # its last place is the step: a sum with it is rounded, half to even
    error = np.where(outside, 0, terms)
    kept = error.copy()
    error += rounder
    error -= rounder
    error -= kept
    change = np.copysign(step, error)
    np.negative(change, out=change)
    np.copyto(change, 0, where=error == 0)
    return error, change


def _balance_windows(error: Floats, change: Floats) -> None:
    """In each window, the one weight whose other neighbour lowers sum(e^2) + sum(e)^2 most takes it, if any does.

    By d = change, sum(e^2) grows by d (2 e + d), and sum(e)^2 by d (2 sum(e) + d).
    """
    together = error.sum(0)
    best = np.zeros_like(together)
    place = np.zeros(together.shape, np.int32)  # one more than the index; 0 is none
    gain = np.empty_like(together)
    for index, (each, other) in enumerate(zip(error, change, strict=True)):
        np.add(each, together, out=gain)
        gain += other
        gain *= other
        np.maximum(place, (gain < best) * np.int32(index + 1), out=place)
        np.minimum(best, gain, out=best)
    for index, (each, other) in enumerate(zip(error, change, strict=True)):
        np.multiply(other, place == index + 1, out=gain)
        each += gain
        gain *= 2
        other -= gain


def _balance_outputs(error: Floats, change: Floats) -> None:
    """For each output, the weights that cost least take their other neighbours, at most one a window, as long as the
    square of the sum of all errors falls by more than that."""
    total = error.sum((0, 2), dtype=np.float64)
    away = np.sign(total).astype(np.float32)[:, None]
    price, place = _cheapest(error, change, away)
    step = np.abs(change).mean((0, 2), dtype=np.float64)
    count = 4 + int(np.divide(4 * np.abs(total), step, out=np.zeros_like(total), where=step > 0).max())
    window = np.argpartition(price, min(count, price.shape[1]) - 1, axis=1)[:, :count]
    window.sort(axis=1)  # so that equal prices are paid in their order
    output = np.arange(len(window))[:, None]
    window = window[output, np.argsort(price[output, window], axis=1, kind="stable")]
    found = place[output, window], output, window
    size, paid = np.abs(change[found]), price[output, window]
    left = np.abs(total)[:, None] - (np.cumsum(size, axis=1, dtype=np.float64) - size)
    taken = left > size / 2 + paid  # falling on the left, rising on the right: the first few
    error[found] -= away * size * taken


def _cheapest(error: Floats, change: Floats, away: Floats) -> tuple[Floats, NDArray[np.int32]]:
    """For each window the weight whose change against `away` costs least: half of what sum(e^2) + sum(e)^2 grows by, to
    the change; and which it is. No arrays are picked from by conditions here, which are slow where they are random."""
    together = error.sum(0)
    price = np.full(together.shape, _NEVER, np.float32)
    place = np.zeros(together.shape, np.int32)
    for index, (each, other) in enumerate(zip(error, change, strict=True)):
        asked = each + together
        asked += other
        asked *= -away
        asked += (other * away >= 0) * _NEVER
        np.maximum(place, (asked < price) * np.int32(index), out=place)
        np.minimum(price, asked, out=price)
    return price, place
