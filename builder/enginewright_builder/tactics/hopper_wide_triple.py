"""A 3x3 convolution of 65 to 128 channels and the couple behind it in one launch, on Hopper
(kernels/hopper_wide_triple.cu).

The problem is hopper_triple.py's. Here weights are streamed through shared memory, and a tile is whole rows.
"""

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import hopper_couple, hopper_form, hopper_launch, hopper_triple
from enginewright_builder.tactics.hopper_launch import STEP
from enginewright_builder.tactics.hopper_operand import Matrix, Windows, operand, picture_map
from enginewright_builder.tactics.hopper_triple import BOX_BYTES, HEAD_BYTES, RESIDUAL, Parts, Y, Z
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space
from enginewright_runtime.engine.cuda.program import Step as Launch

NAME = "hopper wide triple"
MIDDLE = 128  # channels between, the missing ones zero
MOST_NEXT = 256
PLACES = 64  # of a tile, in shared memory
PIECE_BYTES = 2 * BOX_BYTES  # of weights
MOST_STAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The kernel's choices: consumer warpgroups with their own tiles, slots of weights, staging tiles of each group."""

    groups: int
    stages: int
    staging: int

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.groups} groups, {self.stages} stages, {self.staging} staged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripes:
    """How the pictures lie in tiles: `down` rows each, a row in `wide` places."""

    wide: int
    down: int
    a_picture: int  # tiles
    tiles: int

    def blocks(self, shape: Shape, device: Device) -> int:
        """One a multiprocessor, none without a tile."""
        return min(device.multiprocessors, -(-self.tiles // shape.groups))


class HopperWideTriple:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "what lies between the three is not stored, and their products hide behind what moves"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The shapes that ought to be fastest."""
        found = parts(problem, constant)
        if found is None or device.capability != 90:
            return ()
        return tuple(
            Candidate(
                tactic=NAME,
                name=shape.name,
                build=functools.partial(implementation, problem, constant, shape, device),
            )
            for shape in shapes(found, stripes(problem), device)
        )


def parts(problem: Problem, constant: frozenset[int]) -> Parts | None:
    """The forms of a triple that the kernel takes, None for any other problem."""
    found = hopper_triple.forms(problem, constant)
    if found is None or found.before.patches is not None or found.before.residual is not None:
        return None
    widest = max(found.before.columns, found.before.depth)
    if not found.before.columns > STEP or widest > MIDDLE or found.first.second is not None:
        return None
    if stripes(problem).down == 0 or problem.outputs[0].shape[3] + 2 > PLACES:
        return None
    first, second = hopper_couple.Halves(first=found.first, second=found.second).filled(2 * STEP)
    second = replace(second, columns=-(-second.columns // 128) * 128)
    return Parts(before=found.before, first=first, second=second) if second.columns <= MOST_NEXT else None


def stripes(problem: Problem) -> Stripes:
    """The tiles of a problem's pictures."""
    images, _, height, width = problem.outputs[0].shape
    down = min(PLACES // (width + 2), height)
    a_picture = -(-height // down) if down else 0
    return Stripes(wide=width + 2, down=down, a_picture=a_picture, tiles=images * a_picture)


def shapes(found: Parts, tiles: Stripes, device: Device) -> Iterator[Shape]:
    """One group a block where that fills no more than all multiprocessors once, else two."""
    groups = 1 if tiles.tiles <= device.multiprocessors else 2
    for staging in (4, 2) if groups == 1 else (3, 2):
        yield shape_of(found, tiles, groups, staging, device)


def shape_of(found: Parts, tiles: Stripes, groups: int, staging: int, device: Device) -> Shape:
    """As many slots of weights as there is room for."""
    bare = Shape(groups=groups, stages=0, staging=staging)
    stages = (device.shared_bytes - shared_bytes(found, tiles, bare)) // PIECE_BYTES
    return replace(bare, stages=min(MOST_STAGES, stages))


def shared_bytes(found: Parts, tiles: Stripes, shape: Shape) -> int:
    """Dynamic shared memory."""
    halo = -(-(2 * tiles.wide + 2 + PLACES) * 128 // 1024) * 1024
    group = _inputs(found) * halo + shape.staging * BOX_BYTES
    return HEAD_BYTES + shape.stages * PIECE_BYTES + shape.groups * group


def _inputs(found: Parts) -> int:
    """Of 64 channels of x."""
    return -(-found.before.depth // STEP)


def implementation(problem: Problem, constant: frozenset[int], shape: Shape, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    found = parts(problem, constant)
    assert found is not None, "a candidate was made of this problem"
    tiles = stripes(problem)
    kernel = Kernel(
        cubin=NAME,
        function="hopper_wide_triple",
        grid=(tiles.blocks(shape, device), 1, 1),
        block=(128 * (shape.groups + 1), 1, 1),
        shared_bytes=shared_bytes(found, tiles, shape),
        arguments=_arguments(problem, found, tiles),
        dependent=True,
    )
    return Implementation(
        steps=(Launch(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(found, tiles, shape), device.architecture)},
        constants={
            "taps": functools.partial(_taps, _inputs(found)),
            "before bias": functools.partial(hopper_launch.pack_bias, MIDDLE),
            **hopper_triple.couples_constants(problem, constant, found),
        },
    )


def _taps(inputs: int, constants: Constants) -> Array:
    """(k, c, 3, 3) as [output][64 channels each][tap][channel], the missing channels zero."""
    weights = constants[hopper_form.WEIGHTS]
    outputs, channels = weights.shape[:2]
    filled = np.pad(weights.reshape(outputs, channels, 9), ((0, 0), (0, inputs * STEP - channels), (0, 0)))
    return np.ascontiguousarray(filled.reshape(outputs, inputs, STEP, 9).transpose(0, 1, 3, 2)).reshape(outputs, -1)


def source(found: Parts, tiles: Stripes, shape: Shape) -> str:
    """The kernel's text with its choices before it."""
    choices: dict[str, int | str] = {
        "RESULTS": STEP,
        "INPUTS": _inputs(found),
        "GROUPS": shape.groups,
        "STAGING": shape.staging,
        "WIDE": tiles.wide,
        "DOWN": tiles.down,
        **hopper_triple.choices(found),
    }
    text = hopper_launch.source("hopper_wide_triple.cu", found.first, (shape.groups, MIDDLE, shape.stages), choices)
    kind = hopper_launch.WGMMA_KINDS[hopper_launch.element(found.second)]
    left = (hopper_launch.wgmma(each, kind, transposed=False, left_in_registers=True) for each in (STEP, MIDDLE))
    return text.replace('#include "left_wgmma.generated"\n', "".join(left))


def _arguments(problem: Problem, found: Parts, tiles: Stripes) -> tuple[Argument, ...]:
    """In the kernel's order."""
    x, residual, (y, z) = problem.inputs[0], problem.inputs[RESIDUAL], problem.outputs
    assert x is not None, "a convolution has an input"
    pointer, depth = Pointer(space=Space.CONSTANT, name="taps"), _inputs(found) * 9 * STEP
    taps = Matrix(pointer=pointer, dtype=x.dtype, rows=found.before.columns, columns=depth, stride=depth)
    stripe = (STEP, tiles.wide, tiles.down, 1)
    return (
        Argument(tensor_map=picture_map(operand(0), x, (STEP, tiles.wide, tiles.down + 2, 1), 128)),
        Argument(tensor_map=taps.tensor_map((STEP, STEP), 128, batched=False)),
        Argument(tensor_map=hopper_launch.weights_map(found.first, STEP)),
        Argument(tensor_map=hopper_launch.weights_map(found.second, STEP, name="next weights")),
        hopper_launch.ABSENT
        if residual is None
        else Argument(tensor_map=picture_map(operand(RESIDUAL), residual, stripe, 128)),
        Argument(tensor_map=picture_map(operand(Y), y, stripe, 128)),
        Argument(tensor_map=picture_map(operand(Z), z, stripe, 128)),
        *(Argument(pointer=Pointer(space=Space.CONSTANT, name=n)) for n in ("before bias", "bias", "next bias")),
        Argument(value=_stripes(found, tiles).hex()),
    )


def _stripes(found: Parts, tiles: Stripes) -> bytes:
    """struct Stripes of the kernel."""
    assert isinstance(found.before.a, Windows), "3x3 windows are read"
    top, left = found.before.a.begin
    ends = (hopper_launch.epilogue(form) for form in (found.before, found.first, found.second))
    return struct.pack("<5i", tiles.tiles, tiles.a_picture, left, top, 0) + b"".join(ends)
