"""3x3 convolutions of few channels on Hopper (kernels/halo_conv.cu): pixels come into shared memory once.

With 64 channels a general kernel waits for the L2 cache, since im2col reads each pixel for every tap; here products are
the limit. Stride and dilation 1, 17 to 64 channels, constant weights, a half type in and out; it declines all else.
"""

import functools
import math
import struct
from dataclasses import dataclass, replace

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.tactics import hopper_form, hopper_launch, hopper_pool
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_operand import Matrix, Windows, operand, picture_map
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "hopper halo convolution"
CHANNELS = 64  # of a row of shared memory
FEWEST = 17  # with half of the row empty and more, im2col is better
SIDE, EDGE = 8, 10
HEAD_BYTES = 2048
HALO_SPAN = 13 * 1024
BUFFERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The kernel's choices: consumer warpgroups and output channels of a tile."""

    groups: int
    columns: int

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.groups} groups, {self.columns} outputs"

    def shared_bytes(self, form: Form) -> int:
        """Dynamic shared memory: nine taps of weights; for each group its halos and a staging tile."""
        group = BUFFERS * HALO_SPAN + form.result_bytes(SIDE * SIDE, self.columns)
        return HEAD_BYTES + 9 * self.columns * 128 + self.groups * group


class HopperHaloConvolution:
    """A Tactic (device/implementation.py). Capability 9.0."""

    name = NAME
    reason = "a 3x3 convolution of few channels waits for the L2 cache unless each pixel is read once"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Four or three warpgroups; tiles of 64 outputs, or of as many as there are."""
        form = form_of(problem, constant)
        if form is None or device.capability != 90 or not takes(problem, form):
            return ()
        columns = min(64, -(-form.columns // 16) * 16)
        shapes = (Shape(groups=groups, columns=columns) for groups in (4, 3))
        return tuple(
            Candidate(
                tactic=NAME,
                name=shape.name,
                build=functools.partial(implementation, problem, constant, shape, device),
            )
            for shape in shapes
            if shape.shared_bytes(form) <= device.shared_bytes
        )


def form_of(problem: Problem, constant: frozenset[int]) -> Form | None:
    """The problem's form; with a max pool, in patches of this kernel's own tiles."""
    form = hopper_form.of_problem(problem, constant)
    if form is None or form.patches is None:
        return form
    return replace(form, patches=replace(form.patches, width=SIDE, height=SIDE, images=1))


def takes(problem: Problem, form: Form) -> bool:
    """Whether it is such a convolution."""
    return is_plain(problem, form) and FEWEST <= form.depth <= CHANNELS


def is_plain(problem: Problem, form: Form) -> bool:
    """Whether it is a 3x3 convolution without strides that stores what it reads."""
    windows = form.a
    return (
        problem.kind is Kind.CONVOLUTION
        and isinstance(windows, Windows)
        and (windows.kernel, windows.stride, windows.dilation) == ((3, 3), (1, 1), (1, 1))
        and form.second is None
        and form.out.dtype == windows.picture.dtype
        and len(problem.outputs[0].shape) == 4
        and hopper_launch.takes(problem, form)
    )


def implementation(problem: Problem, constant: frozenset[int], shape: Shape, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    form = form_of(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    column_tiles = -(-form.columns // shape.columns)
    tiles = math.prod(_tiles(problem))
    columns_at_once = min(max(1, device.multiprocessors // column_tiles), -(-tiles // shape.groups))
    kernel = Kernel(
        cubin=NAME,
        function="halo_conv",
        grid=(columns_at_once * column_tiles, 1, 1),
        block=(128 * shape.groups + 32, 1, 1),
        shared_bytes=shape.shared_bytes(form),
        arguments=_arguments(problem, form, shape),
        dependent=True,
    )
    text = hopper_launch.source("halo_conv.cu", form, (0, shape.columns, BUFFERS), {"GROUPS": shape.groups})
    padded = column_tiles * shape.columns
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(text, device.architecture)},
        constants={
            "weights": pack_weights,
            "bias": functools.partial(hopper_launch.pack_bias, padded),
        },
    )


def pack_weights(constants: Constants) -> Array:
    """(k, c, 3, 3) as [output][tap][64 channels], the missing channels zero."""
    weights = constants[hopper_form.WEIGHTS]
    outputs, channels = weights.shape[:2]
    by_tap = weights.reshape(outputs, channels, 9).transpose(0, 2, 1)
    return np.ascontiguousarray(np.pad(by_tap, ((0, 0), (0, 0), (0, CHANNELS - channels)))).reshape(outputs, -1)


def _tiles(problem: Problem) -> tuple[int, int, int]:
    """Tiles of images, down and across; those of a pool's windows, where there is one."""
    images, _, height, width = problem.outputs[0].shape
    side = hopper_pool.side(problem)
    return images, -(-height * side // SIDE), -(-width * side // SIDE)


def _arguments(problem: Problem, form: Form, shape: Shape) -> tuple[Argument, ...]:
    x, residual, y = problem.inputs[0], problem.inputs[hopper_form.RESIDUAL], problem.outputs[0]
    assert x is not None, "a convolution has an input"
    assert isinstance(form.a, Windows), "3x3 windows are read"
    width, swizzle = hopper_launch.panel_bytes(shape.columns, form.out.item, residual=residual is not None)
    edge = SIDE // hopper_pool.side(problem)
    box = (width // 2, edge, edge, 1)
    pointer = Pointer(space=Space.CONSTANT, name="weights")
    depth = 9 * CHANNELS
    weights = Matrix(pointer=pointer, dtype=x.dtype, rows=form.columns, columns=depth, stride=depth)
    top, left = form.a.begin
    images, down, across = _tiles(problem)
    column_tiles = -(-form.columns // shape.columns)
    sizes = struct.pack("<7i", images * across * down, across, down, column_tiles, left, top, 0)
    return (
        Argument(tensor_map=picture_map(operand(0), x, (CHANNELS, EDGE, EDGE, 1), 128)),
        Argument(tensor_map=weights.tensor_map((CHANNELS, shape.columns), 128, batched=False)),
        Argument(tensor_map=picture_map(operand(hopper_form.RESIDUAL), residual, box, swizzle))
        if residual
        else hopper_launch.ABSENT,
        Argument(tensor_map=picture_map(operand(len(problem.inputs)), y, box, swizzle)),
        hopper_launch.bias_argument(),
        Argument(value=(sizes + hopper_launch.epilogue(form)).hex()),
    )
