"""The triple of hopper_triple.py at small batches (kernels/hopper_small_triple.cu), on Hopper: a tile a block."""

import functools

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import hopper_launch, hopper_triple
from enginewright_builder.tactics.hopper_halo import HALO_SPAN
from enginewright_builder.tactics.hopper_launch import STEP, steps
from enginewright_builder.tactics.hopper_triple import BOX_BYTES, HEAD_BYTES, Parts
from enginewright_runtime.engine.cuda.program import Kernel
from enginewright_runtime.engine.cuda.program import Step as Launch

NAME = "hopper small triple"
MOST_CHUNKS = 4  # a warpgroup each
MOST_NEXT = 128


class HopperSmallTriple:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "a small batch's three convolutions are latency, of which most is launches and epilogues of few warps"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The one way to run it, where there are no more tiles than multiprocessors."""
        found = parts(problem, constant)
        if found is None or device.capability != 90 or hopper_triple.tile_count(problem) > device.multiprocessors:
            return ()
        if shared_bytes(found) > device.shared_bytes:
            return ()
        build = functools.partial(implementation, problem, constant, device)
        return (Candidate(tactic=NAME, name="8x8 patches", build=build),)


def parts(problem: Problem, constant: frozenset[int]) -> Parts | None:
    """The forms of a triple that the kernel takes, None for any other problem."""
    found = hopper_triple.parts(problem, constant)
    if found is None or found.chunks > MOST_CHUNKS or found.second.columns > min(MOST_NEXT, found.first.columns):
        return None
    return found


def shared_bytes(found: Parts) -> int:
    """Dynamic shared memory."""
    weights = 9 + found.chunks * (steps(found.first) + found.second.columns // STEP)
    pixels = steps(found.first) + (found.chunks if found.first.residual is not None else 0)
    return HEAD_BYTES + HALO_SPAN + (weights + pixels) * BOX_BYTES


def implementation(problem: Problem, constant: frozenset[int], device: Device) -> Implementation:
    """One kernel, launched dependently, a block a tile."""
    found = parts(problem, constant)
    assert found is not None, "a candidate was made of this problem"
    kernel = Kernel(
        cubin=NAME,
        function="hopper_small_triple",
        grid=(hopper_triple.tile_count(problem), 1, 1),
        block=(128 * found.chunks + 64, 1, 1),
        shared_bytes=shared_bytes(found),
        arguments=hopper_triple.arguments(problem, found),
        dependent=True,
    )
    return Implementation(
        steps=(Launch(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(found), device.architecture)},
        constants=hopper_triple.packers(problem, constant, found),
    )


def source(found: Parts) -> str:
    """The kernel's text with its choices before it."""
    choices = hopper_triple.choices(found)
    return hopper_launch.source("hopper_small_triple.cu", found.first, (found.chunks, STEP, 1), choices)
