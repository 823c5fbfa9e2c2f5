"""Two 1x1 convolutions one behind the other in one launch (kernels/hopper_couple.cu), at large batches on Hopper.

The problem is of Kind.COUPLE: a convolution's inputs x, w, bias, residual, x2, w2 (the last two None without a "pair"),
then the next one's weights and bias; its outputs are both results. Each half is a Form of its own (hopper_form.py), the
first with its columns filled up to whole chunks, the second to whole panels.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.couples import FIRST_INPUTS
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.tactics import hopper_form, hopper_launch
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_launch import STEP, steps
from enginewright_builder.tactics.hopper_operand import Matrix, operand
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "hopper couple"
NEXT = {FIRST_INPUTS: hopper_form.WEIGHTS, FIRST_INPUTS + 1: hopper_form.BIAS}  # as the second by itself numbers them
Y, Z = FIRST_INPUTS + 2, FIRST_INPUTS + 3
HEAD_BYTES = 2048  # barriers, and what alignment to 1024 bytes may take
ROWS, WARPGROUPS = 128, 2  # of a tile; three warpgroups were no faster
WAVES = 2  # of tiles, at the least: with less work the two by themselves fill the device better
# An H200 does 790 TFLOP/s while it moves 4.3 TB/s. Beyond, the two by themselves are as fast or faster: they keep more
# products under way.
MOST_INTENSITY = 184.0
MOST_NEXT = 256  # columns of the second: their sums stay in registers
SLOTS = 32  # pieces of weights that have a barrier
STAGES = 4  # where weights do not stay: with two a couple took up to 1.8 times as long on an H200, with six 2 % less
MOST_STAGING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The kernel's choices: `columns` of a chunk, buffers of pixels, of weights (`resident`: one for each piece), of
    results."""

    columns: int
    inputs: int
    stages: int
    staging: int
    resident: bool

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        weights = "all weights" if self.resident else f"{self.stages} stages"
        return f"{ROWS}x{self.columns}, {weights}, {self.inputs} inputs, {self.staging} staged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Both convolutions, as they are."""

    first: Form
    second: Form

    @property
    def intensity(self) -> float:
        """Additions and multiplications for each byte that is moved."""
        first, second = self.first, self.second
        moved = [each.columns * each.item for each in (first.out, second.out, first.residual) if each is not None]
        read = (first.depth + first.second_depth) * first.out.item
        return 2 * first.columns * (first.depth + first.second_depth + second.columns) / (sum(moved) + read)

    def filled(self, columns: int) -> tuple[Form, Form]:
        """The first in whole chunks of columns, the second in whole panels of 64."""
        first = replace(self.first, columns=_up(self.first.columns, columns))
        return first, replace(self.second, columns=_up(self.second.columns, STEP))

    def shared_bytes(self, tile: Tile) -> int:
        """Dynamic shared memory."""
        first, second = self.filled(tile.columns)
        slices, wide, narrow = tile.columns // STEP, tile.columns * STEP * 2, second.columns * STEP * 2
        if tile.resident:
            weights = first.columns // tile.columns * (steps(first) * wide + slices * narrow)
        else:
            weights = tile.stages * max(wide, narrow)
        pixels = tile.inputs * steps(first) * ROWS * STEP * 2
        return HEAD_BYTES + weights + pixels + tile.staging * ROWS * tile.columns * 2


