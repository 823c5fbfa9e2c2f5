"""A convolution and the mean of its pixels in one launch, at small batches on Hopper: kernels/hopper_latency_conv.cu,
each of whose blocks has all pixels of its channels and stores their mean alone.

The problem is of Kind.MEAN: a convolution's inputs and attributes, and the size of what is averaged.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last
from enginewright_builder.tactics import hopper_latency_conv, latency_choice, latency_geometry
from enginewright_builder.tactics.latency_geometry import Configuration

NAME = "hopper latency mean"
LIMIT = 6  # configurations that are offered


class LatencyMean:
    """A Tactic (device/implementation.py). What HopperLatencyConvolution takes, of pictures that are one tile."""

    name = NAME
    reason = "what is averaged is in one block's registers, and a launch fewer is two microseconds"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The configurations that the model finds best, best first."""
        if refusal(problem, device, constant):
            return ()
        return tuple(
            Candidate(
                tactic=NAME,
                name=each.name,
                build=functools.partial(implementation, problem, each, device.architecture),
            )
            for each in configurations(problem, device)
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.MEAN, "it is no convolution with a mean"),
        (lambda: len(problem.attributes["size"]) == 2, "it is not two-dimensional"),
        (lambda: _is_one_tile(problem), "a picture is more than one tile"),
        (lambda: problem.outputs[0].strides[1] == 1, "its means do not lie one behind the other"),
    )
    reason = next((reason for holds, reason in checks if not holds()), "")
    reason = reason or hopper_latency_conv.refusal(convolution_of(problem), device, constant)
    return reason or ("" if configurations(problem, device) else hopper_latency_conv.NOTHING_FITS)


def convolution_of(problem: Problem) -> Problem:
    """The convolution, its result in NHWC."""
    mean = problem.outputs[0]
    shape = (*mean.shape[:2], *problem.attributes["size"])
    attributes = {name: value for name, value in problem.attributes.items() if name != "size"}
    y = TensorType(dtype=mean.dtype, shape=shape, strides=channels_last(shape))
    return replace(problem, kind=Kind.CONVOLUTION, outputs=(y,), attributes=attributes)


def configurations(problem: Problem, device: Device) -> tuple[Configuration, ...]:
    """Of those in which a block sums all channels of one picture at a time, and a tile has all rows."""
    work = hopper_latency_conv.work_of(convolution_of(problem))
    every = [
        each
        for each in latency_choice.every(work, problem.outputs[0].dtype)
        if each.splits == each.abreast == 1 and each.rows == work.height and latency_choice.fits(work, each)
    ]
    timed = [(latency_choice.microseconds(work, each, device.multiprocessors), each) for each in every]
    timed = sorted((pair for pair in timed if pair[0] <= latency_choice.MOST_MICROSECONDS), key=_quickest_first)
    return tuple(each for _, each in timed[:LIMIT])


def implementation(problem: Problem, configuration: Configuration, architecture: str) -> Implementation:
    """The convolution's kernel, one launch."""
    return hopper_latency_conv.implementation(averaged(problem), configuration, architecture)


def averaged(problem: Problem) -> Problem:
    """The convolution as its kernel is told of it: a picture's result is as many numbers as it has channels."""
    made, mean = convolution_of(problem), problem.outputs[0]
    y = TensorType(dtype=mean.dtype, shape=made.outputs[0].shape, strides=(mean.strides[0], 1, 0, 0))
    return replace(made, outputs=(y,), attributes={**made.attributes, "mean": True})


def _is_one_tile(problem: Problem) -> bool:
    height, width = problem.attributes["size"]
    return bool(height <= latency_choice.MOST_ROWS and width <= latency_geometry.COLUMNS)


def _quickest_first(pair: tuple[float, Configuration]) -> tuple[float, str]:
    return pair[0], pair[1].name
