"""Two 1x1 convolutions one behind the other in one launch (kernels/latency_couple.cu), at small batches on Hopper.

The problem is of Kind.COUPLE: a convolution's inputs x, w, bias, residual, x2, w2 (the last two None without a "pair"),
then the next one's weights and bias; its outputs are both results.
"""

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import later
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import latency_geometry
from enginewright_builder.tactics.latency_activation import finish_text
from enginewright_builder.tactics.latency_geometry import (
    COLUMNS,
    OUTPUTS_A_TILE,
    SHARED_BYTES,
    Configuration,
    padded_rows,
)
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step, TensorMap

NAME = "hopper latency couple"
X, WEIGHTS, BIAS, RESIDUAL, PAIR, PAIR_WEIGHTS, NEXT_WEIGHTS, NEXT_BIAS, Y, Z = range(10)
BLOCK = 64  # channels of a row in shared memory
LIMIT = 6  # configurations that are offered
MOST_EACH = 4  # tiles of z's channels that a warpgroup sums: their sums fill its registers
MOST_MICROSECONDS = 5.0  # by the model: beyond that the two by themselves fill the GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The kernel's choices: `splits` blocks of a cluster share y's channels, `own` warpgroups a block with 64 each;
    `rows` of a tile; `half` sends sums as float16."""

    splits: int
    own: int
    rows: int
    half: bool

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.splits} x {self.own} x 64 channels{' as float16' if self.half else ''}, {self.rows} rows"


class LatencyCouple:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "a launch's start costs half a microsecond, and what the next layer reads is still in shared memory"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The forms that the model finds best, best first."""
        if refusal(problem, device, constant):
            return ()
        return tuple(
            Candidate(
                tactic=NAME,
                name=form.name,
                build=functools.partial(implementation, problem, form, device.architecture),
            )
            for form in forms(problem, device)
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.COUPLE, "it is no couple of convolutions"),
        (lambda: device.capability == 90, "its instructions exist on compute capability 9.0 alone"),
        (lambda: _dtypes(problem) in ({"float16"}, {"bfloat16"}), "its operands are not all float16 or all bfloat16"),
        (lambda: _weights(problem) <= constant, "its weights or biases are not constant"),
        (lambda: all(map(_addressable, _pixels(problem))), "an operand is not NHWC with pixels in 16-byte units"),
        (lambda: all(each.shape[1] % 8 == 0 for each in problem.outputs), "its outputs are no multiple of 8"),
        (lambda: max(_pair_strides(problem)) <= 4, "its pair's window is too large for a box"),
        (lambda: None not in _finishes(problem), "an activation has no device expression"),
        (lambda: bool(forms(problem, device)), "no form fits into shared memory, or it is no small batch"),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def forms(problem: Problem, device: Device) -> tuple[Form, ...]:
    """At most LIMIT, the quickest by the model first; one at least sums in float32 alone."""
    tiles = -(-problem.outputs[0].shape[1] // OUTPUTS_A_TILE)
    height, half = problem.outputs[0].shape[2], problem.outputs[0].dtype == "float16"
    every = [
        Form(splits=splits, own=own, rows=rows, half=sums)
        for splits in (1, 2, 4, 8)
        for own in (1, 2, 4)
        if tiles <= splits * own < 2 * tiles
        for rows in _rows(height)
        if padded_rows(rows) * 128 // splits >= 32
        for sums in ((True, False) if splits > 1 and half else (False,))
    ]
    timed = [(microseconds(problem, form, device.multiprocessors), form) for form in every if fits(problem, form)]
    timed = sorted((pair for pair in timed if pair[0] <= MOST_MICROSECONDS), key=lambda pair: (pair[0], pair[1].name))
    offered = [form for _, form in timed[:LIMIT]]
    exact = next((form for _, form in timed if not form.half), None)
    if exact is not None and exact not in offered:
        offered[-1] = exact
    return tuple(offered)


def microseconds(problem: Problem, form: Form, multiprocessors: int) -> float:
    """The model: a fit to 50 timings of ResNet-50's couples at batch 1 and 8 on an H200 in chains of equal launches, 8
    percent off in the mean. Where not all blocks of two launches fit at a time, the second's weights come late."""
    splits, across, down = grid(problem, form)
    blocks = splits * across * down
    resident = min(max(SHARED_BYTES // (shared_bytes(problem, form) + 1024), 1), 16 // form.own)
    held = (multiprocessors // splits - (splits == 8)) * resident  # clusters at a time; of eight blocks an H200 has 15
    # one after the other on a multiprocessor, and at a time
    turns = -(-across * down // held) * min(resident, -(-blocks // multiprocessors))
    steps = form.own * (_blocks(problem) + _next_tiles(problem)) * 4
    pushed = form.rows * COLUMNS * OUTPUTS_A_TILE * (2 if form.half else 4) * (splits - 1) / splits
    each = steps * form.rows * 4.77e-4 + form.own * form.rows * 0.0542 + pushed * _next_tiles(problem) * 4.18e-5
    late = 0.18 * (2 * blocks > multiprocessors * resident)
    return 1.29 + late + blocks * _weight_bytes(problem, form) * 1.71e-7 + turns * each


def fits(problem: Problem, form: Form) -> bool:
    """Whether the kernel has the room."""
    each = -(-_next_tiles(problem) // form.own)
    narrow = each <= (2 if form.own == 4 else MOST_EACH)  # 128 registers a thread where there are four warpgroups
    return shared_bytes(problem, form) <= SHARED_BYTES and narrow and _blocks(problem) <= 64


def shared_bytes(problem: Problem, form: Form) -> int:
    """The kernel's dynamic shared memory: barriers, both weights, tile, staging area, what z is finished in."""
    stage, tiles = form.rows * COLUMNS * BLOCK * 2, _next_tiles(problem)
    share = padded_rows(form.rows) * 128 // form.splits
    landing = form.splits * share * (8 if form.half else 16) + share * 16
    finish = tiles * (stage if form.splits == 1 else landing)
    return 1024 + _weight_bytes(problem, form) + (_blocks(problem) + form.own) * stage + finish


def grid(problem: Problem, form: Form) -> tuple[int, int, int]:
    """The cluster, tiles across, tiles down of all images."""
    images, _, height, width = problem.outputs[0].shape
    return (form.splits, -(-width // COLUMNS), images * -(-height // form.rows))


def implementation(problem: Problem, form: Form, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    kernel = Kernel(
        cubin="couple",
        function="couple",
        grid=grid(problem, form),
        block=(128 * form.own, 1, 1),
        cluster=(form.splits, 1, 1) if form.splits > 1 else (),
        shared_bytes=shared_bytes(problem, form),
        arguments=_arguments(problem, form),
        dependent=True,
    )
    first = Configuration(block_channels=BLOCK, blocks=_blocks(problem), groups=form.own * form.splits)
    second = Configuration(block_channels=BLOCK, blocks=form.own, splits=form.splits)
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"couple": compiler.compile(source(problem, form), architecture, ())},
        constants={
            "weights": functools.partial(_packed, WEIGHTS, PAIR_WEIGHTS, first),
            "bias": functools.partial(_packed_bias, BIAS, problem.outputs[0].shape[1], first),
            "next weights": functools.partial(_packed, NEXT_WEIGHTS, -1, second),
            "next bias": functools.partial(_packed_bias, NEXT_BIAS, problem.outputs[1].shape[1], second),
        },
        fetches_later=True,
    )


def source(problem: Problem, form: Form) -> str:
    """The kernel's text with its choices before it."""
    strides, (finish, next_finish) = _pair_strides(problem), _finishes(problem)
    choices = {
        "ELEMENT_IS_BFLOAT16": int(problem.outputs[0].dtype == "bfloat16"),
        "BLOCKS": _blocks(problem),
        "SPLITS": form.splits,
        "OWN": form.own,
        "NEXT_TILES": _next_tiles(problem),
        "TILE_ROWS": form.rows,
        "HALF_PARTIALS": int(form.half),
        "RESIDUAL": int(problem.inputs[RESIDUAL] is not None),
        "PAIR": int(problem.inputs[PAIR] is not None),
        "PAIR_FROM": -(-_given(problem, X).shape[1] // BLOCK) * BLOCK,
        "PAIR_STRIDE_H": strides[0],
        "PAIR_STRIDE_W": strides[1],
        "FINISH(a, b)": finish,
        "NEXT_FINISH(a, b)": next_finish,
    }
    kernels = resources.files("enginewright_builder") / "kernels"
    body = (kernels / "latency_couple.cu").read_text()
    for header in ("latency.cuh", "activations.cuh"):
        text = (kernels / header).read_text().replace("#pragma once\n", "")
        body = body.replace(f'#include "{header}"\n', text)
    return "".join(f"#define {name} {value}\n" for name, value in choices.items()) + body


def _arguments(problem: Problem, form: Form) -> tuple[Argument, ...]:
    """In the kernel's order. A map that the problem does not have is the first one again."""
    x = _map(problem, X, form.rows, (1, 1))
    pair = _map(problem, PAIR, form.rows, _pair_strides(problem)) if problem.inputs[PAIR] is not None else x
    residual = _map(problem, RESIDUAL, form.rows, (1, 1)) if problem.inputs[RESIDUAL] is not None else x
    y, z = problem.outputs
    _, outputs, height, width = y.shape
    columns = -(-width // -(-width // COLUMNS))
    sizes = struct.pack(
        "<10i2Q",
        *(outputs, z.shape[1], height, width, columns, -(-height // form.rows)),
        *(y.strides[3], y.strides[2], z.strides[3], z.strides[2], y.strides[0], z.strides[0]),
    )
    weights = Pointer(space=Space.CONSTANT, name="weights")
    return (
        Argument(tensor_map=x),
        Argument(tensor_map=pair),
        Argument(tensor_map=residual),
        Argument(pointer=weights),
        *(Argument(pointer=Pointer(space=Space.CONSTANT, name=name)) for name in ("bias", "next weights", "next bias")),
        *(Argument(pointer=Pointer(space=Space.OPERAND, name=str(number))) for number in (Y, Z)),
        Argument(value=sizes.hex()),
        *later.nothing(weights),
    )


def _map(problem: Problem, operand: int, rows: int, strides: tuple[int, int]) -> TensorMap:
    """A box of 64 channels, eight columns and `rows` rows, `strides` (vertical, horizontal) apart."""
    type_ = _given(problem, operand)
    images, depth, height, width = type_.shape
    return TensorMap(
        pointer=Pointer(space=Space.OPERAND, name=str(operand)),
        dtype=type_.dtype,
        dims=(depth, width, height, images),
        strides=(type_.strides[3] * 2, type_.strides[2] * 2, type_.strides[0] * 2),
        box=(BLOCK, (COLUMNS - 1) * strides[1] + 1, (rows - 1) * strides[0] + 1, 1),
        element_strides=(1, strides[1], strides[0], 1),
        swizzle=128,
        l2_promotion=0,
    )


def _packed(operand: int, pair: int, configuration: Configuration, constants: Constants) -> Array:
    return latency_geometry.pack_weights(constants[operand], constants.get(pair), configuration)


def _packed_bias(operand: int, outputs: int, configuration: Configuration, constants: Constants) -> Array:
    return latency_geometry.pack_bias(constants.get(operand), outputs, configuration)


def _blocks(problem: Problem) -> int:
    """Of 64 channels of x, and of the pair's."""
    pair = problem.inputs[PAIR]
    return -(-_given(problem, X).shape[1] // BLOCK) + (-(-pair.shape[1] // BLOCK) if pair is not None else 0)


def _next_tiles(problem: Problem) -> int:
    return -(-problem.outputs[1].shape[1] // OUTPUTS_A_TILE)


def _weight_bytes(problem: Problem, form: Form) -> int:
    """Of a block, both convolutions'."""
    return form.own * (_blocks(problem) + _next_tiles(problem)) * BLOCK * OUTPUTS_A_TILE * 2


def _rows(height: int) -> list[int]:
    """Heights of a tile; of those that need as many tiles, the least."""
    least = {-(-height // rows): rows for rows in range(min(height, 8), 0, -1)}
    return [rows for rows in least.values() if rows >= min(height, 4)]


def _given(problem: Problem, operand: int) -> TensorType:
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of a couple is absent")
    return type_


def _pixels(problem: Problem) -> list[TensorType]:
    given = [problem.inputs[number] for number in (X, RESIDUAL, PAIR)]
    return [*(each for each in given if each is not None), *problem.outputs]


def _dtypes(problem: Problem) -> set[str]:
    return {each.dtype for each in (*_pixels(problem), _given(problem, WEIGHTS), _given(problem, NEXT_WEIGHTS))}


def _weights(problem: Problem) -> set[int]:
    numbers = (WEIGHTS, BIAS, PAIR_WEIGHTS, NEXT_WEIGHTS, NEXT_BIAS)
    return {number for number in numbers if problem.inputs[number] is not None}


def _addressable(type_: TensorType) -> bool:
    """Whether the copy engine can: dimension 1 innermost, every other step a multiple of 16 bytes."""
    if len(type_.shape) != 4:
        return False
    (images, channels, height, width), steps = type_.shape, type_.strides
    extents = ((images, steps[0]), (height, steps[2]), (width, steps[3]))
    return (steps[1] == 1 or channels == 1) and all(step % 8 == 0 and step > 0 for _, step in extents)


def _pair_strides(problem: Problem) -> tuple[int, int]:
    down, across = (problem.attributes.get("pair") or {}).get("strides", (1, 1))
    return (int(down), int(across))


def _finishes(problem: Problem) -> tuple[str | None, str | None]:
    return _finish(problem.attributes), _finish(problem.attributes["next"])


def _finish(said: Mapping[str, Any]) -> str | None:
    return finish_text(said.get("activation", ""), said.get("activation_parameters", {}), said.get("gated", False))