class HopperCouple:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "at a large batch the first one's result is most of what both move, and is not read again"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The choices that ought to be fastest, best first."""
        both = halves(problem, constant)
        if both is None or device.capability != 90 or both.first.rows < WAVES * ROWS * device.multiprocessors:
            return ()
        if both.intensity > MOST_INTENSITY:
            return ()
        return tuple(
            Candidate(
                tactic=NAME, name=tile.name, build=functools.partial(implementation, problem, constant, tile, device)
            )
            for tile in tiles(both, device)
        )


def halves(problem: Problem, constant: frozenset[int]) -> Halves | None:
    """Both forms of a couple that the kernel takes, None for any other problem."""
    if problem.kind is not Kind.COUPLE:
        return None
    first_problem, second_problem = _problems(problem)
    first = hopper_form.of_problem(first_problem, constant)
    second = hopper_form.of_problem(second_problem, frozenset(NEXT[each] for each in constant if each in NEXT))
    parts = ((first_problem, first), (second_problem, second))
    if first is None or second is None or not all(_takes(part, form) for part, form in parts if form is not None):
        return None
    if second.columns > MOST_NEXT:
        return None
    outs = [replace(form.out, pointer=operand(number)) for form, number in ((first, Y), (second, Z))]
    return Halves(first=replace(first, out=outs[0]), second=replace(second, out=outs[1]))


def _problems(problem: Problem) -> tuple[Problem, Problem]:
    said: Mapping[str, Any] = problem.attributes
    point = {"strides": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
    y, z = problem.outputs
    first = {name: value for name, value in said.items() if name != "next"}
    return (
        Problem(
            kind=Kind.CONVOLUTION, inputs=problem.inputs[:FIRST_INPUTS], outputs=(y,), attributes={**point, **first}
        ),
        Problem(
            kind=Kind.CONVOLUTION,
            inputs=(y, *problem.inputs[FIRST_INPUTS:]),
            outputs=(z,),
            attributes={**point, **said["next"]},
        ),
    )


def _takes(problem: Problem, form: Form) -> bool:
    """Whether it is a product of the pixels of 2-byte operands and results."""
    first = problem.inputs[0]
    same = first is not None and problem.outputs[0].dtype == first.dtype
    same = same and hopper_launch.activation(form) is not None  # it has room for no tail
    return hopper_launch.takes(problem, form) and isinstance(form.a, Matrix) and form.patches is None and same


def tiles(both: Halves, device: Device) -> list[Tile]:
    """The choices whose buffers fit, best guesses first: all weights stay where there is room for them."""
    made = []
    sizes = ((64, 1), (64, 2), (128, 1), (128, 2))  # where a tile's pixels are few bytes, more small results pay more
    for columns, inputs in sizes if steps(both.first) == 1 else reversed(sizes):
        pieces = -(-both.first.columns // columns) * (steps(both.first) + columns // STEP)
        for stages, resident in ((pieces, True), (STAGES, False)):
            bare = Tile(columns=columns, inputs=inputs, stages=stages, staging=0, resident=resident)
            staging = min(MOST_STAGING, (device.shared_bytes - both.shared_bytes(bare)) // (ROWS * columns * 2))
            if staging >= 2 and stages <= SLOTS and (resident or stages < pieces):
                made.append(replace(bare, staging=staging))
                break
    return made


def implementation(problem: Problem, constant: frozenset[int], tile: Tile, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    both = halves(problem, constant)
    assert both is not None, "a candidate was made of this problem"
    first, second = both.filled(tile.columns)
    count = hopper_launch.tile_count(first, ROWS, first.columns)
    kernel = Kernel(
        cubin=NAME,
        function="hopper_couple",
        grid=(min(count, device.multiprocessors), 1, 1),
        block=(128 * (WARPGROUPS + 1), 1, 1),
        shared_bytes=both.shared_bytes(tile),
        arguments=_arguments(first, second, tile),
        dependent=True,
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(first, second, tile), device.architecture)},
        constants=packers(both, first.columns, second.columns),
    )


def packers(both: Halves, columns: int, following: int) -> Mapping[str, functools.partial[Array]]:
    """What makes the constants, the first's filled up to `columns`, the second's to `following`."""
    return {
        "weights": functools.partial(_weights, both.first, columns),
        "bias": functools.partial(hopper_launch.pack_bias, columns),
        "next weights": functools.partial(_next_weights, both.second, following),
        "next bias": functools.partial(_next_bias, following),
    }


def source(first: Form, second: Form, tile: Tile) -> str:
    """The kernel's text with its choices before it, for filled forms."""
    choices: dict[str, int | str] = {
        "STEPS": steps(first),
        "NEXT": second.columns,
        "RESIDENT": int(tile.resident),
        "INPUTS": tile.inputs,
        "STAGING": tile.staging,
        "NEXT_ACTIVATION": str(hopper_launch.activation(second)),
        "NEXT_GATED": int(bool(second.attributes.get("gated"))),
    }
    text = hopper_launch.source("hopper_couple.cu", first, (WARPGROUPS, tile.columns, tile.stages), choices)
    kind = hopper_launch.WGMMA_KINDS[hopper_launch.element(second)]
    other = hopper_launch.wgmma(second.columns, kind, transposed=False) if second.columns != tile.columns else ""
    return text.replace('#include "next_wgmma.generated"\n', other)


def _arguments(first: Form, second: Form, tile: Tile) -> tuple[Argument, ...]:
    """In the kernel's order."""
    residual, out = hopper_launch.result_maps(first, ROWS, tile.columns)
    _, next_out = hopper_launch.result_maps(second, ROWS, STEP)
    next_weights = hopper_launch.weights_map(second, second.columns, name="next weights")
    pointers = (Pointer(space=Space.CONSTANT, name=name) for name in ("bias", "next bias"))
    return (
        Argument(tensor_map=hopper_launch.activations_map(first, ROWS)),
        hopper_launch.second_map(first, ROWS),
        Argument(tensor_map=hopper_launch.weights_map(first, tile.columns)),
        residual,
        out,
        Argument(tensor_map=next_weights),
        next_out,
        *(Argument(pointer=pointer) for pointer in pointers),
        Argument(value=hopper_launch.epilogue(second).hex()),
        Argument(value=hopper_launch.geometry(first, ROWS, first.columns).hex()),
    )


def _weights(form: Form, columns: int, constants: Constants) -> Array:
    """As one convolution's, with outputs of zeros behind them."""
    packed = hopper_launch.pack_weights(form, constants)  # [chunk][output][k of a chunk]
    return np.pad(packed, ((0, 0), (0, columns - form.columns), (0, 0)))


def _next_weights(form: Form, columns: int, constants: Constants) -> Array:
    return _weights(form, columns, _next(constants))


def _next_bias(columns: int, constants: Constants) -> Array:
    return hopper_launch.pack_bias(columns, _next(constants))


def _next(constants: Constants) -> Constants:
    return {NEXT[number]: value for number, value in constants.items() if number in NEXT}


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit
