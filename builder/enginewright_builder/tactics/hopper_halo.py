"""3x3 convolutions of few channels on Hopper (kernels/halo_conv.cu): pixels come into shared memory once.

With 64 channels a general kernel waits for the L2 cache, since im2col reads each pixel for every tap; here products are
the limit. Stride and dilation 1, 17 to 64 channels, constant weights, a half type in and out; it declines all else.
"""

import functools
import struct
from dataclasses import dataclass

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import hopper_form, hopper_launch
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_operand import Matrix, Windows, operand
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step, TensorMap

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

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory: nine taps of weights; for each group its halos and a staging tile."""
        group = BUFFERS * HALO_SPAN + SIDE * SIDE * self.columns * 2
        return HEAD_BYTES + 9 * self.columns * 128 + self.groups * group


class HopperHaloConvolution:
    """A Tactic (device/implementation.py). Capability 9.0."""

    name = NAME
    reason = "a 3x3 convolution of few channels waits for the L2 cache unless each pixel is read once"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """Four or three warpgroups; tiles of 64 outputs, or of as many as there are."""
        form = hopper_form.of_problem(problem, constant)
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
            if shape.shared_bytes <= device.shared_bytes
        )


def takes(problem: Problem, form: Form) -> bool:
    """Whether it is such a convolution."""
    windows = form.a
    return (
        problem.kind is Kind.CONVOLUTION
        and isinstance(windows, Windows)
        and (windows.kernel, windows.stride, windows.dilation) == ((3, 3), (1, 1), (1, 1))
        and FEWEST <= form.depth <= CHANNELS
        and form.second is None
        and form.out.dtype == windows.picture.dtype
        and len(problem.outputs[0].shape) == 4
        and hopper_launch.takes(problem, form)
    )


def implementation(problem: Problem, constant: frozenset[int], shape: Shape, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    form = hopper_form.of_problem(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    column_tiles = -(-form.columns // shape.columns)
    images, _, height, width = problem.outputs[0].shape
    tiles = images * -(-height // SIDE) * -(-width // SIDE)
    columns_at_once = min(max(1, device.multiprocessors // column_tiles), -(-tiles // shape.groups))
    kernel = Kernel(
        cubin=NAME,
        function="halo_conv",
        grid=(columns_at_once * column_tiles, 1, 1),
        block=(128 * shape.groups + 32, 1, 1),
        shared_bytes=shape.shared_bytes,
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


def _arguments(problem: Problem, form: Form, shape: Shape) -> tuple[Argument, ...]:
    x, residual, y = problem.inputs[0], problem.inputs[hopper_form.RESIDUAL], problem.outputs[0]
    assert x is not None, "a convolution has an input"
    assert isinstance(form.a, Windows), "3x3 windows are read"
    width = hopper_launch.panel_bytes(shape.columns, form.out.item)
    box = (width // 2, SIDE, SIDE, 1)
    pointer = Pointer(space=Space.CONSTANT, name="weights")
    depth = 9 * CHANNELS
    weights = Matrix(pointer=pointer, dtype=x.dtype, rows=form.columns, columns=depth, stride=depth)
    top, left = form.a.begin
    across, down = -(-y.shape[3] // SIDE), -(-y.shape[2] // SIDE)
    column_tiles = -(-form.columns // shape.columns)
    sizes = struct.pack("<7i", y.shape[0] * across * down, across, down, column_tiles, left, top, 0)
    return (
        Argument(tensor_map=_map(x, 0, (CHANNELS, EDGE, EDGE, 1), 128)),
        Argument(tensor_map=weights.tensor_map((CHANNELS, shape.columns), 128, batched=False)),
        Argument(tensor_map=_map(residual, hopper_form.RESIDUAL, box, width)) if residual else hopper_launch.ABSENT,
        Argument(tensor_map=_map(y, len(problem.inputs), box, width)),
        hopper_launch.bias_argument(),
        Argument(value=(sizes + hopper_launch.epilogue(form)).hex()),
    )


def _map(kind: TensorType, number: int, box: tuple[int, ...], swizzle: int) -> TensorMap:
    n, c, h, w = kind.shape
    far, _, high, wide = kind.strides
    return TensorMap(
        pointer=operand(number), dtype=kind.dtype, dims=(c, w, h, n), strides=(2 * wide, 2 * high, 2 * far), box=box,
        element_strides=(1, 1, 1, 1), swizzle=swizzle, l2_promotion=256,
    )  # fmt: skip
