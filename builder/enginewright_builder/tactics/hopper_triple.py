"""A 3x3 convolution of few channels and the couple behind it in one launch (kernels/hopper_triple.cu), on Hopper.

The problem is of Kind.TRIPLE: the 3x3 convolution's inputs x, w, bias, then a couple's without its first
(hopper_couple.py). All weights stay in shared memory, and what is left there is for pixels on their way.
"""

import functools
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last
from enginewright_builder.tactics import hopper_couple, hopper_form, hopper_halo, hopper_launch
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_halo import CHANNELS, EDGE, HALO_SPAN, SIDE
from enginewright_builder.tactics.hopper_launch import STEP, steps
from enginewright_builder.tactics.hopper_operand import Matrix, Windows, operand, picture_map
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, TensorMap
from enginewright_runtime.engine.cuda.program import Step as Launch

NAME = "hopper triple"
BEFORE = 3  # inputs of the 3x3 convolution: number n of the couple behind it is n + 2 here
RESIDUAL, SECOND, Y, Z = hopper_form.RESIDUAL + 2, hopper_form.SECOND + 2, 10, 11
GROUPS = 2  # consumer warpgroups, each with its own tiles
HEAD_BYTES = 1024  # barriers
BOX_BYTES = SIDE * SIDE * CHANNELS * 2  # 64 pixels or outputs of 64 channels
MOST_STAGING = 8
CHOICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All three convolutions: the couple's first one in whole chunks of 64 channels, its second in whole panels."""

    before: Form
    first: Form
    second: Form

    @property
    def chunks(self) -> int:
        """Of the first's results."""
        return self.first.columns // STEP

    def shared_bytes(self, staging: int) -> int:
        """Dynamic shared memory, with so many staging tiles a group."""
        weights = 9 + self.chunks * (steps(self.first) + self.second.columns // STEP)
        group = HALO_SPAN + (steps(self.first) - 1 + staging) * BOX_BYTES
        return HEAD_BYTES + weights * BOX_BYTES + GROUPS * group

    def staging(self, device: Device) -> int:
        """How many staging tiles a group there is room for."""
        return min(MOST_STAGING, (device.shared_bytes - self.shared_bytes(0)) // (GROUPS * BOX_BYTES))


class HopperTriple:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "what lies between the three is not stored, and the 3x3 convolution's products hide behind what moves"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """As many staging tiles as there is room for, or one or two fewer: of four three were 6 % faster on an H200."""
        found = parts(problem, constant)
        if found is None or device.capability != 90 or tile_count(problem) < GROUPS * device.multiprocessors:
            return ()
        most = found.staging(device)
        return tuple(
            Candidate(
                tactic=NAME,
                name=f"8x8 patches, {staging} staged",
                build=functools.partial(implementation, problem, constant, staging, device),
            )
            for staging in range(most, max(0, most - CHOICES), -1)
        )


def parts(problem: Problem, constant: frozenset[int]) -> Parts | None:
    """The forms of a triple that the kernel takes, None for any other problem."""
    found = forms(problem, constant)
    if found is None or not hopper_halo.takes(_problems(problem)[0], found.before):
        return None
    before, x2 = found.before, problem.inputs[SECOND]
    first, second = hopper_couple.Halves(first=found.first, second=found.second).filled(STEP)
    fits = before.residual is None and max(before.columns, first.depth, first.second_depth) <= CHANNELS
    aligned = first.second is None or (first.second.stride == (1, 1) and x2 is not None and len(x2.shape) == 4)
    if before.patches is not None or not fits or not aligned or first.columns < 2 * STEP:
        return None
    return Parts(before=before, first=first, second=second)


def forms(problem: Problem, constant: frozenset[int]) -> Parts | None:
    """The forms as they are of a triple that begins with a plain 3x3 convolution, None for any other problem."""
    if problem.kind is not Kind.TRIPLE:
        return None
    lead, couple = _problems(problem)
    before, residual = hopper_form.of_problem(lead, constant), problem.inputs[RESIDUAL]
    both = hopper_couple.halves(couple, _of_couple(constant))
    if before is None or both is None or not hopper_halo.is_plain(lead, before):
        return None
    if hopper_launch.activation(before) is None:  # it has room for no tail
        return None
    if residual is not None and len(residual.shape) != 4:
        return None
    return Parts(before=before, first=both.first, second=both.second)


def _problems(problem: Problem) -> tuple[Problem, Problem]:
    """The 3x3 convolution and the couple behind it."""
    said: Mapping[str, Any] = problem.attributes
    x, taps = problem.inputs[:2]
    assert x is not None, "a convolution has an input"
    assert taps is not None, "a convolution has weights"
    shape = (x.shape[0], taps.shape[0], *problem.outputs[0].shape[2:])
    between = TensorType(dtype=x.dtype, shape=shape, strides=channels_last(shape))
    couple = {name: value for name, value in said.items() if name != "before"}
    return (
        Problem(kind=Kind.CONVOLUTION, inputs=problem.inputs[:BEFORE], outputs=(between,), attributes=said["before"]),
        Problem(
            kind=Kind.COUPLE,
            inputs=(between, *problem.inputs[BEFORE:]),
            outputs=problem.outputs,
            attributes=couple,
        ),
    )


def tile_count(problem: Problem) -> int:
    """Patches of all images."""
    return math.prod(_tiles(problem))


def _tiles(problem: Problem) -> tuple[int, int, int]:
    images, _, height, width = problem.outputs[0].shape
    return images, -(-height // SIDE), -(-width // SIDE)


def implementation(problem: Problem, constant: frozenset[int], staging: int, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    found = parts(problem, constant)
    assert found is not None, "a candidate was made of this problem"
    kernel = Kernel(
        cubin=NAME,
        function="hopper_triple",
        grid=(min(device.multiprocessors, -(-tile_count(problem) // GROUPS)), 1, 1),
        block=(128 * (GROUPS + 1), 1, 1),
        shared_bytes=found.shared_bytes(staging),
        arguments=arguments(problem, found),
        dependent=True,
    )
    return Implementation(
        steps=(Launch(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(source(found, staging), device.architecture)},
        constants=packers(problem, constant, found),
    )


def packers(problem: Problem, constant: frozenset[int], found: Parts) -> Mapping[str, Callable[[Constants], Array]]:
    """What makes the constants of all three."""
    return {
        "taps": hopper_halo.pack_weights,
        "before bias": functools.partial(hopper_launch.pack_bias, CHANNELS),
        **couples_constants(problem, constant, found),
    }


def couples_constants(
    problem: Problem, constant: frozenset[int], found: Parts
) -> Mapping[str, Callable[[Constants], Array]]:
    """What makes the weights and biases of the couple."""
    both = hopper_couple.halves(_problems(problem)[1], _of_couple(constant))
    assert both is not None, "a candidate was made of this problem"
    made = hopper_couple.packers(both, found.first.columns, found.second.columns)
    return {name: functools.partial(_made, each.func, each.args) for name, each in made.items()}


def _of_couple(constant: frozenset[int]) -> frozenset[int]:
    """The couple's constant inputs, as it numbers them."""
    return frozenset(each - 2 for each in constant if each >= BEFORE)


def _made(make: Callable[..., Array], arguments: tuple[object, ...], constants: Constants) -> Array:
    return make(*arguments, {number - 2: value for number, value in constants.items() if number >= BEFORE})


def source(found: Parts, staging: int) -> str:
    """The kernel's text with its choices before it."""
    text = hopper_launch.source(
        "hopper_triple.cu", found.first, (GROUPS, STEP, 1), {"STAGING": staging, **choices(found)}
    )
    kind = hopper_launch.WGMMA_KINDS[hopper_launch.element(found.second)]
    widths = sorted({STEP, found.second.columns})
    left = "".join(hopper_launch.wgmma(each, kind, transposed=False, left_in_registers=True) for each in widths)
    return text.replace('#include "left_wgmma.generated"\n', left)


def choices(found: Parts) -> dict[str, int | str]:
    """Macros of the three convolutions."""
    before, second = found.before, found.second
    return {
        "CHUNKS": found.chunks,
        "NEXT": second.columns,
        "BEFORE_ACTIVATION": str(hopper_launch.activation(before)),
        "BEFORE_GATED": int(bool(before.attributes.get("gated"))),
        "NEXT_ACTIVATION": str(hopper_launch.activation(second)),
        "NEXT_GATED": int(bool(second.attributes.get("gated"))),
    }


def arguments(problem: Problem, found: Parts) -> tuple[Argument, ...]:
    """Of the kernel, and of hopper_small_triple.cu, in order."""
    x, (y, z) = problem.inputs[0], problem.outputs
    assert x is not None, "a convolution has an input"
    depth = 9 * CHANNELS
    taps = Matrix(
        pointer=_constant("taps"), dtype=x.dtype, rows=found.before.columns, columns=depth, stride=depth
    )  # fmt: skip
    patch = (CHANNELS, SIDE, SIDE, 1)
    return (
        Argument(tensor_map=picture_map(operand(0), x, (CHANNELS, EDGE, EDGE, 1), 128)),
        _patches(problem.inputs[SECOND], SECOND),
        Argument(tensor_map=taps.tensor_map((CHANNELS, CHANNELS), 128, batched=False)),
        Argument(tensor_map=hopper_launch.weights_map(found.first, STEP)),
        Argument(tensor_map=_next_weights(found)),
        _patches(problem.inputs[RESIDUAL], RESIDUAL),
        Argument(tensor_map=picture_map(operand(Y), y, patch, 128)),
        Argument(tensor_map=picture_map(operand(Z), z, patch, 128)),
        *(Argument(pointer=_constant(name)) for name in ("before bias", "bias", "next bias")),
        Argument(value=pictures(problem, found).hex()),
    )


def _constant(name: str) -> Pointer:
    return Pointer(space=Space.CONSTANT, name=name)


def _patches(picture: TensorType | None, number: int) -> Argument:
    """An input's map, in tiles."""
    if picture is None:
        return hopper_launch.ABSENT
    return Argument(tensor_map=picture_map(operand(number), picture, (CHANNELS, SIDE, SIDE, 1), 128))


def _next_weights(found: Parts) -> TensorMap:
    return hopper_launch.weights_map(found.second, found.second.columns, name="next weights")


def pictures(problem: Problem, found: Parts) -> bytes:
    """struct Pictures of the kernel."""
    images, down, across = _tiles(problem)
    assert isinstance(found.before.a, Windows), "3x3 windows are read"
    top, left = found.before.a.begin
    ends = (hopper_launch.epilogue(form) for form in (found.before, found.first, found.second))
    return struct.pack("<6i", images * down * across, across, down, left, top, 0) + b"".join(ends)
